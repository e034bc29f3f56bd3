//! Fills the index of a staged generation while the live one answers: every live document is read anew.

use crate::error::{Error, ErrorCode, Result};
use crate::ingest;
use crate::jobs::report;
use crate::kb::Kb;
use crate::limits;
use crate::ports::{DocumentInfo, GenerationState, Job, JobState, Stage, kb_with};
use crate::rag::Rag;

/// Documents asked for at once.
const BATCH: u32 = 16;
/// Documents read before it makes way for one other job (`Catalog::claim`). That brings one document at most, so that
/// the index is complete some day however many come meanwhile.
const TURN: u64 = 2;
/// Jobs looked at to see whether somebody waits.
const JOBS_SEEN: u32 = 50;

/// Runs the job of a staged generation until its index holds every live document. None when it makes way for other
/// jobs; it goes on after them.
pub(crate) async fn reindex(rag: &Rag, job: &Job, number: u64) -> Result<Option<JobState>> {
    let done = JobState::Done { document: None, unchanged: false };
    let kb = rag.catalog.kb(&job.kb).await?;
    let staged = rag.records.generation(&job.kb, number).await?;
    match staged.state {
        GenerationState::Building => {}
        // The power went between its comparison and its publication: both are done again.
        GenerationState::Ready if staged.publish => {}
        // It was published or given up before this process was asked.
        _ => return Ok(Some(JobState::Done { document: None, unchanged: true })),
    }
    if staged.parent != Some(kb.generation) {
        return Err(Error::Conflict {
            message: format!("generation {} became live meanwhile; swap again", kb.generation),
        });
    }
    let next = kb_with(&kb, &staged);
    for unused in rag.records.trim_index(&job.kb, &next.collection).await? {
        rag.blobs.remove(&unused).await?;
    }
    loop {
        let (missing, count) = rag.records.index_gaps(&job.kb, &next.collection, BATCH).await?;
        if missing.is_empty() {
            break;
        }
        for (at, document) in (0_u64..).zip(&missing) {
            let left = count - at.min(count);
            report(rag, &job.id, Stage::Embed, kb.documents.saturating_sub(left), kb.documents).await?;
            if at >= TURN && somebody_waits(rag, job).await? {
                return Ok(None);
            }
            read_anew(rag, job, &next, document).await?;
        }
    }
    let kb = rag.catalog.kb(&job.kb).await?;
    let ready = rag.prove(&kb, &staged).await?;
    match (ready.state, ready.reason) {
        (GenerationState::Failed, Some(reason)) => Ok(Some(JobState::Failed { message: reason })),
        // Documents came in the last moment: another job adds them.
        _ => Ok(Some(done)),
    }
}

async fn read_anew(rag: &Rag, job: &Job, next: &Kb, document: &DocumentInfo) -> Result<()> {
    let binding = rag.bindings.bind(next).await?;
    let source = ingest::source_of(document, None);
    let read = match ingest::ingest_with(rag, &binding, job, &source, None).await {
        Ok(read) => read,
        // Somebody deleted it meanwhile.
        Err(_) if gone(rag, document).await? => return Ok(()),
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(error) if error.retryable() => return Err(error),
        Err(error) => {
            return Err(Error::Conflict {
                message: format!("the new plugins cannot take '{}': {error}", document.name),
            });
        }
    };
    for unused in &read.unused {
        rag.blobs.remove(unused).await?;
    }
    Ok(())
}

async fn gone(rag: &Rag, document: &DocumentInfo) -> Result<bool> {
    match rag.catalog.document(&document.id).await {
        Err(error) if error.code() == ErrorCode::NotFound => Ok(true),
        Err(error) => Err(error),
        Ok(_) => Ok(false),
    }
}

async fn somebody_waits(rag: &Rag, job: &Job) -> Result<bool> {
    let waits = |other: &Job| {
        other.state == JobState::Queued
            && other.priority > limits::PRIORITY_REINDEX
            && other.not_before_ms.is_none()
            && other.id != job.id
    };
    Ok(rag.catalog.jobs(None, JOBS_SEEN).await?.iter().any(waits))
}
