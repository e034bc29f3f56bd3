//! What is cut, and what comes out: the contract's types without its bindings.

/// What a block is, as far as cutting is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Prose, list items, quotes and the rest: cut between sentences.
    Text,
    /// Stays with what follows; level from 1.
    Heading(u8),
    /// Markdown rows: cut between rows.
    Table,
    /// Cut between lines.
    Code,
}

/// A block's place in the text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub start: usize,
    pub end: usize,
    pub kind: Kind,
}

/// A heading above the start of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// From 1.
    pub level: u8,
    pub text: String,
}

/// A section of a document.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    pub text: &'a str,
    /// Sorted, not overlapping.
    pub blocks: &'a [Block],
    pub title: Option<&'a str>,
    /// Outermost first.
    pub outline: &'a [Heading],
}

/// A citable piece of the text, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub start: usize,
    pub end: usize,
    /// Embedded before the chunk.
    pub context: Option<String>,
}

/// Counts the tokens of many texts at once, order kept.
pub type Count<'c, E> = &'c mut dyn FnMut(&[&str]) -> Result<Vec<u32>, E>;
