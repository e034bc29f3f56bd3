//! A hostile chunker: each behaviour has its typed outcome, and after each a good section is cut as before.

use rag_core::document::{ChunkSpan, Section, Span};
use rag_core::error::PluginFault::{
    CpuLimit, Guest, HostcallLimit, InvalidOutput, MemoryLimit, Trap, WallLimit,
};
use rag_core::{Error, ErrorCode, Result};
use rag_wasm::{Limits, PluginHost};

use crate::{Code, Expected, Fault, assert_error, fakes, host, host_with, limits, settings};

/// Ends in a blank; the first character has three bytes.
const TEXT: &str = "知识库 answers. ";

fn section(text: &str) -> Section {
    Section { text: text.to_owned(), blocks: Vec::new(), title: None, language: None, outline: Vec::new() }
}

async fn split(host: &PluginHost, behaviour: &str) -> Result<Vec<ChunkSpan>> {
    let chunker = host.chunker("hostile-chunker", &settings(behaviour), fakes::embedder()).unwrap();
    chunker.split(section(TEXT)).await
}

async fn check_on(host: &PluginHost, behaviour: &str, expected: &Expected) {
    let err = split(host, behaviour).await.expect_err(behaviour);
    assert_error(&err, expected, behaviour);
    let good = split(host, "good").await.unwrap();
    let whole = Span { start: 0, end: TEXT.len() as u64 };
    assert_eq!(good, [ChunkSpan { span: whole, parent: None, context: None }], "after {behaviour}");
}

async fn check_all(cases: &[(&str, Expected)]) {
    for (behaviour, expected) in cases {
        check_on(&host(), behaviour, expected).await;
    }
}

#[tokio::test]
async fn endless_work_ends_at_the_processor_limit() {
    let limit = "it used more than 250 ms of processor time";
    check_all(&[
        ("loop", Fault(CpuLimit, limit)),
        ("loop-in-the-allocator", Fault(CpuLimit, limit)),
        ("fill-memory-for-ever", Fault(CpuLimit, limit)),
        ("cheap-host-calls-for-ever", Fault(CpuLimit, limit)),
    ])
    .await;
}

#[tokio::test]
async fn endless_waits_end_at_the_wall_clock_limit() {
    let mut limits = limits();
    limits.chunker.wall_ms_max = 1_000;
    let host = host_with(limits);
    for behaviour in ["sleep", "wait-for-the-host"] {
        check_on(&host, behaviour, &Fault(WallLimit, "it took longer than 1000 ms")).await;
    }
}

#[tokio::test]
async fn memory_and_stack_are_bounded_and_named() {
    check_all(&[
        ("grow", Fault(MemoryLimit, "more than 128 MiB of memory")),
        ("grow-at-once", Fault(MemoryLimit, "more than 128 MiB of memory")),
        ("recurse", Fault(Trap, "out of bounds memory access")),
        ("recurse-in-registers", Fault(Trap, "stack exhausted")),
    ])
    .await;
}

#[tokio::test]
async fn every_end_of_a_guest_is_a_trap_with_its_last_words() {
    check_all(&[
        ("trap", Fault(Trap, "unreachable")),
        ("panic", Fault(Trap, "知识库 is full of eels")),
        ("exit", Fault(Trap, "it exited with status")),
        ("abort", Fault(Trap, "unreachable")),
    ])
    .await;
}

#[tokio::test]
async fn chunks_that_break_the_contract_never_come_through() {
    check_all(&[
        ("cut-a-character", Fault(InvalidOutput, "chunk 0 spans 0..1, which cuts a character")),
        ("out-of-bounds", Fault(InvalidOutput, "of 19 bytes")),
        ("huge-offsets", Fault(InvalidOutput, "4294967294..4294967295 of 19 bytes")),
        ("reversed", Fault(InvalidOutput, "spans 19..0")),
        ("unsorted", Fault(InvalidOutput, "no chunk covers the text at 0..3")),
        ("gap", Fault(InvalidOutput, "no chunk covers the text at 3..19")),
        ("nothing", Fault(InvalidOutput, "no chunk covers the text at 0..19")),
        ("blank", Fault(InvalidOutput, "chunk 1 is blank")),
        ("parent-loop", Fault(InvalidOutput, "not smaller")),
        ("many-chunks", Fault(InvalidOutput, "100000 chunks, more than 20000")),
        ("more-chunks-than-cross", Fault(HostcallLimit, "fuel")),
        ("long-context", Fault(InvalidOutput, "context of more than 4096 bytes")),
        ("not-utf-8", Fault(InvalidOutput, "utf-8")),
    ])
    .await;
}

#[tokio::test]
async fn typed_errors_come_through_clean_and_short() {
    check_all(&[
        ("error", Code(ErrorCode::InvalidInput, "plugin hostile-chunker 0.1.0: size must be positive")),
        ("ugly-error", Fault(Guest(ErrorCode::Internal), "[31mred second line")),
        ("long-error", Fault(Guest(ErrorCode::Internal), "错错")),
        ("error-of-100-mb", Fault(HostcallLimit, "fuel")),
        ("hand-on-the-hosts-error", Code(ErrorCode::Internal, "storage failed: no space left on device")),
    ])
    .await;
    let err = split(&host(), "hand-on-the-hosts-error").await.unwrap_err();
    assert!(matches!(err, Error::Storage { .. }) && err.retryable(), "{err:?}");
}

#[tokio::test]
async fn floods_of_host_calls_end() {
    check_all(&[
        ("log-flood", Fault(HostcallLimit, "more than 10000 calls of host functions")),
        ("call-flood", Fault(HostcallLimit, "more than 10000 calls of host functions")),
        ("embed-too-many", Fault(Guest(ErrorCode::Quota), "at most 256")),
    ])
    .await;
}

#[tokio::test]
async fn a_noisy_guest_is_only_noisy() {
    for behaviour in ["log-large", "print-flood"] {
        let chunks = split(&host(), behaviour).await.unwrap();
        assert_eq!(chunks.len(), 1, "{behaviour}");
    }
}

#[tokio::test]
async fn a_panic_of_the_host_ends_at_the_call() {
    check_all(&[("panic-the-host", Code(ErrorCode::Internal, "the host panicked"))]).await;
}

#[tokio::test]
async fn an_instance_sees_nothing_and_remembers_nothing() {
    let first = split(&host(), "look-around").await.unwrap_err().to_string();
    assert!(first.contains("0 variables, 0 arguments, hash "), "{first}");
    assert_eq!(split(&host(), "look-around").await.unwrap_err().to_string(), first);
    for _ in 0..3 {
        let err = split(&host(), "remember").await.unwrap_err().to_string();
        assert!(err.ends_with("call 0"), "{err}");
    }
}

#[tokio::test]
async fn tokens_are_counted_by_the_host() {
    let err = split(&host(), "count-tokens").await.unwrap_err().to_string();
    assert!(err.ends_with("[13] of 512, dim 2"), "{err}");
}

#[tokio::test]
async fn an_empty_section_has_no_chunks() {
    let chunker = host().chunker("hostile-chunker", &settings("nothing"), fakes::embedder()).unwrap();
    assert_eq!(chunker.split(section("")).await.unwrap(), []);
    assert_eq!(chunker.info().id, "hostile-chunker");
}

#[tokio::test]
async fn all_plugins_together_have_so_much_memory_and_one_that_finds_none_left_is_not_to_blame() {
    let host = host_with(Limits { total_memory_bytes_max: 48 << 20, ..limits() });
    for _ in 0..3 {
        check_on(&host, "grow", &Code(ErrorCode::Unavailable, "the memory of all plugins")).await;
    }
}
