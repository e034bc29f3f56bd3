//! What people change about documents once they are in: edited, disabled and tagged, in step with words and vectors.
//!
//! A disabled document or chunk is out of every search at once: its words go in the same transaction and its vectors
//! become garbage. Enabling embeds it again (`crate::curate`), because a vector store cannot hide rows.

use async_trait::async_trait;

use super::catalog::{DocumentInfo, JobId, Stored};
use crate::document::{Chunk, ChunkId, DocumentId};
use crate::error::Result;
use crate::kb::KbName;
use crate::search::Filter;

/// Which documents to list, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentQuery {
    /// Part of a name or title; ASCII case is ignored.
    pub words: Option<String>,
    pub disabled: Option<bool>,
    /// Only those whose original another document of the knowledge base has too.
    pub duplicates: bool,
    /// A pair of key and value among attributes or metadata.
    pub tagged: Option<(String, String)>,
    /// Names after this one.
    pub after: Option<String>,
    pub limit: u32,
}

/// Changes to what is kept of documents. Implemented by `rag-store`; every method is one transaction.
#[async_trait]
pub trait Curation: Send + Sync {
    async fn find_documents(&self, kb: &KbName, query: &DocumentQuery) -> Result<Vec<DocumentInfo>>;
    /// Doing it twice is no error.
    async fn disable_document(&self, id: &DocumentId) -> Result<()>;
    /// One chunk of a ready document, disabled or not. `NotFound` when it is not of this knowledge base.
    async fn chunk(&self, kb: &KbName, id: &ChunkId) -> Result<Stored>;
    async fn disable_chunk(&self, id: &ChunkId) -> Result<()>;
    /// Says that vectors for these chunks are about to be written, so that nothing drops them as garbage.
    /// `Unavailable` while just that happens.
    async fn keep_vectors(&self, chunks: &[ChunkId]) -> Result<()>;
    /// Makes a document searchable again, but for chunks disabled one by one; ends the job.
    async fn enable_document(&self, id: &DocumentId, job: &JobId) -> Result<()>;
    /// The document's state stays as it is.
    async fn enable_chunk(&self, id: &ChunkId) -> Result<()>;
    /// Puts `new`, whose vector is stored, in the place of `old`, whose vector becomes garbage.
    async fn replace_chunk(&self, old: &ChunkId, new: &Chunk) -> Result<()>;
    /// Replaces what people noted about a document: pairs of key and value, found by filters.
    async fn set_metadata(&self, id: &DocumentId, metadata: &[(String, String)]) -> Result<()>;
    /// Rewrites conditions on attributes and metadata into lists of documents, which every vector store can filter by.
    /// of one index. `TooLarge` when a condition holds for more documents than a filter may list.
    async fn resolve_filter(&self, kb: &KbName, collection: &str, filter: &Filter) -> Result<Filter>;
}
