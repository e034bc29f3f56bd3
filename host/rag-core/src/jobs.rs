//! What waits to be done, one job at a time: claim, run, record how it ended, clean up.

use std::sync::Arc;
use std::time::Duration;

use crate::ahead::Ahead;
use crate::crawl;
use crate::curate;
use crate::document::DocumentId;
use crate::error::{Error, ErrorCode, Result};
use crate::evaluate;
use crate::generations;
use crate::ingest::ingest;
use crate::kb::Kb;
use crate::limits;
use crate::ports::{
    Binding, GenerationState, IngestSource, Job, JobId, JobKind, JobState, Progress, Stage, VectorStore,
};
use crate::rag::Rag;
use crate::reindex::reindex;
use crate::unpack::{self, Opened};

/// Tries to record a job's end while storage fails, and the wait before each further one.
const SETTLE_TRIES: u32 = 120;
const SETTLE_PAUSE: Duration = Duration::from_secs(2);

/// Finishes what a dead process left: imports that broke off, generations that do not load, indexes and vectors that
/// nothing refers to. Call once before the first job. Returns what somebody should know; one knowledge base's trouble is not another's.
pub async fn recover(rag: &Rag) -> Result<Vec<String>> {
    let mut alarms = Vec::new();
    for import in rag.catalog.imports().await?.into_iter().filter(|import| import.broken) {
        if let Err(error) = rag.remove_kb(&import.kb).await {
            alarms
                .push(format!("'{}', an import that broke off, cannot be removed: {error}", import.kb.name));
        }
    }
    for kb in rag.catalog.kbs().await? {
        match recover_kb(rag, &kb).await {
            Ok(alarm) => alarms.extend(alarm.map(|alarm| format!("knowledge base '{}': {alarm}", kb.name))),
            Err(error) => alarms.push(format!("knowledge base '{}': {error}", kb.name)),
        }
    }
    Ok(alarms)
}

async fn recover_kb(rag: &Rag, kb: &Kb) -> Result<Option<String>> {
    let alarm = generations::recover(rag, kb).await?;
    let binding = rag.binding(kb.name.as_str()).await?;
    collect_garbage(rag, &binding).await?;
    generations::resume(rag, &binding.kb).await?;
    generations::sweep(rag, &kb.name).await?;
    Ok(alarm)
}

/// Runs the next job: of the highest priority, the oldest. Returns whether there was one; errors are those of the catalogue itself, since a
/// job's own failure is recorded in the job.
pub async fn run_next(rag: &Rag) -> Result<bool> {
    let Some(job) = rag.catalog.claim().await? else { return Ok(false) };
    run(rag, job, None).await?;
    Ok(true)
}

/// Runs a job that was claimed, with its document if that was opened before.
pub(crate) async fn run(rag: &Rag, job: Job, ahead: Option<Ahead>) -> Result<()> {
    let outcome = match &job.kind {
        JobKind::Ingest(source) => run_ingest(rag, &job, source, ahead).await.map(Some),
        JobKind::DeleteDocument(document) => run_delete(rag, document).await.map(Some),
        JobKind::EnableDocument(document) => curate::enable_document(rag, &job, document).await.map(Some),
        JobKind::Evaluate(run) => evaluate::evaluate(rag, &job, run).await.map(Some),
        JobKind::Reindex(generation) => reindex(rag, &job, *generation).await,
        JobKind::Crawl(order) => crawl::crawl(rag, &job, order).await.map(Some),
    };
    let end = match outcome {
        Ok(Some(state)) => End::Ended(state),
        Ok(None) => End::Interrupted,
        Err(Error::Cancelled) if rag.catalog.job(&job.id).await.is_ok_and(|job| goes_on(&job)) => {
            End::Interrupted
        }
        Err(Error::Cancelled) => End::Ended(JobState::Cancelled),
        Err(error) if error.retryable() && job.attempts + 1 < limits::JOB_ATTEMPTS_MAX => End::Postponed {
            reason: error.to_string(),
            wait_ms: limits::JOB_BACKOFF_MS << (2 * job.attempts),
        },
        Err(error) => End::Ended(JobState::Failed { message: error.to_string() }),
    };
    if let (JobKind::Reindex(generation), End::Ended(state)) = (&job.kind, &end) {
        end_staged(rag, &job, *generation, state).await?;
    }
    settle(rag, &job, &end).await?;
    if let Ok(binding) = rag.binding(job.kb.as_str()).await {
        collect_garbage(rag, &binding).await?;
        generations::sweep(rag, &job.kb).await?;
    }
    Ok(())
}

/// A generation whose index will not be filled is given up before its job ends, so that it never hangs.
async fn end_staged(rag: &Rag, job: &Job, generation: u64, state: &JobState) -> Result<()> {
    let (state, reason) = match state {
        JobState::Failed { message } => (GenerationState::Failed, message.as_str()),
        JobState::Cancelled => (GenerationState::Abandoned, "its job was cancelled"),
        _ => return Ok(()),
    };
    match rag.records.end_generation(&job.kb, generation, state, reason).await {
        // The knowledge base was deleted meanwhile, or it answers already.
        Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::Conflict) => Ok(()),
        result => result.map(|_| ()),
    }
}

/// How a try of a job ended.
enum End {
    Ended(JobState),
    /// Somebody paused it, or resumed it before this was noticed, or it makes way for others.
    Interrupted,
    /// It failed for a reason that may pass.
    Postponed {
        reason: String,
        wait_ms: u64,
    },
}

/// Whether a job that stopped is to run again, now or once resumed.
fn goes_on(job: &Job) -> bool {
    matches!(job.state, JobState::Paused | JobState::Queued)
}

/// Records how a job ended. A full disk is waited out, so that the job is not lost in the state `running`.
async fn settle(rag: &Rag, job: &Job, end: &End) -> Result<()> {
    let mut tries = 0;
    loop {
        let recorded = match end {
            End::Ended(state) => rag.catalog.finish(&job.id, state).await,
            End::Interrupted => rag.records.interrupted(&job.id).await,
            End::Postponed { reason, wait_ms } => rag.records.postpone(&job.id, reason, *wait_ms).await,
        };
        match recorded {
            // Its knowledge base was deleted meanwhile, and the job with it.
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(()),
            Err(error) if error.retryable() && tries < SETTLE_TRIES => {
                tries += 1;
                (rag.pause)(SETTLE_PAUSE).await;
            }
            result => return result,
        }
    }
}

async fn run_ingest(rag: &Rag, job: &Job, source: &IngestSource, ahead: Option<Ahead>) -> Result<JobState> {
    let outcome = if unpack::is_archive(rag, job, source).await? {
        match unpack::unpack(rag, job, source).await {
            Ok(Opened::Queued) => return Ok(JobState::Done { document: None, unchanged: false }),
            Ok(Opened::Document(done)) => Ok(done),
            Err(error) => Err(error),
        }
    } else {
        if unpack::is_mail(source) {
            // First: the commit of the mail ends the job.
            unpack::attachments(rag, job, source).await?;
        }
        ingest(rag, job, source, ahead).await
    };
    match outcome {
        Ok(done) => {
            for unused in &done.unused {
                // The document is committed whatever happens here; opening the store sweeps what stays behind.
                let _ = rag.blobs.remove(unused).await;
            }
            Ok(JobState::Done { document: Some(done.document), unchanged: done.unchanged })
        }
        // The commit ends the job in the same transaction: when it took effect, what failed after it is no failure.
        // Otherwise recording the failure takes what was pending out of the catalogue.
        Err(error) => match rag.catalog.job(&job.id).await {
            Ok(Job { state: done @ JobState::Done { .. }, .. }) => Ok(done),
            _ => Err(error),
        },
    }
}

async fn run_delete(rag: &Rag, document: &DocumentId) -> Result<JobState> {
    rag.delete_document(document).await?;
    Ok(JobState::Done { document: None, unchanged: false })
}

/// Tells how far a job is; `Cancelled` when somebody cancelled or paused it.
pub(crate) async fn report(rag: &Rag, job: &JobId, stage: Stage, done: u64, total: u64) -> Result<()> {
    let percent = u8::try_from(done.min(total) * 99 / total.max(1)).unwrap_or(99);
    rag.catalog.progress(job, Progress { stage, done, total, percent }).await
}

/// Drops vectors that no committed chunk refers to from the vector store, then from the catalogue's list.
pub async fn collect_garbage(rag: &Rag, binding: &Binding) -> Result<()> {
    while let Some(garbage) =
        rag.catalog.vector_garbage(&binding.kb.name, limits::STORE_BATCH_MAX as u32).await?
    {
        let dropped = match store_of(rag, binding, &garbage.collection).await {
            Ok(store) => store.delete(&garbage.collection, &garbage.chunks).await,
            Err(error) => Err(error),
        };
        match dropped {
            Ok(()) => {}
            // Without the collection, or the plugin that kept it, there is nothing to drop.
            Err(error) if error.code() == ErrorCode::NotFound => {}
            Err(error) => return Err(error),
        }
        rag.catalog.forget_vectors(&garbage).await?;
    }
    Ok(())
}

/// Where the vectors of an index are: of the live one, or of one beside it.
async fn store_of(rag: &Rag, binding: &Binding, collection: &str) -> Result<Arc<dyn VectorStore>> {
    if collection == binding.kb.collection {
        return Ok(binding.store.clone());
    }
    let indexes = rag.records.indexes(&binding.kb.name).await?;
    match indexes.iter().find(|index| index.collection == collection) {
        Some(index) => rag.bindings.store_of(&binding.kb, &index.store, collection).await,
        None => Err(Error::NotFound { what: "index", name: collection.to_owned() }),
    }
}
