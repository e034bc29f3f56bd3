//! How people and the runner steer the job queue beyond its first-come order.

use async_trait::async_trait;

use super::catalog::{Job, JobId};
use crate::error::Result;

/// Steers jobs. Implemented by `rag-store`; every method is one transaction.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Higher runs earlier; jobs of equal priority run in the order of arrival. `Conflict` for a job that has ended.
    async fn set_priority(&self, id: &JobId, priority: i32) -> Result<Job>;
    /// Holds a job back. A running one stops at its next batch and starts over once resumed. Pausing twice is no
    /// error; `Conflict` for a job that has ended.
    async fn pause(&self, id: &JobId) -> Result<Job>;
    /// Lets a paused job go on; no error for one that is not paused.
    async fn resume(&self, id: &JobId) -> Result<Job>;
    /// A running job failed for a reason that may pass: it waits, and what it left pending goes.
    async fn postpone(&self, id: &JobId, reason: &str, wait_ms: u64) -> Result<()>;
    /// A running job stopped without an end of its own: what it left pending goes; unless it is paused, it is queued
    /// again.
    async fn interrupted(&self, id: &JobId) -> Result<()>;
}
