//! A hostile retriever: what it may not return, how much it may ask of the models, and how many run at once.

use std::sync::Arc;

use rag_core::error::PluginFault::{CpuLimit, Guest, InvalidOutput};
use rag_core::ports::Retrieve;
use rag_core::search::{Retrieval, RetrieveRequest};
use rag_core::{Error, ErrorCode, Result};
use rag_wasm::{PluginHost, RetrieverImports};

use crate::fakes::{FakeGenerator, FakeKv, FakeSearch};
use crate::{Code, Expected, Fault, assert_error, fakes, host, settings};

pub(crate) fn retriever(host: &PluginHost, behaviour: &str) -> Arc<dyn Retrieve> {
    let imports = RetrieverImports {
        search: Arc::new(FakeSearch),
        embedder: fakes::embedder(),
        reranker: None,
        generator: Some(Arc::new(FakeGenerator)),
        kv: Arc::new(FakeKv::default()),
    };
    host.retriever("hostile-retriever", &settings(behaviour), imports).unwrap()
}

pub(crate) fn request(k: u32) -> RetrieveRequest {
    RetrieveRequest { question: "什么是知识库？".to_owned(), history: Vec::new(), k, filter: None }
}

async fn retrieve(behaviour: &str) -> Result<Retrieval> {
    retriever(&host(), behaviour).retrieve(request(3)).await
}

async fn check(behaviour: &str, expected: &Expected) {
    let err = retrieve(behaviour).await.expect_err(behaviour);
    assert_error(&err, expected, behaviour);
    let good = retrieve("good").await.unwrap();
    assert_eq!(good.hits.len(), 2, "after {behaviour}");
    assert_eq!(good.steps[0].detail, "2 passages");
}

#[tokio::test]
async fn outcomes_that_break_the_contract_never_come_through() {
    check("more-than-k", &Fault(InvalidOutput, "4 hits, more than the 3 asked for")).await;
    check("nan", &Fault(InvalidOutput, "not finite")).await;
    check("twice", &Fault(InvalidOutput, "chunk a twice")).await;
    check("long-trace", &Fault(InvalidOutput, "a trace of more than")).await;
    check("long-rewrite", &Fault(InvalidOutput, "a rewritten question of more than")).await;
    check("loop", &Fault(CpuLimit, "processor time")).await;
}

#[tokio::test]
async fn models_are_lent_within_a_budget() {
    let outcome = retrieve("write").await.unwrap();
    assert_eq!(outcome.rewritten.as_deref(), Some("回答 of the model"));
    check("write-a-novel", &Fault(Guest(ErrorCode::Quota), "0 more tokens")).await;
    check("rerank", &Code(ErrorCode::Unavailable, "no reranker")).await;
    check("keys", &Fault(Guest(ErrorCode::Internal), "[]")).await;
}

#[tokio::test]
async fn a_guest_that_keeps_memory_is_not_kept() {
    // 48 MiB a call would reach the limit of 128 at the third in one instance.
    let retriever = retriever(&host(), "keep-memory");
    for _ in 0..5 {
        let err = retriever.retrieve(request(1)).await.unwrap_err();
        assert_error(&err, &Fault(Guest(ErrorCode::Internal), "kept 50331648 bytes"), "keep-memory");
    }
}

#[tokio::test]
async fn k_out_of_range_is_the_callers_error() {
    for k in [0, 1_001] {
        let err = retriever(&host(), "good").retrieve(request(k)).await.unwrap_err();
        assert!(matches!(err, Error::InvalidInput { .. }), "{k}: {err:?}");
    }
}
