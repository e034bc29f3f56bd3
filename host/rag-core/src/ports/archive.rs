//! Archives: which files are in one, and the bytes of each.

use std::sync::Arc;

use async_trait::async_trait;

use super::host::{Blob, BlobWriter};
use crate::error::{Error, Result};

/// What one upload may be unpacked to, archives within it included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    pub files: u64,
    pub bytes: u64,
}

/// A file of an archive as its directory tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedFile {
    /// As it was packed, `/`-separated; whoever packed it may have written anything.
    pub name: String,
    /// Bytes once unpacked, and as they are; the directory may lie.
    pub size: u64,
    pub packed: u64,
}

/// Takes archives apart, and mails, whose attachments are their files.
#[async_trait]
pub trait Unpack: Send + Sync {
    fn limits(&self) -> UnpackLimits;
    /// Reads the directory; the blob's media type says of what. `InvalidInput` for a damaged archive, `Unsupported` for one with a password.
    async fn open(&self, archive: Arc<dyn Blob>) -> Result<Box<dyn Unpacked>>;
}

/// An archive that was opened.
#[async_trait]
pub trait Unpacked: Send + Sync {
    /// Its files without folders, in the order of its directory.
    fn files(&self) -> &[PackedFile];
    /// Unpacks the file at a place of `files`; returns its bytes. `InvalidInput` for more than `bytes_max`, for what
    /// expands like a bomb, and for damage.
    async fn copy(&mut self, at: usize, bytes_max: u64, to: &mut dyn BlobWriter) -> Result<u64>;
}

/// Where archives are not taken apart.
#[derive(Debug, Clone, Copy)]
pub struct NoUnpack;

#[async_trait]
impl Unpack for NoUnpack {
    fn limits(&self) -> UnpackLimits {
        UnpackLimits { files: 0, bytes: 0 }
    }

    async fn open(&self, archive: Arc<dyn Blob>) -> Result<Box<dyn Unpacked>> {
        Err(Error::Unsupported { message: format!("'{}' is an archive; unpack it first", archive.name()) })
    }
}
