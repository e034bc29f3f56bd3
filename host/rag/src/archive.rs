//! Zip archives, and mails with what is attached: taken apart in memory, a piece at a time: directories and sizes are believed only as far as they hold.

mod mail;

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rag_core::ports::{Blob, BlobWriter, PackedFile, Unpack, UnpackLimits, Unpacked};
use rag_core::unpack::{bomb, is_bomb};
use rag_core::{Error, Result, media};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::config;

/// Bytes read of the original at once, and handed on of a file.
const WINDOW_BYTES: u32 = 512 << 10;
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait to be written.
const PIECES_WAITING: usize = 4;
/// Bytes of a directory: what names and their places may take in memory.
const NAMES_BYTES_MAX: usize = 16 << 20;

/// Opens zip archives and mails.
#[derive(Debug)]
pub(crate) struct ZipArchives {
    limits: UnpackLimits,
}

impl ZipArchives {
    pub(crate) fn new(config: &config::Data) -> Self {
        ZipArchives {
            limits: UnpackLimits { files: config.archive_files_max, bytes: config.archive_bytes_max },
        }
    }
}

#[async_trait]
impl Unpack for ZipArchives {
    fn limits(&self) -> UnpackLimits {
        self.limits
    }

    async fn open(&self, archive: Arc<dyn Blob>) -> Result<Box<dyn Unpacked>> {
        let (name, files_max) = (archive.name().to_owned(), self.limits.files);
        if archive.media_type() == media::MAIL {
            return mail::open(archive, files_max).await;
        }
        let runtime = Handle::current();
        let opened = tokio::task::spawn_blocking(move || Opened::read(archive, runtime, name, files_max));
        Ok(Box::new(opened.await.map_err(|error| Error::internal(error.to_string()))??))
    }
}

/// A file that is no folder, by its place in the directory.
type Places = Vec<usize>;

struct Opened {
    name: String,
    zip: Arc<Mutex<ZipArchive<Original>>>,
    files: Vec<PackedFile>,
    places: Places,
}

impl Opened {
    fn read(blob: Arc<dyn Blob>, runtime: Handle, name: String, files_max: u64) -> Result<Self> {
        let original = Original { blob, runtime, at: 0, window: (0, Bytes::new()) };
        let mut zip = ZipArchive::new(original).map_err(|error| broken(&name, &error))?;
        // Folders are entries too, so there may be more of them than files.
        if zip.len() as u64 > files_max.saturating_mul(4) {
            return Err(Error::invalid(format!(
                "'{name}' has {} entries, more than is unpacked (setting data.archive_files_max)",
                zip.len()
            )));
        }
        let (mut files, mut places, mut bytes) = (Vec::new(), Vec::new(), 0);
        for at in 0..zip.len() {
            let entry = zip.by_index_raw(at).map_err(|error| broken(&name, &error))?;
            if entry.is_dir() {
                continue;
            }
            if entry.encrypted() {
                return Err(Error::Unsupported {
                    message: format!("'{name}' is encrypted with a password; save it without one"),
                });
            }
            let file = PackedFile {
                name: readable(entry.name_raw()),
                size: entry.size(),
                packed: entry.compressed_size(),
            };
            bytes += file.name.len();
            if bytes > NAMES_BYTES_MAX {
                return Err(Error::invalid(format!(
                    "the names of '{name}' alone take {NAMES_BYTES_MAX} bytes"
                )));
            }
            files.push(file);
            places.push(at);
        }
        Ok(Opened { name, zip: Arc::new(Mutex::new(zip)), files, places })
    }
}

#[async_trait]
impl Unpacked for Opened {
    fn files(&self) -> &[PackedFile] {
        &self.files
    }

    async fn copy(&mut self, at: usize, bytes_max: u64, to: &mut dyn BlobWriter) -> Result<u64> {
        let place = self.places.get(at).copied();
        let place = place.ok_or_else(|| Error::internal(format!("'{}' has no file {at}", self.name)))?;
        let (zip, name) = (self.zip.clone(), self.name.clone());
        let (pieces, mut waiting) = mpsc::channel(PIECES_WAITING);
        // Ends by itself once nobody waits for its pieces.
        let reading = tokio::task::spawn_blocking(move || unpack(&zip, place, &name, bytes_max, &pieces));
        let mut size = 0;
        while let Some(piece) = waiting.recv().await {
            let piece: Bytes = piece;
            size += piece.len() as u64;
            to.write(piece).await?;
        }
        reading.await.map_err(|error| Error::internal(error.to_string()))??;
        Ok(size)
    }
}

/// Sends a file piece by piece.
fn unpack(
    zip: &Mutex<ZipArchive<Original>>,
    place: usize,
    archive: &str,
    bytes_max: u64,
    pieces: &mpsc::Sender<Bytes>,
) -> Result<()> {
    let mut zip = zip.lock().unwrap_or_else(PoisonError::into_inner);
    let mut entry = zip.by_index(place).map_err(|error| broken(archive, &error))?;
    let (name, packed) = (readable(entry.name_raw()), entry.compressed_size());
    let mut size = 0;
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let read = entry.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece);
        let read =
            read.map_err(|error| Error::invalid(format!("'{name}' in '{archive}' is damaged: {error}")))?;
        if read == 0 {
            return Ok(());
        }
        size += read as u64;
        if size > bytes_max {
            return Err(Error::invalid(format!(
                "'{archive}' unpacks to more than is allowed (setting data.archive_bytes_max)"
            )));
        }
        if is_bomb(size, packed) {
            return Err(bomb(archive, &name));
        }
        if pieces.blocking_send(piece.into()).is_err() {
            return Err(Error::Cancelled);
        }
    }
}

/// A name as people see it: UTF-8, else the GBK of Chinese systems, which archives do not declare.
fn readable(name: &[u8]) -> String {
    let name = match std::str::from_utf8(name) {
        Ok(name) => name.to_owned(),
        Err(_) => encoding_rs::GBK.decode_without_bom_handling(name).0.into_owned(),
    };
    name.replace('\\', "/")
}

fn broken(archive: &str, error: &ZipError) -> Error {
    match error {
        ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
            Error::Unsupported { message: format!("'{archive}' cannot be unpacked: {error}") }
        }
        _ => Error::invalid(format!("'{archive}' is damaged or cut off: {error}")),
    }
}

/// The original, read at random through one window; only for threads that may block.
struct Original {
    blob: Arc<dyn Blob>,
    runtime: Handle,
    at: u64,
    window: (u64, Bytes),
}

impl Read for Original {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.blob.size() || buffer.is_empty() {
            return Ok(0);
        }
        let inside = self.at.checked_sub(self.window.0).filter(|from| *from < self.window.1.len() as u64);
        let from = match inside {
            Some(from) => from as usize,
            None => {
                let read = self.runtime.block_on(self.blob.read_at(self.at, WINDOW_BYTES));
                self.window = (self.at, read.map_err(io::Error::other)?);
                0
            }
        };
        let rest = self.window.1.get(from..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(rest)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(rest);
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Original {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.blob.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "seek to before the file's start");
        self.at = target.ok_or_else(before)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests;
