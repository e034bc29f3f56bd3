//! What people may change: parsers, chunkers, vector stores, retrievers, and how a knowledge base binds them.

use std::sync::Arc;

use async_trait::async_trait;

use super::engine::{Embed, Rerank};
use super::host::{Blob, VectorIndex};
use crate::document::{Block, ChunkId, ChunkSpan, ParsedSummary, Section, Vectors};
use crate::error::Result;
use crate::kb::{EncoderChoice, Kb, PluginChoice};
use crate::relevance::RelevanceMin;
use crate::search::{Filter, Hit, Metric, Retrieval, RetrieveRequest, Value};

/// Identity of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PluginInfo {
    pub id: String,
    pub version: String,
    pub description: String,
    /// SHA-256 of the component, lower-case hexadecimal.
    pub digest: String,
}

/// One thing that a plugin asks for: in its manifest, or by importing it where it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginAsk {
    /// Host interface, such as `http`.
    pub interface: String,
    /// Servers (origins, perhaps with a host that begins with `*.`) or names of databases, and no others; empty when it
    /// leaves that to the operator.
    pub only: Vec<String>,
}

impl PluginAsk {
    /// The interface as such.
    pub fn whole(interface: impl Into<String>) -> Self {
        PluginAsk { interface: interface.into(), only: Vec::new() }
    }

    /// Whether a server or database is one of those asked for: what was not asked for is not granted either.
    pub fn covers(&self, name: &str) -> bool {
        let plain = |name: &str| name.trim_end_matches('/').to_ascii_lowercase();
        let name = plain(name);
        let one = |only: &String| {
            let only = plain(only);
            match only.split_once("://*.") {
                None => only == name,
                Some((scheme, domain)) => {
                    let host = name.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
                    only == name || host.is_some_and(|host| host.ends_with(&format!(".{domain}")))
                }
            }
        };
        self.only.is_empty() || self.only.iter().any(one)
    }
}

/// Turns a file into blocks in reading order.
#[async_trait]
pub trait Parse: Send + Sync {
    fn info(&self) -> &PluginInfo;

    /// What decides how a document is read: part of the document's identity.
    fn identity(&self) -> String {
        self.info().digest.clone()
    }

    /// Media types read, e.g. `text/markdown`.
    fn accepts(&self) -> &[String];

    /// Whether documents leave this host to be read: only when it is their turn.
    fn sends_out(&self) -> bool {
        false
    }

    /// Opens a document; each session has an instance of its own. `Unsupported` when the content is not what the
    /// media type says.
    async fn open(&self, blob: Arc<dyn Blob>) -> Result<Box<dyn ParseSession>>;
}

/// One document being parsed.
#[async_trait]
pub trait ParseSession: Send {
    /// Blocks worth about `bytes_max` of text; none at the end of the document.
    async fn next(&mut self, bytes_max: u32) -> Result<Option<Vec<Block>>>;

    /// Title and metadata; complete once `next` has returned none.
    async fn summary(&mut self) -> Result<ParsedSummary>;
}

/// Cuts a section into chunks.
#[async_trait]
pub trait Chunk: Send + Sync {
    fn info(&self) -> &PluginInfo;

    /// Spans sorted by start, on character boundaries, not blank, covering every non-blank byte of the section:
    /// the implementation has checked what the plugin returned.
    async fn split(&self, section: Section) -> Result<Vec<ChunkSpan>>;
}

/// A named set of vectors of one dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorCollection {
    pub name: String,
    pub dim: usize,
    pub metric: Metric,
}

/// Rows to write: `ids`, `texts`, `fields` and the rows of `vectors` have the same length.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreBatch {
    pub ids: Vec<ChunkId>,
    pub vectors: Vectors,
    pub texts: Vec<String>,
    pub fields: Vec<Vec<(String, Value)>>,
}

/// Keeps vectors in some database. Every operation is safe to repeat.
#[async_trait]
pub trait VectorStore: Send + Sync {
    fn info(&self) -> &PluginInfo;

    /// Does nothing when the collection exists with the same shape; `Conflict` when with another.
    async fn create(&self, collection: &VectorCollection) -> Result<()>;

    /// Does nothing when there is no such collection.
    async fn drop_collection(&self, name: &str) -> Result<()>;

    async fn list(&self) -> Result<Vec<VectorCollection>>;

    async fn count(&self, name: &str) -> Result<u64>;

    /// Durable once it returns; at most `limits::STORE_BATCH_MAX` rows.
    async fn upsert(&self, name: &str, batch: StoreBatch) -> Result<()>;

    /// Unknown ids are no error; at most `limits::STORE_BATCH_MAX` ids.
    async fn delete(&self, name: &str, ids: &[ChunkId]) -> Result<()>;

    /// One list of at most `k` hits a query row, best first.
    async fn query(
        &self,
        name: &str,
        queries: &Vectors,
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>>;

    /// Whether the database answers, with its version.
    async fn ping(&self) -> Result<String>;
}

/// Answers a question with ranked chunks and says why.
#[async_trait]
pub trait Retrieve: Send + Sync {
    fn info(&self) -> &PluginInfo;

    async fn retrieve(&self, request: RetrieveRequest) -> Result<Retrieval>;
}

/// The parts that one knowledge base uses, taken together; a request keeps the one that it began with.
pub struct Binding {
    pub kb: Kb,
    /// Tried in order; the first that accepts the media type parses.
    pub parsers: Vec<Arc<dyn Parse>>,
    pub chunker: Arc<dyn Chunk>,
    pub store: Arc<dyn VectorStore>,
    pub retriever: Arc<dyn Retrieve>,
    pub embedder: Arc<dyn Embed>,
    /// Present when the knowledge base reranks.
    pub reranker: Option<Arc<dyn Rerank>>,
    /// For the scores of these models.
    pub relevance_min: RelevanceMin,
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding").field("kb", &self.kb.name).finish_non_exhaustive()
    }
}

/// Puts a knowledge base's parts together from what is installed.
#[async_trait]
pub trait Bindings: Send + Sync {
    /// `NotFound` names a plugin that is not installed.
    async fn bind(&self, kb: &Kb) -> Result<Arc<Binding>>;

    /// The vector store of an index that may not be the one that answers.
    async fn store_of(&self, kb: &Kb, store: &PluginChoice, collection: &str)
    -> Result<Arc<dyn VectorStore>>;

    /// The same choice with the digest that it means today, kept so that this very component is there at every later
    /// start. `NotFound` when no plugin of this kind (`parser`, `chunker`, `vector-store`, `retriever`) is meant.
    async fn pin(&self, kind: &str, choice: &PluginChoice) -> Result<PluginChoice>;

    /// The encoder of that name with the identity that it has today. Errors as `Encoders::encoder`.
    async fn pin_encoder(&self, name: &str) -> Result<EncoderChoice>;

    /// That a reranker of that name can be used. Errors as `Encoders::reranker`.
    async fn check_reranker(&self, name: &str) -> Result<()>;

    /// Checks a component that came as bytes and offers it, now and at every later start; its kind and identity.
    async fn install(&self, component: Vec<u8>) -> Result<(&'static str, PluginInfo)>;

    /// Takes a component out that no knowledge base means. `NotFound` when there is none of this digest.
    async fn remove(&self, digest: &str) -> Result<()>;

    /// Forgets what is bound to an index; false while a request still uses it.
    fn retire(&self, kb: &Kb, collection: &str) -> bool;

    /// Everything installed, by kind (`parser`, `chunker`, `vector-store`, `retriever`, `connector`); of one
    /// id the version that is
    /// offered first comes first.
    fn installed(&self) -> Vec<(&'static str, PluginInfo)>;

    /// The vectors that the host itself keeps for a knowledge base; none where another store does.
    fn vectors_of(&self, kb: &Kb) -> Option<Arc<dyn VectorIndex>> {
        let _ = kb;
        None
    }

    /// What a plugin asks for; empty when there is no such plugin.
    fn asks(&self, plugin: &str) -> Vec<PluginAsk>;

    /// The JSON Schema of the settings of the component with this digest, as its manifest has it; none without one.
    fn settings_schema(&self, digest: &str) -> Option<String> {
        let _ = digest;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ask_covers_what_it_names_and_no_more() {
        let only = |only: &[&str]| PluginAsk {
            interface: "http".to_owned(),
            only: only.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert!(PluginAsk::whole("http").covers("https://anything.example"));
        let ask = only(&["https://api.example.org", "https://*.example.com"]);
        for (name, expected) in [
            ("https://api.example.org/", true),
            ("https://API.example.org", true),
            ("http://api.example.org", false),
            ("https://*.example.org", false),
            ("https://a.b.example.com", true),
            ("https://*.example.com", true),
            ("https://*.a.example.com", true),
            ("https://example.com", false),
            ("https://badexample.com", false),
            ("http://a.example.com", false),
        ] {
            assert_eq!(ask.covers(name), expected, "{name}");
        }
    }
}
