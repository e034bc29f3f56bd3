//! The lines of a text file, decoded, for parsers whose formats are text.

use std::rc::Rc;

use guest_text::{Lines, Source, TextError};

use crate::{DocError, File, HostError, Result};

/// The lines of a file from first to last.
pub type FileLines = Lines<TextFile>;

/// A file as `guest-text` reads it.
#[expect(missing_debug_implementations, reason = "holds the host's file")]
pub struct TextFile(Rc<dyn File>);

impl Source for TextFile {
    type Error = HostError;

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, len: u32) -> Result<Vec<u8>, HostError> {
        self.0.read_at(offset, len)
    }
}

/// Opens a text file in whatever encoding it is; `Unsupported` when it is none.
pub fn lines(file: Rc<dyn File>) -> Result<FileLines> {
    Ok(Lines::open(TextFile(file), None)?)
}

impl From<TextError<HostError>> for DocError {
    fn from(error: TextError<HostError>) -> Self {
        match error {
            TextError::Source(error) => DocError::Host(error),
            TextError::NotText(message) => DocError::Unsupported(message),
            TextError::Damaged(message) => DocError::Invalid(message),
        }
    }
}
