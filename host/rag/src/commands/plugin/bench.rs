//! `plugin bench`: how long a component takes to compile, to load, to instantiate and to do its work on a sample.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use rag_core::document::Section;
use rag_core::ports::{VectorCollection, VectorStore};
use rag_core::search::{Metric, RetrieveRequest};
use rag_kit::{doubles, sections};
use rag_wasm::{Kind, ParserImports, PluginHost, RetrieverImports, Step, StoreImports, WasmConfig};
use serde_json::json;

use super::test::component_of;
use crate::compile;
use crate::config::Config;
use crate::output;

/// Rounds of the host's own steps.
const STEP_ROUNDS: u32 = 200;
/// Calls of the plugin's work at most, and the time after which no further one begins.
const CALLS_MAX: usize = 200;
const CALLS_TIME: Duration = Duration::from_secs(5);
/// Characters of the sample, about.
const SAMPLE_CHARS: usize = 4_000;

/// A step's times.
struct Row {
    name: &'static str,
    times: Vec<Duration>,
}

pub(crate) async fn run(config: &Config, file: &Path, json: bool) -> Result<()> {
    let file = component_of(file)?;
    let scratch = std::env::temp_dir().join(format!("rwkv-rag-bench-{}", std::process::id()));
    let rows = measure(config, &file, &scratch).await;
    // Ours alone; when it cannot be removed the figures still stand.
    let _ = fs_err::remove_dir_all(&scratch);
    let rows = rows?;
    if json {
        let view = |row: &Row| {
            let micros = |place| at(&row.times, place).as_secs_f64() * 1e6;
            json!({"step": row.name, "rounds": row.times.len(), "p50_us": micros(50), "p99_us": micros(99)})
        };
        output::json(&json!({"steps": rows.iter().map(view).collect::<Vec<_>>()}));
        return Ok(());
    }
    let row = |row: &Row| {
        let shown = |place| format!("{:.3} ms", at(&row.times, place).as_secs_f64() * 1e3);
        vec![row.name.to_owned(), row.times.len().to_string(), shown(50), shown(99)]
    };
    output::table(&["step", "rounds", "p50", "p99"], &rows.iter().map(row).collect::<Vec<_>>());
    Ok(())
}

async fn measure(config: &Config, file: &Path, scratch: &Path) -> Result<Vec<Row>> {
    let host = PluginHost::new(WasmConfig {
        threads: config.plugin_threads(),
        limits: config.plugins.limits.clone(),
        ..WasmConfig::new(scratch, compile::compiler(&config.plugins.compile))
    })?;
    let started = Instant::now();
    let loaded = host.load_file(file)?;
    let mut rows = vec![Row { name: "compile and check", times: vec![started.elapsed()] }];
    for (name, step) in
        [("load from cache", Step::Load), ("instantiate", Step::Instantiate), ("empty call", Step::Call)]
    {
        let times = tokio::task::block_in_place(|| host.time(&loaded.info.id, step, STEP_ROUNDS))?;
        rows.push(Row { name, times });
    }
    let id = loaded.info.id.as_str();
    let (name, times) = match loaded.kind {
        Kind::Chunker => ("cut 4 000 characters", chunker(&host, id).await?),
        Kind::Parser => ("read a text of 12 KB", parser(&host, id).await?),
        Kind::Retriever => ("retrieve from 8 chunks", retriever(&host, id).await?),
        Kind::VectorStore => ("ping", store(&host, id).await?),
        Kind::Connector => ("ask a server that is away", connector(&host, id).await?),
    };
    rows.push(Row { name, times });
    Ok(rows)
}

/// Times of a call that is repeated; a typed error is an outcome too, since a sample may not suit every plugin.
async fn repeat<T>(mut call: impl AsyncFnMut() -> rag_core::Result<T>) -> Result<Vec<Duration>> {
    let (began, mut times) = (Instant::now(), Vec::new());
    while times.len() < CALLS_MAX && (times.is_empty() || began.elapsed() < CALLS_TIME) {
        let started = Instant::now();
        let outcome = call().await;
        times.push(started.elapsed());
        match outcome {
            Err(error @ rag_core::Error::Plugin { .. })
                if error.code() == rag_core::ErrorCode::Internal
                    || error.code() == rag_core::ErrorCode::Timeout =>
            {
                return Err(error.into());
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(times)
}

fn sample() -> Section {
    let sentence = "知识库把文档切成片段。Each of them is cited with its place.\n\n";
    sections::paragraph(&sentence.repeat(SAMPLE_CHARS / sentence.chars().count()))
}

async fn chunker(host: &Arc<PluginHost>, id: &str) -> Result<Vec<Duration>> {
    let chunker = host.chunker(id, "{}", Arc::new(doubles::HashEmbedder::default()))?;
    repeat(async || chunker.split(sample()).await).await
}

async fn parser(host: &Arc<PluginHost>, id: &str) -> Result<Vec<Duration>> {
    let parser = host.parser(id, "{}", ParserImports::default())?;
    let text = sample().text.repeat(2);
    repeat(async || {
        let mut session = parser.open(doubles::MemoryBlob::new(text.as_bytes(), "text/plain")).await?;
        while session.next(64 << 10).await?.is_some() {}
        session.summary().await
    })
    .await
}

async fn retriever(host: &Arc<PluginHost>, id: &str) -> Result<Vec<Duration>> {
    let imports = RetrieverImports {
        search: Arc::new(doubles::Corpus { chunks: rag_kit::retriever::corpus(), ..Default::default() }),
        embedder: Arc::new(doubles::HashEmbedder::default()),
        reranker: None,
        generator: None,
        kv: Arc::new(doubles::MemoryKeys::default()),
    };
    let retriever = host.retriever(id, "{}", imports)?;
    repeat(async || {
        let question = "Debian 多久发布一次稳定版？".to_owned();
        retriever.retrieve(RetrieveRequest { question, history: vec![], k: 5, filter: None }).await
    })
    .await
}

async fn store(host: &Arc<PluginHost>, id: &str) -> Result<Vec<Duration>> {
    let index = Arc::new(doubles::MemoryIndex::default());
    let kv = Arc::new(doubles::MemoryKeys::default());
    let store: Arc<dyn VectorStore> =
        host.vector_store(id, "{}", StoreImports { index, kv, http: None, sql: None })?;
    // One that keeps its vectors elsewhere has nowhere to create them here, which its ping says as well.
    let _ = store.create(&VectorCollection { name: "b".to_owned(), dim: 4, metric: Metric::Cosine }).await;
    repeat(async || store.ping().await).await
}

async fn connector(host: &Arc<PluginHost>, id: &str) -> Result<Vec<Duration>> {
    let connector = host.connector(id, "{}", Arc::new(doubles::NoServer))?;
    repeat(async || connector.search("知识库", 5).await).await
}

/// The time below which so many of a hundred lie.
fn at(times: &[Duration], place: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let index = (sorted.len() * place).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_among_times() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(at(&times, 50), Duration::from_millis(100));
        assert_eq!(at(&times, 99), Duration::from_millis(198));
        assert_eq!(at(&times[..1], 50), Duration::from_millis(200));
    }
}
