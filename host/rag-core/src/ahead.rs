//! The loop over the queue that looks one job ahead: while a document is embedded and stored, the next one is opened and
//! its first section cut.
//!
//! What was opened ahead lives in memory only and counts for nothing until its job is claimed, in the queue's own order:
//! a job that was cancelled, or whose plugins changed meanwhile, is done as if nobody had looked.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::document::DocumentId;
use crate::error::Result;
use crate::ingest;
use crate::jobs;
use crate::limits;
use crate::ports::{Job, JobId, JobKind};
use crate::rag::Rag;
use crate::reading::{CutSection, Reading};

/// A document that was opened before its job was claimed.
pub(crate) struct Ahead {
    /// Of the original, the plugins and the settings that it was read with.
    pub(crate) document: DocumentId,
    pub(crate) reading: Reading,
    pub(crate) first: Option<CutSection>,
}

/// The queue of a process. There is one.
pub struct Queue {
    rag: Arc<Rag>,
    opening: Option<Opening>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("ahead", &self.opening.as_ref().map(|opening| &opening.job)).finish()
    }
}

impl Queue {
    pub fn new(rag: Arc<Rag>) -> Self {
        Queue { rag, opening: None }
    }

    /// As `jobs::run_next`, and the document of the job after it is opened meanwhile.
    pub async fn run_next(&mut self) -> Result<bool> {
        let opened = self.opening.take();
        let Some(job) = self.rag.catalog.claim().await? else { return Ok(false) };
        // Another kind of job may come first; what was opened waits then.
        let (ahead, waiting) = match opened {
            Some(opening) if opening.job == job.id => (opening.finish().await, None),
            other => (None, other),
        };
        // Not worth a failed job.
        let next = self.rag.catalog.upcoming().await.unwrap_or_default();
        self.opening = next.filter(reads_a_document).map(|next| match waiting {
            Some(opening) if opening.job == next.id => opening,
            _ => Opening::start(Arc::clone(&self.rag), next),
        });
        let run = pin!(jobs::run(&self.rag, job, ahead));
        match &mut self.opening {
            Some(opening) => opening.beside(run).await?,
            None => run.await?,
        }
        Ok(true)
    }
}

fn reads_a_document(job: &Job) -> bool {
    matches!(&job.kind, JobKind::Ingest(source) if source.size <= limits::AHEAD_BYTES_MAX)
}

/// The next job's document on its way.
struct Opening {
    job: JobId,
    work: Pin<Box<dyn Future<Output = Option<Ahead>> + Send>>,
    /// What `work` ended in.
    outcome: Option<Option<Ahead>>,
}

impl Opening {
    fn start(rag: Arc<Rag>, job: Job) -> Self {
        let id = job.id.clone();
        // An error is met again, and told, when it is the job's turn.
        let work = Box::pin(async move { ingest::open_ahead(&rag, &job).await.ok().flatten() });
        Opening { job: id, work, outcome: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        if self.outcome.is_none()
            && let Poll::Ready(outcome) = self.work.as_mut().poll(cx)
        {
            self.outcome = Some(outcome);
        }
    }

    /// Goes on as long as `run` takes.
    async fn beside<T>(&mut self, mut run: Pin<&mut impl Future<Output = T>>) -> T {
        poll_fn(|cx| {
            self.poll(cx);
            run.as_mut().poll(cx)
        })
        .await
    }

    async fn finish(self) -> Option<Ahead> {
        match self.outcome {
            Some(outcome) => outcome,
            None => self.work.await,
        }
    }
}
