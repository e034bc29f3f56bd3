//! Turns text into World token ids by greedy longest match over its UTF-8 bytes, and ids back into bytes.
//!
//! The vocabulary file has one token a line: `<id> <Python str or bytes literal> <byte length>`. Id 0 ends a document
//! and never comes out of `encode`; a text's bytes are always the concatenation of its tokens' bytes.

use std::path::Path;

use rag_core::{Error, Result};

mod literal;
mod trie;

use trie::Trie;

/// Ends a document; also pads. No text encodes to it.
pub const END_OF_TEXT: u32 = 0;

/// A vocabulary larger than this is not one (the World vocabulary has 1.1 MB).
const VOCABULARY_BYTES_MAX: u64 = 64 << 20;
/// Ids are rows of the embedding table.
const ID_MAX: u32 = 1 << 20;

/// The World vocabulary. Cheap to share (`Arc`); all methods are pure and may run on any thread.
#[derive(Debug)]
pub struct Tokenizer {
    trie: Trie,
    /// Bytes of token `id` are `bytes[starts[id]..starts[id + 1]]`; empty for ids without a token.
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

impl Tokenizer {
    /// Reads a vocabulary file with either line ending; `Error::Model` names the line that is wrong.
    pub fn load(path: &Path) -> Result<Self> {
        let fail = |message: String| Error::Model { path: path.display().to_string(), message };
        let size = fs_err::metadata(path).map_err(|e| fail(e.to_string()))?.len();
        if size > VOCABULARY_BYTES_MAX {
            return Err(fail(format!("{size} bytes are too many for a vocabulary")));
        }
        let text = fs_err::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        Self::parse(&text).map_err(fail)
    }

    /// Parses the text of a vocabulary file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens: Vec<(Vec<u8>, u32)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() {
                continue;
            }
            tokens.push(parse_line(line).map_err(|e| format!("line {}: {e}", index + 1))?);
        }
        tokens.sort();
        if let Some(pair) = tokens.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("tokens {} and {} have the same bytes", pair[0].1, pair[1].1));
        }
        let trie = Trie::new(&tokens);
        if let Some(byte) = (0..=u8::MAX).find(|&byte| trie.longest(&[byte]).is_none()) {
            return Err(format!("no token for the single byte {byte:#04x}"));
        }
        tokens.sort_by_key(|token| token.1);
        if let Some(pair) = tokens.windows(2).find(|pair| pair[0].1 == pair[1].1) {
            return Err(format!("two tokens have the id {}", pair[0].1));
        }
        let mut bytes = Vec::new();
        let mut starts = vec![0];
        for (token, id) in &tokens {
            starts.resize(*id as usize + 1, bytes.len() as u32);
            bytes.extend_from_slice(token);
            starts.push(bytes.len() as u32);
        }
        Ok(Self { trie, bytes, starts })
    }

    /// The ids of a text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        self.walk(text, |id| ids.push(id));
        ids
    }

    /// `encode(text).len()`, without the list.
    pub fn count(&self, text: &str) -> usize {
        let mut count = 0;
        self.walk(text, |_| count += 1);
        count
    }

    /// Every token that `bytes` begin with.
    pub(crate) fn prefixes(&self, bytes: &[u8], found: impl FnMut(u32)) {
        self.trie.prefixes(bytes, found);
    }

    /// How many of a text's tokens stay what they are whatever text follows.
    pub fn fixed_len(&self, text: &str) -> usize {
        let (mut rest, mut count) = (text.as_bytes(), 0);
        while let Some((_, len)) = self.trie.longest(rest) {
            if self.trie.begins_longer(rest) {
                break;
            }
            count += 1;
            rest = &rest[len..];
        }
        count
    }

    /// The bytes of one token; empty for the end of text and for ids without a token. Not always UTF-8.
    pub fn token(&self, id: u32) -> &[u8] {
        let id = id as usize;
        match (self.starts.get(id), self.starts.get(id + 1)) {
            (Some(&start), Some(&end)) => &self.bytes[start as usize..end as usize],
            _ => &[],
        }
    }

    /// The bytes of a sequence, put together.
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|&id| self.token(id)).copied().collect()
    }

    /// One more than the largest id.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Never true: every byte has a token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn walk(&self, text: &str, mut found: impl FnMut(u32)) {
        let mut rest = text.as_bytes();
        // Every single byte is a token, so that each round takes at least one.
        while let Some((id, len)) = self.trie.longest(rest) {
            found(id);
            rest = &rest[len..];
        }
    }
}

fn parse_line(line: &str) -> Result<(Vec<u8>, u32), String> {
    // The literal may hold spaces: the id ends at the first, the length starts at the last.
    let (id, rest) = line.split_once(' ').ok_or("no space after the id")?;
    let (literal, len) = rest.rsplit_once(' ').ok_or("no space before the length")?;
    let id: u32 = id.parse().map_err(|_| format!("'{id}' is not an id"))?;
    if id == END_OF_TEXT || id > ID_MAX {
        return Err(format!("the id {id} is out of range"));
    }
    let bytes = literal::parse(literal)?;
    if bytes.is_empty() || Ok(bytes.len()) != len.parse() {
        return Err(format!("the token has {} bytes and not {len}", bytes.len()));
    }
    Ok((bytes, id))
}

#[cfg(test)]
mod tests;
