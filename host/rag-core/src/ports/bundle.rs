//! A knowledge base as one file: what stands in it, one part after the other, and who writes and reads it.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

use super::catalog::Origin;
use crate::document::{BlobHash, Chunk};
use crate::error::{Error, Result};
use crate::kb::{KbName, KbSettings};

/// What stands before the documents.
#[derive(Debug, Clone, PartialEq)]
pub struct BundleHead {
    pub kb: KbName,
    /// With the plugins that it binds, each by its digest.
    pub settings: KbSettings,
    /// Whose vectors are in the file; none while the knowledge base is empty.
    pub embedder: Option<String>,
    pub documents: u64,
    pub created_ms: i64,
}

/// A document before its text.
#[derive(Debug, Clone, PartialEq)]
pub struct BundleDocument {
    pub name: String,
    pub media_type: String,
    pub blob: BlobHash,
    pub size: u64,
    /// What parsed, cut and embedded it, without the index that it was in; see `DocumentId::of`.
    pub pipeline: String,
    pub title: Option<String>,
    pub language: Option<String>,
    pub attributes: Vec<(String, String)>,
    pub metadata: Vec<(String, String)>,
    pub origin: Origin,
    pub disabled: bool,
}

/// A chunk with its vector.
#[derive(Debug, Clone, PartialEq)]
pub struct BundleChunk {
    /// Ids and parents are those of the knowledge base that was written.
    pub chunk: Chunk,
    pub disabled: bool,
    /// Its text is no longer that of the document.
    pub edited: bool,
    /// None when it is disabled, or its vector store does not give vectors back.
    pub vector: Option<Vec<f32>>,
}

/// One part; they stand in this order, the last three once a document.
#[derive(Debug, Clone, PartialEq)]
pub enum BundlePart {
    Head(Box<BundleHead>),
    /// An original that did not stand there yet begins; pieces of it follow.
    Original(BlobHash),
    Piece(Bytes),
    Document(Box<BundleDocument>),
    /// The next bytes of the document's text, and the chunks within.
    Section {
        text: String,
        chunks: Vec<BundleChunk>,
    },
}

/// A file being written, as it goes out.
pub type BundleBytes = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// Writes a file part by part. Dropped before `finish`, the file ends in an error.
#[async_trait]
pub trait BundleWriter: Send + Sync {
    /// `Cancelled` once nobody reads the file any more.
    async fn put(&mut self, part: BundlePart) -> Result<()>;
    async fn finish(self: Box<Self>) -> Result<()>;
    /// Ends the file with this error.
    async fn fail(self: Box<Self>, error: Error);
}

/// A file on its way in. Dropping it leaves nothing behind.
#[async_trait]
pub trait BundleUpload: Send {
    /// `TooLarge` beyond the configured size.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;
    /// Checks every hash and name in the file before any part is given out. `InvalidInput` for one that is truncated,
    /// changed, or none of ours; `Unsupported` for one of a newer program.
    async fn open(self: Box<Self>) -> Result<Box<dyn BundleReader>>;
}

/// The parts of a file that was checked.
#[async_trait]
pub trait BundleReader: Send {
    /// None at the end.
    async fn next(&mut self) -> Result<Option<BundlePart>>;
}

/// Files of whole knowledge bases.
pub trait Bundles: Send + Sync {
    /// A writer, and what it writes.
    fn write(&self) -> (Box<dyn BundleWriter>, BundleBytes);
    fn upload(&self) -> Result<Box<dyn BundleUpload>>;
}

/// Where there are none.
#[derive(Debug, Clone, Copy)]
pub struct NoBundles;

impl Bundles for NoBundles {
    fn write(&self) -> (Box<dyn BundleWriter>, BundleBytes) {
        (Box::new(NoBundles), Box::pin(Nothing))
    }

    fn upload(&self) -> Result<Box<dyn BundleUpload>> {
        Err(unsupported())
    }
}

#[async_trait]
impl BundleWriter for NoBundles {
    async fn put(&mut self, _: BundlePart) -> Result<()> {
        Err(unsupported())
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Err(unsupported())
    }

    async fn fail(self: Box<Self>, _: Error) {}
}

struct Nothing;

impl Stream for Nothing {
    type Item = Result<Bytes>;

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(None)
    }
}

fn unsupported() -> Error {
    Error::Unsupported { message: "knowledge bases are neither exported nor imported here".to_owned() }
}
