//! The data folder: private to its owner, held by one process at a time, refused when its disk runs full.

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fs_err as fs;
use rag_core::{Error, Result};

use crate::fault::{Fault, Step, disk_full};

/// The folder and our hold on it, released on drop.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) dir: PathBuf,
    disk_free_min_bytes: u64,
    lock: File,
}

impl Folder {
    /// Creates the folder (mode 0700) unless it is there, and takes it.
    pub(crate) fn take(dir: &Path, disk_free_min_bytes: u64) -> Result<Self> {
        let failed = |error: std::io::Error| Error::Storage {
            message: format!("cannot use the data folder {}: {error}", dir.display()),
        };
        if !dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        }
        let path = dir.join("lock");
        let mut lock = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?
            .into_file();
        lock.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(dir, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        lock.set_len(0).map_err(failed)?;
        lock.rewind().map_err(failed)?;
        write!(lock, "{}", std::process::id()).map_err(failed)?;
        Ok(Folder { dir: dir.to_owned(), disk_free_min_bytes, lock })
    }

    /// Fails when less than the configured space is free, so that the disk is never filled to the brim by us.
    pub(crate) fn check_room(&self) -> Step<()> {
        let disk = rustix::fs::statvfs(&self.dir).map_err(|error| Fault::File(error.into()))?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < self.disk_free_min_bytes {
            return Err(Fault::Answer(disk_full()));
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing the file would not do while a child process that was just forked still has it.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the data folder stays locked until this process ends");
        }
    }
}

fn held(dir: &Path, lock: &mut File) -> Error {
    let mut holder = String::new();
    let named = lock.read_to_string(&mut holder).is_ok() && !holder.is_empty();
    let holder = if named { format!("process {holder}") } else { "another process".to_owned() };
    Error::Conflict {
        message: format!(
            "the data folder {} is in use by {holder}; stop it or choose another folder",
            dir.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let first = Folder::take(&folder, 0).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let message = Folder::take(&folder, 0).unwrap_err().to_string();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        assert!(message.contains("a/b"), "{message}");
        drop(first);
        assert!(Folder::take(&folder, 0).is_ok());
    }

    #[test]
    fn an_unusable_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = Folder::take(&file, 0).unwrap_err();
        assert!(matches!(&error, Error::Storage { message } if message.contains("file")), "{error}");
    }

    #[test]
    fn a_disk_below_the_limit_has_no_room() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Folder::take(dir.path(), 0).unwrap().check_room().is_ok());
        let full = Folder::take(dir.path(), u64::MAX).unwrap();
        assert!(matches!(full.check_room(), Err(Fault::Answer(Error::Storage { .. }))));
    }
}
