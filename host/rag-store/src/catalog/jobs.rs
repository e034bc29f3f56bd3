//! Jobs: a bounded queue by priority and arrival, and how each one ended. What people change about them is in
//! `queue`.

use rag_core::Error;
use rag_core::document::{BlobHash, DocumentId};
use rag_core::kb::KbName;
use rag_core::ports::{IngestSource, Job, JobId, JobKind, JobState, Origin, Progress, Stage};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{kbs, retire};
use crate::fault::{Step, signed};
use crate::settings;
use crate::store::{StoreConfig, now_ms};

pub(super) const PAUSED: i64 = -1;
pub(super) const QUEUED: i64 = 0;
pub(super) const RUNNING: i64 = 1;
pub(super) const DONE: i64 = 2;
pub(super) const FAILED: i64 = 3;
pub(super) const CANCELLED: i64 = 4;

/// `jobs.kind`; 0 is an ingest.
const DELETE: i64 = 1;
const ENABLE: i64 = 2;
const EVALUATE: i64 = 3;
const REINDEX: i64 = 4;
const CRAWL: i64 = 5;

/// In the order of `Stage`.
const STAGES: [Stage; 6] =
    [Stage::Queued, Stage::Parse, Stage::Chunk, Stage::Embed, Stage::Commit, Stage::Done];

pub(super) fn enqueue(
    transaction: &Transaction<'_>,
    kb: &KbName,
    kind: &JobKind,
    config: &StoreConfig,
) -> Step<Job> {
    let row = kbs::any_row_of(transaction, kb)?;
    let queued: u64 = transaction.query_row(
        "SELECT count(*) FROM jobs WHERE state IN (?1, ?2)",
        [PAUSED, QUEUED],
        |row| row.get(0),
    )?;
    if queued >= config.jobs_queued_max as u64 {
        return Err(Error::Busy { what: "ingest", limit: config.jobs_queued_max }.into());
    }
    let now = now_ms();
    match kind {
        JobKind::Ingest(source) => transaction.execute(
            "INSERT INTO jobs (kb, kind, blob, size, name, media_type, chunker, origin, folder, alone, created_ms, updated_ms)
             VALUES (?1, 0, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)",
            params![
                row,
                source.blob.0,
                signed(source.size)?,
                source.name,
                source.media_type,
                source.chunker.as_ref().map(settings::choice_to_json).transpose()?,
                source.origin.url,
                source.origin.folder,
                source.alone,
                now
            ],
        )?,
        JobKind::DeleteDocument(DocumentId(id)) => insert(transaction, row, DELETE, id, now)?,
        JobKind::EnableDocument(DocumentId(id)) => insert(transaction, row, ENABLE, id, now)?,
        JobKind::Evaluate(run) => insert(transaction, row, EVALUATE, run, now)?,
        JobKind::Reindex(number) => insert(transaction, row, REINDEX, &number.to_string(), now)?,
        JobKind::Crawl(order) => insert(transaction, row, CRAWL, &settings::order_to_json(order)?, now)?,
    };
    let id = transaction.last_insert_rowid();
    // The oldest ended jobs make room; their originals go when the store is opened next.
    transaction.execute(
        "DELETE FROM jobs WHERE state >= ?1 AND row <= (SELECT row FROM jobs WHERE state >= ?1 ORDER BY row DESC LIMIT 1 OFFSET ?2)",
        params![DONE, signed(config.jobs_kept_max as u64)?],
    )?;
    get_row(transaction, id)
}

/// Queues what an index lacks; it must not be lost to a full queue.
pub(super) fn enqueue_ingest(transaction: &Transaction<'_>, kb: i64, document: i64) -> Step<()> {
    transaction.execute(
        "INSERT INTO jobs (kb, kind, blob, size, name, media_type, origin, folder, alone, created_ms, updated_ms)
         SELECT ?1, 0, blob, size, name, media_type, (SELECT value ->> 1 FROM json_each(attributes) WHERE value ->> 0 = 'url'),
             folder, 1, ?3, ?3 FROM documents WHERE row = ?2",
        params![kb, document, now_ms()],
    )?;
    Ok(())
}

/// A job whose whole order is one id, or one text.
fn insert(transaction: &Transaction<'_>, kb: i64, kind: i64, of: &str, now: i64) -> Step<usize> {
    Ok(transaction.execute(
        "INSERT INTO jobs (kb, kind, document, created_ms, updated_ms) VALUES (?1, ?2, ?3, ?4, ?4)",
        params![kb, kind, of, now],
    )?)
}

/// The next job, now running: of the highest priority, the oldest; one that waits for its next try comes after that.
/// `index_turn` lets a job that fills an index go before all others.
pub(super) fn claim(transaction: &Transaction<'_>, index_turn: bool) -> Step<Option<Job>> {
    let index = if index_turn { next(transaction, &format!("AND kind = {REINDEX}"))? } else { None };
    let row = if index.is_some() { index } else { next(transaction, "")? };
    row.map(|row| start_row(transaction, row)).transpose()
}

/// The first in the queue of those that fill no index.
pub(super) fn upcoming(connection: &Connection) -> Step<Option<Job>> {
    let row = next(connection, &format!("AND kind <> {REINDEX}"))?;
    row.map(|row| get_row(connection, row)).transpose()
}

fn next(connection: &Connection, only: &str) -> rusqlite::Result<Option<i64>> {
    let sql = format!(
        "SELECT row FROM jobs WHERE state = ?1 AND claimed = 0 AND coalesce(not_before_ms, 0) <= ?2 {only}
         ORDER BY priority DESC, row LIMIT 1"
    );
    connection.prepare_cached(&sql)?.query_row([QUEUED, now_ms()], |row| row.get(0)).optional()
}

/// A job that its caller does at once.
pub(super) fn start(transaction: &Transaction<'_>, id: &JobId) -> Step<Job> {
    start_row(transaction, find(transaction, id)?.0)
}

fn start_row(transaction: &Transaction<'_>, row: i64) -> Step<Job> {
    transaction.execute(
        "UPDATE jobs SET state = ?2, claimed = 1, started_ms = ?3, not_before_ms = NULL, updated_ms = ?3 WHERE row = ?1",
        params![row, RUNNING, now_ms()],
    )?;
    get_row(transaction, row)
}

/// Of a job that was cancelled meanwhile: `Cancelled`, so that whoever runs it stops.
pub(super) fn progress(transaction: &Transaction<'_>, id: &JobId, progress: Progress) -> Step<()> {
    let (row, state) = find(transaction, id)?;
    match state {
        CANCELLED | PAUSED => return Err(Error::Cancelled.into()),
        DONE | FAILED => {
            return Err(Error::Conflict { message: format!("job '{id}' has ended") }.into());
        }
        _ => {}
    }
    let stage = STAGES.iter().position(|stage| *stage == progress.stage).unwrap_or_default();
    transaction
        .prepare_cached(
            "UPDATE jobs SET stage = ?2, done = ?3, total = ?4, percent = max(percent, ?5), updated_ms = ?6,
             state = iif(claimed, 1, state) WHERE row = ?1",
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

/// Marks a job done within the commit of its document; a cancelled job commits nothing. One that fills an index goes
/// on, which is told.
pub(super) fn complete(transaction: &Transaction<'_>, id: &JobId, document: &DocumentId) -> Step<bool> {
    let (row, state) = find(transaction, id)?;
    if state == CANCELLED || state == PAUSED {
        return Err(Error::Cancelled.into());
    }
    let kind: i64 = transaction.query_row("SELECT kind FROM jobs WHERE row = ?1", [row], |row| row.get(0))?;
    if kind == REINDEX {
        return Ok(true);
    }
    end(transaction, row, &JobState::Done { document: Some(document.clone()), unchanged: false })?;
    Ok(false)
}

/// The first end of a job stands: ending it again changes nothing.
pub(super) fn finish(transaction: &Transaction<'_>, id: &JobId, state: &JobState) -> Step<()> {
    let (row, held) = find(transaction, id)?;
    match state {
        JobState::Running | JobState::Paused => {
            Err(Error::invalid("a job does not end by running or pausing").into())
        }
        JobState::Queued if held <= QUEUED => Ok(()),
        JobState::Queued if held == DONE => {
            Err(Error::Conflict { message: format!("job '{id}' is done and cannot be queued again") }.into())
        }
        JobState::Queued => requeue(transaction, row),
        JobState::Done { .. } if held < DONE => end(transaction, row, state),
        JobState::Done { .. } => Ok(()),
        JobState::Failed { .. } | JobState::Cancelled => {
            // A running job that is cancelled still writes; whoever runs it ends it once more after stopping.
            let runs: bool =
                transaction.query_row("SELECT claimed FROM jobs WHERE row = ?1", [row], |row| row.get(0))?;
            let still_writes = runs && held < DONE && *state == JobState::Cancelled;
            if held < DONE {
                end(transaction, row, state)?;
            }
            if still_writes || held == DONE {
                return Ok(());
            }
            transaction.execute("UPDATE jobs SET claimed = 0 WHERE row = ?1", [row])?;
            abandon(transaction, row)
        }
    }
}

/// What an attempt had written goes with it.
pub(super) fn abandon(transaction: &Transaction<'_>, row: i64) -> Step<()> {
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
        "UPDATE jobs SET state = ?2, stage = 0, done = 0, total = 0, percent = 0, message = NULL, attempts = 0,
         reason = NULL, not_before_ms = NULL, started_ms = NULL, claimed = 0, updated_ms = ?3 WHERE row = ?1",
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
    running.into_iter().try_for_each(|row| requeue(transaction, row))?;
    transaction.execute("UPDATE jobs SET claimed = 0 WHERE claimed = 1", [])?;
    Ok(())
}

fn end(transaction: &Transaction<'_>, row: i64, state: &JobState) -> Step<()> {
    let (code, document, unchanged, message) = match state {
        JobState::Done { document, unchanged } => (DONE, document.as_ref(), *unchanged, None),
        JobState::Failed { message } => (FAILED, None, false, Some(message)),
        JobState::Cancelled | JobState::Queued | JobState::Paused | JobState::Running => {
            (CANCELLED, None, false, None)
        }
    };
    transaction.execute(
        "UPDATE jobs SET state = ?2, document = coalesce(?3, document), unchanged = ?4, message = ?5, updated_ms = ?6 WHERE row = ?1",
        params![row, code, document.map(|id| &id.0), unchanged, message, now_ms()],
    )?;
    if code == DONE {
        let done = STAGES.len() - 1;
        transaction.execute(
            "UPDATE jobs SET stage = ?2, percent = 100, claimed = 0 WHERE row = ?1",
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

pub(super) fn find(connection: &Connection, id: &JobId) -> Step<(i64, i64)> {
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

pub(super) fn get_row(connection: &Connection, row: i64) -> Step<Job> {
    Ok(connection.prepare_cached(&format!("{SELECT} WHERE j.row = ?1"))?.query_row([row], job)?)
}

const SELECT: &str =
    "SELECT j.row, k.name, j.kind, j.blob, j.size, j.name, j.media_type, j.document, j.state,
    j.unchanged, j.message, j.stage, j.done, j.total, j.percent, j.created_ms, j.updated_ms,
    j.priority, j.attempts, j.reason, j.not_before_ms, j.started_ms, j.chunker, j.origin, j.folder, j.alone
    FROM jobs j JOIN kbs k ON k.row = j.kb";

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let of: Option<String> = row.get(7)?;
    let kind = match (row.get(2)?, of.clone()) {
        (DELETE, Some(of)) => JobKind::DeleteDocument(DocumentId(of)),
        (ENABLE, Some(of)) => JobKind::EnableDocument(DocumentId(of)),
        (EVALUATE, Some(of)) => JobKind::Evaluate(of),
        (REINDEX, Some(of)) => JobKind::Reindex(of.parse().unwrap_or_default()),
        (CRAWL, Some(_)) => JobKind::Crawl(settings::order_in(row, 7)?),
        _ => JobKind::Ingest(IngestSource {
            blob: BlobHash(row.get(3)?),
            size: row.get(4)?,
            name: row.get(5)?,
            media_type: row.get(6)?,
            chunker: settings::choice_in(row, 22)?,
            origin: Origin { url: row.get(23)?, folder: row.get(24)? },
            alone: row.get(25)?,
        }),
    };
    let made = match kind {
        JobKind::Ingest(_) | JobKind::EnableDocument(_) => of.map(DocumentId),
        JobKind::DeleteDocument(_) | JobKind::Evaluate(_) | JobKind::Reindex(_) | JobKind::Crawl(_) => None,
    };
    let state = match row.get(8)? {
        RUNNING => JobState::Running,
        PAUSED => JobState::Paused,
        DONE => JobState::Done { document: made, unchanged: row.get(9)? },
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
        priority: row.get(17)?,
        attempts: row.get(18)?,
        reason: row.get(19)?,
        not_before_ms: row.get(20)?,
        started_ms: row.get(21)?,
        created_ms: row.get(15)?,
        updated_ms: row.get(16)?,
    })
}
