//! What an exchange takes on, and what it counts.

use std::time::Duration;

/// What one exchange takes on.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The only service whose workers are accepted.
    pub service: String,
    /// Requests under way.
    pub queue_max: usize,
    /// Bytes of their bodies.
    pub queue_bytes_max: usize,
    /// How long a request may take until the first part of its answer is there, waiting included.
    pub timeout: Duration,
    /// How long requests wait while no worker is connected at all.
    pub worker_wait: Duration,
}

/// Totals since the start, and numbers of the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub requests: u64,
    pub answered: u64,
    pub refused: u64,
    pub malformed: u64,
    pub retried: u64,
    pub timed_out: u64,
    pub lost: u64,
    pub open: usize,
    pub waiting: usize,
    pub workers: usize,
}
