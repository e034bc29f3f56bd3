//! A manifest and its component say the same, and settings are held to the manifest's schema.

use std::sync::Arc;

use rag_core::document::{BlockKind, BlockSpan, Section, Span};
use rag_core::ports::VectorCollection;
use rag_core::search::{Metric, RetrieveRequest};
use rag_core::{ErrorCode, Result};
use rag_wasm::{Kind, RetrieverImports, StoreImports};
use serde_json::{Value, json};

use crate::{ENTRIES, host, tree};
use rag_kit::doubles::{Corpus, HashEmbedder, MemoryBlob, MemoryIndex, MemoryKeys, NoServer};

fn manifest(id: &str) -> Value {
    let text = std::fs::read_to_string(tree().join("plugins").join(id).join("plugin.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

/// Makes the plugin read its settings.
async fn use_settings(id: &str, kind: Kind, settings: &Value) -> Result<()> {
    let settings = settings.to_string();
    match kind {
        Kind::Parser => {
            let parser = host().parser(id, &settings, Default::default())?;
            match parser.open(MemoryBlob::new(b"plain words.", "text/plain")).await {
                // Words are no PDF or archive, but the settings were read before that was seen.
                Err(error) if error.code() == ErrorCode::Unsupported => {}
                // Or they were before a server was asked that is not there.
                Err(error) if id == "parse-remote" && error.code() == ErrorCode::Unavailable => {}
                opened => drop(opened?),
            }
        }
        Kind::Chunker => {
            let text = "Some words. 一些文字。".to_owned();
            let span = Span { start: 0, end: text.len() as u64 };
            let blocks = vec![BlockSpan { span, kind: BlockKind::Paragraph, level: 0, page: None }];
            let section = Section { text, blocks, title: None, language: None, outline: vec![] };
            host().chunker(id, &settings, Arc::new(HashEmbedder::default()))?.split(section).await?;
        }
        Kind::VectorStore => {
            let imports = StoreImports {
                index: Arc::new(MemoryIndex::default()),
                kv: Arc::new(MemoryKeys::default()),
                http: None,
                sql: None,
            };
            let store = host().vector_store(id, &settings, imports)?;
            let collection = VectorCollection { name: "c".to_owned(), dim: 2, metric: Metric::Cosine };
            match store.create(&collection).await {
                // Its settings were read before it asked a server that is not there.
                Err(error) if error.code() == ErrorCode::Unavailable => {}
                created => created?,
            }
        }
        Kind::Connector => {
            let connector = host().connector(id, &settings, Arc::new(NoServer))?;
            match connector.search("words", 5).await {
                // Its settings were read before it asked a server that is not there.
                Err(error) if error.code() == ErrorCode::Unavailable => {}
                found => drop(found?),
            }
        }
        Kind::Retriever => {
            let imports = RetrieverImports {
                search: Arc::new(Corpus::default()),
                embedder: Arc::new(HashEmbedder::default()),
                reranker: None,
                generator: None,
                kv: Arc::new(MemoryKeys::default()),
            };
            let request =
                RetrieveRequest { question: "What?".to_owned(), history: vec![], k: 5, filter: None };
            host().retriever(id, &settings, imports)?.retrieve(request).await?;
        }
    }
    Ok(())
}

#[test]
fn the_manifest_says_what_the_component_says() {
    let installed = host().installed();
    for (id, kind) in ENTRIES {
        let manifest = manifest(id);
        let loaded = installed.iter().find(|loaded| loaded.info.id == *id).unwrap();
        assert_eq!(manifest["id"], json!(id));
        assert_eq!(manifest["kind"], json!(kind.name()));
        assert_eq!(manifest["version"], json!(loaded.info.version));
        assert_eq!(manifest["description"], json!(loaded.info.description));
        assert!(manifest["grants"].is_object(), "{id} says which grants it wants");
        assert_eq!(manifest["settings"]["additionalProperties"], json!(false));
        if *kind == Kind::Parser {
            assert_eq!(manifest["media_types"], json!(loaded.accepts));
        }
    }
}

fn properties(id: &str) -> Vec<(String, Value)> {
    let schema = manifest(id)["settings"]["properties"].clone();
    let Value::Object(properties) = schema else { return Vec::new() };
    properties.into_iter().collect()
}

/// Values that the schema of a property allows, and values that it does not.
fn values(property: &Value) -> (Vec<Value>, Vec<Value>) {
    let mut good = vec![property["default"].clone()];
    let mut bad = vec![Value::Null, json!([1])];
    match property["type"].as_str().unwrap() {
        "integer" => {
            let (low, high) = (property["minimum"].as_i64().unwrap(), property["maximum"].as_i64().unwrap());
            good.push(json!(low));
            bad.extend([
                json!(low - 1),
                json!(high + 1),
                json!(low as f64 + 0.5),
                json!("3"),
                json!(u64::MAX),
            ]);
        }
        "number" => {
            let (low, high) = (property["minimum"].as_f64().unwrap(), property["maximum"].as_f64().unwrap());
            good.extend([json!(low), json!(high)]);
            bad.extend([json!(low - 0.1), json!(high + 0.1), json!("0.5"), json!(true)]);
        }
        "string" => {
            bad.extend([json!(1), json!("")]);
            // One without choices is an address.
            if let Some(choices) = property["enum"].as_array() {
                good.extend(choices.clone());
                bad.push(json!("no-such-choice"));
            }
        }
        "boolean" => {
            good.extend([json!(true), json!(false)]);
            bad.extend([json!("true"), json!(1)]);
        }
        other => panic!("no test for settings of type {other}"),
    }
    (good, bad)
}

#[tokio::test]
async fn settings_within_the_schema_are_taken_and_others_refused_by_name() {
    for (id, kind) in ENTRIES {
        use_settings(id, *kind, &json!({})).await.unwrap();
        let error = use_settings(id, *kind, &json!({"no_such_key": 1})).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{id}: {error}");
        assert!(error.to_string().contains("no_such_key"), "{id}: {error}");
        for (key, property) in properties(id) {
            assert!(property["description"].is_string(), "{id}.{key} is described");
            let (good, bad) = values(&property);
            for value in good {
                let taken = use_settings(id, *kind, &json!({ &key: value })).await;
                assert!(taken.is_ok(), "{id}: {key} = {value}: {taken:?}");
            }
            for value in bad {
                let error = use_settings(id, *kind, &json!({ &key: value })).await.unwrap_err();
                assert_eq!(error.code(), ErrorCode::InvalidInput, "{id}: {error}");
                assert!(error.to_string().contains(&key), "{id}: {key} = {value}: {error}");
            }
        }
    }
}
