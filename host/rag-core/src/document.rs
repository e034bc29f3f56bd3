//! What a document is on its way from a file to citable chunks.

use std::fmt;

use sha2::{Digest, Sha256};

/// SHA-256 of a file, in lower-case hexadecimal; the key of the blob store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobHash(pub String);

/// A document of one knowledge base. The same name, content and pipeline give the same id, so that a repeated
/// ingest finds its own work.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentId(pub String);

/// A chunk: hash of its document, position and text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId(pub String);

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl DocumentId {
    /// `pipeline` is the fingerprint of everything that decides the index: parser, chunker, embedder, settings.
    pub fn of(kb: &str, name: &str, blob: &BlobHash, pipeline: &str) -> Self {
        DocumentId(short_hash(&[kb.as_bytes(), name.as_bytes(), blob.0.as_bytes(), pipeline.as_bytes()]))
    }
}

impl ChunkId {
    /// `ordinal` counts the chunks of a document from 0.
    pub fn of(document: &DocumentId, ordinal: u32, text: &str) -> Self {
        ChunkId(short_hash(&[document.0.as_bytes(), &ordinal.to_le_bytes(), text.as_bytes()]))
    }
}

/// First 128 bits of SHA-256 over length-prefixed parts, as 32 hexadecimal digits.
fn short_hash(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Half-open range [start, end) of bytes of a document's text; both ends lie on character boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    pub start: u64,
    pub end: u64,
}

/// What a block of a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockKind {
    Title,
    Heading,
    Paragraph,
    ListItem,
    Table,
    Code,
    Quote,
    Caption,
    Footnote,
    Image,
}

/// Rectangle on a page in points, origin at the top left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

/// Where a block stands in the original.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Location {
    /// Page, slide or sheet number, from 1.
    pub page: Option<u32>,
    /// Sheet, chapter file or part name.
    pub part: Option<String>,
    /// Row of a sheet, line of a text, from 1.
    pub row: Option<u32>,
    pub area: Option<Rect>,
    /// Bytes of the original that hold exactly this text once decoded.
    pub source: Option<Span>,
}

/// A piece of a parsed document in reading order. Tables are Markdown with their header row.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    pub kind: BlockKind,
    /// Heading level from 1; 0 for other kinds.
    pub level: u8,
    pub text: String,
    pub location: Location,
}

/// What a parser knows of a document as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParsedSummary {
    pub title: Option<String>,
    pub language: Option<String>,
    pub attributes: Vec<(String, String)>,
}

/// A block's place within a section's text.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSpan {
    /// Relative to the section.
    pub span: Span,
    pub kind: BlockKind,
    pub level: u8,
    pub page: Option<u32>,
}

/// A heading, with its level from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    pub level: u8,
    pub text: String,
}

/// A part of a document's text, cut between blocks, small enough for one call of a chunker.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Block texts joined by blank lines.
    pub text: String,
    /// Sorted and not overlapping.
    pub blocks: Vec<BlockSpan>,
    pub title: Option<String>,
    pub language: Option<String>,
    /// Headings above the start of `text`, outermost first.
    pub outline: Vec<Heading>,
}

/// A chunk as a chunker returns it, checked by the host: in bounds, on character boundaries, sorted, covering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkSpan {
    /// Relative to the section.
    pub span: Span,
    /// Index, in the returned list, of the larger chunk that holds this one.
    pub parent: Option<u32>,
    /// Text put before the chunk for embedding only, such as its heading path.
    pub context: Option<String>,
}

/// A chunk as the catalogue keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    pub id: ChunkId,
    pub ordinal: u32,
    pub text: String,
    /// Where `text` stands in the document's text.
    pub span: Span,
    pub parent: Option<ChunkId>,
    pub context: Option<String>,
    /// Heading path at the chunk's start, joined by ` › `.
    pub heading: Option<String>,
    pub page: Option<u32>,
    /// Bytes of the original for the chunk's first block, where known.
    pub source: Option<Span>,
}

/// Row-major vectors: `data.len()` is `dim` times the number of rows; every value is finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    pub dim: usize,
    pub data: Vec<f32>,
}

impl Vectors {
    /// Number of vectors.
    pub fn rows(&self) -> usize {
        self.data.len().checked_div(self.dim).unwrap_or(0)
    }

    /// The vectors, one slice each.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact(self.dim.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_every_part_and_on_its_border() {
        let blob = BlobHash("ab".into());
        let id = DocumentId::of("kb", "name", &blob, "p1");
        assert_eq!(id, DocumentId::of("kb", "name", &blob, "p1"));
        assert_ne!(id, DocumentId::of("kbn", "ame", &blob, "p1"));
        assert_ne!(id, DocumentId::of("kb", "name", &blob, "p2"));
        assert_ne!(ChunkId::of(&id, 0, "text"), ChunkId::of(&id, 1, "text"));
        assert_eq!(id.0.len(), 32);
    }
}
