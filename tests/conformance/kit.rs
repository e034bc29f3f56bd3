//! The kit that `rwkv-rag plugin test` runs: every plugin of the tree passes every rule of its kind.

use std::sync::Arc;

use rag_kit::{Report, doubles};
use rag_wasm::{Kind, RetrieverImports, StoreImports};

use crate::{ENTRIES, host};

async fn check(id: &str, kind: Kind) -> Report {
    match kind {
        Kind::Chunker => {
            let models = Arc::new(doubles::HashEmbedder::default());
            rag_kit::chunker::check(|settings| host().chunker(id, settings, models.clone())).await
        }
        Kind::Parser => {
            rag_kit::parser::check(|settings| host().parser(id, settings, Default::default())).await
        }
        Kind::Retriever => {
            let make = |settings: &str, sides: rag_kit::retriever::Sides| {
                let imports = RetrieverImports {
                    search: sides.search,
                    embedder: sides.embedder,
                    reranker: None,
                    generator: None,
                    kv: Arc::new(doubles::MemoryKeys::default()),
                };
                host().retriever(id, settings, imports)
            };
            rag_kit::retriever::check(make).await
        }
        Kind::VectorStore => {
            let make = |settings: &str, index: Arc<doubles::MemoryIndex>| {
                let kv = Arc::new(doubles::MemoryKeys::default());
                host().vector_store(id, settings, StoreImports { index, kv, http: None, sql: None })
            };
            rag_kit::store::check(make).await
        }
        Kind::Connector => {
            rag_kit::connector::check(|settings, http| host().connector(id, settings, http)).await
        }
    }
}

#[tokio::test]
async fn every_plugin_of_the_tree_passes_the_kit() {
    for (id, kind) in ENTRIES {
        let report = check(id, *kind).await;
        // An adapter has no server here, and is held to all rules in the suite `stores`.
        let away = report.checks.iter().any(|check| check.id == "store.away");
        assert!(report.checks.len() >= if away { 2 } else { 3 }, "{id} is held to rules");
        let broken: Vec<_> = report.checks.iter().filter(|check| check.failure.is_some()).collect();
        assert!(broken.is_empty(), "{id}: {broken:#?}");
    }
}
