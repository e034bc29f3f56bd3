//! Saved questions with what should be found, and the runs that tried them.

use async_trait::async_trait;

use super::catalog::JobId;
use crate::document::ChunkId;
use crate::error::Result;
use crate::kb::{KbName, PluginChoice};

/// A set of questions of one knowledge base. Times are milliseconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionSet {
    pub id: String,
    pub kb: KbName,
    pub name: String,
    pub questions: u64,
    pub created_ms: i64,
}

/// What a hit must be to count; a hit that meets several counts for the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Any passage of the document of this name.
    Document(String),
    Chunk(ChunkId),
    /// A passage that contains this text, white space aside.
    Text(String),
}

/// A question with what should be found for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub question: String,
    pub expected: Vec<Expected>,
}

/// How the questions are tried.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSettings {
    /// For people, e.g. `hybrid, no rerank`.
    pub label: String,
    /// Hits looked at.
    pub k: u32,
    /// None takes the knowledge base's.
    pub retriever: Option<PluginChoice>,
    pub rerank: Option<bool>,
}

/// Means over the questions; see `crate::evaluate` for the formulas.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    pub questions: u64,
    /// Share of questions with something expected among the first `k`, for k = 1, 3, 5, 10, … up to the run's.
    pub hit_at: Vec<(u32, f64)>,
    pub mrr: f64,
    pub ndcg: f64,
    /// Milliseconds of one search on average.
    pub millis: f64,
}

/// A run, with its scores once its job is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: String,
    pub set: String,
    pub kb: KbName,
    pub settings: RunSettings,
    pub job: Option<JobId>,
    pub scores: Option<Scores>,
    pub created_ms: i64,
}

/// A hit of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunHit {
    pub chunk: ChunkId,
    pub document: String,
    pub score: f32,
    pub relevant: bool,
}

/// How one question fared.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub question: String,
    /// Of the first relevant hit, from 1; none when there is none.
    pub rank: Option<u32>,
    pub ndcg: f64,
    pub millis: u32,
    /// Best first.
    pub hits: Vec<RunHit>,
}

/// Keeps question sets and runs. Implemented by `rag-store`; every method is one transaction.
#[async_trait]
pub trait Evaluations: Send + Sync {
    async fn question_sets(&self, kb: &KbName) -> Result<Vec<QuestionSet>>;
    async fn question_set(&self, id: &str) -> Result<QuestionSet>;
    async fn create_question_set(
        &self,
        kb: &KbName,
        name: &str,
        questions: &[Question],
    ) -> Result<QuestionSet>;
    /// Replaces name and questions; runs of before stay.
    async fn replace_question_set(&self, id: &str, name: &str, questions: &[Question])
    -> Result<QuestionSet>;
    /// Takes its runs along; deleting twice is no error.
    async fn delete_question_set(&self, id: &str) -> Result<()>;
    async fn questions(&self, set: &str) -> Result<Vec<Question>>;

    async fn create_run(&self, set: &str, settings: &RunSettings) -> Result<Run>;
    /// Says which job does it.
    async fn assign_run(&self, id: &str, job: &JobId) -> Result<Run>;
    /// Newest first.
    async fn runs(&self, set: &str) -> Result<Vec<Run>>;
    async fn run(&self, id: &str) -> Result<Run>;
    async fn delete_run(&self, id: &str) -> Result<()>;
    /// Replaces what an earlier attempt had found.
    async fn finish_run(&self, id: &str, scores: &Scores, outcomes: &[Outcome]) -> Result<()>;
    /// In the order of the questions; empty until the run is done.
    async fn outcomes(&self, run: &str) -> Result<Vec<Outcome>>;
}
