//! What a search asks and what it finds: filters, hits, passages, traces.

use crate::document::{ChunkId, DocumentId, Span};

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Integer(i64),
    Number(f64),
    Boolean(bool),
}

/// How a field is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// One node of a filter; children are indices of earlier nodes, so a filter cannot be cyclic.
#[derive(Debug, Clone, PartialEq)]
pub enum FilterNode {
    AllOf(Vec<u32>),
    AnyOf(Vec<u32>),
    NoneOf(Vec<u32>),
    Compare { field: String, op: CompareOp, value: Value },
    OneOf { field: String, values: Vec<Value> },
    Exists { field: String },
}

/// A filter as an arena: the last node is the root (`ragkit:types` has the same shape).
///
/// Fields that the host fills for every chunk: `document` (id), `name` (the document's name), `page`, `ordinal`.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    pub nodes: Vec<FilterNode>,
}

/// How two vectors are compared; higher scores are nearer for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    Cosine,
    Dot,
    /// The score is the negated distance.
    Euclidean,
}

/// One result of a search. Scores of different arms are not comparable with each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub chunk: ChunkId,
    pub score: f32,
}

/// A chunk with all that a citation needs; only chunks of committed documents ever become one.
#[derive(Debug, Clone, PartialEq)]
pub struct Passage {
    pub chunk: ChunkId,
    pub document: DocumentId,
    /// The document's name, e.g. its path within the ingested folder.
    pub document_name: String,
    pub text: String,
    pub span: Span,
    pub parent: Option<ChunkId>,
    pub heading: Option<String>,
    pub page: Option<u32>,
    /// Bytes of the original for the chunk's first block, where known.
    pub source: Option<Span>,
}

/// An earlier round of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    pub question: String,
    pub answer: String,
}

/// What a retriever is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrieveRequest {
    pub question: String,
    /// Oldest first, at most `limits::HISTORY_ROUNDS`.
    pub history: Vec<Turn>,
    /// Hits wanted, 1 to `limits::SEARCH_K_MAX`.
    pub k: u32,
    pub filter: Option<Filter>,
}

/// What one arm of the strategy thought of a chunk, e.g. `dense`, `lexical`, `rerank`. Ranks count from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    pub arm: String,
    pub rank: u32,
    pub score: f32,
}

/// A chunk with its final score and the evidence for it.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedChunk {
    pub chunk: ChunkId,
    pub score: f32,
    pub evidence: Vec<Evidence>,
}

/// One step of a strategy, for the trace that people read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceStep {
    pub name: String,
    pub detail: String,
    pub millis: u32,
}

/// What a retriever found: best first, at most `k`, no chunk twice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Retrieval {
    pub hits: Vec<RankedChunk>,
    pub steps: Vec<TraceStep>,
    /// The question that was searched for, when not the one asked.
    pub rewritten: Option<String>,
}
