//! Files on the server that may be ingested: those under the configured roots, links resolved, and no others.

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;

/// A file or folder under a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderEntry {
    /// Within its root, `/`-separated.
    pub path: String,
    pub folder: bool,
    /// Bytes; 0 for a folder.
    pub size: u64,
}

/// A file being read. Dropping it closes it.
#[async_trait]
pub trait FolderFile: Send {
    /// The next piece; none at the end.
    async fn read(&mut self) -> Result<Option<Bytes>>;
}

/// The configured roots. `Denied` for whatever leads out of one, by `..` or by a link.
#[async_trait]
pub trait Folders: Send + Sync {
    /// Names of the roots, by which paths begin: the last part of each configured folder.
    async fn roots(&self) -> Result<Vec<String>>;
    /// Entries of a folder by name, at most `limit`. A path is a root's name, `/`, and the path within.
    async fn list_folder(&self, path: &str, limit: u32) -> Result<Vec<FolderEntry>>;
    /// Files under a path at any depth, at most `limit`; links to folders are not followed. A file lists itself.
    async fn files_under(&self, path: &str, limit: u32) -> Result<Vec<FolderEntry>>;
    async fn open_file(&self, path: &str) -> Result<Box<dyn FolderFile>>;
}
