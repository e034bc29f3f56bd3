//! What can go wrong, split by who must act: the caller, the operator, or us.

/// Result of every port and flow.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who must act, in the words that the HTTP API, the plugins (`ragkit:types`) and the CLI share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The caller sent something that can never work.
    InvalidInput,
    /// The input is well-formed but of a kind that is not handled.
    Unsupported,
    /// A named thing does not exist.
    NotFound,
    /// The request contradicts the present state.
    Conflict,
    /// A limit of the configuration was reached.
    Quota,
    /// The caller did not show who they are, or may not do this.
    Denied,
    /// Something outside this process does not answer, or a queue is full.
    Unavailable,
    /// A time limit passed.
    Timeout,
    /// The caller went away.
    Cancelled,
    /// A defect of ours or of a plugin.
    Internal,
}

/// An error of a port or a flow. `Display` is one sentence for a person, without secrets.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    // The caller.
    /// The request can never work; the message says what to change.
    #[error("{message}")]
    InvalidInput { message: String },
    /// No installed part handles this, e.g. a media type without a parser.
    #[error("{message}")]
    Unsupported { message: String },
    /// `what` is the kind of thing ("knowledge base"), `name` the one asked for.
    #[error("{what} '{name}' does not exist")]
    NotFound { what: &'static str, name: String },
    /// The thing exists already, or is in a state that forbids the request.
    #[error("{message}")]
    Conflict { message: String },
    /// The caller may not do this.
    #[error("{message}")]
    Denied { message: String },
    /// Larger than a limit; `setting` is the configuration key that raises it.
    #[error("{what} is {size} {unit}, more than the limit of {limit} (setting {setting})")]
    TooLarge { what: String, size: u64, limit: u64, unit: &'static str, setting: &'static str },
    /// The caller hung up or asked to stop.
    #[error("the request was cancelled")]
    Cancelled,

    // The operator.
    /// A bounded queue is full: try again later.
    #[error("{what} is busy: its queue of {limit} is full; try again shortly")]
    Busy { what: &'static str, limit: usize },
    /// A service, device or file that should be there is not; `message` says how to get it back.
    #[error("{message}")]
    Unavailable { message: String },
    /// A time limit passed; `setting` is the configuration key that raises it.
    #[error("{what} took longer than {limit_ms} ms (setting {setting})")]
    Timeout { what: String, limit_ms: u64, setting: &'static str },
    /// Reading or writing the data folder failed, e.g. a full disk; nothing was committed.
    #[error("storage failed: {message}")]
    Storage { message: String },
    /// A model file is not what it should be.
    #[error("model file {path}: {message}")]
    Model { path: String, message: String },

    // A plugin's author, or us.
    /// A component failed; the plugin's name and version are part of the message.
    #[error("plugin {plugin}: {message}")]
    Plugin { plugin: String, fault: PluginFault, message: String },
    /// A defect of this program.
    #[error("internal error: {message}")]
    Internal { message: String },
}

/// How a component failed. Every fault but `Guest` counts as a strike against the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PluginFault {
    /// It returned a typed error of this code: an answer, not a fault.
    Guest(ErrorCode),
    /// It trapped (`unreachable`, out-of-bounds access, stack overflow).
    Trap,
    /// It used more processor time than its budget.
    CpuLimit,
    /// The call took longer than its wall-clock limit.
    WallLimit,
    /// It asked for more memory than its limit.
    MemoryLimit,
    /// It made more or larger host calls than allowed.
    HostcallLimit,
    /// What it returned breaks the contract.
    InvalidOutput,
    /// It is not a component of the expected kind, or imports what it was not granted.
    Refused,
}

impl Error {
    /// Who must act; decides the HTTP status and the exit code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Error::InvalidInput { .. } => ErrorCode::InvalidInput,
            Error::Unsupported { .. } => ErrorCode::Unsupported,
            Error::NotFound { .. } => ErrorCode::NotFound,
            Error::Conflict { .. } => ErrorCode::Conflict,
            Error::Denied { .. } => ErrorCode::Denied,
            Error::TooLarge { .. } => ErrorCode::Quota,
            Error::Cancelled => ErrorCode::Cancelled,
            Error::Busy { .. } | Error::Unavailable { .. } => ErrorCode::Unavailable,
            Error::Timeout { .. } => ErrorCode::Timeout,
            Error::Plugin { fault: PluginFault::Guest(code), .. } => *code,
            Error::Plugin { fault: PluginFault::CpuLimit | PluginFault::WallLimit, .. } => ErrorCode::Timeout,
            Error::Plugin { fault: PluginFault::MemoryLimit | PluginFault::HostcallLimit, .. } => {
                ErrorCode::Quota
            }
            Error::Storage { .. } | Error::Model { .. } | Error::Plugin { .. } | Error::Internal { .. } => {
                ErrorCode::Internal
            }
        }
    }

    /// Whether the same request may succeed later, unchanged.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Error::Busy { .. } | Error::Unavailable { .. } | Error::Timeout { .. } | Error::Storage { .. }
        )
    }

    /// Shorthand for the commonest caller's error.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::InvalidInput { message: message.into() }
    }

    /// Shorthand for a defect of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::Internal { message: message.into() }
    }
}
