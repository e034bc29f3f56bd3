//! The registry of models, for administrators: list, add, change, choose, restart, forget.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use rag_core::ports::{
    ModelChange, ModelEntry, ModelKind, ModelSettings, ModelsNow, NewModel, SwitchFailure, Switching, When,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::kbs::given;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, Json};
use crate::state::AppState;

/// What a model's file holds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ModelKindName {
    /// Writes answers.
    Language,
    /// Embeds, and reranks where no reranker is chosen: a file, or a folder of BERT's family as the hub has it.
    Encoder,
    /// A cross-encoder: a folder as the hub has it.
    Reranker,
    /// A tuned state of a language model.
    State,
    /// A LoRA, PiSSA or bone adapter of a language model.
    Adapter,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelView {
    name: String,
    kind: ModelKindName,
    /// On the server.
    path: String,
    /// May be chosen, and named by requests.
    online: bool,
    /// Used now.
    in_use: bool,
    /// Used from the next start on.
    chosen: bool,
    /// Comes from the configuration and is changed there.
    configured: bool,
    /// Version and sizes; empty while the file cannot be read.
    architecture: String,
    /// Of the file.
    bytes: u64,
    /// What it takes in memory at most.
    memory_bytes: Option<u64>,
    /// Of the file, hexadecimal; none until it was read through.
    sha256: Option<String>,
    /// Empty is unknown.
    licence: String,
    /// Where it comes from.
    source: String,
    /// Format that its matrices are converted to at load: `int8`, `int4` or `nf4`; none keeps them.
    quantize: Option<String>,
    /// A small model that only demonstrates.
    demonstration: bool,
    /// The language model that a state or adapter was made for.
    base: Option<String>,
    /// LoRA's alpha.
    adapter_alpha: Option<f64>,
    /// PiSSA's `init_pissa.pth`.
    adapter_start: Option<String>,
    /// Why it cannot be used as it is.
    problem: Option<String>,
    /// Milliseconds since 1970 (UTC).
    created_ms: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelEntries {
    /// By name.
    models: Vec<ModelView>,
    /// Bytes that another model may take; none where the system does not say.
    memory_available_bytes: Option<u64>,
    /// A switch under way.
    switching: Option<SwitchingView>,
    /// Why the last switch did not come about.
    failure: Option<FailureView>,
    /// The folder that relative paths are below.
    folder: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SwitchingView {
    to: String,
    since_ms: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailureView {
    model: String,
    message: String,
    at_ms: i64,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddModel {
    /// 3 to 64 letters, digits, `.`, `_` or `-`.
    name: String,
    /// Found from the file when left out.
    kind: Option<ModelKindName>,
    /// A file, or an encoder's folder, below the models folder or one of `models.roots`; relative to the first.
    path: String,
    /// What the file's hash must be.
    sha256: Option<String>,
    #[serde(default)]
    licence: String,
    #[serde(default)]
    source: String,
    quantize: Option<String>,
    #[serde(default)]
    demonstration: bool,
    base: Option<String>,
    adapter_alpha: Option<f64>,
    adapter_start: Option<String>,
}

/// What to change; what is left out stays.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeModel {
    /// Takes the file at this path, or the same one anew after it changed.
    path: Option<String>,
    /// Whether it may be chosen, and named by requests.
    online: Option<bool>,
    licence: Option<String>,
    source: Option<String>,
    /// Null keeps the file's formats.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    quantize: Option<Option<String>>,
    demonstration: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    base: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<f64>)]
    adapter_alpha: Option<Option<f64>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    adapter_start: Option<Option<String>>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WhenName {
    /// Load it now, beside the model in use, which stays when that fails.
    #[default]
    Now,
    /// Only keep the choice.
    NextStart,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChooseModel {
    /// An online model of this kind; null takes none, for rerankers, states and adapters.
    name: Option<String>,
    #[serde(default)]
    when: WhenName,
}

/// Every known model, what answers now, and what was chosen.
#[utoipa::path(get, path = "/api/v1/models/entries", tag = "models", operation_id = "model_entries",
    responses((status = 200, body = ModelEntries), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(State(state): State<AppState>, caller: Caller) -> ApiResult<Answer<ModelEntries>> {
    caller.need_unscoped_admin()?;
    Ok(Answer(state.rag.models.models().await?.into()))
}

/// Add a model file; it starts offline. Answers when the file was read through for its hash.
#[utoipa::path(post, path = "/api/v1/models/entries", tag = "models", operation_id = "add_model",
    request_body = AddModel,
    responses((status = 201, body = ModelView), (status = "default", body = ErrorBody)))]
pub(crate) async fn add(
    State(state): State<AppState>,
    caller: Caller,
    Json(new): Json<AddModel>,
) -> ApiResult<(StatusCode, Answer<ModelView>)> {
    caller.need_unscoped_admin()?;
    let settings = ModelSettings {
        licence: new.licence,
        source: new.source,
        quantize: new.quantize,
        demonstration: new.demonstration,
        base: new.base,
        adapter_alpha: new.adapter_alpha,
        adapter_start: new.adapter_start,
    };
    let new = NewModel {
        name: new.name,
        kind: new.kind.map(ModelKind::from),
        path: new.path,
        sha256: new.sha256,
        settings,
    };
    let added = state.rag.models.add(new).await?;
    Ok((StatusCode::CREATED, Answer(added.into())))
}

/// Change what is known of a model, or take it online or offline.
#[utoipa::path(patch, path = "/api/v1/models/entries/{name}", tag = "models", operation_id = "change_model",
    params(("name" = String, Path,)), request_body = ChangeModel,
    responses((status = 200, body = ModelView), (status = "default", body = ErrorBody)))]
pub(crate) async fn change(
    State(state): State<AppState>,
    caller: Caller,
    InPath(name): InPath<String>,
    Json(change): Json<ChangeModel>,
) -> ApiResult<Answer<ModelView>> {
    caller.need_unscoped_admin()?;
    let now = state.rag.models.models().await?;
    let held = now.entries.into_iter().find(|entry| entry.name == name);
    let held = held.ok_or_else(|| ApiError::not_found("model", &name))?.settings;
    let settings = ModelSettings {
        licence: change.licence.unwrap_or_else(|| held.licence.clone()),
        source: change.source.unwrap_or_else(|| held.source.clone()),
        quantize: change.quantize.unwrap_or_else(|| held.quantize.clone()),
        demonstration: change.demonstration.unwrap_or(held.demonstration),
        base: change.base.unwrap_or_else(|| held.base.clone()),
        adapter_alpha: change.adapter_alpha.unwrap_or(held.adapter_alpha),
        adapter_start: change.adapter_start.unwrap_or_else(|| held.adapter_start.clone()),
    };
    let settings = (settings != held).then_some(settings);
    let wanted = ModelChange { path: change.path, online: change.online, settings };
    Ok(Answer(state.rag.models.change(&name, wanted).await?.into()))
}

/// Forget a model; its file stays.
#[utoipa::path(delete, path = "/api/v1/models/entries/{name}", tag = "models", operation_id = "remove_model",
    params(("name" = String, Path,)),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    InPath(name): InPath<String>,
) -> ApiResult<StatusCode> {
    caller.need_unscoped_admin()?;
    state.rag.models.remove(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Choose the model of a kind; the choice lasts over restarts. Answers begun are finished by the old model.
///
/// Answers when the new one is in use; a client that leaves earlier does not stop the switch.
#[utoipa::path(put, path = "/api/v1/models/choices/{kind}", tag = "models", operation_id = "choose_model",
    params(("kind" = ModelKindName, Path,)), request_body = ChooseModel,
    responses((status = 200, body = ModelEntries), (status = "default", body = ErrorBody)))]
pub(crate) async fn choose(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kind): InPath<String>,
    Json(choice): Json<ChooseModel>,
) -> ApiResult<Answer<ModelEntries>> {
    caller.need_unscoped_admin()?;
    let kind = ModelKind::parse(&kind).ok_or_else(|| ApiError::not_found("kind of model", &kind))?;
    let when = match choice.when {
        WhenName::Now => When::Now,
        WhenName::NextStart => When::NextStart,
    };
    Ok(Answer(state.rag.models.choose(kind, choice.name.as_deref(), when).await?.into()))
}

/// Load the chosen language model, state and adapter anew.
#[utoipa::path(post, path = "/api/v1/models/restart", tag = "models", operation_id = "restart_model",
    responses((status = 200, body = ModelEntries), (status = "default", body = ErrorBody)))]
pub(crate) async fn restart(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<Answer<ModelEntries>> {
    caller.need_unscoped_admin()?;
    Ok(Answer(state.rag.models.restart().await?.into()))
}

impl From<ModelKindName> for ModelKind {
    fn from(name: ModelKindName) -> Self {
        match name {
            ModelKindName::Language => ModelKind::Language,
            ModelKindName::Encoder => ModelKind::Encoder,
            ModelKindName::Reranker => ModelKind::Reranker,
            ModelKindName::State => ModelKind::State,
            ModelKindName::Adapter => ModelKind::Adapter,
        }
    }
}

impl From<ModelKind> for ModelKindName {
    fn from(kind: ModelKind) -> Self {
        match kind {
            ModelKind::Language => ModelKindName::Language,
            ModelKind::Encoder => ModelKindName::Encoder,
            ModelKind::Reranker => ModelKindName::Reranker,
            ModelKind::State => ModelKindName::State,
            ModelKind::Adapter => ModelKindName::Adapter,
        }
    }
}

impl From<ModelEntry> for ModelView {
    fn from(entry: ModelEntry) -> Self {
        let settings = entry.settings;
        ModelView {
            name: entry.name,
            kind: entry.kind.into(),
            path: entry.path,
            online: entry.online,
            in_use: entry.in_use,
            chosen: entry.chosen,
            configured: entry.configured,
            architecture: entry.architecture,
            bytes: entry.bytes,
            memory_bytes: entry.memory_bytes,
            sha256: entry.sha256,
            licence: settings.licence,
            source: settings.source,
            quantize: settings.quantize,
            demonstration: settings.demonstration,
            base: settings.base,
            adapter_alpha: settings.adapter_alpha,
            adapter_start: settings.adapter_start,
            problem: entry.problem,
            created_ms: entry.created_ms,
        }
    }
}

impl From<ModelsNow> for ModelEntries {
    fn from(now: ModelsNow) -> Self {
        let switching = |Switching { to, since_ms }| SwitchingView { to, since_ms };
        let failure = |SwitchFailure { model, message, at_ms }| FailureView { model, message, at_ms };
        ModelEntries {
            models: now.entries.into_iter().map(ModelView::from).collect(),
            memory_available_bytes: now.memory_available,
            switching: now.switching.map(switching),
            failure: now.failure.map(failure),
            folder: now.folder,
        }
    }
}
