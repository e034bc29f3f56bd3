//! How people and the runner steer jobs: priority, pause, another try later.

use rag_core::Error;
use rag_core::ports::{Job, JobId};
use rusqlite::{Transaction, params};

use super::jobs::{self, DONE, PAUSED, QUEUED, RUNNING};
use crate::fault::{Step, signed};
use crate::store::now_ms;

/// Priorities are small numbers.
const PRIORITY_MAX: i32 = 100;

pub(super) fn set_priority(transaction: &Transaction<'_>, id: &JobId, priority: i32) -> Step<Job> {
    if !(-PRIORITY_MAX..=PRIORITY_MAX).contains(&priority) {
        return Err(Error::invalid(format!("a priority is -{PRIORITY_MAX} to {PRIORITY_MAX}")).into());
    }
    let row = open(transaction, id)?;
    transaction.execute(
        "UPDATE jobs SET priority = ?2, updated_ms = ?3 WHERE row = ?1",
        params![row, priority, now_ms()],
    )?;
    jobs::get_row(transaction, row)
}

/// Whoever runs it notices by its state.
pub(super) fn pause(transaction: &Transaction<'_>, id: &JobId) -> Step<Job> {
    let row = open(transaction, id)?;
    transaction.execute(
        "UPDATE jobs SET state = ?2, updated_ms = ?3 WHERE row = ?1",
        params![row, PAUSED, now_ms()],
    )?;
    jobs::get_row(transaction, row)
}

/// One that is still being worked on just goes on; otherwise it is queued.
pub(super) fn resume(transaction: &Transaction<'_>, id: &JobId) -> Step<Job> {
    let row = open(transaction, id)?;
    transaction.execute(
        "UPDATE jobs SET state = ?3, not_before_ms = NULL, updated_ms = ?4 WHERE row = ?1 AND state = ?2",
        params![row, PAUSED, QUEUED, now_ms()],
    )?;
    jobs::get_row(transaction, row)
}

pub(super) fn postpone(transaction: &Transaction<'_>, id: &JobId, reason: &str, wait_ms: u64) -> Step<()> {
    let (row, _) = jobs::find(transaction, id)?;
    let now = now_ms();
    transaction.execute(
        "UPDATE jobs SET attempts = attempts + 1, reason = ?2, not_before_ms = ?3 WHERE row = ?1",
        params![row, reason, now.saturating_add(signed(wait_ms)?)],
    )?;
    stopped(transaction, row)
}

pub(super) fn interrupted(transaction: &Transaction<'_>, id: &JobId) -> Step<()> {
    let (row, _) = jobs::find(transaction, id)?;
    stopped(transaction, row)
}

/// Nobody works on it any more: it waits for its next try, unless somebody paused or ended it meanwhile.
fn stopped(transaction: &Transaction<'_>, row: i64) -> Step<()> {
    transaction.execute(
        "UPDATE jobs SET claimed = 0, stage = 0, done = 0, total = 0, percent = 0, started_ms = NULL, updated_ms = ?4,
         state = iif(state = ?2, ?3, state) WHERE row = ?1",
        params![row, RUNNING, QUEUED, now_ms()],
    )?;
    jobs::abandon(transaction, row)
}

/// The row of a job that has not ended.
fn open(transaction: &Transaction<'_>, id: &JobId) -> Step<i64> {
    match jobs::find(transaction, id)? {
        (row, state) if state < DONE => Ok(row),
        _ => Err(Error::Conflict { message: format!("job '{id}' has ended") }.into()),
    }
}
