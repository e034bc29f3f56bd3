//! What the sandbox costs: loading, a new instance, a call, a section cut in a fresh instance.
//!
//! Needs the components of `cargo xtask plugins`; another folder is named by `RAG_PLUGINS_DIR`.

#![expect(clippy::expect_used, reason = "a benchmark that cannot run has nothing to measure")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rag_core::document::{Section, Vectors};
use rag_core::ports::{Embed, Purpose};
use rag_core::{Error, Result};
use rag_wasm::{Compiler, Crossing, PluginHost, Step, WasmConfig};

const CHUNKER: &str = "chunk-fixed";
const GUEST_FILE: &str = "target/guests/wasm32-wasip2/release/bench_guest.wasm";

/// Counts characters; embeds nothing.
struct NoEmbedder;

#[async_trait]
impl Embed for NoEmbedder {
    fn identity(&self) -> &str {
        "none"
    }

    fn dim(&self) -> usize {
        1
    }

    fn tokens_max(&self) -> usize {
        512
    }

    fn count_tokens(&self, texts: &[String]) -> Vec<u32> {
        texts.iter().map(|text| u32::try_from(text.chars().count()).unwrap_or(u32::MAX)).collect()
    }

    async fn embed(&self, _: Vec<String>, _: Purpose) -> Result<Vectors> {
        Err(Error::internal("this benchmark embeds nothing"))
    }
}

fn section(bytes: usize) -> Section {
    let line = "知识库把文档变成可以引用的答案。 A knowledge base turns documents into answers.\n";
    let mut text: String = line.repeat(bytes / line.len() + 1);
    text.truncate(text.floor_char_boundary(bytes));
    Section { text, blocks: Vec::new(), title: None, language: None, outline: Vec::new() }
}

fn calls(c: &mut Criterion) {
    let plugins = std::env::var_os("RAG_PLUGINS_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/dist"), PathBuf::from);
    let cache = tempfile::tempdir().expect("a temporary folder");
    let host = PluginHost::new(WasmConfig::new(cache.path(), Compiler::Here)).expect("a plugin host");
    host.load_file(&plugins.join(format!("{CHUNKER}.wasm"))).expect("build the plugins: cargo xtask plugins");

    let mut group = c.benchmark_group("plugin");
    for (name, step) in [("load", Step::Load), ("instantiate", Step::Instantiate), ("call", Step::Call)] {
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
                host.time(CHUNKER, step, rounds).expect("a step").into_iter().sum::<Duration>()
            });
        });
    }

    // Calls of one host function; the component is built by `cargo xtask guests`.
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(GUEST_FILE);
    if host.load_file(&guest).is_ok() {
        group.bench_function("1000 × log of a level not kept", |b| {
            b.iter_custom(|rounds| {
                let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
                let times = host.time_crossing("bench-guest", Crossing::Log(1_000), rounds);
                times.expect("a crossing").into_iter().sum::<Duration>()
            });
        });
    }

    // Through the port, so with the hand-over to a plugin thread and back.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let chunker = host.chunker(CHUNKER, "{}", Arc::new(NoEmbedder)).expect("a chunker");
    for (name, bytes) in [("split 4 KiB", 4 << 10), ("split 1 MiB", 1 << 20)] {
        let section = section(bytes);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(name, |b| {
            b.iter(|| runtime.block_on(chunker.split(section.clone())).expect("chunks"));
        });
    }
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
