//! Models known by name: which there are, which may be used, and which answer now.
//!
//! A model is a file with what is known of it. *Online* ones may be used; one of each kind is *chosen*, which lasts
//! over restarts; states and adapters need not be. Nothing else is ever loaded, whatever a request names.

use async_trait::async_trait;

use super::pulls::{NewPull, Pull, PullsNow};
use crate::error::{Error, Result};

/// What a file or an encoder's folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModelKind {
    /// Writes answers.
    Language,
    /// Embeds, and reranks where no reranker is chosen.
    Encoder,
    /// A cross-encoder, which reads question and passage together.
    Reranker,
    /// A tuned state of a language model.
    State,
    /// A LoRA, PiSSA or bone adapter of a language model.
    Adapter,
}

impl ModelKind {
    pub const ALL: [ModelKind; 5] =
        [ModelKind::Language, ModelKind::Encoder, ModelKind::Reranker, ModelKind::State, ModelKind::Adapter];

    /// In the words of the API and the command line.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::Language => "language",
            ModelKind::Encoder => "encoder",
            ModelKind::Reranker => "reranker",
            ModelKind::State => "state",
            ModelKind::Adapter => "adapter",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What an administrator says about a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelSettings {
    /// Empty is unknown.
    pub licence: String,
    /// Where it comes from, for people.
    pub source: String,
    /// Format that a language model's matrices are converted to at load: int8, int4, nf4; none keeps them.
    pub quantize: Option<String>,
    /// A small model that only demonstrates: its answers are marked and held to the passages' words.
    pub demonstration: bool,
    /// The language model that a state or an adapter was made for; an adapter needs one.
    pub base: Option<String>,
    /// LoRA's alpha; none for PiSSA, which has none.
    pub adapter_alpha: Option<f64>,
    /// PiSSA's `init_pissa.pth`.
    pub adapter_start: Option<String>,
}

/// A model as it is listed.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelEntry {
    /// 3 to 64 characters.
    pub name: String,
    pub kind: ModelKind,
    pub path: String,
    pub settings: ModelSettings,
    /// May be chosen, and named by requests.
    pub online: bool,
    /// Comes from the configuration and is changed there.
    pub configured: bool,
    /// Used from the next start on.
    pub chosen: bool,
    /// Used now.
    pub in_use: bool,
    /// Version and sizes, e.g. `RWKV-6 24 × 2048`; empty while the file cannot be read.
    pub architecture: String,
    /// Of the file.
    pub bytes: u64,
    /// What it takes in memory at most.
    pub memory_bytes: Option<u64>,
    /// Of the file, hexadecimal; none until it was read through.
    pub sha256: Option<String>,
    /// Why it cannot be used as it is.
    pub problem: Option<String>,
    /// Milliseconds since 1970 (UTC).
    pub created_ms: i64,
}

/// A model to add. It starts offline.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewModel {
    pub name: String,
    /// None is found from the file.
    pub kind: Option<ModelKind>,
    /// A file below the models folder or another permitted one; relative to the first.
    pub path: String,
    /// What the file's hash must be.
    pub sha256: Option<String>,
    pub settings: ModelSettings,
}

/// What to change about a model; none leaves it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelChange {
    /// Takes the file at this path, or the same one anew after it changed.
    pub path: Option<String>,
    pub online: Option<bool>,
    pub settings: Option<ModelSettings>,
}

/// When a choice takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The new model is loaded beside the old one, which answers what it has begun and then goes. Nothing changes
    /// when that fails.
    Now,
    /// Only kept: for a machine that cannot hold both.
    NextStart,
}

/// A switch under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switching {
    pub to: String,
    pub since_ms: i64,
}

/// Why the last switch, or the chosen model at the start, did not come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchFailure {
    pub model: String,
    pub message: String,
    pub at_ms: i64,
}

/// Everything that is known of models.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelsNow {
    /// By name.
    pub entries: Vec<ModelEntry>,
    /// Bytes that another model may take; none where the system does not say.
    pub memory_available: Option<u64>,
    pub switching: Option<Switching>,
    pub failure: Option<SwitchFailure>,
    /// The folder that relative paths are below.
    pub folder: String,
}

/// The registry of models. A change that is under way goes on when its caller leaves.
#[async_trait]
pub trait ModelRegistry: Send + Sync {
    async fn models(&self) -> Result<ModelsNow>;

    /// Reads the file through for its hash. `Conflict` for a name that is taken, `InvalidInput` for a file that is no
    /// model, `Denied` for one outside the permitted folders.
    async fn add(&self, new: NewModel) -> Result<ModelEntry>;

    /// `Conflict` for a configured one, and for taking one in use offline.
    async fn change(&self, name: &str, change: ModelChange) -> Result<ModelEntry>;

    /// Forgets a model; the file stays. `Conflict` as for `change`.
    async fn remove(&self, name: &str) -> Result<()>;

    /// Chooses a model, or for rerankers, states and adapters none. An encoder's choice always waits for the next
    /// start, since vectors of another one cannot be compared; so does a reranker's. `Conflict` for one that is offline, `Unavailable` when it needs
    /// more memory than there is; the model in use stays.
    async fn choose(&self, kind: ModelKind, name: Option<&str>, when: When) -> Result<ModelsNow>;

    /// Loads the chosen language model, state and adapter anew, as `choose` does.
    async fn restart(&self) -> Result<ModelsNow>;

    /// Begins to fetch a model from the configured hub; it is registered when all of it is here and its hashes are
    /// right. `Conflict` for a name that is taken or being fetched, `Busy` when too many are under way, `Unsupported`
    /// where no hub is configured.
    async fn pull(&self, new: NewPull) -> Result<Pull>;

    async fn pulls(&self) -> Result<PullsNow>;

    /// Stops a pull; what came stays, and the same pull goes on from there. `Conflict` for one that has ended or is
    /// being registered.
    async fn stop_pull(&self, id: &str) -> Result<Pull>;

    /// States and adapters that an answer of the model in use may name (`GenerateRequest::variant`), by name.
    async fn variants(&self) -> Result<Vec<(ModelKind, String)>> {
        Ok(Vec::new())
    }
}

/// Models of a process that has none of its own to change.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRegistry;

fn elsewhere() -> Error {
    Error::Unsupported { message: "models are managed where they run: at the llm service".to_owned() }
}

#[async_trait]
impl ModelRegistry for NoRegistry {
    async fn models(&self) -> Result<ModelsNow> {
        Ok(ModelsNow::default())
    }

    async fn add(&self, _: NewModel) -> Result<ModelEntry> {
        Err(elsewhere())
    }

    async fn change(&self, _: &str, _: ModelChange) -> Result<ModelEntry> {
        Err(elsewhere())
    }

    async fn remove(&self, _: &str) -> Result<()> {
        Err(elsewhere())
    }

    async fn choose(&self, _: ModelKind, _: Option<&str>, _: When) -> Result<ModelsNow> {
        Err(elsewhere())
    }

    async fn restart(&self) -> Result<ModelsNow> {
        Err(elsewhere())
    }

    async fn pull(&self, _: NewPull) -> Result<Pull> {
        Err(elsewhere())
    }

    async fn pulls(&self) -> Result<PullsNow> {
        Ok(PullsNow::default())
    }

    async fn stop_pull(&self, _: &str) -> Result<Pull> {
        Err(elsewhere())
    }
}
