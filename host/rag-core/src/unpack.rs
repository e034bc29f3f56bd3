//! An archive becomes documents: each file in it is queued as an ingest of its own, called `archive.zip/its/path`.
//! So does what is attached to a mail, called `mail.eml/its name`; the mail is a document as well.
//!
//! Everything is counted over the whole upload, archives within archives included, and names are looked at before
//! anything is queued.

use crate::error::{Error, ErrorCode, Result};
use crate::ingest::{Ingested, ingest};
use crate::jobs::report;
use crate::limits;
use crate::media;
use crate::ports::{IngestSource, Job, JobKind, Origin, PackedFile, Stage, UnpackLimits, Unpacked};
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

/// Whether an original is a mail whose attachments are still to be queued.
pub(crate) fn is_mail(source: &IngestSource) -> bool {
    source.media_type == media::MAIL && !source.alone
}

/// Queues what is attached to a mail. What cannot be opened as one is left to the parser, which says why.
pub(crate) async fn attachments(rag: &Rag, job: &Job, source: &IngestSource) -> Result<()> {
    let blob = rag.blobs.open(&source.blob, &source.name, &source.media_type).await?;
    let archive = match rag.archives.open(blob).await {
        Ok(archive) => archive,
        Err(error) if is_no_mail(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut work = Work::new(rag, job, source);
    work.all(&source.name, archive).await?;
    for (inner, _) in std::mem::take(&mut work.damaged) {
        // A job of its own fails with the reason, and the mail is a document all the same.
        rag.enqueue(&job.kb, &JobKind::Ingest(inner)).await?;
    }
    Ok(())
}

fn is_no_mail(error: &Error) -> bool {
    matches!(error.code(), ErrorCode::InvalidInput | ErrorCode::Unsupported)
}

/// Queues the files of an archive. Running it again queues the same files, whose ingest then finds nothing to do.
pub(crate) async fn unpack(rag: &Rag, job: &Job, source: &IngestSource) -> Result<Opened> {
    let blob = rag.blobs.open(&source.blob, &source.name, &source.media_type).await?;
    let archive = rag.archives.open(blob).await?;
    let names = archive.files().iter().map(|file| file.name.as_str());
    if let Some(media_type) = media::of_parts(names) {
        let source = IngestSource { media_type: media_type.to_owned(), ..source.clone() };
        return ingest(rag, job, &source, None).await.map(Opened::Document);
    }
    let mut work = Work::new(rag, job, source);
    work.all(&source.name, archive).await?;
    match work.damaged.first() {
        Some((inner, error)) => Err(Error::invalid(format!(
            "'{}' could not be unpacked: {error}; {} other files were queued",
            inner.name, work.queued
        ))),
        None if work.queued == 0 => Err(Error::invalid(format!("'{}' holds no files", source.name))),
        None => Ok(Opened::Queued),
    }
}

/// What is done, and what may still be.
struct Work<'a> {
    rag: &'a Rag,
    job: &'a Job,
    /// Of every file.
    origin: Origin,
    left: UnpackLimits,
    limits: UnpackLimits,
    queued: u64,
    /// Archives within that could not be opened.
    damaged: Vec<(IngestSource, Error)>,
}

impl<'a> Work<'a> {
    fn new(rag: &'a Rag, job: &'a Job, source: &IngestSource) -> Self {
        let limits = rag.archives.limits();
        let origin = Origin { url: None, folder: source.origin.folder.clone() };
        Work { rag, job, origin, left: limits, limits, queued: 0, damaged: Vec::new() }
    }

    /// Queues the files of an archive and of those within it.
    async fn all(&mut self, name: &str, archive: Box<dyn Unpacked>) -> Result<()> {
        let mut waiting = Vec::new();
        let mut open = Some((name.to_owned(), 0, archive));
        while let Some((name, depth, archive)) = open.take() {
            for inner in self.archive(&name, archive).await? {
                if depth + 1 >= limits::ARCHIVE_DEPTH_MAX {
                    let (name, depth) = (inner.name, limits::ARCHIVE_DEPTH_MAX);
                    return Err(Error::invalid(format!("'{name}' lies more than {depth} archives deep")));
                }
                waiting.push((inner, depth + 1));
            }
            // One is open at a time: a mail lies in memory then.
            while let (None, Some((inner, depth))) = (&open, waiting.pop()) {
                let blob = self.rag.blobs.open(&inner.blob, &inner.name, &inner.media_type).await?;
                match self.rag.archives.open(blob).await {
                    Ok(archive) => open = Some((inner.name, depth, archive)),
                    // A mail is a document of its own, whose parser says what is wrong with it.
                    Err(error) if inner.media_type == media::MAIL && is_no_mail(&error) => {}
                    Err(error) if inner.media_type == media::MAIL => return Err(error),
                    Err(error) => self.damaged.push((inner, error)),
                }
            }
        }
        Ok(())
    }

    /// Queues the files of one archive; returns those in it that hold files themselves.
    async fn archive(&mut self, prefix: &str, mut archive: Box<dyn Unpacked>) -> Result<Vec<IngestSource>> {
        let wanted = self.wanted(prefix, archive.files())?;
        let mut archives = Vec::new();
        for (at, name) in wanted {
            report(self.rag, &self.job.id, Stage::Parse, self.queued, self.queued + self.left.files).await?;
            let mut writer = self.rag.upload().await?;
            let size = archive.copy(at, self.left.bytes, writer.as_mut()).await?;
            self.left.bytes = self.left.bytes.saturating_sub(size);
            self.left.files = self.left.files.saturating_sub(1);
            let mut source = self.rag.received(&name, None, writer, self.origin.clone()).await?;
            if source.media_type == media::ZIP {
                archives.push(source);
            } else if size > 0 {
                if source.media_type == media::MAIL {
                    archives.push(source.clone());
                    // What is attached to it counts here.
                    source.alone = true;
                }
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
