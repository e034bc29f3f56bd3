//! An archive becomes documents: each file in it is queued as an ingest of its own, called `archive.zip/its/path`.
//!
//! Everything is counted over the whole upload, archives within archives included, and names are looked at before
//! anything is queued.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ingest::{Ingested, ingest};
use crate::jobs::report;
use crate::limits;
use crate::media;
use crate::ports::{Blob, IngestSource, Job, JobKind, PackedFile, Stage, UnpackLimits, Unpacked};
use crate::rag::Rag;

/// What became of an archive.
pub(crate) enum Opened {
    /// Its files were queued.
    Queued,
    /// It is a document after all.
    Document(Ingested),
}

/// Whether an original is to be unpacked: a zip archive that no parser of the knowledge base reads.
pub(crate) async fn is_archive(rag: &Rag, job: &Job, source: &IngestSource) -> Result<bool> {
    if source.media_type != media::ZIP {
        return Ok(false);
    }
    let binding = rag.binding(job.kb.as_str()).await?;
    Ok(!binding.parsers.iter().any(|parser| parser.accepts().iter().any(|read| read == media::ZIP)))
}

/// Queues the files of an archive. Running it again queues the same files, whose ingest then finds nothing to do.
pub(crate) async fn unpack(rag: &Rag, job: &Job, source: &IngestSource) -> Result<Opened> {
    let blob = rag.blobs.open(&source.blob, &source.name, &source.media_type).await?;
    let archive = rag.archives.open(blob).await?;
    let names = archive.files().iter().map(|file| file.name.as_str());
    if let Some(media_type) = media::of_parts(names) {
        let source = IngestSource { media_type: media_type.to_owned(), ..source.clone() };
        return ingest(rag, job, &source).await.map(Opened::Document);
    }
    let mut work = Work { rag, job, left: rag.archives.limits(), limits: rag.archives.limits(), queued: 0 };
    let mut waiting = vec![Waiting { prefix: source.name.clone(), depth: 0, archive }];
    let mut failure = None;
    while let Some(Waiting { prefix, depth, archive }) = waiting.pop() {
        for (name, inner) in work.archive(&prefix, archive).await? {
            if depth + 1 >= limits::ARCHIVE_DEPTH_MAX {
                let depth = limits::ARCHIVE_DEPTH_MAX;
                return Err(Error::invalid(format!("'{name}' lies more than {depth} archives deep")));
            }
            match rag.archives.open(inner).await {
                Ok(archive) => waiting.push(Waiting { prefix: name, depth: depth + 1, archive }),
                Err(error) => failure = failure.or(Some((name, error))),
            }
        }
    }
    match failure {
        Some((name, error)) => Err(Error::invalid(format!(
            "'{name}' could not be unpacked: {error}; {} other files were queued",
            work.queued
        ))),
        None if work.queued == 0 => Err(Error::invalid(format!("'{}' holds no files", source.name))),
        None => Ok(Opened::Queued),
    }
}

/// An archive whose files are still to be queued.
struct Waiting {
    prefix: String,
    /// Archives around it.
    depth: usize,
    archive: Box<dyn Unpacked>,
}

/// What is done, and what may still be.
struct Work<'a> {
    rag: &'a Rag,
    job: &'a Job,
    left: UnpackLimits,
    limits: UnpackLimits,
    queued: u64,
}

impl Work<'_> {
    /// Queues the files of one archive; returns the archives in it with their names.
    async fn archive(
        &mut self,
        prefix: &str,
        mut archive: Box<dyn Unpacked>,
    ) -> Result<Vec<(String, Arc<dyn Blob>)>> {
        let wanted = self.wanted(prefix, archive.files())?;
        let mut archives = Vec::new();
        for (at, name) in wanted {
            report(self.rag, &self.job.id, Stage::Parse, self.queued, self.queued + self.left.files).await?;
            let mut writer = self.rag.upload().await?;
            let size = archive.copy(at, self.left.bytes, writer.as_mut()).await?;
            self.left.bytes = self.left.bytes.saturating_sub(size);
            self.left.files = self.left.files.saturating_sub(1);
            let source = self.rag.received(&name, None, writer, None).await?;
            if source.media_type == media::ZIP {
                archives.push((name, self.rag.blobs.open(&source.blob, &source.name, media::ZIP).await?));
            } else if size > 0 {
                self.rag.enqueue(&self.job.kb, &JobKind::Ingest(source)).await?;
                self.queued += 1;
            }
        }
        Ok(archives)
    }

    /// The files that are somebody's documents, each with its name in the knowledge base. Refuses archives that claim
    /// too much, or names that lead elsewhere.
    fn wanted(&self, prefix: &str, files: &[PackedFile]) -> Result<Vec<(usize, String)>> {
        if files.len() as u64 > self.left.files {
            return Err(too_large(prefix, "files", self.limits.files, "data.archive_files_max"));
        }
        let claimed = files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
        if claimed > self.left.bytes {
            return Err(too_large(prefix, "bytes", self.limits.bytes, "data.archive_bytes_max"));
        }
        let mut wanted = Vec::new();
        for (at, file) in files.iter().enumerate() {
            if is_bomb(file.size, file.packed) {
                return Err(bomb(prefix, &file.name));
            }
            // An absolute name would lose its root within the archive's.
            let inner = media::document_name(&file.name)
                .map_err(|error| Error::invalid(format!("'{prefix}' is not unpacked: {error}")))?;
            if !is_litter(&inner) {
                wanted.push((at, media::document_name(&format!("{prefix}/{inner}"))?));
            }
        }
        Ok(wanted)
    }
}

/// Whether a file expands as no document does. Real ones reach 60 times.
pub fn is_bomb(size: u64, packed: u64) -> bool {
    size > limits::ARCHIVE_BOMB_BYTES && size / packed.max(1) > limits::ARCHIVE_RATIO_MAX
}

/// The refusal of such a file.
pub fn bomb(archive: &str, name: &str) -> Error {
    Error::invalid(format!(
        "'{name}' in '{archive}' expands more than {} times: it is a bomb, or not text",
        limits::ARCHIVE_RATIO_MAX
    ))
}

fn too_large(archive: &str, what: &str, limit: u64, setting: &str) -> Error {
    Error::invalid(format!("'{archive}' holds more than {limit} {what} (setting {setting})"))
}

/// What systems put beside people's files.
fn is_litter(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or_default();
    name.split('/').any(|step| step == "__MACOSX")
        || matches!(file, ".DS_Store" | "Thumbs.db" | "desktop.ini")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn litter_and_bombs_are_told() {
        for litter in ["__MACOSX/._a.md", "a/.DS_Store", "Thumbs.db"] {
            assert!(is_litter(litter), "{litter}");
        }
        assert!(!is_litter("手册/a.md"));
        assert!(is_bomb(1 << 30, 1 << 20) && !is_bomb(1 << 20, 1) && !is_bomb(1 << 30, 1 << 24));
    }
}
