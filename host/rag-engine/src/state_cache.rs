//! Remembers states of token prefixes, so that a prompt that begins like an earlier one costs only its new tokens.
//!
//! An entry belongs to a *scope*: one model under one adapter, from one initial state, for one tenant. Within it entries
//! are found by a hash over the prefix and compared token by token. The least recently used ones make room; where a
//! folder is given they go there, and come back when they are asked for.

mod disk;

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::rwkv::{Config, State};
pub(crate) use disk::Disk;
pub use disk::DiskCache;

/// What a state depends on beside the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Scope([u8; 16]);

impl Scope {
    /// Of the hashes of model, adapter and initial state, and a tenant's name. Parts are told apart by their lengths.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut scope = [0; 16];
        scope.copy_from_slice(&hash.finalize()[..16]);
        Self(scope)
    }
}

/// A prefix: its scope, and the hash of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    scope: Scope,
    hash: u64,
}

/// States by prefix, within a budget of bytes.
#[derive(Debug)]
pub(crate) struct StateCache {
    entries: HashMap<Key, Entry>,
    bytes_max: usize,
    bytes: usize,
    /// Counts uses, for the order of eviction.
    clock: u64,
    disk: Option<Disk>,
}

#[derive(Debug, Clone)]
struct Entry {
    tokens: Arc<[u32]>,
    state: Arc<State>,
    used: u64,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.state.bytes() + size_of_val(&*self.tokens)
    }
}

impl StateCache {
    /// A budget of 0 keeps nothing in memory.
    pub(crate) fn new(bytes_max: usize, disk: Option<Disk>) -> Self {
        Self { entries: HashMap::new(), bytes_max, bytes: 0, clock: 0, disk }
    }

    /// The state after the longest known prefix of `tokens`, and the prefix's length. `config` is that of the model.
    pub(crate) fn find(
        &mut self,
        scope: Scope,
        tokens: &[u32],
        config: &Config,
    ) -> Option<(Arc<State>, usize)> {
        let mut hash = HASH_START;
        let (mut in_memory, mut on_disk) = (None, Vec::new());
        for (index, &token) in tokens.iter().enumerate() {
            hash = hash_with(hash, token);
            let (key, prefix) = (Key { scope, hash }, &tokens[..=index]);
            if self.entries.get(&key).is_some_and(|entry| *entry.tokens == *prefix) {
                in_memory = Some((key, prefix.len()));
            } else if self.disk.as_ref().is_some_and(|disk| disk.contains(key)) {
                on_disk.push((key, prefix.len()));
            }
        }
        let known = in_memory.map_or(0, |(_, len)| len);
        // The longest first; a file may turn out to be damaged.
        for (key, len) in on_disk.into_iter().rev().take_while(|&(_, len)| len > known) {
            let found = self.disk.as_mut().and_then(|disk| disk.read(key, &tokens[..len], config));
            if let Some(found) = found {
                let found = Arc::new(found);
                self.keep(key, &tokens[..len], found.clone());
                return Some((found, len));
            }
        }
        let (key, len) = in_memory?;
        self.clock += 1;
        let entry = self.entries.get_mut(&key)?;
        entry.used = self.clock;
        Some((entry.state.clone(), len))
    }

    /// Whether anything is kept at all.
    pub(crate) fn keeps(&self) -> bool {
        self.bytes_max > 0 || self.disk.is_some()
    }

    /// Whether the state after `tokens` is in memory; it counts as used then.
    pub(crate) fn knows(&mut self, scope: Scope, tokens: &[u32]) -> bool {
        self.clock += 1;
        let entry = self.entries.get_mut(&key_of(scope, tokens)).filter(|entry| *entry.tokens == *tokens);
        entry.map(|entry| entry.used = self.clock).is_some()
    }

    /// Keeps the state after `tokens`.
    pub(crate) fn insert(&mut self, scope: Scope, tokens: &[u32], state: Arc<State>) {
        if !self.knows(scope, tokens) {
            self.keep(key_of(scope, tokens), tokens, state);
        }
    }

    /// `insert`, and writes it to the folder at once where there is one.
    pub(crate) fn insert_lasting(&mut self, scope: Scope, tokens: &[u32], state: Arc<State>) {
        self.insert(scope, tokens, state.clone());
        if let Some(disk) = &mut self.disk {
            disk.write(key_of(scope, tokens), tokens.into(), state);
        }
    }

    fn keep(&mut self, key: Key, tokens: &[u32], state: Arc<State>) {
        self.clock += 1;
        let entry = Entry { tokens: tokens.into(), state, used: self.clock };
        let bytes = entry.bytes();
        if bytes > self.bytes_max {
            if let Some(disk) = &mut self.disk {
                disk.write(key, entry.tokens, entry.state);
            }
            return;
        }
        self.remove(key);
        while self.bytes + bytes > self.bytes_max {
            // A few hundred entries at most: a search costs less than the copy before.
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(&key, _)| key);
            let Some(oldest) = oldest else { break };
            if let (Some(entry), Some(disk)) = (self.remove(oldest), &mut self.disk) {
                disk.write(oldest, entry.tokens, entry.state);
            }
        }
        self.bytes += bytes;
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: Key) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.bytes -= entry.bytes();
        Some(entry)
    }
}

const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a over a token's bytes, taken as one step and mixed.
fn hash_with(hash: u64, token: u32) -> u64 {
    let mixed = (hash ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

fn key_of(scope: Scope, tokens: &[u32]) -> Key {
    Key { scope, hash: tokens.iter().fold(HASH_START, |hash, &token| hash_with(hash, token)) }
}

#[cfg(test)]
mod tests;
