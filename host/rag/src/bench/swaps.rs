//! What swapping plugins costs those who ask meanwhile: thousands of swaps under load, and one of a large index.
//!
//! What is kept of thousands of swaps does not grow with them, so that what memory does grow is the program's.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use rag_core::Rag;
use rag_core::document::ChunkId;
use rag_core::generations::SwapRequest;
use rag_core::kb::{KbName, PluginChoice};
use rag_core::limits::PROBATION_MS;
use rag_core::ports::{Generation, GenerationState, kb_with};
use rag_core::search::Turn;

use super::corpus::{KB, Scratch};
use super::load::{Load, STABLE, Seen};
use super::times::Times;
use super::{Figure, toy};
use crate::assemble;
use crate::cli::Bench;
use crate::config::Config;
use crate::output::Progress;

/// Every so many swaps another chunker, which needs a second index; more often where there are few.
const CHUNKER_EVERY: std::ops::RangeInclusive<usize> = 10..=250;
/// Documents of the knowledge base that is swapped thousands of times.
const DOCUMENTS: usize = 24;
/// Ingests beside the questions.
const INGESTS: usize = 2;
const LOOK: Duration = Duration::from_millis(2);
/// Swaps after which memory is looked at for the first time: pools and caches are full by then.
const WARM_SWAPS: usize = 200;
/// Further looks at it, evenly over all swaps.
const LOOKS: usize = 10;

/// A swap after the other under questions and ingests.
pub(super) async fn many(config: &Config, args: &Bench) -> Result<Vec<Figure>> {
    let scratch = Scratch::with(config, args, toy::engines()).await?;
    let rag = scratch.parts.rag.clone();
    scratch.ingest(&documents(DOCUMENTS)).await?;
    let jobs = tokio::spawn(assemble::run_jobs(rag.clone(), scratch.parts.wake.clone()));
    let every = (args.swaps / 40).clamp(*CHUNKER_EVERY.start(), *CHUNKER_EVERY.end());
    let mut course = Course::new(&rag, every);
    course.indexes.push(live_chunks(&rag).await?);
    let load = Load::start(&rag, args.asks, INGESTS);
    let mut progress = Progress::new("swaps");
    let (start, mut memory) = (Instant::now(), Vec::new());
    for n in 0..args.swaps {
        course.swap(n).await.with_context(|| format!("swap {n}"))?;
        course.mixed += load.seen.settle(&course.indexes);
        if n + 1 == WARM_SWAPS || (n + 1).is_multiple_of(args.swaps.div_ceil(LOOKS)) {
            let name = format!("resident memory after {} swaps", n + 1);
            memory.push(Figure::new(name, resident()?, "MiB"));
            let of_it = rag_store::bench::database_bytes() as f64 / f64::from(1 << 20);
            memory.push(Figure::new("of that SQLite", of_it, "MiB"));
        }
        progress.set(n as u64 * 100 / args.swaps as u64, "swaps");
    }
    let seconds = start.elapsed().as_secs_f64();
    let after = resident()?;
    let seen = load.end().await;
    progress.finish("done");
    jobs.abort();
    let mut figures = vec![
        Figure::new("swaps", args.swaps as f64, "swaps"),
        Figure::new("of them with a second index", course.reindexed as f64, "swaps"),
        Figure::new("time", seconds, "s"),
    ];
    figures.extend(memory);
    figures.push(Figure::new("resident memory at the end", after, "MiB"));
    course.mixed += seen.settle(&course.indexes);
    figures.extend(told(&seen, course.mixed)?);
    figures.extend(course.flips.figures("publish, the transaction"));
    figures.extend(course.publishes.figures("publish, all of it"));
    figures.extend(course.swaps.figures("swap, try and compare included"));
    Ok(figures)
}

/// What those who asked saw. Fails when anything did that must not.
fn told(seen: &Seen, mixed: usize) -> Result<Vec<Figure>> {
    let count = |of: &std::sync::atomic::AtomicU64| of.load(Relaxed) as f64;
    let last = seen.last_failure.lock().map(|last| last.clone()).unwrap_or_default();
    if let Some(last) = last {
        crate::output::note(format_args!("the last failure: {last}"));
    }
    Ok(vec![
        Figure::new("answers meanwhile", count(&seen.answers), "answers"),
        Figure::new("ingests meanwhile", count(&seen.ingests), "documents"),
        Figure::new("failed requests", count(&seen.failures), "requests"),
        Figure::new("answers from two generations", mixed as f64 + count(&seen.torn), "answers"),
    ])
}

/// The knowledge base on its way through generations.
struct Course {
    rag: Arc<Rag>,
    /// Chunks of the stable documents in every index that ever answered, by chunker.
    indexes: Vec<HashSet<ChunkId>>,
    reindexed: usize,
    chunker_every: usize,
    /// Which retriever is bound.
    dense: bool,
    /// Answers with passages of more than one index.
    mixed: usize,
    flips: Times,
    publishes: Times,
    swaps: Times,
}

impl Course {
    fn new(rag: &Arc<Rag>, chunker_every: usize) -> Self {
        Course {
            rag: rag.clone(),
            indexes: Vec::new(),
            reindexed: 0,
            chunker_every,
            dense: false,
            mixed: 0,
            flips: Times::default(),
            publishes: Times::default(),
            swaps: Times::default(),
        }
    }

    async fn swap(&mut self, n: usize) -> Result<()> {
        let start = Instant::now();
        let request = if n % self.chunker_every == self.chunker_every - 1 {
            let size = if self.reindexed.is_multiple_of(2) { 120 } else { 60 };
            let settings = format!("{{\"size\": {size}}}");
            SwapRequest {
                chunker: Some(PluginChoice::any("chunk-fixed".to_owned(), settings)),
                ..SwapRequest::default()
            }
        } else {
            self.dense = !self.dense;
            let id = if self.dense { "retrieve-dense" } else { "retrieve-hybrid" };
            SwapRequest {
                retriever: Some(PluginChoice::any(id.to_owned(), "{}".to_owned())),
                ..SwapRequest::default()
            }
        };
        let chunker = request.chunker.is_some();
        let staged = self.rag.swap(KB, request).await?;
        let ready = made(&self.rag, staged).await?;
        self.publish(&ready, chunker).await?;
        self.swaps.add(start.elapsed());
        if chunker {
            self.reindexed += 1;
            let index = live_chunks(&self.rag).await?;
            if !self.indexes.contains(&index) {
                self.indexes.push(index);
            }
        }
        Ok(())
    }

    /// Publishes as `Rag::publish` does; the transaction in which it begins to answer is timed apart.
    async fn publish(&mut self, ready: &Generation, second_index: bool) -> Result<()> {
        let kb = self.rag.kb(KB).await?;
        let start = Instant::now();
        if second_index {
            let mut live = self.rag.publish(KB, ready.number).await?;
            // A document came in between: its index takes that in first.
            while live.state != GenerationState::Live {
                tokio::time::sleep(LOOK).await;
                live = made(&self.rag, live).await?;
            }
            return Ok(());
        }
        self.rag.bindings.bind(&kb_with(&kb, ready)).await?;
        let flip = Instant::now();
        self.rag.records.publish_generation(&kb.name, ready.number, PROBATION_MS).await?;
        self.flips.add(flip.elapsed());
        // What is left of it: indexes that nobody needs any more.
        self.rag.publish(KB, ready.number).await?;
        self.publishes.add(start.elapsed());
        Ok(())
    }
}

/// Waits until a generation is ready or live.
async fn made(rag: &Rag, staged: Generation) -> Result<Generation> {
    let mut found = staged;
    loop {
        match found.state {
            GenerationState::Ready | GenerationState::Live => return Ok(found),
            GenerationState::Building => tokio::time::sleep(LOOK).await,
            state => bail!("generation {} is {state:?}: {}", found.number, found.reason.unwrap_or_default()),
        }
        found = rag.records.generation(&found.kb, found.number).await?;
    }
}

/// A swap of the chunker of a large knowledge base, looked at, published and taken back.
pub(super) async fn large(config: &Config, args: &Bench) -> Result<Vec<Figure>> {
    let scratch = Scratch::with(config, args, toy::engines()).await?;
    let rag = scratch.parts.rag.clone();
    let seconds = scratch.ingest(&documents(args.documents)).await?;
    for n in 0..20 {
        // What people asked lately is what the comparison asks of both.
        let question = format!("What does part {n} of the plan say?");
        let turn = Turn { question, answer: "Ten sacks.".to_owned() };
        rag.catalog.append_turn(&format!("c{n}"), &KbName::parse(KB)?, &turn).await?;
    }
    let old = live_chunks(&rag).await?;
    let before = rag.kb(KB).await?;
    let jobs = tokio::spawn(assemble::run_jobs(rag.clone(), scratch.parts.wake.clone()));
    let load = Load::start(&rag, args.asks, 0);
    let start = Instant::now();
    let chunker = PluginChoice::any("chunk-fixed".to_owned(), "{\"size\": 120}".to_owned());
    let staged = rag.swap(KB, SwapRequest { chunker: Some(chunker), ..SwapRequest::default() }).await?;
    let ready = made(&rag, staged).await?;
    let filled = start.elapsed();
    let report = ready.report.clone().context("a generation that is ready has a report")?;
    let until_flip = load.end().await;
    let strangers = {
        let seen = until_flip.passages.lock().map(|seen| seen.clone()).unwrap_or_default();
        seen.iter().filter(|passages| !passages.iter().all(|chunk| old.contains(chunk))).count()
    };
    let load = Load::start(&rag, args.asks, 0);
    let start = Instant::now();
    let live = rag.publish(KB, ready.number).await?;
    let flip = start.elapsed();
    let new = live_chunks(&rag).await?;
    let start = Instant::now();
    rag.roll_back(KB, Some(live.number), "measured").await?;
    let back = start.elapsed();
    let seen = load.end().await;
    jobs.abort();
    let same = live_chunks(&rag).await? == old;
    let mut figures = vec![
        Figure::new("documents", before.documents as f64, "documents"),
        Figure::new("chunks before", report.chunks_before as f64, "chunks"),
        Figure::new("chunks after", report.chunks_after as f64, "chunks"),
        Figure::new("first index", seconds, "s"),
        Figure::new("second index, beside questions", filled.as_secs_f64(), "s"),
        Figure::new("questions in the report before the flip", report.questions.len() as f64, "questions"),
        Figure::new("of them with another best passage", f64::from(report.changed), "questions"),
        Figure::new("answers until the flip", until_flip.answers.load(Relaxed) as f64, "answers"),
        Figure::new("failed until the flip", until_flip.failures.load(Relaxed) as f64, "requests"),
        Figure::new("answers not from the old index until the flip", strangers as f64, "answers"),
        Figure::new("publish", flip.as_secs_f64() * 1e3, "ms"),
        Figure::new("roll back", back.as_secs_f64() * 1e3, "ms"),
        Figure::new("old index answers again", f64::from(u8::from(same)), "of 1"),
    ];
    let mixed = seen.settle(&[old, new]);
    figures.extend(told(&seen, mixed)?);
    Ok(figures)
}

/// Documents of several passages whatever cuts them.
fn documents(count: usize) -> Vec<(String, Bytes)> {
    let one = |n: usize| {
        let part = |p: usize| {
            format!(
                "Part {} of the plan, in paper {n}: crew {p} brings {} sacks to the mill before the rain.\n\n第 {} 部分，文件 {n}：第 {p} 队在下雨之前把 {} 袋粮食送到磨坊。\n\n",
                (n * 7 + p) % 97,
                n + p,
                (n * 5 + p) % 89,
                n + p
            )
        };
        (format!("{STABLE}{n:04}.txt"), Bytes::from((0..4).map(part).collect::<String>()))
    };
    (0..count).map(one).collect()
}

/// Chunks of the stable documents in the index that answers.
async fn live_chunks(rag: &Rag) -> Result<HashSet<ChunkId>> {
    let kb = KbName::parse(KB)?;
    let mut all = HashSet::new();
    let mut after: Option<String> = None;
    loop {
        let page = rag.catalog.documents(&kb, after.as_deref(), 200).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = Some(last.name.clone());
        for document in page.iter().filter(|document| document.name.starts_with(STABLE)) {
            let chunks = rag.catalog.chunks(&document.id, None, 1_000).await?;
            all.extend(chunks.into_iter().map(|stored| stored.chunk.id));
        }
    }
}

/// Memory of this process in use, in MiB.
pub(super) fn resident() -> Result<f64> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 =
        line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0.0);
    Ok(kib / 1024.0)
}
