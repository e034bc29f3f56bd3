//! Originals by SHA-256, one file each: `blobs/ab/cdef…`, written beside and renamed once whole and synced.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use fs_err as fs;
use rag_core::document::BlobHash;
use rag_core::ports::{Blob, BlobStore, BlobWriter};
use rag_core::{Error, Result};
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::catalog::blob_is_used;
use crate::fault::Step;
use crate::folder::Folder;
use crate::store::Store;

/// Bytes that one `read_at` gives at most.
const READ_BYTES_MAX: u32 = 1 << 20;

#[async_trait]
impl BlobStore for Store {
    async fn create(&self) -> Result<Box<dyn BlobWriter>> {
        let folder = Arc::clone(&self.folder);
        let file = self
            .files
            .run(move |()| {
                folder.check_room()?;
                Temporary::create(&folder.dir)
            })
            .await?;
        let part = Part { file, hasher: Sha256::new(), size: 0 };
        Ok(Box::new(Writing {
            part: Some(part),
            files: Arc::clone(&self.files),
            folder: Arc::clone(&self.folder),
            bytes_max: self.config.document_bytes_max,
        }))
    }

    async fn open(&self, hash: &BlobHash, name: &str, media_type: &str) -> Result<Arc<dyn Blob>> {
        let path = path_of(&self.config.dir, hash)?;
        let missing = Error::NotFound { what: "original", name: hash.0.clone() };
        let opened = self.files.run(move |()| {
            if !path.is_file() {
                return Err(missing.into());
            }
            let file = fs::File::open(path)?;
            let size = file.metadata()?.len();
            Ok((Arc::new(file), size))
        });
        let (file, size) = opened.await?;
        let files = Arc::clone(&self.files);
        Ok(Arc::new(Original { file, files, size, name: name.to_owned(), media_type: media_type.to_owned() }))
    }

    async fn remove(&self, hash: &BlobHash) -> Result<()> {
        let path = path_of(&self.config.dir, hash)?;
        let hash = hash.clone();
        // On the writer's thread, so that no job or document comes to refer to it meanwhile.
        self.with_writer(move |writer| {
            if !blob_is_used(&writer.connection, &hash.0)? && path.is_file() {
                fs::remove_file(path)?;
            }
            Ok(())
        })
        .await
    }
}

/// `NotFound` unless the original is there.
pub(crate) fn must_exist(dir: &Path, hash: &BlobHash) -> Step<()> {
    if path_of(dir, hash)?.is_file() {
        return Ok(());
    }
    Err(Error::NotFound { what: "original", name: hash.0.clone() }.into())
}

/// Removes what a dead process left: half-written files, and originals that nothing refers to.
pub(crate) fn sweep(dir: &Path, connection: &Connection) -> Step<()> {
    let writing = dir.join(WRITING);
    if writing.is_dir() {
        fs::remove_dir_all(&writing)?;
    }
    fs::create_dir_all(&writing)?;
    for shelf in fs::read_dir(dir.join(SHELVES))? {
        let shelf = shelf?;
        let Some(head) =
            shelf.file_name().to_str().filter(|head| head.len() == HEAD_DIGITS).map(str::to_owned)
        else {
            continue;
        };
        for file in fs::read_dir(shelf.path())? {
            let file = file?;
            let hash = BlobHash(format!("{head}{}", file.file_name().to_string_lossy()));
            if is_hash(&hash) && !blob_is_used(connection, &hash.0)? {
                fs::remove_file(file.path())?;
            }
        }
    }
    Ok(())
}

const SHELVES: &str = "blobs";
const WRITING: &str = "blobs/writing";
/// Digits of a hash that name its folder.
const HEAD_DIGITS: usize = 2;

fn path_of(dir: &Path, hash: &BlobHash) -> Result<PathBuf> {
    if !is_hash(hash) {
        return Err(Error::NotFound { what: "original", name: hash.0.chars().take(64).collect() });
    }
    let (head, tail) = hash.0.split_at(HEAD_DIGITS);
    Ok(dir.join(SHELVES).join(head).join(tail))
}

fn is_hash(hash: &BlobHash) -> bool {
    hash.0.len() == 64 && hash.0.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A file that goes on drop unless it is kept.
struct Temporary {
    file: fs::File,
    path: PathBuf,
    kept: bool,
}

impl Temporary {
    fn create(dir: &Path) -> Step<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = dir.join(WRITING).join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        let file = fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Temporary { file, path, kept: false })
    }

    /// Syncs the file, moves it to its place, syncs the folders on the way there.
    fn keep(mut self, target: &Path) -> Step<()> {
        if target.is_file() {
            return Ok(());
        }
        self.file.sync_all()?;
        let Some(shelf) = target.parent() else {
            return Err(Error::internal("an original has no folder").into());
        };
        if !shelf.is_dir() {
            fs::create_dir_all(shelf)?;
            if let Some(shelves) = shelf.parent() {
                fs::File::open(shelves)?.sync_all()?;
            }
        }
        fs::rename(&self.path, target)?;
        self.kept = true;
        fs::File::open(shelf)?.sync_all()?;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "a half-written original stays until the next start");
        }
    }
}

struct Part {
    file: Temporary,
    hasher: Sha256,
    size: u64,
}

struct Writing {
    /// None once a write failed or was abandoned: the file is incomplete then.
    part: Option<Part>,
    files: Arc<crate::connection::Workers<()>>,
    folder: Arc<Folder>,
    bytes_max: u64,
}

impl Writing {
    fn take(&mut self) -> Result<Part> {
        self.part.take().ok_or_else(|| Error::Conflict {
            message: "writing this original failed before; begin it anew".to_owned(),
        })
    }
}

#[async_trait]
impl BlobWriter for Writing {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut part = self.take()?;
        part.size = part.size.saturating_add(bytes.len() as u64);
        if part.size > self.bytes_max {
            return Err(Error::TooLarge {
                what: "the document".to_owned(),
                size: part.size,
                limit: self.bytes_max,
                unit: "bytes",
                setting: "data.document_bytes_max",
            });
        }
        let folder = Arc::clone(&self.folder);
        let written = self.files.run(move |()| {
            folder.check_room()?;
            part.file.file.write_all(&bytes)?;
            part.hasher.update(&bytes);
            Ok(part)
        });
        self.part = Some(written.await?);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(BlobHash, u64)> {
        let part = self.take()?;
        let folder = Arc::clone(&self.folder);
        let kept = self.files.run(move |()| {
            let digest = part.hasher.finalize();
            let hash = BlobHash(digest.iter().map(|byte| format!("{byte:02x}")).collect());
            part.file.keep(&path_of(&folder.dir, &hash)?)?;
            Ok((hash, part.size))
        });
        kept.await
    }
}

struct Original {
    file: Arc<fs::File>,
    files: Arc<crate::connection::Workers<()>>,
    size: u64,
    name: String,
    media_type: String,
}

#[async_trait]
impl Blob for Original {
    fn size(&self) -> u64 {
        self.size
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn media_type(&self) -> &str {
        &self.media_type
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes> {
        if len > READ_BYTES_MAX {
            return Err(Error::invalid(format!("one read gives at most {READ_BYTES_MAX} bytes, not {len}")));
        }
        let wanted = u64::from(len).min(self.size.saturating_sub(offset));
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let file = Arc::clone(&self.file);
        self.files
            .run(move |()| {
                let mut bytes = vec![0; usize::try_from(wanted).unwrap_or_default()];
                file.file().read_exact_at(&mut bytes, offset)?;
                Ok(Bytes::from(bytes))
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestStore, put_blob};

    fn files_in(dir: &Path) -> usize {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { files_in(&path) } else { 1 }).sum()
    }

    fn blobs(store: &TestStore) -> usize {
        files_in(&store.dir.path().join(SHELVES))
    }

    #[tokio::test]
    async fn an_original_is_written_in_pieces_and_read_anywhere() {
        let store = TestStore::new();
        let mut writer = BlobStore::create(&**store).await.unwrap();
        writer.write(Bytes::from_static("你".as_bytes())).await.unwrap();
        writer.write(Bytes::from_static(b"abc")).await.unwrap();
        let (hash, size) = writer.finish().await.unwrap();
        assert_eq!(size, 6);
        assert_eq!(
            hash.0,
            Sha256::digest("你abc").iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        );
        let blob = BlobStore::open(&**store, &hash, "a.md", "text/markdown").await.unwrap();
        assert_eq!((blob.size(), blob.name(), blob.media_type()), (6, "a.md", "text/markdown"));
        let read = async |offset, len| blob.read_at(offset, len).await.unwrap();
        assert_eq!(read(0, 100).await, "你abc".as_bytes());
        assert_eq!(read(3, 2).await, "ab");
        assert_eq!(read(5, 9).await, "c");
        assert!(
            read(6, 9).await.is_empty() && read(u64::MAX, 9).await.is_empty() && read(0, 0).await.is_empty()
        );
        assert!(matches!(blob.read_at(0, READ_BYTES_MAX + 1).await, Err(Error::InvalidInput { .. })));
    }

    #[tokio::test]
    async fn the_same_content_is_kept_once_and_outlives_a_removal_while_open() {
        let store = TestStore::new();
        let first = put_blob(&store, "same").await;
        assert_eq!(put_blob(&store, "same").await, first);
        assert_eq!(blobs(&store), 1);
        let open = BlobStore::open(&**store, &first, "a", "b").await.unwrap();
        BlobStore::remove(&**store, &first).await.unwrap();
        BlobStore::remove(&**store, &first).await.unwrap();
        assert_eq!(blobs(&store), 0);
        assert_eq!(open.read_at(0, 9).await.unwrap(), "same");
    }

    #[tokio::test]
    async fn what_is_dropped_or_too_large_leaves_nothing() {
        let store = TestStore::with(|config| config.document_bytes_max = 8);
        let mut dropped = BlobStore::create(&**store).await.unwrap();
        dropped.write(Bytes::from_static(b"half")).await.unwrap();
        assert_eq!(blobs(&store), 1);
        drop(dropped);
        assert_eq!(blobs(&store), 0);
        let mut large = BlobStore::create(&**store).await.unwrap();
        large.write(Bytes::from_static(b"12345678")).await.unwrap();
        let refused = large.write(Bytes::from_static(b"9")).await;
        assert!(matches!(refused, Err(Error::TooLarge { size: 9, limit: 8, .. })), "{refused:?}");
        assert_eq!(blobs(&store), 0);
        assert!(matches!(large.write(Bytes::from_static(b"0")).await, Err(Error::Conflict { .. })));
        assert!(matches!(large.finish().await, Err(Error::Conflict { .. })));
    }

    #[tokio::test]
    async fn a_hash_is_no_path() {
        let store = TestStore::new();
        for bad in
            ["", "..", "../../lock", &"A".repeat(64), &"/".repeat(64), &"é".repeat(32), &"0".repeat(64)]
        {
            let hash = BlobHash(bad.to_owned());
            let missing = BlobStore::open(&**store, &hash, "a", "b").await.err();
            assert!(matches!(missing, Some(Error::NotFound { what: "original", .. })), "{bad}: {missing:?}");
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_said_and_keeps_nothing() {
        let store = TestStore::with(|config| config.disk_free_min_bytes = u64::MAX);
        let full = BlobStore::create(&**store).await.err();
        assert!(matches!(full, Some(Error::Storage { message }) if message.contains("full")));
        assert_eq!(blobs(&store), 0);
    }
}
