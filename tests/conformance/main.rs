//! Every plugin keeps the contract of its kind: each rule of `wit/` against each plugin and a native reference.
//!
//! The components are those of `plugins/dist`, built by `cargo xtask plugins`; another folder is named by
//! `RAG_PLUGINS_DIR`. A plugin without a line in [`ENTRIES`] fails the suite.

mod chunkers;
mod kit;
mod manifests;
mod parsers;
mod parsers_bombs;
mod parsers_documents;
mod retrievers;
mod store_kit;
mod stores;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rag_wasm::{Compiler, Kind, PluginHost, WasmConfig};

/// Every plugin of the tree. Its kind decides which rules it is held to.
pub(crate) const ENTRIES: &[(&str, Kind)] = &[
    ("chunk-code", Kind::Chunker),
    ("chunk-fixed", Kind::Chunker),
    ("chunk-lines", Kind::Chunker),
    ("chunk-parent-child", Kind::Chunker),
    ("chunk-recursive", Kind::Chunker),
    ("chunk-semantic", Kind::Chunker),
    ("chunk-sentence", Kind::Chunker),
    ("connector-web", Kind::Connector),
    ("parse-book", Kind::Parser),
    ("parse-code", Kind::Parser),
    ("parse-html", Kind::Parser),
    ("parse-image", Kind::Parser),
    ("parse-json", Kind::Parser),
    ("parse-mail", Kind::Parser),
    ("parse-markdown", Kind::Parser),
    ("parse-office", Kind::Parser),
    ("parse-pdf", Kind::Parser),
    ("parse-remote", Kind::Parser),
    ("parse-rtf", Kind::Parser),
    ("parse-sheet", Kind::Parser),
    ("parse-text", Kind::Parser),
    ("retrieve-dense", Kind::Retriever),
    ("retrieve-hybrid", Kind::Retriever),
    ("retrieve-hyde", Kind::Retriever),
    ("retrieve-mmr", Kind::Retriever),
    ("retrieve-multi-query", Kind::Retriever),
    ("retrieve-parent", Kind::Retriever),
    ("rewrite-with-history", Kind::Retriever),
    ("store-chroma", Kind::VectorStore),
    ("store-elastic", Kind::VectorStore),
    ("store-hora", Kind::VectorStore),
    ("store-local", Kind::VectorStore),
    ("store-milvus", Kind::VectorStore),
    ("store-pgvector", Kind::VectorStore),
    ("store-qdrant", Kind::VectorStore),
    ("store-typesense", Kind::VectorStore),
];

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Folder of the built components.
fn dist() -> PathBuf {
    std::env::var_os("RAG_PLUGINS_DIR").map_or_else(|| tree().join("plugins/dist"), PathBuf::from)
}

/// A host with every plugin of the tree. Compiled components are kept beside the test's own files.
pub(crate) fn host() -> Arc<PluginHost> {
    static HOST: OnceLock<Arc<PluginHost>> = OnceLock::new();
    Arc::clone(HOST.get_or_init(|| {
        let compiled = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance");
        let host = PluginHost::new(WasmConfig::new(compiled, Compiler::Here)).unwrap();
        for (id, _) in ENTRIES {
            let path = dist().join(format!("{id}.wasm"));
            assert!(path.is_file(), "{} is not there: build it with `cargo xtask plugins`", path.display());
            host.load_file(&path).unwrap();
        }
        host
    }))
}

#[test]
fn every_plugin_of_the_tree_has_an_entry() {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(tree().join("plugins")).unwrap() {
        let path = entry.unwrap().path();
        if path.join("plugin.toml").is_file() {
            found.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    for entry in std::fs::read_dir(dist()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            found.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    let entered: BTreeSet<String> = ENTRIES.iter().map(|(id, _)| (*id).to_owned()).collect();
    assert_eq!(found, entered, "plugins found, and plugins with an entry in tests/conformance/main.rs");
}

#[test]
fn every_plugin_is_admitted_under_its_own_name_and_kind() {
    let installed = host().installed();
    assert_eq!(installed.len(), ENTRIES.len());
    for (loaded, (id, kind)) in installed.iter().zip(ENTRIES) {
        assert_eq!((loaded.info.id.as_str(), loaded.kind), (*id, *kind));
        assert!(!loaded.info.description.is_empty() && loaded.info.version.split('.').count() == 3);
        // PDF carries the tables of a dozen encodings and the metrics of the standard fonts.
        let limit = if *id == "parse-pdf" { 8 << 20 } else { 2 << 20 };
        assert!(loaded.bytes < limit, "{id} has {} bytes", loaded.bytes);
    }
}
