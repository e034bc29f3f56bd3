//! What a host tells of itself to those who run it: its services, and the end of its log.

use async_trait::async_trait;

/// A service of the system as this process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// `web`, `llm`, `index` or `tuning`.
    pub name: String,
    /// Where it is asked; none for this process itself.
    pub address: Option<String>,
    /// What serves, or why nothing does.
    pub state: Result<String, String>,
    /// Of the proxy in front of it, where that runs in this process.
    pub proxy: Option<ProxyState>,
}

/// What a proxy counted since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProxyState {
    pub workers: u64,
    /// Requests under way, those that wait included.
    pub open: u64,
    pub waiting: u64,
    pub answered: u64,
    pub refused: u64,
    /// Requests whose worker died.
    pub lost: u64,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Counts up from 1.
    pub number: u64,
    /// Milliseconds since 1970 (UTC).
    pub at_ms: i64,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: &'static str,
    pub text: String,
}

/// Knows the process that it is part of.
#[async_trait]
pub trait Overview: Send + Sync + std::fmt::Debug {
    /// Asks those that run elsewhere; takes some seconds when they do not answer.
    async fn services(&self) -> Vec<ServiceState>;

    /// The last lines after a number, oldest first; what was said longer ago than the log remembers is not told.
    fn log(&self, after: u64) -> Vec<LogLine>;
}
