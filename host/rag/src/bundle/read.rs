//! In: every name and hash is checked first; only then are parts read, on a thread of their own, a few ahead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use rag_core::document::BlobHash;
use rag_core::ports::{BundleHead, BundlePart, BundleReader};
use rag_core::{Error, Result};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use zip::ZipArchive;

use super::format::{DocumentJson, FORMAT, FormatJson, HeadJson, SectionJson};
use super::{DOCUMENT_END, DOCUMENTS, HEAD, ORIGINALS, SUMS, too_large};

/// Entries of a file, and bytes that their directory takes.
const ENTRIES_MAX: usize = 1_000_000;
const DIRECTORY_BYTES_MAX: u64 = 256 << 20;
/// Bytes of one line: a piece of a text with the vectors of its chunks.
const LINE_BYTES_MAX: u64 = 128 << 20;
/// Bytes of the two files that are read whole.
const HEAD_BYTES_MAX: u64 = 4 << 20;
const SUMS_BYTES_MAX: u64 = 256 << 20;
/// Bytes read at once.
const PIECE_BYTES: usize = 256 << 10;
const PARTS_WAITING: usize = 2;

/// A file whose names and hashes are right.
pub(super) struct Checked {
    zip: ZipArchive<Window>,
    head: BundleHead,
    /// Places of originals by hash, and of documents in order.
    originals: BTreeMap<String, usize>,
    documents: Vec<usize>,
}

/// Reads the directory and every entry once.
pub(super) fn open(file: Arc<File>, size: u64, bytes_max: u64) -> Result<Checked> {
    // A directory may claim to be most of the file.
    let left = Arc::new(AtomicU64::new(DIRECTORY_BYTES_MAX));
    let window = Window { file, size, at: 0, left: Arc::clone(&left) };
    let mut zip = ZipArchive::new(window).map_err(|error| broken(&error))?;
    left.store(u64::MAX, Ordering::Relaxed);
    if zip.len() > ENTRIES_MAX {
        return Err(Error::invalid(format!("the file has more than {ENTRIES_MAX} entries")));
    }
    let (mut originals, mut documents) = (BTreeMap::new(), BTreeMap::new());
    let (mut head, mut sums, mut total) = (None, None, 0_u64);
    for at in 0..zip.len() {
        let entry = zip.by_index_raw(at).map_err(|error| broken(&error))?;
        total = total.saturating_add(entry.size());
        let name = std::str::from_utf8(entry.name_raw()).unwrap_or_default();
        let fresh = match name {
            HEAD => head.replace(at).is_none(),
            SUMS => sums.replace(at).is_none(),
            _ => match (original_in(name), document_in(name)) {
                (Some(hash), _) => originals.insert(hash.to_owned(), at).is_none(),
                (_, Some(number)) => documents.insert(number, at).is_none(),
                // Whatever it is, somebody else put it there.
                (None, None) => {
                    return Err(Error::invalid(format!(
                        "'{}' has no place in such a file",
                        name.escape_debug()
                    )));
                }
            },
        };
        if !fresh {
            return Err(Error::invalid(format!("'{name}' is in the file twice")));
        }
    }
    if total > bytes_max {
        return Err(too_large(total, bytes_max));
    }
    let (Some(head), Some(sums)) = (head, sums) else {
        return Err(Error::invalid(format!("this is no knowledge base: it lacks {HEAD} or {SUMS}")));
    };
    let head = read_head(&mut zip, head)?;
    let sums = whole(&mut zip, sums, SUMS_BYTES_MAX)?;
    check_sums(&mut zip, &sums, bytes_max)?;
    let documents: Vec<usize> = documents.into_values().collect();
    if documents.len() as u64 != head.documents {
        tracing::debug!(
            told = head.documents,
            found = documents.len(),
            "documents came or went while it was written"
        );
    }
    Ok(Checked { zip, head, originals, documents })
}

fn original_in(name: &str) -> Option<&str> {
    let hash = name.strip_prefix(ORIGINALS)?;
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (hash.len() == 64 && hash.bytes().all(digit)).then_some(hash)
}

fn document_in(name: &str) -> Option<u64> {
    let number = name.strip_prefix(DOCUMENTS)?.strip_suffix(DOCUMENT_END)?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
}

fn read_head(zip: &mut ZipArchive<Window>, at: usize) -> Result<BundleHead> {
    let bytes = whole(zip, at, HEAD_BYTES_MAX)?;
    let FormatJson { format } = parsed(HEAD, &bytes)?;
    if format != FORMAT {
        return Err(Error::Unsupported {
            message: format!(
                "the file has format {format}, and this program reads {FORMAT}; use the version that wrote it"
            ),
        });
    }
    let head: HeadJson = parsed(HEAD, &bytes)?;
    head.into_head()
}

/// Every entry has the hash that stands in the list, and the list names nothing else.
fn check_sums(zip: &mut ZipArchive<Window>, sums: &[u8], bytes_max: u64) -> Result<()> {
    let sums = std::str::from_utf8(sums).map_err(|_| Error::invalid(format!("{SUMS} is no text")))?;
    let mut listed = BTreeMap::new();
    for line in sums.lines() {
        let pair = line.split_once("  ").ok_or_else(|| Error::invalid(format!("{SUMS} is damaged")))?;
        listed.insert(pair.1, pair.0);
    }
    let mut left = bytes_max;
    for at in 0..zip.len() {
        let entry = zip.by_index(at).map_err(|error| broken(&error))?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        if name == SUMS {
            continue;
        }
        let damaged = |error: &io::Error| Error::invalid(format!("'{name}' in the file is damaged: {error}"));
        let mut hasher = Sha256::new();
        let mut reader = BufReader::with_capacity(PIECE_BYTES, entry);
        loop {
            let piece = reader.fill_buf().map_err(|error| damaged(&error))?;
            if piece.is_empty() {
                break;
            }
            left = left.checked_sub(piece.len() as u64).ok_or_else(|| too_large(bytes_max, bytes_max))?;
            hasher.update(piece);
            let count = piece.len();
            reader.consume(count);
        }
        let hash: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let own = original_in(&name).is_none_or(|original| original == hash);
        if listed.remove(name.as_str()) != Some(hash.as_str()) || !own {
            return Err(Error::invalid(format!("'{name}' in the file is not what was written there")));
        }
    }
    match listed.keys().next() {
        None => Ok(()),
        Some(name) => Err(Error::invalid(format!("'{}' is missing in the file", name.escape_debug()))),
    }
}

impl Checked {
    pub(super) fn parts(self) -> Parts {
        let (parts, waiting) = mpsc::channel(PARTS_WAITING);
        // Ends by itself once nobody waits for its parts.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = self.read(&parts) {
                let _ = parts.blocking_send(Err(error));
            }
        });
        Parts(waiting)
    }

    fn read(mut self, parts: &mpsc::Sender<Result<BundlePart>>) -> Result<()> {
        let send = |part| parts.blocking_send(Ok(part)).map_err(|_| Error::Cancelled);
        send(BundlePart::Head(Box::new(self.head.clone())))?;
        // Read from twice at a time: a document, and its original before it.
        let mut second = self.zip.clone();
        let mut sent = BTreeSet::new();
        for at in self.documents {
            let entry = self.zip.by_index(at).map_err(|error| broken(&error))?;
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            let mut lines = Lines { name, reader: BufReader::with_capacity(PIECE_BYTES, entry) };
            let document: DocumentJson = lines.next()?.ok_or_else(|| lines.damaged("it is empty"))?;
            if sent.insert(document.sha256.clone()) {
                let place = self.originals.get(&document.sha256);
                let place = *place.ok_or_else(|| lines.damaged("its original is missing"))?;
                send(BundlePart::Original(BlobHash(document.sha256.clone())))?;
                original(&mut second, place, send)?;
            }
            send(BundlePart::Document(Box::new(document.into())))?;
            let mut start = 0;
            while let Some(section) = lines.next::<SectionJson>()? {
                let (text, chunks) = section.into_parts(start)?;
                start += text.len() as u64;
                send(BundlePart::Section { text, chunks })?;
            }
        }
        Ok(())
    }
}

fn original(zip: &mut ZipArchive<Window>, at: usize, send: impl Fn(BundlePart) -> Result<()>) -> Result<()> {
    let mut entry = zip.by_index(at).map_err(|error| broken(&error))?;
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let read = entry.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece);
        read.map_err(|error| Error::invalid(format!("an original in the file is damaged: {error}")))?;
        if piece.is_empty() {
            return Ok(());
        }
        send(BundlePart::Piece(Bytes::from(piece)))?;
    }
}

/// The lines of an entry.
struct Lines<R> {
    name: String,
    reader: BufReader<R>,
}

impl<R: Read> Lines<R> {
    fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let mut line = Vec::new();
        let read = self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        read.map_err(|error| self.damaged(&error.to_string()))?;
        match line.last() {
            None => Ok(None),
            Some(b'\n') => parsed(&self.name, &line).map(Some),
            Some(_) => Err(self.damaged("a line is too long or cut off")),
        }
    }

    fn damaged(&self, why: &str) -> Error {
        Error::invalid(format!("'{}' in the file cannot be read: {why}", self.name))
    }
}

fn whole(zip: &mut ZipArchive<Window>, at: usize, bytes_max: u64) -> Result<Vec<u8>> {
    let entry = zip.by_index(at).map_err(|error| broken(&error))?;
    let mut bytes = Vec::new();
    let read = entry.take(bytes_max + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::invalid(format!("the file is damaged: {error}")))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Error::invalid(format!(
            "{HEAD} or {SUMS} in the file is larger than any that is written"
        )));
    }
    Ok(bytes)
}

fn parsed<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::invalid(format!("'{name}' in the file: {error}")))
}

fn broken(error: &zip::result::ZipError) -> Error {
    Error::invalid(format!("the file is damaged, cut off, or not one that `kb export` wrote: {error}"))
}

/// What is being read.
pub(super) struct Parts(mpsc::Receiver<Result<BundlePart>>);

#[async_trait]
impl BundleReader for Parts {
    async fn next(&mut self) -> Result<Option<BundlePart>> {
        self.0.recv().await.transpose()
    }
}

/// A place in a file that others read too.
#[derive(Clone)]
struct Window {
    file: Arc<File>,
    size: u64,
    at: u64,
    /// Bytes that may still be read.
    left: Arc<AtomicU64>,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        let left = self.left.load(Ordering::Relaxed).checked_sub(count as u64);
        let left = left.ok_or_else(|| io::Error::other("its directory is too large"))?;
        self.left.store(left, Ordering::Relaxed);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "seek to before the file's start");
        self.at = target.ok_or_else(before)?;
        Ok(self.at)
    }
}
