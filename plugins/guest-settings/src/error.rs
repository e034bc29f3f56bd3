//! Why does a plugin refuse, and who must act?

/// As the contract's codes, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    InvalidInput,
    Unsupported,
    NotFound,
    Conflict,
    Quota,
    Unavailable,
    Timeout,
    Internal,
}

/// A refusal of the plugin or of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub code: Code,
    /// One sentence for a person.
    pub message: String,
    pub retryable: bool,
}

/// What was asked for, or why there is none.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wrong settings.
    pub fn invalid(message: String) -> Self {
        Error { code: Code::InvalidInput, message, retryable: false }
    }

    /// The host broke its contract.
    pub fn internal(message: String) -> Self {
        Error { code: Code::Internal, message, retryable: false }
    }
}
