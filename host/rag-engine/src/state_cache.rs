//! Remembers states of token prefixes, so that a prompt that begins like an earlier one costs only its new tokens.
//!
//! A cache belongs to one model in memory. Entries are found by a hash over the prefix and compared token by token;
//! the least recently used ones make room.

use std::collections::HashMap;

use crate::rwkv::State;

/// States by prefix, within a budget of bytes.
#[derive(Debug)]
pub(crate) struct StateCache {
    entries: HashMap<u64, Entry>,
    bytes_max: usize,
    bytes: usize,
    /// Counts uses, for the order of eviction.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    tokens: Box<[u32]>,
    state: State,
    used: u64,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.state.bytes() + size_of_val(&*self.tokens)
    }
}

impl StateCache {
    /// A budget of 0 keeps nothing.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { entries: HashMap::new(), bytes_max, bytes: 0, clock: 0 }
    }

    /// The state after the longest known prefix of `tokens`, and its length.
    pub(crate) fn longest(&mut self, tokens: &[u32]) -> Option<(usize, &State)> {
        let mut found = None;
        let mut hash = HASH_START;
        for (index, &token) in tokens.iter().enumerate() {
            hash = hash_with(hash, token);
            let prefix = &tokens[..=index];
            if self.entries.get(&hash).is_some_and(|entry| *entry.tokens == *prefix) {
                found = Some((hash, prefix.len()));
            }
        }
        let (hash, len) = found?;
        self.clock += 1;
        let entry = self.entries.get_mut(&hash)?;
        entry.used = self.clock;
        Some((len, &entry.state))
    }

    /// Keeps a copy of the state after `tokens`.
    pub(crate) fn insert(&mut self, tokens: &[u32], state: &State) {
        let hash = tokens.iter().fold(HASH_START, |hash, &token| hash_with(hash, token));
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(&hash)
            && *entry.tokens == *tokens
        {
            entry.used = self.clock;
            return;
        }
        let entry = Entry { tokens: tokens.into(), state: state.clone(), used: self.clock };
        let bytes = entry.bytes();
        if bytes > self.bytes_max {
            return;
        }
        self.remove(hash);
        while self.bytes + bytes > self.bytes_max {
            // A few hundred entries at most: a search costs less than the copy above.
            let Some(oldest) = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(&hash, _)| hash)
            else {
                break;
            };
            self.remove(oldest);
        }
        self.bytes += bytes;
        self.entries.insert(hash, entry);
    }

    fn remove(&mut self, hash: u64) {
        if let Some(entry) = self.entries.remove(&hash) {
            self.bytes -= entry.bytes();
        }
    }
}

const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a over a token's bytes, taken as one step and mixed.
fn hash_with(hash: u64, token: u32) -> u64 {
    let mixed = (hash ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rwkv::{Config, Version};

    fn config() -> Config {
        Config {
            vocabulary: 10,
            width: 4,
            layers: 1,
            heads: 2,
            head_size: 2,
            hidden: 4,
            version: Version::V6 { mix_rank: 1, decay_rank: 1 },
        }
    }

    fn state() -> State {
        State::zero(&config())
    }

    fn found(cache: &mut StateCache, tokens: &[u32]) -> usize {
        cache.longest(tokens).map_or(0, |(len, _)| len)
    }

    #[test]
    fn the_longest_prefix_is_found() {
        let mut cache = StateCache::new(10_000);
        cache.insert(&[1, 2], &state());
        cache.insert(&[1, 2, 3, 4], &state());
        for (tokens, len) in [
            (&[1, 2, 3, 4, 5][..], 4),
            (&[1, 2, 3, 4], 4),
            (&[1, 2, 3], 2),
            (&[1, 2, 9, 4], 2),
            (&[1], 0),
            (&[2, 1], 0),
            (&[], 0),
        ] {
            assert_eq!(found(&mut cache, tokens), len, "{tokens:?}");
        }
    }

    #[test]
    fn the_budget_holds_and_the_least_used_goes() {
        let one = state().bytes() + 4;
        let mut cache = StateCache::new(one * 3);
        for token in 1..=3 {
            cache.insert(&[token], &state());
        }
        assert_eq!(found(&mut cache, &[1]), 1);
        cache.insert(&[4], &state());
        assert_eq!([1, 2, 3, 4].map(|token| found(&mut cache, &[token])), [1, 0, 1, 1]);
        assert!(cache.bytes <= cache.bytes_max);
        // The same prefix again takes no more room.
        let bytes = cache.bytes;
        cache.insert(&[4], &state());
        assert_eq!(cache.bytes, bytes);

        let mut none = StateCache::new(0);
        none.insert(&[1], &state());
        assert_eq!(found(&mut none, &[1]), 0);
    }
}
