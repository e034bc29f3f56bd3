//! The generations of a knowledge base: which plugins it bound, one set after the other, and the index of each.
//!
//! Exactly one generation is live. A new one is staged beside it, gets its index when it needs another one, and is
//! published in one transaction; the one before stays with its index, so that the way back is one transaction too.

use async_trait::async_trait;

use super::catalog::{DocumentInfo, JobId};
use crate::document::BlobHash;
use crate::error::Result;
use crate::kb::{Embedded, Kb, KbName, KbParts, PluginChoice};

/// Where a generation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GenerationState {
    /// Its index is being filled.
    Building,
    /// Tried and complete: it waits to be published.
    Ready,
    /// It answers.
    Live,
    /// It answered before.
    Retired,
    /// It answered and was taken back.
    RolledBack,
    /// It could not be made; see the reason.
    Failed,
    /// Somebody gave it up before it answered.
    Abandoned,
}

/// A passage as one generation found it.
#[derive(Debug, Clone, PartialEq)]
pub struct SwapHit {
    pub document: String,
    /// The beginning of its text.
    pub text: String,
    pub score: f32,
}

/// What two generations found for one question.
#[derive(Debug, Clone, PartialEq)]
pub struct SwapQuestion {
    pub question: String,
    /// Best first, by the live generation and by the new one.
    pub before: Vec<SwapHit>,
    pub after: Vec<SwapHit>,
    /// How many of the passages before are among those after: the same place of the same document.
    pub kept: u32,
    /// Why the new one has none.
    pub error: Option<String>,
}

/// How a new generation compares with the live one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SwapReport {
    /// Recent questions of the knowledge base, asked of both.
    pub questions: Vec<SwapQuestion>,
    /// Those whose best passage is another one.
    pub changed: u32,
    /// Milliseconds of one retrieval on average.
    pub millis_before: f64,
    pub millis_after: f64,
    /// Chunks in the index before and after.
    pub chunks_before: u64,
    pub chunks_after: u64,
    /// Chunks that people edited or disabled, which a new index cuts anew.
    pub edits_lost: u64,
}

/// One generation. Times are milliseconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    pub kb: KbName,
    /// From 1, in the order of staging.
    pub number: u64,
    /// The one that was live when this was staged; none for the first.
    pub parent: Option<u64>,
    pub state: GenerationState,
    pub parts: KbParts,
    /// Its index.
    pub collection: String,
    /// What the index holds; see `Kb::embedder`.
    pub embedder: Option<Embedded>,
    /// Whether it is published as soon as it is ready.
    pub publish: bool,
    /// Fills its index.
    pub job: Option<JobId>,
    pub report: Option<SwapReport>,
    /// Why it failed, was given up or taken back; of one that takes another back, which.
    pub reason: Option<String>,
    pub created_ms: i64,
    pub published_ms: Option<i64>,
    /// Until then a failing plugin takes it back.
    pub probation_until_ms: Option<i64>,
    pub ended_ms: Option<i64>,
}

/// A generation to be staged.
#[derive(Debug, Clone, PartialEq)]
pub struct NewGeneration {
    /// The generation that must be live.
    pub parent: u64,
    pub parts: KbParts,
    /// Whether its index is another one than the live one's.
    pub new_index: bool,
    pub publish: bool,
}

/// An index that no generation needs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedIndex {
    pub collection: String,
    /// Where its vectors are.
    pub store: PluginChoice,
}

/// Keeps generations. Implemented by `rag-store`; every method is one transaction.
#[async_trait]
pub trait Generations: Send + Sync {
    /// Newest first.
    async fn generations(&self, kb: &KbName, limit: u32) -> Result<Vec<Generation>>;
    async fn generation(&self, kb: &KbName, number: u64) -> Result<Generation>;
    /// `Conflict` when another generation is live than `parent`, or one is staged already.
    async fn stage_generation(&self, kb: &KbName, new: &NewGeneration) -> Result<Generation>;
    /// Says which job fills its index.
    async fn assign_generation(&self, kb: &KbName, number: u64, job: &JobId) -> Result<Generation>;
    /// It waits to be published. `Conflict` when it is no longer being built.
    async fn ready_generation(&self, kb: &KbName, number: u64, report: &SwapReport) -> Result<Generation>;
    /// Makes a ready generation the live one, and its index the one that answers. One whose index lacks a live document
    /// (see `index_gaps`) is being built again instead, to be published then. `Conflict` when another one became live
    /// meanwhile, or it is not ready.
    async fn publish_generation(&self, kb: &KbName, number: u64, probation_ms: u64) -> Result<Generation>;
    /// Gives a generation up that is not live; doing it twice is no error.
    async fn end_generation(
        &self,
        kb: &KbName,
        number: u64,
        state: GenerationState,
        reason: &str,
    ) -> Result<Generation>;
    /// Publishes the parts and the index of the generation before `live` anew, and queues what that index lacks.
    /// `Conflict` when `live` is not live or has none before it. With `probation_only` also when its time of trial
    /// is over.
    async fn roll_back(
        &self,
        kb: &KbName,
        live: u64,
        reason: &str,
        probation_only: bool,
    ) -> Result<Generation>;
    /// Live documents that an index lacks, by name, at most `limit`; and how many there are.
    async fn index_gaps(&self, kb: &KbName, collection: &str, limit: u32)
    -> Result<(Vec<DocumentInfo>, u64)>;
    /// Removes from an index that does not answer what is no longer a live document. Returns originals that nothing
    /// refers to any more.
    async fn trim_index(&self, kb: &KbName, collection: &str) -> Result<Vec<BlobHash>>;
    /// Documents and chunks of an index, and chunks that people edited or disabled in it.
    async fn index_counts(&self, kb: &KbName, collection: &str) -> Result<(u64, u64, u64)>;
    /// Indexes that neither answer, nor did just before, nor are staged.
    async fn unused_indexes(&self, kb: &KbName) -> Result<Vec<UnusedIndex>>;
    /// Removes some of an index that does not answer from the catalogue; whether there is more to remove.
    async fn drop_index(&self, kb: &KbName, collection: &str) -> Result<bool>;
    /// Every index of a knowledge base, with the plugin that keeps its vectors.
    async fn indexes(&self, kb: &KbName) -> Result<Vec<UnusedIndex>>;
    /// What people asked lately, then questions of its sets; no question twice.
    async fn recent_questions(&self, kb: &KbName, limit: u32) -> Result<Vec<String>>;
}

/// A knowledge base as it would be with a generation's parts and index.
pub fn kb_with(kb: &Kb, generation: &Generation) -> Kb {
    Kb {
        settings: kb.settings.clone().with_parts(generation.parts.clone()),
        collection: generation.collection.clone(),
        generation: generation.number,
        embedder: generation.embedder.clone(),
        ..kb.clone()
    }
}
