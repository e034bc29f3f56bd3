//! States in a folder: one file each, checked when read; the least recently used ones make room.
//!
//! A file `SCOPE-HASH.state` (both hexadecimal) holds a mark, the number of tokens and the tokens as little-endian u32,
//! the state's values as little-endian f32, and the SHA-256 of all that. Files appear whole or not at all. A thread of
//! its own writes them, so that nobody who waits for a token waits for a disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::SystemTime;

use rag_core::{Error, Result};
use sha2::{Digest, Sha256};

use super::{Key, Scope};
use crate::rwkv::{Config, State};

const MARK: &[u8; 8] = b"RKSTATE1";
const HASH_BYTES: usize = 32;
/// States that wait to be written; beyond it they are forgotten, since a state can be computed again.
const WAITING_MAX: usize = 4;

/// Where states go that memory has no room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskCache {
    /// Created when missing. States tell what prompts said: the folder should be readable by this program only.
    pub dir: PathBuf,
    pub bytes_max: u64,
}

/// The open folder.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
    bytes_max: u64,
    bytes: u64,
    pub(super) index: HashMap<Key, File>,
    clock: u64,
    writer: SyncSender<Job>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct File {
    bytes: u64,
    used: u64,
}

struct Job {
    path: PathBuf,
    tokens: Arc<[u32]>,
    state: Arc<State>,
}

impl Disk {
    /// Opens a folder with what is in it; `Error::Storage` when it cannot be used.
    pub(crate) fn open(config: &DiskCache) -> Result<Self> {
        let fail = |e: std::io::Error| Error::Storage { message: format!("the folder of states: {e}") };
        fs_err::create_dir_all(&config.dir).map_err(fail)?;
        let mut found: Vec<(SystemTime, Key, u64)> = Vec::new();
        for entry in fs_err::read_dir(&config.dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let metadata = entry.metadata().map_err(fail)?;
            if let Some(key) = entry.file_name().to_str().and_then(parse_name) {
                found.push((metadata.modified().map_err(fail)?, key, metadata.len()));
            }
        }
        found.sort_by_key(|file| file.0);
        let (writer, jobs) = sync_channel::<Job>(WAITING_MAX);
        std::thread::Builder::new()
            .name("states-to-disk".to_string())
            .spawn(move || jobs.iter().for_each(|job| write_job(&job)))
            .map_err(fail)?;
        let (dir, bytes_max) = (config.dir.clone(), config.bytes_max);
        let mut disk = Self { dir, bytes_max, bytes: 0, index: HashMap::new(), clock: 0, writer };
        for (_, key, bytes) in found {
            disk.note(key, bytes);
        }
        disk.make_room();
        Ok(disk)
    }

    /// Whether a file has this name; its tokens are compared when it is read.
    pub(super) fn contains(&self, key: Key) -> bool {
        self.index.contains_key(&key)
    }

    /// The state after exactly these tokens, of the sizes of `like`. A damaged file is removed.
    pub(super) fn read(&mut self, key: Key, tokens: &[u32], config: &Config) -> Option<State> {
        let path = self.path(key);
        // It may not be written yet.
        let bytes = fs_err::read(&path).ok()?;
        let Some((stored, state)) = parse(&bytes, config) else {
            tracing::warn!(path = %path.display(), "a damaged state was removed");
            self.forget(key);
            return None;
        };
        self.clock += 1;
        if let Some(file) = self.index.get_mut(&key) {
            file.used = self.clock;
        }
        (stored == tokens).then_some(state)
    }

    /// Has a state written, unless it is there or too many wait.
    pub(super) fn write(&mut self, key: Key, tokens: Arc<[u32]>, state: Arc<State>) {
        let bytes = (MARK.len() + 4 + tokens.len() * 4 + state.bytes() + HASH_BYTES) as u64;
        if self.contains(key) || bytes > self.bytes_max {
            return;
        }
        if self.writer.try_send(Job { path: self.path(key), tokens, state }).is_ok() {
            self.note(key, bytes);
            self.make_room();
        }
    }

    fn note(&mut self, key: Key, bytes: u64) {
        self.clock += 1;
        self.bytes += bytes;
        self.index.insert(key, File { bytes, used: self.clock });
    }

    fn make_room(&mut self) {
        while self.bytes > self.bytes_max {
            let oldest = self.index.iter().min_by_key(|(_, file)| file.used).map(|(&key, _)| key);
            let Some(oldest) = oldest else { break };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, key: Key) {
        if let Some(file) = self.index.remove(&key) {
            self.bytes -= file.bytes;
            // One that is not there any more takes no room either.
            let _ = fs_err::remove_file(self.path(key));
        }
    }

    pub(super) fn path(&self, key: Key) -> PathBuf {
        let scope: String = key.scope.0.iter().map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(format!("{scope}-{:016x}.state", key.hash))
    }
}

fn parse_name(name: &str) -> Option<Key> {
    let (scope, hash) = name.strip_suffix(".state")?.split_once('-')?;
    if scope.len() != 32 || hash.len() != 16 || !scope.is_ascii() {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, digits) in bytes.iter_mut().zip(scope.as_bytes().as_chunks::<2>().0) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(Key { scope: Scope(bytes), hash: u64::from_str_radix(hash, 16).ok()? })
}

fn write_job(job: &Job) {
    if let Err(error) = write_file(&job.path, &job.tokens, &job.state) {
        tracing::warn!(%error, "a state could not be written");
    }
}

fn write_file(path: &Path, tokens: &[u32], state: &State) -> std::io::Result<()> {
    let mut bytes = MARK.to_vec();
    bytes.extend((tokens.len() as u32).to_le_bytes());
    bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
    bytes.extend(state.to_bytes());
    let hash = Sha256::digest(&bytes);
    bytes.extend(hash);
    let unfinished = path.with_extension("unfinished");
    fs_err::write(&unfinished, bytes)?;
    fs_err::rename(unfinished, path)
}

/// Tokens and state of a file; none when it is damaged or of another model.
fn parse(bytes: &[u8], config: &Config) -> Option<(Vec<u32>, State)> {
    let (content, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH_BYTES)?)?;
    if *hash != *Sha256::digest(content) {
        return None;
    }
    let rest = content.strip_prefix(MARK)?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (tokens, state) = rest.split_at_checked((u32::from_le_bytes(*count) as usize).checked_mul(4)?)?;
    let tokens = tokens.as_chunks().0.iter().map(|&token| u32::from_le_bytes(token)).collect();
    Some((tokens, State::from_bytes(state, config)?))
}
