//! Tuning as JSON.

use rag_core::ports::{
    Tune, TuneDataset, TuneJob, TuneMethod, TunePoint, TunePreview, TuneRequest, TuneSettings, TuneState,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::method;

/// Every setting of a job.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = TuneSettingsView)]
pub(crate) struct SettingsView {
    /// `state`, `lora`, `pissa` or `bone`.
    method: &'static str,
    /// How matrices that are not trained are held: `f32`, `bf16`, `int8` or `nf4`.
    precision: String,
    /// Tokens of a sample at most.
    context_tokens: u32,
    /// Longer samples are read in chunks of so many tokens, gradients ending at their edges; 0 reads them whole.
    chunk_tokens: u32,
    /// Samples computed together.
    micro_batch: u32,
    /// Micro-batches of an update.
    accumulate: u32,
    epochs: u32,
    /// Updates of an epoch; 0 takes as many as read every document once.
    epoch_steps: u32,
    lr: f64,
    lr_final: f64,
    warmup_steps: u32,
    /// `exponential`, `cosine`, `linear` or `constant`.
    schedule: String,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    /// Gradients longer than this are shortened to it; 0 leaves them.
    clip: f64,
    /// Whether layers are computed again on the way back instead of being kept: less memory, more time.
    checkpointing: bool,
    /// Whether the largest logits are pulled towards 0.
    l2wrap: bool,
    /// `answers` counts only what stands after `Assistant:` and `Response:`, `all` every token.
    mask: String,
    /// `pad`, `only` or `get`.
    sampling: String,
    seed: u64,
    /// Of adapters.
    rank: u32,
    /// Of LoRA.
    alpha: f64,
    /// Share of an adapter's inputs left out, LoRA only.
    dropout: f64,
    /// Power iterations of PiSSA's decomposition.
    svd_iterations: u32,
    /// Whether adapters come with new values of the tensors named *time* and *ln*.
    train_mixes: bool,
    /// Updates between two checkpoints.
    checkpoint_steps: u32,
    /// Of the results: `pth` or `safetensors`.
    format: String,
}

/// Settings to change from the defaults; see `SettingsView` for what each means.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = TuneSettingsChange)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingsChange {
    method: Option<String>,
    precision: Option<String>,
    context_tokens: Option<u32>,
    chunk_tokens: Option<u32>,
    micro_batch: Option<u32>,
    accumulate: Option<u32>,
    epochs: Option<u32>,
    epoch_steps: Option<u32>,
    lr: Option<f64>,
    lr_final: Option<f64>,
    warmup_steps: Option<u32>,
    schedule: Option<String>,
    beta1: Option<f64>,
    beta2: Option<f64>,
    epsilon: Option<f64>,
    weight_decay: Option<f64>,
    clip: Option<f64>,
    checkpointing: Option<bool>,
    l2wrap: Option<bool>,
    mask: Option<String>,
    sampling: Option<String>,
    seed: Option<u64>,
    rank: Option<u32>,
    alpha: Option<f64>,
    dropout: Option<f64>,
    svd_iterations: Option<u32>,
    train_mixes: Option<bool>,
    checkpoint_steps: Option<u32>,
    format: Option<String>,
}

/// A job to start.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewJob {
    /// For people; the data set's name when left out.
    name: Option<String>,
    /// A file of the models folder; the model that answers when left out.
    base: Option<String>,
    dataset: String,
    #[serde(default)]
    settings: SettingsChange,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DefaultsQuery {
    /// A file of the models folder; the model that answers when left out.
    pub(super) base: Option<String>,
    /// Keeps a method; the one that suits best when left out.
    pub(super) method: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PointsQuery {
    /// Only updates after this one.
    pub(super) after: Option<u64>,
    /// At most so many, 10000 at most; 1000 when left out.
    pub(super) limit: Option<u32>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FollowQuery {
    /// Only updates after this one; 0 when left out.
    pub(super) after: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EstimateView {
    pub(super) memory_bytes: u64,
    /// None where the system does not say.
    pub(super) available_bytes: Option<u64>,
    pub(super) trained_values: u64,
    /// Updates.
    pub(super) steps: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TuneJobList)]
pub(crate) struct JobList {
    pub(super) jobs: Vec<JobView>,
}

/// A tuning job with its progress. Times are milliseconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = TuneJobView)]
pub(crate) struct JobView {
    id: String,
    name: String,
    /// None for the model that answers.
    base: Option<String>,
    dataset: String,
    settings: SettingsView,
    /// `queued`, `running`, `stopped`, `done` or `failed`.
    state: &'static str,
    /// Why it failed, and what to do.
    error: Option<String>,
    /// Updates done, and all.
    step: u64,
    steps: u64,
    last: Option<PointView>,
    /// Seconds until it is done at the present speed.
    eta_s: Option<u64>,
    memory_bytes: u64,
    trained_values: u64,
    /// Names of the files made, newest last: see `/files/{file}`.
    files: Vec<String>,
    created_ms: i64,
    updated_ms: i64,
}

/// One update.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct PointView {
    /// From 1.
    step: u64,
    /// Mean over the counted tokens, in nats.
    loss: f64,
    lr: f64,
    /// Before clipping.
    gradient_norm: f64,
    /// Of the job so far, padding not counted.
    tokens: u64,
    tokens_per_s: f64,
    /// Of this process.
    memory_bytes: u64,
    time_ms: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PointList {
    pub(super) points: Vec<PointView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MergedView {
    /// Name among the job's files.
    pub(super) file: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatasetList {
    pub(super) datasets: Vec<DatasetView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatasetView {
    name: String,
    documents: u64,
    /// Ends of documents included.
    tokens: u64,
    longest_tokens: u64,
    /// SHA-256 of the tokens.
    sha256: String,
    created_ms: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatasetDetail {
    pub(super) dataset: DatasetView,
    /// The first documents.
    pub(super) documents: Vec<DocumentPreview>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DocumentPreview {
    text: String,
    tokens: u64,
    /// Of these, tokens that count under the mask `answers`.
    counted: u64,
}

/// Calls a macro with every setting but the method, after what is given.
macro_rules! with_settings {
    ($apply:ident, $($ahead:tt)*) => {
        $apply!(
            $($ahead)*,
            precision,
            context_tokens,
            chunk_tokens,
            micro_batch,
            accumulate,
            epochs,
            epoch_steps,
            lr,
            lr_final,
            warmup_steps,
            schedule,
            beta1,
            beta2,
            epsilon,
            weight_decay,
            clip,
            checkpointing,
            l2wrap,
            mask,
            sampling,
            seed,
            rank,
            alpha,
            dropout,
            svd_iterations,
            train_mixes,
            checkpoint_steps,
            format
        )
    };
}

/// `into.field = self.field` where there is one.
macro_rules! overlay {
    ($from:expr, $into:expr, $($field:ident),*) => {
        $(if let Some(value) = &$from.$field { $into.$field = value.clone(); })*
    };
}

impl NewJob {
    /// The whole request, with defaults for what is left out.
    pub(super) fn read(&self, tune: &dyn Tune) -> rag_core::Result<TuneRequest> {
        let change = &self.settings;
        let asked = change.method.as_deref().map(method).transpose()?;
        let mut settings = tune.defaults(self.base.as_deref(), asked)?;
        with_settings!(overlay, change, settings);
        Ok(TuneRequest {
            name: self.name.clone().unwrap_or_else(|| self.dataset.clone()),
            base: self.base.clone(),
            dataset: self.dataset.clone(),
            settings,
        })
    }
}

impl From<TuneSettings> for SettingsView {
    fn from(s: TuneSettings) -> Self {
        macro_rules! fields {
            ($from:ident, $($field:ident),*) => {
                SettingsView { method: TuneMethod::name($from.method), $($field: $from.$field),* }
            };
        }
        with_settings!(fields, s)
    }
}

impl JobView {
    /// Whether a follower would learn nothing new but points, which it gets apart.
    pub(super) fn stands_as(&self, other: &JobView) -> bool {
        (self.state, &self.files, self.steps) == (other.state, &other.files, other.steps)
    }
}

impl From<TuneJob> for JobView {
    fn from(job: TuneJob) -> Self {
        let running = job.state == TuneState::Running;
        let (state, error) = match job.state {
            TuneState::Queued => ("queued", None),
            TuneState::Running => ("running", None),
            TuneState::Stopped => ("stopped", None),
            TuneState::Done => ("done", None),
            TuneState::Failed(error) => ("failed", Some(error)),
        };
        // Tokens of an update so far, by the present speed.
        let eta_s = job.last.filter(|last| running && last.step > 0 && last.tokens_per_s > 0.0).map(|last| {
            let left = job.steps.saturating_sub(last.step) as f64;
            (left * last.tokens as f64 / last.step as f64 / last.tokens_per_s).ceil() as u64
        });
        JobView {
            id: job.id,
            name: job.request.name,
            base: job.request.base,
            dataset: job.request.dataset,
            settings: job.request.settings.into(),
            state,
            error,
            step: job.step,
            steps: job.steps,
            last: job.last.map(PointView::from),
            eta_s,
            memory_bytes: job.estimate.memory_bytes,
            trained_values: job.estimate.trained_values,
            files: job.outputs,
            created_ms: job.created_ms,
            updated_ms: job.updated_ms,
        }
    }
}

impl From<TunePoint> for PointView {
    fn from(p: TunePoint) -> Self {
        let TunePoint { step, loss, lr, gradient_norm, tokens, tokens_per_s, memory_bytes, time_ms } = p;
        PointView { step, loss, lr, gradient_norm, tokens, tokens_per_s, memory_bytes, time_ms }
    }
}

impl From<TuneDataset> for DatasetView {
    fn from(set: TuneDataset) -> Self {
        let TuneDataset { name, documents, tokens, longest_tokens, hash, created_ms } = set;
        DatasetView { name, documents, tokens, longest_tokens, sha256: hash, created_ms }
    }
}

impl From<TunePreview> for DocumentPreview {
    fn from(shown: TunePreview) -> Self {
        let TunePreview { text, tokens, counted } = shown;
        DocumentPreview { text, tokens, counted }
    }
}
