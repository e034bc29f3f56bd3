//! Jobs: a bounded queue in the order of arrival, and how each one ended.

use rag_core::Error;
use rag_core::document::{BlobHash, DocumentId};
use rag_core::kb::KbName;
use rag_core::ports::{IngestSource, Job, JobId, JobKind, JobState, Progress, Stage};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{kbs, retire};
use crate::fault::{Step, signed};
use crate::store::{StoreConfig, now_ms};

const QUEUED: i64 = 0;
const RUNNING: i64 = 1;
const DONE: i64 = 2;
const FAILED: i64 = 3;
const CANCELLED: i64 = 4;

/// In the order of `Stage`.
const STAGES: [Stage; 6] =
    [Stage::Queued, Stage::Parse, Stage::Chunk, Stage::Embed, Stage::Commit, Stage::Done];

pub(super) fn enqueue(
    transaction: &Transaction<'_>,
    kb: &KbName,
    kind: &JobKind,
    config: &StoreConfig,
) -> Step<Job> {
    let row = kbs::row_of(transaction, kb)?;
    let queued: u64 =
        transaction.query_row("SELECT count(*) FROM jobs WHERE state = ?1", [QUEUED], |row| row.get(0))?;
    if queued >= config.jobs_queued_max as u64 {
        return Err(Error::Busy { what: "ingest", limit: config.jobs_queued_max }.into());
    }
    let now = now_ms();
    match kind {
        JobKind::Ingest(source) => transaction.execute(
            "INSERT INTO jobs (kb, kind, blob, size, name, media_type, created_ms, updated_ms)
             VALUES (?1, 0, ?2, ?3, ?4, ?5, ?6, ?6)",
            params![row, source.blob.0, signed(source.size)?, source.name, source.media_type, now],
        )?,
        JobKind::DeleteDocument(document) => transaction.execute(
            "INSERT INTO jobs (kb, kind, document, created_ms, updated_ms) VALUES (?1, 1, ?2, ?3, ?3)",
            params![row, document.0, now],
        )?,
    };
    let id = transaction.last_insert_rowid();
    // The oldest ended jobs make room; their originals go when the store is opened next.
    transaction.execute(
        "DELETE FROM jobs WHERE state >= ?1 AND row <= (SELECT row FROM jobs WHERE state >= ?1 ORDER BY row DESC LIMIT 1 OFFSET ?2)",
        params![DONE, signed(config.jobs_kept_max as u64)?],
    )?;
    get_row(transaction, id)
}

/// The oldest queued job, now running.
pub(super) fn claim(transaction: &Transaction<'_>) -> Step<Option<Job>> {
    let row: Option<i64> = transaction
        .prepare_cached("SELECT row FROM jobs WHERE state = ?1 ORDER BY row LIMIT 1")?
        .query_row([QUEUED], |row| row.get(0))
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    transaction.execute(
        "UPDATE jobs SET state = ?2, updated_ms = ?3 WHERE row = ?1",
        params![row, RUNNING, now_ms()],
    )?;
    get_row(transaction, row).map(Some)
}

/// A queued job, now running, whatever waits before it.
pub(super) fn start(transaction: &Transaction<'_>, id: &JobId) -> Step<Job> {
    let (row, _) = find(transaction, id)?;
    transaction.execute(
        "UPDATE jobs SET state = ?2, updated_ms = ?3 WHERE row = ?1",
        params![row, RUNNING, now_ms()],
    )?;
    get_row(transaction, row)
}

/// Of a job that was cancelled meanwhile: `Cancelled`, so that whoever runs it stops.
pub(super) fn progress(transaction: &Transaction<'_>, id: &JobId, progress: Progress) -> Step<()> {
    let (row, state) = find(transaction, id)?;
    match state {
        CANCELLED => return Err(Error::Cancelled.into()),
        DONE | FAILED => {
            return Err(Error::Conflict { message: format!("job '{id}' has ended") }.into());
        }
        _ => {}
    }
    let stage = STAGES.iter().position(|stage| *stage == progress.stage).unwrap_or_default();
    transaction
        .prepare_cached(
            "UPDATE jobs SET stage = ?2, done = ?3, total = ?4, percent = max(percent, ?5), updated_ms = ?6 WHERE row = ?1",
        )?
        .execute(params![
            row,
            signed(stage as u64)?,
            signed(progress.done)?,
            signed(progress.total)?,
            progress.percent.min(100),
            now_ms()
        ])?;
    Ok(())
}

/// Marks a job done within the commit of its document; a cancelled job commits nothing.
pub(super) fn complete(transaction: &Transaction<'_>, id: &JobId, document: &DocumentId) -> Step<()> {
    let (row, state) = find(transaction, id)?;
    if state == CANCELLED {
        return Err(Error::Cancelled.into());
    }
    end(transaction, row, &JobState::Done { document: Some(document.clone()), unchanged: false })
}

/// The first end of a job stands: ending it again changes nothing.
pub(super) fn finish(transaction: &Transaction<'_>, id: &JobId, state: &JobState) -> Step<()> {
    let (row, held) = find(transaction, id)?;
    match state {
        JobState::Running => {
            Err(Error::invalid("a job starts running when it is claimed, not when it is finished").into())
        }
        JobState::Queued if held == QUEUED => Ok(()),
        JobState::Queued if held == DONE => {
            Err(Error::Conflict { message: format!("job '{id}' is done and cannot be queued again") }.into())
        }
        JobState::Queued => requeue(transaction, row),
        JobState::Done { .. } if held < DONE => end(transaction, row, state),
        JobState::Done { .. } => Ok(()),
        JobState::Failed { .. } | JobState::Cancelled => {
            if held < DONE {
                end(transaction, row, state)?;
            }
            // A running job that is cancelled still writes; whoever runs it ends it once more after stopping.
            let still_writes = held == RUNNING && *state == JobState::Cancelled;
            if still_writes || held == DONE { Ok(()) } else { abandon(transaction, row) }
        }
    }
}

/// What an attempt had written goes with it.
fn abandon(transaction: &Transaction<'_>, row: i64) -> Step<()> {
    let (kb, name, blob): (i64, Option<String>, Option<String>) =
        transaction.query_row("SELECT kb, name, blob FROM jobs WHERE row = ?1", [row], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    match (name, blob) {
        (Some(name), Some(blob)) => retire::abandon_attempts(transaction, kb, &name, &blob),
        _ => Ok(()),
    }
}

fn requeue(transaction: &Transaction<'_>, row: i64) -> Step<()> {
    transaction.execute(
        "UPDATE jobs SET state = ?2, stage = 0, done = 0, total = 0, percent = 0, message = NULL, updated_ms = ?3
         WHERE row = ?1",
        params![row, QUEUED, now_ms()],
    )?;
    Ok(())
}

/// Jobs of a dead process start over.
pub(super) fn requeue_running(transaction: &Transaction<'_>) -> Step<()> {
    let running = {
        let mut statement = transaction.prepare("SELECT row FROM jobs WHERE state = ?1")?;
        let rows = statement.query_map([RUNNING], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<Vec<i64>>>()?
    };
    running.into_iter().try_for_each(|row| requeue(transaction, row))
}

fn end(transaction: &Transaction<'_>, row: i64, state: &JobState) -> Step<()> {
    let (code, document, unchanged, message) = match state {
        JobState::Done { document, unchanged } => (DONE, document.as_ref(), *unchanged, None),
        JobState::Failed { message } => (FAILED, None, false, Some(message)),
        JobState::Cancelled | JobState::Queued | JobState::Running => (CANCELLED, None, false, None),
    };
    transaction.execute(
        "UPDATE jobs SET state = ?2, document = coalesce(?3, document), unchanged = ?4, message = ?5, updated_ms = ?6 WHERE row = ?1",
        params![row, code, document.map(|id| &id.0), unchanged, message, now_ms()],
    )?;
    if code == DONE {
        let done = STAGES.len() - 1;
        transaction.execute(
            "UPDATE jobs SET stage = ?2, percent = 100 WHERE row = ?1",
            params![row, signed(done as u64)?],
        )?;
    }
    Ok(())
}

pub(super) fn get(connection: &Connection, id: &JobId) -> Step<Job> {
    get_row(connection, find(connection, id)?.0)
}

pub(super) fn list(connection: &Connection, kb: Option<&KbName>, limit: u32) -> Step<Vec<Job>> {
    let kb = kb.map(|kb| kbs::row_of(connection, kb)).transpose()?;
    let mut statement = connection
        .prepare_cached(&format!("{SELECT} WHERE ?1 IS NULL OR j.kb = ?1 ORDER BY j.row DESC LIMIT ?2"))?;
    let rows = statement.query_map(params![kb, limit], job)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn find(connection: &Connection, id: &JobId) -> Step<(i64, i64)> {
    let missing = || Error::NotFound { what: "job", name: id.0.clone() };
    let row = row_of(id).ok_or_else(missing)?;
    let mut statement = connection.prepare_cached("SELECT row, state FROM jobs WHERE row = ?1")?;
    let found = statement.query_row([row], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    found.ok_or_else(|| missing().into())
}

/// Ids are rows in twelve hexadecimal digits, so that they sort by creation.
fn id_of(row: i64) -> JobId {
    JobId(format!("{row:012x}"))
}

fn row_of(id: &JobId) -> Option<i64> {
    let row = i64::from_str_radix(&id.0, 16).ok()?;
    (id_of(row) == *id).then_some(row)
}

fn get_row(connection: &Connection, row: i64) -> Step<Job> {
    Ok(connection.prepare_cached(&format!("{SELECT} WHERE j.row = ?1"))?.query_row([row], job)?)
}

const SELECT: &str =
    "SELECT j.row, k.name, j.kind, j.blob, j.size, j.name, j.media_type, j.document, j.state,
    j.unchanged, j.message, j.stage, j.done, j.total, j.percent, j.created_ms, j.updated_ms
    FROM jobs j JOIN kbs k ON k.row = j.kb";

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let document: Option<String> = row.get(7)?;
    let document = document.map(DocumentId);
    let deletes = row.get::<_, i64>(2)? == 1;
    let kind = match (&document, deletes) {
        (Some(document), true) => JobKind::DeleteDocument(document.clone()),
        _ => JobKind::Ingest(IngestSource {
            blob: BlobHash(row.get(3)?),
            size: row.get(4)?,
            name: row.get(5)?,
            media_type: row.get(6)?,
        }),
    };
    let state = match row.get(8)? {
        RUNNING => JobState::Running,
        DONE => JobState::Done { document: if deletes { None } else { document }, unchanged: row.get(9)? },
        FAILED => JobState::Failed { message: row.get::<_, Option<String>>(10)?.unwrap_or_default() },
        CANCELLED => JobState::Cancelled,
        _ => JobState::Queued,
    };
    let stage = STAGES.get(row.get::<_, usize>(11)?).copied().unwrap_or(Stage::Queued);
    Ok(Job {
        id: id_of(row.get(0)?),
        kb: kbs::name_in(row, 1)?,
        kind,
        state,
        progress: Progress { stage, done: row.get(12)?, total: row.get(13)?, percent: row.get(14)? },
        created_ms: row.get(15)?,
        updated_ms: row.get(16)?,
    })
}
