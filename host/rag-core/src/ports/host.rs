//! What the host itself keeps and lends to plugins: originals, its own vectors, search, small state.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::accounts::Rights;
use super::plugin::VectorCollection;
use crate::document::{BlobHash, ChunkId, Vectors};
use crate::error::Result;
use crate::kb::KbName;
use crate::search::{Filter, Hit, Passage, Value};

/// Random access to one original.
#[async_trait]
pub trait Blob: Send + Sync {
    fn size(&self) -> u64;

    /// The document's name, e.g. `manual.md`.
    fn name(&self) -> &str;

    /// Media type as sniffed by the host, e.g. `text/markdown`.
    fn media_type(&self) -> &str;

    /// Up to `len` bytes from `offset`; fewer only at the end.
    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes>;
}

/// Originals by SHA-256.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Opens a writer; nothing is visible before its `finish`.
    async fn create(&self) -> Result<Box<dyn BlobWriter>>;

    /// The original under a hash, under the name and media type of the document that refers to it.
    async fn open(&self, hash: &BlobHash, name: &str, media_type: &str) -> Result<Arc<dyn Blob>>;

    /// Removes an original that no document refers to; does nothing when it is not there.
    async fn remove(&self, hash: &BlobHash) -> Result<()>;
}

/// An original being written. Dropping it before `finish` leaves nothing behind.
#[async_trait]
pub trait BlobWriter: Send {
    /// Refuses with `TooLarge` once the configured limit is passed.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Flushes to disk; returns the hash and size. The same content twice is stored once.
    async fn finish(self: Box<Self>) -> Result<(BlobHash, u64)>;
}

/// Rows read back from the host's own vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredVectors {
    pub ids: Vec<ChunkId>,
    pub vectors: Vectors,
}

/// The vectors that the host itself keeps (`ragkit:host/vector-index`): durable rows and exact search.
#[async_trait]
pub trait VectorIndex: Send + Sync {
    /// Does nothing when it exists with the same shape; `Conflict` when with another.
    async fn create(&self, collection: &VectorCollection) -> Result<()>;
    async fn drop_collection(&self, name: &str) -> Result<()>;
    async fn list(&self) -> Result<Vec<VectorCollection>>;
    async fn count(&self, name: &str) -> Result<u64>;
    async fn upsert(&self, name: &str, rows: StoredVectors, fields: Vec<Vec<(String, Value)>>) -> Result<()>;
    async fn delete(&self, name: &str, ids: &[ChunkId]) -> Result<()>;
    async fn query(
        &self,
        name: &str,
        queries: &Vectors,
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>>;
    /// Up to `limit` rows in id order after `after`.
    async fn scan(&self, name: &str, after: Option<&ChunkId>, limit: u32) -> Result<StoredVectors>;
    /// The rows of `ids` that exist, in the order asked.
    async fn vectors_of(&self, name: &str, ids: &[ChunkId]) -> Result<StoredVectors>;
}

/// Search within one knowledge base (`ragkit:host/search`).
#[async_trait]
pub trait KbSearch: Send + Sync {
    /// The `k` nearest chunks to one query vector, through the bound vector store.
    async fn dense(&self, query: &Vectors, k: u32, filter: Option<&Filter>) -> Result<Vec<Hit>>;

    /// BM25 over the full-text index; higher is better.
    async fn lexical(&self, query: &str, k: u32, filter: Option<&Filter>) -> Result<Vec<Hit>>;

    /// Texts and places of chunks, in the order asked; unknown or uncommitted ids are left out.
    async fn passages(&self, chunks: &[ChunkId]) -> Result<Vec<Passage>>;

    /// The vectors stored for chunks, in the order asked; `Unsupported` when the bound store cannot give them.
    async fn vectors_of(&self, chunks: &[ChunkId]) -> Result<Vectors>;
}

/// Small durable state of one plugin in one knowledge base: keys of 1 KiB, values of 64 KiB, 16 MiB in all.
#[async_trait]
pub trait KeyValue: Send + Sync {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>>;
    async fn set(&self, key: &str, value: Vec<u8>) -> Result<()>;
    /// Whether there was such a key.
    async fn delete(&self, key: &str) -> Result<bool>;
    async fn keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>>;
}

/// What a key may do; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Search and ask.
    Reader,
    /// Also ingest and delete documents.
    Editor,
    /// Also knowledge bases, plugins, models and keys.
    Admin,
}

/// Who asks: the holder of a key, or a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Of the key, or of the user.
    pub key_id: String,
    pub name: String,
    pub rights: Rights,
    pub created_ms: i64,
}

/// API keys, stored only as hashes.
#[async_trait]
pub trait Keys: Send + Sync {
    /// The secret is returned once and never again.
    async fn create(&self, name: &str, role: Role, kbs: Option<&[KbName]>) -> Result<(String, Principal)>;
    /// Constant-time; none for an unknown or revoked key.
    async fn verify(&self, secret: &str) -> Result<Option<Principal>>;
    async fn list(&self) -> Result<Vec<Principal>>;
    /// `NotFound` for an unknown key, `Conflict` for the last administrator's.
    async fn revoke(&self, key_id: &str) -> Result<()>;
}
