//! Files of the server under the configured roots: opened through a handle of the root, so that neither `..` nor a link
//! leads out of it, not even one that is swapped in meanwhile.

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File};
use rag_core::ports::{FolderEntry, FolderFile, Folders};
use rag_core::{Error, Result};

use crate::connection::Workers;
use crate::fault::{Fault, Step};
use crate::store::Store;

/// Bytes read at once.
const PIECE: usize = 256 << 10;
/// Folders below a path that is ingested.
const DEPTH_MAX: usize = 32;

#[async_trait]
impl Folders for Store {
    async fn roots(&self) -> Result<Vec<String>> {
        Ok(self.config.ingest_roots.iter().filter_map(|root| name_of(root)).collect())
    }

    async fn list_folder(&self, path: &str, limit: u32) -> Result<Vec<FolderEntry>> {
        let place = Place::of(&self.config.ingest_roots, path)?;
        self.files.run(move |()| place.list(limit as usize)).await
    }

    async fn files_under(&self, path: &str, limit: u32) -> Result<Vec<FolderEntry>> {
        let place = Place::of(&self.config.ingest_roots, path)?;
        self.files.run(move |()| place.files(limit as usize)).await
    }

    async fn open_file(&self, path: &str) -> Result<Box<dyn FolderFile>> {
        let place = Place::of(&self.config.ingest_roots, path)?;
        let file = self.files.run(move |()| place.open()).await?;
        Ok(Box::new(Reading { file: Some(file), files: Arc::clone(&self.files) }))
    }
}

/// A path within a root.
struct Place {
    root: PathBuf,
    name: String,
    within: PathBuf,
}

impl Place {
    fn of(roots: &[PathBuf], path: &str) -> Result<Self> {
        let (name, within) = path.split_once('/').unwrap_or((path, ""));
        let root = roots.iter().find(|root| name_of(root).as_deref() == Some(name)).ok_or_else(|| {
            Error::Denied {
                message: format!(
                    "'{}' is under none of the folders that may be ingested (setting data.ingest_roots)",
                    path.escape_debug()
                ),
            }
        })?;
        let within = Path::new(within);
        if !within.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(outside(path));
        }
        let within = if within.as_os_str().is_empty() { PathBuf::from(".") } else { within.to_owned() };
        Ok(Place { root: root.clone(), name: name.to_owned(), within })
    }

    fn dir(&self) -> Step<Dir> {
        Ok(Dir::open_ambient_dir(&self.root, ambient_authority())?)
    }

    fn shown(&self, within: &Path) -> String {
        let parts = within.components().filter_map(|part| match part {
            Component::Normal(part) => Some(part.to_string_lossy()),
            _ => None,
        });
        parts.fold(self.name.clone(), |path, part| path + "/" + &part)
    }

    fn list(&self, limit: usize) -> Step<Vec<FolderEntry>> {
        let dir = self.dir()?.open_dir(&self.within).map_err(|error| self.refused(&self.within, error))?;
        let mut found = Vec::new();
        for entry in dir.entries()? {
            let entry = entry?;
            // What a link points at counts, as long as it stays inside.
            let Ok(about) = self.dir()?.metadata(self.within.join(entry.file_name())) else { continue };
            if !about.is_dir() && !about.is_file() {
                continue;
            }
            found.push(FolderEntry {
                path: self.shown(&self.within.join(entry.file_name())),
                folder: about.is_dir(),
                size: if about.is_file() { about.len() } else { 0 },
            });
        }
        found.sort_by(|a, b| (!a.folder, &a.path).cmp(&(!b.folder, &b.path)));
        found.truncate(limit);
        Ok(found)
    }

    fn files(&self, limit: usize) -> Step<Vec<FolderEntry>> {
        let root = self.dir()?;
        let about = root.metadata(&self.within).map_err(|error| self.refused(&self.within, error))?;
        if about.is_file() {
            return Ok(vec![FolderEntry {
                path: self.shown(&self.within),
                folder: false,
                size: about.len(),
            }]);
        }
        let mut found = Vec::new();
        let mut open = vec![(self.within.clone(), 0)];
        while let Some((folder, depth)) = open.pop() {
            for entry in root.open_dir(&folder).map_err(|error| self.refused(&folder, error))?.entries()? {
                let entry = entry?;
                let (kind, path) = (entry.file_type()?, folder.join(entry.file_name()));
                if kind.is_dir() && depth < DEPTH_MAX {
                    open.push((path, depth + 1));
                    continue;
                }
                let Ok(about) = root.metadata(&path) else { continue };
                if !about.is_file() {
                    continue;
                }
                if found.len() == limit {
                    return Err(Error::invalid(format!(
                        "there are more than {limit} files under '{}'; choose a folder with fewer",
                        self.shown(&self.within)
                    ))
                    .into());
                }
                found.push(FolderEntry { path: self.shown(&path), folder: false, size: about.len() });
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn open(&self) -> Step<File> {
        let root = self.dir()?;
        // A named pipe would wait for its other end for ever.
        let about = root.metadata(&self.within).map_err(|error| self.refused(&self.within, error))?;
        if !about.is_file() {
            return Err(Error::invalid(format!("'{}' is no file", self.shown(&self.within))).into());
        }
        root.open(&self.within).map_err(|error| self.refused(&self.within, error))
    }

    fn refused(&self, within: &Path, error: std::io::Error) -> Fault {
        let path = self.shown(within);
        match error.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound { what: "file", name: path }.into(),
            // Leading out of the root is refused with this kind too.
            std::io::ErrorKind::PermissionDenied => outside(&path).into(),
            std::io::ErrorKind::NotADirectory => Error::invalid(format!("'{path}' is no folder")).into(),
            _ => error.into(),
        }
    }
}

fn outside(path: &str) -> Error {
    Error::Denied {
        message: format!(
            "'{}' leads out of the folder that may be ingested, or cannot be read there",
            path.escape_debug()
        ),
    }
}

fn name_of(root: &Path) -> Option<String> {
    root.file_name().map(|name| name.to_string_lossy().into_owned())
}

struct Reading {
    file: Option<File>,
    files: Arc<Workers<()>>,
}

#[async_trait]
impl FolderFile for Reading {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        let Some(mut file) = self.file.take() else { return Ok(None) };
        let (file, bytes) = self
            .files
            .run(move |()| {
                let mut bytes = Vec::with_capacity(PIECE);
                file.by_ref().take(PIECE as u64).read_to_end(&mut bytes)?;
                Ok((file, bytes))
            })
            .await?;
        self.file = Some(file);
        Ok((!bytes.is_empty()).then(|| Bytes::from(bytes)))
    }
}

#[cfg(test)]
mod tests;
