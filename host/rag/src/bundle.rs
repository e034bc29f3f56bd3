//! A knowledge base as one zip file, written while it is read and checked before it is used.
//!
//! `kb.json` says what it is, `originals/{SHA-256}` are the files as people brought them, `documents/{number}.jsonl` hold
//! one document each: a line that describes it, then a line for each piece of its text with the chunks and vectors in
//! it. `SHA256SUMS` stands at the end and lists every other file, as `sha256sum -c` reads it. No name in the file ever
//! becomes a path.

mod format;
mod read;
mod write;

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rag_core::ports::{BundleBytes, BundleReader, BundleUpload, BundleWriter, Bundles};
use rag_core::{Error, Result};

use crate::config;

/// The file that says what the others are, and the one that lists their hashes.
const HEAD: &str = "kb.json";
const SUMS: &str = "SHA256SUMS";
const ORIGINALS: &str = "originals/";
const DOCUMENTS: &str = "documents/";
const DOCUMENT_END: &str = ".jsonl";

/// Writes and reads such files.
#[derive(Debug)]
pub(crate) struct BundleFiles {
    /// Where an upload is kept until it was read; on the disk of the data, so that room is known.
    dir: PathBuf,
    bytes_max: u64,
}

impl BundleFiles {
    pub(crate) fn new(dir: PathBuf, config: &config::Data) -> Self {
        BundleFiles { dir, bytes_max: config.bundle_bytes_max }
    }
}

impl Bundles for BundleFiles {
    fn write(&self) -> (Box<dyn BundleWriter>, BundleBytes) {
        write::start()
    }

    fn upload(&self) -> Result<Box<dyn BundleUpload>> {
        // It has no name, so whatever happens nothing of it stays.
        let file = tempfile::tempfile_in(&self.dir).map_err(|error| storage(&error))?;
        Ok(Box::new(Upload { file, size: 0, bytes_max: self.bytes_max }))
    }
}

struct Upload {
    file: File,
    size: u64,
    bytes_max: u64,
}

#[async_trait]
impl BundleUpload for Upload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.size += bytes.len() as u64;
        if self.size > self.bytes_max {
            return Err(too_large(self.size, self.bytes_max));
        }
        let mut file = self.file.try_clone().map_err(|error| storage(&error))?;
        let written = tokio::task::spawn_blocking(move || file.write_all(&bytes)).await;
        written.map_err(|error| Error::internal(error.to_string()))?.map_err(|error| storage(&error))
    }

    async fn open(self: Box<Self>) -> Result<Box<dyn BundleReader>> {
        let Upload { file, size, bytes_max } = *self;
        let opened = tokio::task::spawn_blocking(move || read::open(Arc::new(file), size, bytes_max)).await;
        let checked = opened.map_err(|error| Error::internal(error.to_string()))??;
        Ok(Box::new(checked.parts()))
    }
}

fn too_large(size: u64, limit: u64) -> Error {
    Error::TooLarge {
        what: "the file of a knowledge base".into(),
        size,
        limit,
        unit: "bytes",
        setting: "data.bundle_bytes_max",
    }
}

fn storage(error: &std::io::Error) -> Error {
    Error::Storage { message: format!("the file cannot be kept while it is read: {error}") }
}

#[cfg(test)]
mod tests;
