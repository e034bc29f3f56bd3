//! Vector stores: every rule of the contract, and what happens when the host fails. Those that need a server are held
//! to the same rules by the suite `stores`.

use std::sync::Arc;

use async_trait::async_trait;
use rag_core::document::{ChunkId, Vectors};
use rag_core::kb::{KbName, KbSettings};
use rag_core::ports::{
    Catalog, PluginInfo, StoreBatch, StoredVectors, VectorCollection, VectorIndex, VectorStore,
};
use rag_core::search::{Filter, FilterNode, Hit, Metric};
use rag_core::{ErrorCode, Result};
use rag_wasm::StoreImports;

use rag_kit::doubles::{MemoryIndex, MemoryKeys};

use crate::host;
use crate::store_kit::{self, METRICS, Subject, batch, collection, one};
use rag_kit::random::Random;

/// The native reference: an index behind the interface of a store.
struct Direct(PluginInfo, MemoryIndex);

#[async_trait]
impl VectorStore for Direct {
    fn info(&self) -> &PluginInfo {
        &self.0
    }
    async fn create(&self, collection: &VectorCollection) -> Result<()> {
        self.1.create(collection).await
    }
    async fn drop_collection(&self, name: &str) -> Result<()> {
        self.1.drop_collection(name).await
    }
    async fn list(&self) -> Result<Vec<VectorCollection>> {
        self.1.list().await
    }
    async fn count(&self, name: &str) -> Result<u64> {
        self.1.count(name).await
    }
    async fn upsert(&self, name: &str, batch: StoreBatch) -> Result<()> {
        if batch.ids.len() > 512 || batch.vectors.rows() != batch.ids.len() {
            return Err(rag_core::Error::invalid("a batch out of shape"));
        }
        self.1.upsert(name, StoredVectors { ids: batch.ids, vectors: batch.vectors }, batch.fields).await
    }
    async fn delete(&self, name: &str, ids: &[ChunkId]) -> Result<()> {
        if ids.len() > 512 {
            return Err(rag_core::Error::invalid("too many ids"));
        }
        self.1.delete(name, ids).await
    }
    async fn query(
        &self,
        name: &str,
        queries: &Vectors,
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        self.1.query(name, queries, k, filter).await
    }
    async fn ping(&self) -> Result<String> {
        Ok("memory".to_owned())
    }
}

fn over(index: Arc<dyn VectorIndex>) -> Arc<dyn VectorStore> {
    adapter("store-local", index)
}

fn adapter(id: &str, index: Arc<dyn VectorIndex>) -> Arc<dyn VectorStore> {
    let imports = StoreImports { index, kv: Arc::new(MemoryKeys::default()), http: None, sql: None };
    host().vector_store(id, "{}", imports).unwrap()
}

async fn subjects() -> Vec<Subject> {
    let info = PluginInfo {
        id: "direct".to_owned(),
        version: "0.0.0".to_owned(),
        description: String::new(),
        digest: String::new(),
    };
    let folder = tempfile::tempdir().unwrap();
    let store = rag_store::Store::open(rag_store::StoreConfig::new(folder.path())).unwrap();
    let kb = KbName::parse("conformance").unwrap();
    store.create_kb(&kb, &KbSettings::default()).await.unwrap();
    vec![
        Subject { name: "direct", store: Arc::new(Direct(info, MemoryIndex::default())), _folder: None },
        Subject {
            name: "store-local over memory",
            store: over(Arc::new(MemoryIndex::default())),
            _folder: None,
        },
        Subject {
            name: "store-local over the host's store",
            store: over(store.vector_index(&kb)),
            _folder: Some(folder),
        },
        Subject {
            name: "store-hora over memory",
            store: adapter("store-hora", Arc::new(MemoryIndex::default())),
            _folder: None,
        },
    ]
}

#[tokio::test]
async fn a_random_history_agrees_with_a_map() {
    for subject in subjects().await {
        for metric in METRICS {
            for seed in 0..6 {
                store_kit::random_history(&subject, metric, seed).await;
            }
        }
    }
}

#[tokio::test]
async fn collections_have_one_shape_and_are_listed_with_it() {
    for subject in &subjects().await {
        store_kit::shapes(subject).await;
    }
}

#[tokio::test]
async fn a_collection_that_is_not_there_is_not_found() {
    for subject in &subjects().await {
        store_kit::absent(subject).await;
    }
}

#[tokio::test]
async fn what_means_something_elsewhere_is_only_text() {
    for subject in &subjects().await {
        store_kit::texts_are_only_texts(subject).await;
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_and_nothing_of_it_is_kept() {
    for subject in &subjects().await {
        store_kit::refused(subject).await;
    }
}

#[tokio::test]
async fn two_stores_over_the_same_data_find_the_same() {
    let subjects = subjects().await;
    store_kit::retrieves_as(&subjects[2], &subjects[0], 600, 24).await;
}

/// Beyond 2 000 rows the graph is asked, which grows by some rows a call.
#[tokio::test]
async fn a_graph_finds_nearly_all_and_nothing_that_is_gone() {
    const DIM: usize = 16;
    let index = Arc::new(MemoryIndex::default());
    let (hora, exact) = (adapter("store-hora", index.clone()), over(index));
    let mut random = Random::new(11);
    let mut row = || (0..DIM).map(|_| random.float()).collect::<Vec<f32>>();
    hora.create(&collection("图", DIM, Metric::Cosine)).await.unwrap();
    for at in 0..6 {
        let ids: Vec<String> = (0..400).map(|id| format!("片{:04}", at * 400 + id)).collect();
        let rows: Vec<(&str, Vec<f32>)> = ids.iter().map(|id| (id.as_str(), row())).collect();
        hora.upsert("图", batch(&rows)).await.unwrap();
    }
    let mut round = 0;
    while round < 30 || !hora.ping().await.unwrap().contains("2300 of 2300 rows") {
        if round == 10 {
            let gone: Vec<ChunkId> = (0..100).map(|id| ChunkId(format!("片{id:04}"))).collect();
            hora.delete("图", &gone).await.unwrap();
        }
        round += 1;
        assert!(round < 1_000, "it never ends: {}", hora.ping().await.unwrap());
        hora.query("图", &one(&row()), 3, None).await.unwrap();
    }
    let mut found = 0;
    for _ in 0..40 {
        let query = one(&row());
        let hits = hora.query("图", &query, 10, None).await.unwrap().remove(0);
        let nearest = exact.query("图", &query, 10, None).await.unwrap().remove(0);
        assert_eq!(hits.len(), 10);
        assert!(hits.iter().all(|hit| hit.chunk.0.as_str() >= "片0100"), "deleted: {hits:?}");
        found += nearest.iter().filter(|near| hits.iter().any(|hit| hit.chunk == near.chunk)).count();
    }
    assert!(found > 320, "{found} of 400");
}

#[tokio::test]
async fn a_failing_host_is_handed_on_and_leaves_the_store_usable() {
    let index = Arc::new(MemoryIndex::default());
    let store = over(index.clone());
    store.create(&collection("c", 3, Metric::Dot)).await.unwrap();
    let row = vec![1.0, 2.0, 3.0];
    let none = Filter { nodes: vec![FilterNode::AnyOf(vec![])] };
    for call in 1..=4 {
        index.failing.set(call);
        let outcomes = [
            store.upsert("c", batch(&[("a", row.clone())])).await.err(),
            store.query("c", &one(&row), 3, Some(&none)).await.err(),
            store.list().await.err(),
        ];
        let failed: Vec<_> = outcomes.into_iter().flatten().collect();
        assert_eq!(failed.len(), 1, "call {call}");
        assert_eq!(failed[0].code(), ErrorCode::Unavailable, "call {call}: {}", failed[0]);
        index.failing.set(0);
        store.upsert("c", batch(&[("a", row.clone())])).await.unwrap();
        assert_eq!(store.query("c", &one(&row), 3, None).await.unwrap()[0].len(), 1);
    }
}
