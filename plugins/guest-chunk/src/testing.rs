//! What chunkers are tested with natively: a model that counts characters, and whether chunks cover a text.

use crate::{Chunk, Models, Result};

/// One token a character, 510 at most.
#[derive(Debug, Clone, Copy)]
pub struct Characters;

impl Models for Characters {
    fn token_limit(&self) -> u32 {
        510
    }
    fn count(&self, texts: &[&str]) -> Result<Vec<u32>> {
        Ok(texts.iter().map(|text| text.chars().count() as u32).collect())
    }
}

/// The first byte of `text` that is not white space and lies in no chunk.
pub fn uncovered(text: &str, chunks: &[Chunk]) -> Option<usize> {
    let within = |at: usize| chunks.iter().any(|chunk| chunk.start <= at && at < chunk.end);
    text.char_indices().find(|(at, c)| !c.is_whitespace() && !within(*at)).map(|(at, _)| at)
}
