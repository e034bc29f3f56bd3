//! A hostile parser: a session that failed is over, and the next document is read as before.

use std::sync::Arc;

use rag_core::document::{Block, ParsedSummary};
use rag_core::error::PluginFault::{CpuLimit, Guest, HostcallLimit, InvalidOutput, Trap};
use rag_core::{Error, ErrorCode, Result};

use crate::{Code, Expected, Fault, assert_error, fakes, host, settings};

const TEXT: &str = "第一行\nsecond line\nthird";

async fn parse(behaviour: &str) -> Result<(Vec<Block>, ParsedSummary)> {
    let parser = host().parser("hostile-parser", &settings(behaviour), Default::default()).unwrap();
    let mut session = parser.open(Arc::new(fakes::FakeBlob(TEXT))).await?;
    let mut blocks = Vec::new();
    while let Some(batch) = session.next(1 << 16).await? {
        blocks.extend(batch);
    }
    Ok((blocks, session.summary().await?))
}

async fn check(behaviour: &str, expected: &Expected) {
    let err = parse(behaviour).await.expect_err(behaviour);
    assert_error(&err, expected, behaviour);
    let (blocks, summary) = parse("good").await.unwrap();
    let texts: Vec<&str> = blocks.iter().map(|block| block.text.as_str()).collect();
    assert_eq!(texts, ["第一行", "second line", "third"], "after {behaviour}");
    assert_eq!(summary.title.as_deref(), Some("手册.txt"));
}

#[tokio::test]
async fn endless_documents_end() {
    check("endless", &Fault(InvalidOutput, "more output than 10 times the document's")).await;
    check("endless-empty", &Fault(InvalidOutput, "more output than 10 times the document's")).await;
    check("too-large-a-batch", &Fault(InvalidOutput, "a batch of more than 16777216 bytes")).await;
    check("loop-in-next", &Fault(CpuLimit, "250 ms of processor time")).await;
    check("read-for-ever", &Fault(Guest(ErrorCode::Quota), "read too often")).await;
}

#[tokio::test]
async fn blocks_and_summaries_that_break_the_contract_never_come_through() {
    check("control-characters", &Fault(InvalidOutput, "U+0007")).await;
    check("source-out-of-file", &Fault(InvalidOutput, "block 0 comes from bytes 0..28")).await;
    check("long-title", &Fault(InvalidOutput, "a title of more than 4096 bytes")).await;
    check("many-attributes", &Fault(InvalidOutput, "more than 64 attributes")).await;
}

#[tokio::test]
async fn errors_and_traps_are_told_apart() {
    check("unsupported", &Code(ErrorCode::Unsupported, "plugin hostile-parser 0.1.0: this is no text")).await;
    check("trap-in-open", &Fault(Trap, "unreachable")).await;
    check("trap-in-second-next", &Fault(Trap, "unreachable")).await;
    check("read-too-much", &Code(ErrorCode::InvalidInput, "at most 1 MiB")).await;
    check("read-past-the-end", &Fault(Guest(ErrorCode::Internal), "0 bytes")).await;
    check("sniff", &Fault(Guest(ErrorCode::Internal), "27 手册.txt text/plain")).await;
    check("ocr", &Code(ErrorCode::Unsupported, "recognises no text in pictures")).await;
}

#[tokio::test]
async fn a_trap_in_the_destructor_harms_nobody() {
    let (blocks, _) = parse("trap-in-drop").await.unwrap();
    assert_eq!(blocks.len(), 3);
}

#[tokio::test]
async fn a_failed_session_stays_failed() {
    let parser =
        host().parser("hostile-parser", &settings("trap-in-second-next"), Default::default()).unwrap();
    let mut session = parser.open(Arc::new(fakes::FakeBlob(TEXT))).await.unwrap();
    session.next(100).await.unwrap();
    assert!(matches!(session.next(100).await, Err(Error::Plugin { fault: Trap, .. })));
    assert!(matches!(session.next(100).await, Err(Error::Conflict { .. })));
    assert!(matches!(session.summary().await, Err(Error::Conflict { .. })));
}

#[tokio::test]
async fn documents_are_read_side_by_side() {
    let parser = host().parser("hostile-parser", &settings("good"), Default::default()).unwrap();
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(parser.open(Arc::new(fakes::FakeBlob(TEXT))).await.unwrap());
    }
    for round in 0..4 {
        for session in &mut sessions {
            assert_eq!(session.next(100).await.unwrap().is_some(), round < 3);
        }
    }
    assert!(!matches!(parse("good").await, Err(Error::Plugin { fault: HostcallLimit, .. })));
}
