//! Reads text files in any of the usual encodings, line by line, and remembers where each character came from.
//!
//! Shared by the parsers of text formats. Memory is bounded whatever the file: a window of the file, one line of at
//! most [`LINE_BYTES_MAX`] bytes.

mod encoding;
mod lines;
mod pause;
mod sniff;
#[cfg(test)]
mod tests;
mod traced;

use std::fmt;

pub use encoding::{ENCODINGS, Encoding};
pub use lines::{LINE_BYTES_MAX, Line, Lines};
pub use traced::{Piece, Traced};

/// Random access to a file.
pub trait Source {
    type Error;
    /// Bytes of the file.
    fn size(&self) -> u64;
    /// Up to `len` bytes from `offset`; fewer only at the end.
    fn read_at(&self, offset: u64, len: u32) -> Result<Vec<u8>, Self::Error>;
}

/// Why a file cannot be read as text. Messages are sentences for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextError<E> {
    /// Reading failed.
    Source(E),
    /// The file is not text.
    NotText(String),
    /// The file is text, but empty, blank or damaged.
    Damaged(String),
}

impl<E: fmt::Display> fmt::Display for TextError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextError::Source(error) => error.fmt(f),
            TextError::NotText(message) | TextError::Damaged(message) => f.write_str(message),
        }
    }
}
