//! A hostile vector store: nothing wrong gets in or out, and a broken instance is made anew.

use std::sync::Arc;

use rag_core::document::{ChunkId, Vectors};
use rag_core::error::PluginFault::{CpuLimit, Guest, InvalidOutput, Trap};
use rag_core::ports::{StoreBatch, VectorCollection, VectorStore};
use rag_core::search::{Filter, FilterNode, Metric};
use rag_core::{Error, ErrorCode};
use rag_wasm::StoreImports;

use crate::fakes::{DIM, FakeIndex, FakeKv};
use crate::{Code, Expected, Fault, assert_error, host, settings};

fn store(behaviour: &str) -> Arc<dyn VectorStore> {
    let imports = StoreImports {
        index: Arc::new(FakeIndex::default()),
        kv: Arc::new(FakeKv::default()),
        http: None,
        sql: None,
    };
    host().vector_store("hostile-store", &settings(behaviour), imports).unwrap()
}

fn collection() -> VectorCollection {
    VectorCollection { name: "kb-g1".to_owned(), dim: DIM, metric: Metric::Cosine }
}

fn batch(rows: usize) -> StoreBatch {
    StoreBatch {
        ids: (0..rows).map(|row| ChunkId(format!("chunk-{row}"))).collect(),
        vectors: Vectors { dim: DIM, data: [1.0, 0.0].repeat(rows) },
        texts: vec!["text".to_owned(); rows],
        fields: vec![Vec::new(); rows],
    }
}

fn query() -> Vectors {
    Vectors { dim: DIM, data: vec![1.0, 0.0] }
}

#[tokio::test]
async fn a_good_store_does_all_that_the_port_says() {
    let store = store("good");
    store.create(&collection()).await.unwrap();
    store.create(&collection()).await.unwrap();
    let other = VectorCollection { dim: 3, ..collection() };
    assert!(matches!(store.create(&other).await, Err(Error::Conflict { .. })));
    store.upsert("kb-g1", batch(5)).await.unwrap();
    assert_eq!(store.count("kb-g1").await.unwrap(), 5);
    let lists = store.query("kb-g1", &query(), 3, None).await.unwrap();
    assert_eq!(
        lists[0].iter().map(|hit| hit.chunk.0.as_str()).collect::<Vec<_>>(),
        ["chunk-0", "chunk-1", "chunk-2"]
    );
    store.delete("kb-g1", &[ChunkId("chunk-0".into()), ChunkId("unknown".into())]).await.unwrap();
    assert_eq!(store.count("kb-g1").await.unwrap(), 4);
    store.drop_collection("kb-g1").await.unwrap();
    assert!(matches!(store.count("kb-g1").await, Err(Error::NotFound { .. })));
    assert!(matches!(store.query("kb-g1", &query(), 3, None).await, Err(Error::NotFound { .. })));
}

async fn check_query(behaviour: &str, expected: &Expected) {
    let store = store(behaviour);
    store.create(&collection()).await.unwrap();
    let err = store.query("kb-g1", &query(), 3, None).await.expect_err(behaviour);
    assert_error(&err, expected, behaviour);
    assert_eq!(store.count("kb-g1").await.unwrap(), 0, "after {behaviour}");
}

#[tokio::test]
async fn hits_that_break_the_contract_never_come_through() {
    check_query("nan-score", &Fault(InvalidOutput, "not best first")).await;
    check_query("more-than-k", &Fault(InvalidOutput, "4 hits, more than the 3")).await;
    check_query("worst-first", &Fault(InvalidOutput, "not best first")).await;
    check_query("twice", &Fault(InvalidOutput, "chunk a twice")).await;
    check_query("list-too-many", &Fault(InvalidOutput, "2 lists of hits for 1 queries")).await;
    check_query("long-id", &Fault(InvalidOutput, "not a name of 1 to 256 bytes")).await;
    check_query("cyclic-filter", &Code(ErrorCode::InvalidInput, "not before it and free")).await;
    check_query("k-of-a-million", &Code(ErrorCode::InvalidInput, "k is 1 to 1 000")).await;
    let err = store("nameless-collection").list().await.unwrap_err();
    assert_error(&err, &Fault(InvalidOutput, "not a name"), "nameless-collection");
}

#[tokio::test]
async fn vectors_that_break_the_contract_never_reach_the_index() {
    for (behaviour, part) in [("nan", "not finite"), ("ragged", "are no vectors")] {
        let store = store(behaviour);
        store.create(&collection()).await.unwrap();
        let err = store.upsert("kb-g1", batch(2)).await.unwrap_err();
        assert_error(&err, &Code(ErrorCode::InvalidInput, part), behaviour);
        assert_eq!(store.count("kb-g1").await.unwrap(), 0, "after {behaviour}");
    }
}

#[tokio::test]
async fn a_callers_nonsense_is_refused_before_the_guest_sees_it() {
    let store = store("good");
    store.create(&collection()).await.unwrap();
    let short = StoreBatch { texts: Vec::new(), ..batch(2) };
    let nan = StoreBatch { vectors: Vectors { dim: DIM, data: vec![f32::NAN; 4] }, ..batch(2) };
    for (bad, why) in [(short, "texts"), (nan, "nan"), (batch(513), "rows")] {
        let err = store.upsert("kb-g1", bad).await.unwrap_err();
        assert!(matches!(err, Error::InvalidInput { .. }), "{why}: {err:?}");
    }
    let cyclic = Filter { nodes: vec![FilterNode::AllOf(vec![0])] };
    let err = store.query("kb-g1", &query(), 3, Some(&cyclic)).await.unwrap_err();
    assert!(matches!(err, Error::InvalidInput { .. }), "{err:?}");
}

#[tokio::test]
async fn state_lives_as_long_as_the_instance_and_no_longer() {
    let warm = store("good");
    for call in 0..3 {
        assert_eq!(warm.ping().await.unwrap(), format!("call {call}"));
    }
    let trapping = store("trap-at-second-ping");
    for _ in 0..2 {
        assert_eq!(trapping.ping().await.unwrap(), "call 0");
        assert_error(&trapping.ping().await.unwrap_err(), &Fault(Trap, "unreachable"), "second ping");
    }
    let hanging = store("hang");
    hanging.create(&collection()).await.unwrap();
    assert_eq!(hanging.ping().await.unwrap(), "call 0");
    let err = hanging.upsert("kb-g1", batch(1)).await.unwrap_err();
    assert_error(&err, &Fault(CpuLimit, "processor time"), "hang");
    assert_eq!(hanging.ping().await.unwrap(), "call 0");
}

#[tokio::test]
async fn two_knowledge_bases_share_no_memory() {
    let (one, two) = (store("good"), store("good"));
    assert_eq!(one.ping().await.unwrap(), "call 0");
    assert_eq!(two.ping().await.unwrap(), "call 0");
}

#[tokio::test]
async fn what_is_not_granted_is_refused_and_small_state_is_kept() {
    assert_eq!(store("state").ping().await.unwrap(), "value");
    assert_eq!(store("control-characters").ping().await.unwrap(), "[31mred");
    for (behaviour, expected) in [
        ("http", Code(ErrorCode::Unavailable, "granted no server")),
        ("sql", Code(ErrorCode::Unavailable, "granted no database")),
        ("large-state", Fault(Guest(ErrorCode::Quota), "at most 65536")),
    ] {
        assert_error(&store(behaviour).ping().await.unwrap_err(), &expected, behaviour);
    }
}
