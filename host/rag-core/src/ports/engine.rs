//! The models: embedding, reranking, generation.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::Stream;

use crate::document::Vectors;
use crate::error::Result;

/// Models of the e5 family embed questions and passages differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    Query,
    Passage,
}

/// An embedding model.
#[async_trait]
pub trait Embed: Send + Sync {
    /// Name and weights' hash in one word; a changed identity means that old vectors cannot be compared.
    fn identity(&self) -> &str;

    /// Dimension of the vectors.
    fn dim(&self) -> usize;

    /// Tokens that are read of one passage at most, without special tokens; longer texts are embedded in windows.
    fn tokens_max(&self) -> usize;

    /// Tokens of each text, without special tokens. Pure and fast: may be called on any thread.
    fn count_tokens(&self, texts: &[String]) -> Vec<u32>;

    /// One row of unit length a text, order kept.
    async fn embed(&self, texts: Vec<String>, purpose: Purpose) -> Result<Vectors>;
}

/// A reranker.
#[async_trait]
pub trait Rerank: Send + Sync {
    /// Name, as shown in the trace.
    fn identity(&self) -> &str;

    /// One score a passage, higher is better, order kept.
    async fn rerank(&self, query: &str, passages: &[String]) -> Result<Vec<f32>>;
}

/// The encoders and rerankers that knowledge bases may choose, each in memory once.
#[async_trait]
pub trait Encoders: Send + Sync {
    /// An online encoder of the registry, none the one for all. `NotFound`, `Conflict` or `Unavailable` say what to do.
    async fn encoder(&self, name: Option<&str>) -> Result<Arc<dyn Embed>>;

    /// An online encoder of this identity, whatever its name is; none when there is none.
    async fn of_identity(&self, identity: &str) -> Result<Option<Arc<dyn Embed>>>;

    /// An online reranker of the registry, or an online encoder that reranks with its token vectors; none the one for
    /// all. Errors as `encoder`.
    async fn reranker(&self, name: Option<&str>) -> Result<Arc<dyn Rerank>>;
}

/// Sampling settings; the order of application is upstream's (`rwkv` on PyPI).
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    pub top_p: f32,
    /// 0 keeps all.
    pub top_k: u32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub penalty_decay: f32,
    /// The same seed, prompt and settings give the same tokens; none draws a fresh one.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 1.0,
            top_p: 0.3,
            top_k: 0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_decay: 0.996,
            seed: None,
        }
    }
}

/// What a language model is asked to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    pub prompt: String,
    pub sampling: Sampling,
    pub tokens_max: u32,
    /// Generation ends before the first of these; matched on decoded bytes.
    pub stop: Vec<String>,
    /// On whose behalf: a user or key, or `kb:NAME` for a plugin's own questions; empty is the program itself. What
    /// is kept of one tenant's prompts never serves, nor by its speed betrays itself to, another's.
    pub tenant: String,
    /// None: the answer may be anything.
    pub bounds: Option<Bounds>,
    /// None: what was chosen for every answer.
    pub variant: Option<Variant>,
}

/// What an answer begins from and is written under, by the names of registered models: with neither, the language model
/// as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Variant {
    pub state: Option<String>,
    pub adapter: Option<String>,
}

/// What an answer may consist of. Holds a small model to what it was trained for: showing where the answer stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The answer is a contiguous part of one of these, beginning and ending with whole words …
    pub parts_of: Vec<String>,
    /// … or all of one of these.
    pub or_whole: Vec<String>,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop string or the end-of-text token.
    Stop,
    /// `tokens_max` was reached.
    Length,
}

/// Tokens read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: u32,
    pub output_tokens: u32,
}

/// What arrives while a model writes.
#[derive(Debug, Clone, PartialEq)]
pub enum GenerationEvent {
    /// Complete UTF-8; never part of a stop string.
    Text(String),
    /// The last event.
    Done { reason: FinishReason, usage: Usage },
}

/// Dropping the stream frees the model's slot before its next token.
pub type GenerationStream = Pin<Box<dyn Stream<Item = Result<GenerationEvent>> + Send>>;

/// A language model.
#[async_trait]
pub trait Generate: Send + Sync {
    /// Name, as shown to people; another one once the model in use was switched.
    fn identity(&self) -> String;

    /// Whether this is the small model that only demonstrates; the answer box says so.
    fn demonstration(&self) -> bool;

    /// Tokens of a text, for budgets.
    fn count_tokens(&self, text: &str) -> u32;

    /// Queues the request; `Error::Busy` when the queue is full.
    async fn generate(&self, request: GenerateRequest) -> Result<GenerationStream>;
}
