//! What is cut, and what comes out: the types that chunkers share.

pub use guest_chunk::{Block, Chunk, Heading, Kind, Section as Document};

/// Counts the tokens of many texts at once, order kept.
pub type Count<'c, E> = &'c mut dyn FnMut(&[&str]) -> Result<Vec<u32>, E>;
