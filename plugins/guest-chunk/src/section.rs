//! What is cut, with which models, and what comes out: the contract's types without its bindings.

use crate::Result;

/// What a block is, as far as cutting is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Prose, list items, quotes and the rest.
    Text,
    /// Level from 1.
    Heading(u8),
    /// Markdown rows.
    Table,
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
pub struct Section<'a> {
    pub text: &'a str,
    /// Sorted, not overlapping.
    pub blocks: &'a [Block],
    pub title: Option<&'a str>,
    /// Outermost first.
    pub outline: &'a [Heading],
}

/// A citable piece of the text, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    pub start: usize,
    pub end: usize,
    /// Place in the list of the larger chunk that holds this one.
    pub parent: Option<u32>,
    /// Embedded before the chunk.
    pub context: Option<String>,
}

/// The embedding model of the knowledge base.
pub trait Models {
    /// Tokens that it reads at most in one passage.
    fn token_limit(&self) -> u32;
    /// One count a text, order kept.
    fn count(&self, texts: &[&str]) -> Result<Vec<u32>>;
}

/// What texts mean to the embedding model of the knowledge base.
pub trait Embed {
    /// One vector of unit length a text, as of a passage, order kept.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>>;
}
