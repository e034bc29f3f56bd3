//! Questions and ingests without a pause beside what is measured, and whether each answer came from one generation.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use futures_util::StreamExt as _;
use rag_core::Rag;
use rag_core::ask::AskRequest;
use rag_core::document::ChunkId;
use rag_core::ports::JobState;
use tokio::task::JoinHandle;

use super::corpus::KB;

/// Between two documents of one ingest, so that a second index is ever filled beside them.
const INGEST_PAUSE: Duration = Duration::from_millis(200);
/// Between two looks at a job.
const LOOK: Duration = Duration::from_millis(5);
/// Documents that do not change have names that begin so; only their passages tell generations apart.
pub(super) const STABLE: &str = "stable-";
/// The arm of a retriever that `retrieve-dense` has not.
const WORDS: &str = "lexical";

/// What happened meanwhile.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) answers: AtomicU64,
    pub(super) ingests: AtomicU64,
    pub(super) failures: AtomicU64,
    /// A retriever's own trace beside the name of another one.
    pub(super) torn: AtomicU64,
    pub(super) last_failure: Mutex<Option<String>>,
    /// Every different set of passages that one answer had, since they were last settled.
    pub(super) passages: Mutex<HashSet<Vec<ChunkId>>>,
}

impl Seen {
    fn failed(&self, why: impl std::fmt::Display) {
        self.failures.fetch_add(1, Relaxed);
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_string());
    }

    /// How many answers had passages of more than one of these indexes, which are all that answered yet. Forgets them.
    pub(super) fn settle(&self, indexes: &[HashSet<ChunkId>]) -> usize {
        let touched = |passages: &Vec<ChunkId>| {
            indexes.iter().filter(|index| passages.iter().any(|chunk| index.contains(chunk))).count() > 1
        };
        let mut seen = self.passages.lock().unwrap_or_else(PoisonError::into_inner);
        seen.drain().filter(touched).count()
    }
}

/// Tasks that go on until they are told to stop.
pub(super) struct Load {
    pub(super) seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many askers, each with its next question at once, and ingests that replace documents of their own.
    pub(super) fn start(rag: &Arc<Rag>, askers: usize, ingests: usize) -> Self {
        let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let mut tasks = Vec::new();
        for asker in 0..askers {
            let (rag, seen, stop) = (rag.clone(), seen.clone(), stop.clone());
            tasks.push(tokio::spawn(async move {
                let mut round = asker;
                while !stop.load(Relaxed) {
                    round += 1;
                    if let Err(error) = ask(&rag, &seen, round).await {
                        seen.failed(error);
                    }
                }
            }));
        }
        for ingest in 0..ingests {
            let (rag, seen, stop) = (rag.clone(), seen.clone(), stop.clone());
            tasks.push(tokio::spawn(async move {
                let mut round = 0;
                while !stop.load(Relaxed) {
                    round += 1;
                    match replace(&rag, ingest, round).await {
                        Ok(()) => _ = seen.ingests.fetch_add(1, Relaxed),
                        Err(error) => seen.failed(error),
                    }
                    tokio::time::sleep(INGEST_PAUSE).await;
                }
            }));
        }
        Load { seen, stop, tasks }
    }

    /// Lets every task end what it is at.
    pub(super) async fn end(self) -> Arc<Seen> {
        self.stop.store(true, Relaxed);
        for task in self.tasks {
            if let Err(error) = task.await {
                self.seen.failed(error);
            }
        }
        self.seen
    }
}

/// A question about one of the stable documents, answered to its end.
async fn ask(rag: &Rag, seen: &Seen, round: usize) -> Result<()> {
    let question = format!("What does part {} of the plan say? 第 {} 部分讲什么？", round % 97, round % 89);
    let answering = rag.ask(KB, AskRequest { question, ..AskRequest::default() }).await?;
    let mut passages: Vec<ChunkId> = answering
        .recall
        .iter()
        .filter(|hit| hit.passage.document_name.starts_with(STABLE))
        .map(|hit| hit.passage.chunk.clone())
        .collect();
    passages.sort_by(|a, b| a.0.cmp(&b.0));
    let found = answering.recall.len();
    let by = answering.steps.iter().find(|step| step.name == "retrieve").map(|step| step.detail.clone());
    let by = by.unwrap_or_default();
    let words = answering.recall.iter().flat_map(|hit| &hit.evidence).any(|evidence| evidence.arm == WORDS);
    if by.ends_with("retrieve-dense") && words {
        seen.torn.fetch_add(1, Relaxed);
    }
    let mut stream = answering.stream;
    while let Some(event) = stream.next().await {
        event?;
    }
    if found == 0 {
        bail!("an answer without passages, by {by}");
    }
    seen.passages.lock().unwrap_or_else(PoisonError::into_inner).insert(passages);
    seen.answers.fetch_add(1, Relaxed);
    Ok(())
}

async fn replace(rag: &Rag, ingest: usize, round: usize) -> Result<()> {
    let mut writer = rag.upload().await?;
    writer.write(Bytes::from(format!("Note {round} of log {ingest}. 日志第 {round} 条。"))).await?;
    let name = format!("log-{ingest}-{}.txt", round % 8);
    let job = rag.submit(KB, &name, None, writer).await?;
    loop {
        match rag.catalog.job(&job.id).await?.state {
            JobState::Done { .. } => return Ok(()),
            JobState::Failed { message } => bail!("{name}: {message}"),
            JobState::Cancelled => bail!("{name}: cancelled"),
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}
