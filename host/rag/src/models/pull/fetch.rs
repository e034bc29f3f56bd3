//! Fetches one file: goes on where a broken download ended, believes no size, and keeps nothing whose hash is wrong.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rag_core::{Error, Result};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use super::hub::{Hash, Remote};
use super::way::{Way, answers};

/// Broken connections in a row without a byte in between, and in all, before a download is given up.
const BREAKS_MAX: u32 = 5;
const TRIES_MAX: u32 = 1_000;
/// A file that nobody told the size of may have so many bytes.
const BYTES_MAX: u64 = 1 << 40;
const BLOCK: usize = 1 << 20;

/// What a download is told to keep to, and whom it tells how far it is.
pub(super) struct Terms<'a> {
    /// Before trying again, times the number of breaks in a row.
    pub(super) pause: Duration,
    /// Bytes that must stay free on the disk.
    pub(super) spare: u64,
    pub(super) watch: &'a (dyn Watch + 'a),
}

/// Who is told how far a download is.
pub(super) trait Watch: Send + Sync {
    /// Bytes that are here, of as many as there are.
    fn at(&self, done: u64, bytes: Option<u64>);
    /// What broke off; nothing once bytes come again.
    fn broke(&self, error: Option<&Error>);
}

/// How a try ended.
enum Ended {
    Whole,
    Broken(Error),
}

struct Download<'a> {
    way: &'a Way,
    remote: &'a Remote,
    terms: &'a Terms<'a>,
    part: PathBuf,
    file: File,
    have: u64,
    /// What the hub said, else the server.
    bytes: Option<u64>,
    /// The server's name for the bytes that are here.
    tag: Option<HeaderValue>,
}

/// Fetches into `target`; beside it `NAME.part` and `NAME.etag` are what a broken download leaves.
pub(super) async fn fetch(way: &Way, remote: &Remote, target: &Path, terms: &Terms<'_>) -> Result<()> {
    if let Some(folder) = target.parent() {
        fs_err::create_dir_all(folder).map_err(storage)?;
    }
    let part = beside(target, ".part");
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&part).await;
    let mut file = file.map_err(storage)?;
    let have = file.seek(std::io::SeekFrom::End(0)).await.map_err(storage)?;
    let tag = fs_err::read(beside(target, ".etag")).ok();
    let tag = tag.and_then(|tag| HeaderValue::from_bytes(&tag).ok());
    let mut download = Download { way, remote, terms, part, file, have, bytes: remote.bytes, tag };
    if download.bytes.is_some_and(|bytes| download.have > bytes) {
        download.start_over().await?;
    }
    download.run(target).await?;
    let Download { part, file, .. } = download;
    file.sync_all().await.map_err(storage)?;
    drop(file);
    let (hash, checked) = (remote.hash.clone(), part.clone());
    let right = super::super::blocking(move || is(&checked, &hash)).await?;
    let _ = fs_err::remove_file(beside(target, ".etag"));
    if !right {
        let _ = fs_err::remove_file(&part);
        return Err(Error::Model {
            path: remote.path.clone(),
            message: "what came has another hash than the hub tells; it is thrown away".to_owned(),
        });
    }
    fs_err::rename(part, target).map_err(storage)
}

/// Whether a file has this hash; reads it through.
pub(super) fn is(path: &Path, hash: &Hash) -> Result<bool> {
    let mut file = fs_err::File::open(path).map_err(storage)?;
    let mut block = vec![0; BLOCK];
    let mut each = |take: &mut dyn FnMut(&[u8])| -> Result<()> {
        loop {
            match file.read(&mut block).map_err(storage)? {
                0 => return Ok(()),
                read => take(&block[..read]),
            }
        }
    };
    match hash {
        Hash::Sha256(wanted) => {
            let mut found = Sha256::new();
            each(&mut |bytes| found.update(bytes))?;
            Ok(hex(&found.finalize()) == *wanted)
        }
        Hash::Git(wanted) => {
            let bytes = fs_err::metadata(path).map_err(storage)?.len();
            let mut found = Sha1::new();
            found.update(format!("blob {bytes}\0"));
            each(&mut |bytes| found.update(bytes))?;
            Ok(hex(&found.finalize()) == *wanted)
        }
        Hash::Untold => Ok(true),
    }
}

impl Download<'_> {
    /// Until everything is here, or nothing more is to be hoped for.
    async fn run(&mut self, target: &Path) -> Result<()> {
        let mut breaks = 0;
        for _ in 0..TRIES_MAX {
            let before = self.have;
            let error = match self.go_on(target).await {
                Ok(Ended::Whole) => return Ok(()),
                Ok(Ended::Broken(error)) | Err(error @ Error::Unavailable { .. }) => error,
                Err(error) => return Err(error),
            };
            breaks = if self.have > before { 1 } else { breaks + 1 };
            if breaks > BREAKS_MAX {
                return Err(given_up(&error));
            }
            self.terms.watch.broke(Some(&error));
            tokio::time::sleep(self.terms.pause * breaks).await;
        }
        Err(given_up(&Error::Unavailable { message: format!("it broke off {TRIES_MAX} times") }))
    }

    async fn start_over(&mut self) -> Result<()> {
        self.file.set_len(0).await.map_err(storage)?;
        self.file.rewind().await.map_err(storage)?;
        (self.have, self.tag) = (0, None);
        Ok(())
    }

    /// One request for what is missing.
    async fn go_on(&mut self, target: &Path) -> Result<Ended> {
        self.terms.watch.at(self.have, self.bytes);
        if self.bytes == Some(self.have) {
            return Ok(Ended::Whole);
        }
        let mut headers = HeaderMap::new();
        if self.have > 0 {
            let from = format!("bytes={}-", self.have);
            let from = HeaderValue::from_str(&from).map_err(|error| Error::internal(error.to_string()))?;
            headers.insert(header::RANGE, from);
            if let Some(tag) = &self.tag {
                headers.insert(header::IF_RANGE, tag.clone());
            }
        }
        let answer = self.way.get(&self.remote.url, &headers).await?;
        match answer.status() {
            StatusCode::OK => self.start_over().await?,
            StatusCode::PARTIAL_CONTENT if starts_at(&answer) == Some(self.have) => {}
            StatusCode::PARTIAL_CONTENT => {
                return Err(Error::invalid(format!(
                    "{}: the server sends another part than was asked for",
                    self.remote.path
                )));
            }
            // Nothing is left to send: it is whole, or another file, which its hash tells.
            StatusCode::RANGE_NOT_SATISFIABLE if self.bytes.is_none() => return Ok(Ended::Whole),
            status => return Err(answers(&answer, status.as_u16())),
        }
        self.check_sizes(&answer)?;
        self.keep_tag(&answer, target)?;
        self.receive(answer).await
    }

    /// That what the server announces is what the hub said, and that the disk holds it.
    fn check_sizes(&mut self, answer: &Response) -> Result<()> {
        let path = &self.remote.path;
        let announced = answer.content_length().map(|left| self.have.saturating_add(left));
        match (self.bytes, announced) {
            (Some(bytes), Some(announced)) if bytes != announced => {
                return Err(Error::invalid(format!(
                    "{path}: the server announces {announced} bytes where the hub tells {bytes}"
                )));
            }
            (None, Some(announced)) if announced > BYTES_MAX => {
                return Err(Error::invalid(format!("{path}: {announced} bytes are no model's")));
            }
            (None, announced) => self.bytes = announced,
            _ => {}
        }
        let left = self.bytes.unwrap_or(0).saturating_sub(self.have);
        let folder = self.part.parent().unwrap_or(Path::new("."));
        let disk = rustix::fs::statvfs(folder)
            .map_err(|error| Error::Storage { message: format!("{}: {error}", folder.display()) })?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < left.saturating_add(self.terms.spare) {
            return Err(Error::Storage {
                message: format!(
                    "{path}: {} MiB are missing and {} MiB are free, of which {} MiB stay so (setting data.disk_free_min_bytes)",
                    left >> 20,
                    free >> 20,
                    self.terms.spare >> 20
                ),
            });
        }
        Ok(())
    }

    /// Remembers what the server calls these bytes, so that no other ones are joined to them.
    fn keep_tag(&mut self, answer: &Response, target: &Path) -> Result<()> {
        const ETAG: HeaderName = header::ETAG;
        // A weak one says nothing of bytes.
        let strong = |tag: &&HeaderValue| !tag.as_bytes().starts_with(b"W/");
        self.tag = answer.headers().get(ETAG).filter(strong).cloned();
        let file = beside(target, ".etag");
        match &self.tag {
            Some(tag) => fs_err::write(file, tag.as_bytes()).map_err(storage),
            None => {
                let _ = fs_err::remove_file(file);
                Ok(())
            }
        }
    }

    async fn receive(&mut self, mut answer: Response) -> Result<Ended> {
        let limit = self.bytes.unwrap_or(BYTES_MAX);
        loop {
            let piece = match self.way.chunk(&mut answer).await {
                Ok(piece) => piece,
                Err(error) => {
                    self.file.flush().await.map_err(storage)?;
                    return Ok(Ended::Broken(error));
                }
            };
            let Some(piece) = piece else {
                self.file.flush().await.map_err(storage)?;
                return Ok(match self.bytes {
                    Some(bytes) if self.have < bytes => {
                        let message = format!("{} ended early", self.remote.path);
                        Ended::Broken(Error::Unavailable { message })
                    }
                    _ => Ended::Whole,
                });
            };
            if self.have + piece.len() as u64 > limit {
                self.start_over().await?;
                return Err(Error::invalid(format!(
                    "{}: the server sends more than the {limit} bytes that it has",
                    self.remote.path
                )));
            }
            self.file.write_all(&piece).await.map_err(storage)?;
            self.have += piece.len() as u64;
            self.terms.watch.at(self.have, self.bytes);
            self.terms.watch.broke(None);
        }
    }
}

/// Where a part begins, by its `Content-Range`.
fn starts_at(answer: &Response) -> Option<u64> {
    let range = answer.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = target.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn given_up(error: &Error) -> Error {
    Error::Unavailable { message: format!("{error}; what came stays, and the same pull goes on from there") }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
pub(super) fn storage(error: std::io::Error) -> Error {
    Error::Storage { message: error.to_string() }
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
