//! Models that are fetched from a hub: what is wanted, and how far each is.

use super::models::ModelSettings;

/// A model to fetch from the configured hub, to be registered when it is here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewPull {
    /// `OWNER/NAME`.
    pub repository: String,
    /// Branch, tag or commit; none is `main`.
    pub revision: Option<String>,
    /// One file of the repository, such as a `.pth`. None takes an encoder's files, or the only file that engines read.
    pub file: Option<String>,
    /// What it is registered as; none follows the file or the repository.
    pub name: Option<String>,
    /// What the hash of the file, or of an encoder's weights, must be; else what the hub tells is believed.
    pub sha256: Option<String>,
    /// Licence and source are the hub's where they are empty.
    pub settings: ModelSettings,
    /// Whether it may be used as soon as it is registered.
    pub online: bool,
}

/// What a pull is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullState {
    /// Asks the hub for names, sizes and hashes.
    Asking,
    Fetching,
    /// Compares hashes and writes the model down.
    Registering,
    Done,
    /// What came stays: the same pull goes on from there.
    Failed,
    /// As `Failed`, by somebody's wish.
    Stopped,
}

impl PullState {
    /// In the words of the API.
    pub fn name(self) -> &'static str {
        match self {
            PullState::Asking => "asking",
            PullState::Fetching => "fetching",
            PullState::Registering => "registering",
            PullState::Done => "done",
            PullState::Failed => "failed",
            PullState::Stopped => "stopped",
        }
    }

    /// Nothing more will come of it.
    pub fn ended(self) -> bool {
        matches!(self, PullState::Done | PullState::Failed | PullState::Stopped)
    }
}

/// One file of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullFile {
    /// In the repository.
    pub path: String,
    /// Of the whole file; none where neither hub nor server says.
    pub bytes: Option<u64>,
    /// That are here.
    pub done: u64,
}

/// A pull as it is listed. It lasts as long as the process; what it fetched lasts.
#[derive(Debug, Clone, PartialEq)]
pub struct Pull {
    pub id: String,
    pub repository: String,
    /// As asked for; the commit once the hub has told it.
    pub revision: String,
    /// What the model is or will be registered as.
    pub name: String,
    pub state: PullState,
    /// In the order of fetching; empty while asking.
    pub files: Vec<PullFile>,
    /// Over the last seconds of fetching.
    pub bytes_per_second: u64,
    /// Why it failed, or what broke off and is tried again.
    pub message: Option<String>,
    /// Milliseconds since 1970 (UTC).
    pub started_ms: i64,
    pub ended_ms: Option<i64>,
}

/// Every pull that this process remembers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PullsNow {
    /// Newest first.
    pub pulls: Vec<Pull>,
    /// The hub's address; empty when pulling is switched off.
    pub hub: String,
}
