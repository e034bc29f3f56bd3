//! Remembers token vectors of passages, the least recently used forgotten first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::token_vectors::TokenVectors;

/// SHA-256 of a text.
pub(super) type TextHash = [u8; 32];

/// A bounded number of bytes of token vectors.
#[derive(Debug)]
pub(super) struct PassageCache {
    bytes_max: usize,
    bytes: usize,
    /// Counts uses; the larger, the more recent.
    clock: u64,
    entries: HashMap<TextHash, (u64, Arc<TokenVectors>)>,
    /// Texts by their last use.
    uses: BTreeMap<u64, TextHash>,
}

/// What an entry costs beside its vectors.
const ENTRY_BYTES: usize = 256;

pub(super) fn hash(text: &str) -> TextHash {
    Sha256::digest(text.as_bytes()).into()
}

impl PassageCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        PassageCache { bytes_max, bytes: 0, clock: 0, entries: HashMap::new(), uses: BTreeMap::new() }
    }

    pub(super) fn get(&mut self, text: &TextHash) -> Option<Arc<TokenVectors>> {
        let (used, vectors) = self.entries.get_mut(text)?;
        self.uses.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.uses.insert(self.clock, *text);
        Some(Arc::clone(vectors))
    }

    /// Keeps the vectors, unless they alone are larger than the cache.
    pub(super) fn insert(&mut self, text: TextHash, vectors: Arc<TokenVectors>) {
        let bytes = vectors.bytes() + ENTRY_BYTES;
        if bytes > self.bytes_max || self.entries.contains_key(&text) {
            return;
        }
        while self.bytes + bytes > self.bytes_max {
            let Some((_, oldest)) = self.uses.pop_first() else { break };
            if let Some((_, vectors)) = self.entries.remove(&oldest) {
                self.bytes -= vectors.bytes() + ENTRY_BYTES;
            }
        }
        self.clock += 1;
        self.bytes += bytes;
        self.uses.insert(self.clock, text);
        self.entries.insert(text, (self.clock, vectors));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_least_recently_used_and_never_outgrows_its_bound() {
        let vectors = Arc::new(TokenVectors::of(&[1.0; 64 * 10], 64));
        let each = vectors.bytes() + ENTRY_BYTES;
        let mut cache = PassageCache::new(each * 2);
        let [a, b, c] = ["甲", "乙", "丙"].map(hash);
        cache.insert(a, Arc::clone(&vectors));
        cache.insert(b, Arc::clone(&vectors));
        assert!(cache.get(&a).is_some());
        cache.insert(c, Arc::clone(&vectors));
        assert!(cache.get(&b).is_none() && cache.get(&a).is_some() && cache.get(&c).is_some());
        assert_eq!((cache.bytes, cache.uses.len(), cache.entries.len()), (each * 2, 2, 2));

        let large = Arc::new(TokenVectors::of(&[1.0; 64 * 100], 64));
        cache.insert(b, large);
        assert!(cache.get(&b).is_none() && cache.get(&a).is_some());
    }
}
