//! Tuning a language model: data sets, jobs with their curves, and what comes out.

use std::path::PathBuf;

use crate::error::Result;

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TuneMethod {
    /// The state that every sequence starts from.
    State,
    /// Two small matrices beside each large one.
    Lora,
    /// The same, starting from the large matrices' strongest directions.
    Pissa,
    /// One small matrix beside each large one (DiSHA's "bone").
    Bone,
}

impl TuneMethod {
    pub const ALL: [TuneMethod; 4] =
        [TuneMethod::State, TuneMethod::Lora, TuneMethod::Pissa, TuneMethod::Bone];

    /// The name in files, requests and messages.
    pub fn name(self) -> &'static str {
        match self {
            TuneMethod::State => "state",
            TuneMethod::Lora => "lora",
            TuneMethod::Pissa => "pissa",
            TuneMethod::Bone => "bone",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        TuneMethod::ALL.into_iter().find(|method| method.name() == name)
    }
}

/// How a job trains. `Tune::defaults` fills it for a model; every field has a bound that `start` checks.
#[derive(Debug, Clone, PartialEq)]
pub struct TuneSettings {
    pub method: TuneMethod,
    /// How matrices that are not trained are held: `f32`, `bf16`, `int8` or `nf4`.
    pub precision: String,
    /// Tokens of a sample at most.
    pub context_tokens: u32,
    /// Longer samples are read in chunks of so many tokens, gradients ending at their edges; 0 reads them whole.
    pub chunk_tokens: u32,
    /// Samples computed together.
    pub micro_batch: u32,
    /// Micro-batches of an update.
    pub accumulate: u32,
    pub epochs: u32,
    /// Updates of an epoch; 0 takes as many as read every document once.
    pub epoch_steps: u32,
    pub lr: f64,
    pub lr_final: f64,
    pub warmup_steps: u32,
    /// `exponential`, `cosine`, `linear` or `constant`.
    pub schedule: String,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    /// Gradients longer than this are shortened to it; 0 leaves them.
    pub clip: f64,
    /// Whether layers are computed again on the way back instead of being kept.
    pub checkpointing: bool,
    /// Whether the largest logits are pulled towards 0 (L2Wrap).
    pub l2wrap: bool,
    /// `answers` counts only what stands after `Assistant:` and `Response:`, `all` every token.
    pub mask: String,
    /// `pad`: one document a sample, from its start; `only`: the same without padding; `get`: any piece of the text.
    pub sampling: String,
    pub seed: u64,
    /// Of LoRA, PiSSA and bone.
    pub rank: u32,
    /// Of LoRA.
    pub alpha: f64,
    /// Share of an adapter's inputs left out, LoRA only.
    pub dropout: f64,
    /// Power iterations of PiSSA's decomposition.
    pub svd_iterations: u32,
    /// Whether adapters come with new values of the tensors named *time* and *ln*.
    pub train_mixes: bool,
    /// Updates between two checkpoints.
    pub checkpoint_steps: u32,
    /// `pth` or `safetensors`.
    pub format: String,
}

/// What is to be tuned on what.
#[derive(Debug, Clone, PartialEq)]
pub struct TuneRequest {
    /// For people.
    pub name: String,
    /// A model file of the models folder; none takes the one that answers.
    pub base: Option<String>,
    pub dataset: String,
    pub settings: TuneSettings,
}

/// A data set of this system. Times are milliseconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TuneDataset {
    pub name: String,
    pub documents: u64,
    /// Ends of documents included.
    pub tokens: u64,
    pub longest_tokens: u64,
    /// SHA-256 in hexadecimal.
    pub hash: String,
    pub created_ms: i64,
}

/// One document as the trainer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunePreview {
    pub text: String,
    pub tokens: u64,
    /// Of these, tokens that count under the mask `answers`.
    pub counted: u64,
}

/// A binidx pair for RWKV's own trainers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunePair {
    /// Path of the pair without its suffixes.
    pub prefix: PathBuf,
    pub documents: u64,
    pub tokens: u64,
    pub magic_prime: Option<u64>,
}

/// What a job will need.
#[derive(Debug, Clone, PartialEq)]
pub struct TuneEstimate {
    pub memory_bytes: u64,
    /// None where the system does not say.
    pub available_bytes: Option<u64>,
    pub trained_values: u64,
    pub steps: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TuneState {
    Queued,
    Running,
    /// Stopped by a person; `resume` goes on from its checkpoint.
    Stopped,
    Done,
    /// With what happened and what to do. What was trained until then is in its last checkpoint.
    Failed(String),
}

/// A job with its progress.
#[derive(Debug, Clone, PartialEq)]
pub struct TuneJob {
    pub id: String,
    pub request: TuneRequest,
    pub state: TuneState,
    pub step: u64,
    pub steps: u64,
    pub last: Option<TunePoint>,
    pub estimate: TuneEstimate,
    /// Names of the files made, newest last.
    pub outputs: Vec<String>,
    pub created_ms: i64,
    pub updated_ms: i64,
}

/// One update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TunePoint {
    /// From 1.
    pub step: u64,
    /// Mean over the counted tokens, in nats.
    pub loss: f64,
    pub lr: f64,
    /// Before clipping.
    pub gradient_norm: f64,
    /// Of the job so far, padding not counted.
    pub tokens: u64,
    pub tokens_per_s: f64,
    /// Of this process.
    pub memory_bytes: u64,
    /// Milliseconds since 1970 (UTC).
    pub time_ms: i64,
}

/// Trains. Implemented by `rag-tune`. Calls block for as long as reading or writing their files takes: for
/// `add_dataset`, `convert` and `merge` that may be minutes, so none belongs on a thread that others wait for.
pub trait Tune: Send + Sync + std::fmt::Debug {
    /// One click: method and settings for a model on this machine; `method` keeps a method.
    fn defaults(&self, base: Option<&str>, method: Option<TuneMethod>) -> Result<TuneSettings>;
    /// `InvalidInput` for settings outside their bounds.
    fn estimate(&self, request: &TuneRequest) -> Result<TuneEstimate>;

    fn datasets(&self) -> Result<Vec<TuneDataset>>;
    /// Checks `jsonl` line by line and keeps it; `InvalidInput` names the bad lines. The same name is replaced.
    fn add_dataset(&self, name: &str, jsonl: &str) -> Result<TuneDataset>;
    /// The first documents.
    fn preview(&self, name: &str, limit: u32) -> Result<(TuneDataset, Vec<TunePreview>)>;
    /// Writes `copies` of the documents, shuffled, as a binidx pair.
    fn convert(&self, name: &str, copies: u32, context_tokens: u32, seed: u64) -> Result<TunePair>;
    /// `Conflict` while a job needs it; deleting twice is no error.
    fn delete_dataset(&self, name: &str) -> Result<()>;

    /// Queues a job. `Unavailable` when it cannot fit into memory, `Busy` when the queue is full.
    fn start(&self, request: &TuneRequest) -> Result<TuneJob>;
    /// Newest first.
    fn jobs(&self) -> Result<Vec<TuneJob>>;
    fn job(&self, id: &str) -> Result<TuneJob>;
    /// A running job writes a checkpoint after the update that it is in.
    fn stop(&self, id: &str) -> Result<TuneJob>;
    /// Goes on where a stopped or failed job was: its curve is that of a job that was never stopped.
    fn resume(&self, id: &str) -> Result<TuneJob>;
    /// With everything it made; `Conflict` while it runs.
    fn delete(&self, id: &str) -> Result<()>;
    /// Updates after `after`, oldest first.
    fn points(&self, id: &str, after: u64, limit: u32) -> Result<Vec<TunePoint>>;
    /// Path of a file that a job made.
    fn output(&self, id: &str, name: &str) -> Result<PathBuf>;
    /// Writes base and result as one model; returns its file's name among the outputs.
    fn merge(&self, id: &str) -> Result<String>;
}
