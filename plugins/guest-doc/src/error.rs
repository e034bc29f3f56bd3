//! Why a document cannot be read, by who must act.

use std::fmt;

/// Result of everything that reads a document.
pub type Result<T, E = DocError> = std::result::Result<T, E>;

/// A failure that the host reported; it goes back to the host as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostError {
    /// `ragkit:types/error-code` by its place in the list.
    pub code: u8,
    pub message: String,
    pub retryable: bool,
}

impl HostError {
    /// `unavailable`: something outside does not answer or is not installed.
    pub const UNAVAILABLE: u8 = 5;
    /// `unsupported`: the host does not do this at all.
    pub const UNSUPPORTED: u8 = 1;
}

/// Why a document cannot be read. Messages are sentences for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocError {
    /// Reading the file failed.
    Host(HostError),
    /// The file is not of this format, or needs what is not there (a password).
    Unsupported(String),
    /// The file is damaged, empty or blank, or a setting is wrong.
    Invalid(String),
    /// The file is beyond a limit of the parser: a bomb, or truly huge.
    TooLarge(String),
}

impl DocError {
    /// The file is not of this format, or needs what is not there.
    pub fn unsupported(message: impl Into<String>) -> Self {
        DocError::Unsupported(message.into())
    }

    /// The file is damaged, or a setting is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        DocError::Invalid(message.into())
    }

    /// The file is beyond a limit.
    pub fn too_large(message: impl Into<String>) -> Self {
        DocError::TooLarge(message.into())
    }
}

impl fmt::Display for DocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DocError::Host(error) => f.write_str(&error.message),
            DocError::Unsupported(message) | DocError::Invalid(message) | DocError::TooLarge(message) => {
                f.write_str(message)
            }
        }
    }
}

impl std::error::Error for DocError {}

impl From<HostError> for DocError {
    fn from(error: HostError) -> Self {
        DocError::Host(error)
    }
}
