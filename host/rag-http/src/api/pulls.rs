//! Models fetched from the hub, for administrators: begin, follow, stop.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use rag_core::ports::{ModelSettings, NewPull, Pull, PullFile};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, Json};
use crate::state::AppState;

/// What to fetch; the server that is asked is the host's own setting `models.hub`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartPull {
    /// `OWNER/NAME` on the hub.
    repository: String,
    /// Branch, tag or commit; `main` when left out.
    revision: Option<String>,
    /// One file of the repository, such as a `.pth`. Left out: an encoder's files, or the only file that engines read.
    file: Option<String>,
    /// What it is registered as; left out, it follows the file or the repository.
    name: Option<String>,
    /// What the hash of the file, or of an encoder's weights, must be; left out, it must be what the hub tells.
    sha256: Option<String>,
    /// The hub's when left out.
    #[serde(default)]
    licence: String,
    quantize: Option<String>,
    #[serde(default)]
    demonstration: bool,
    base: Option<String>,
    adapter_alpha: Option<f64>,
    adapter_start: Option<String>,
    /// Take it online as soon as it is registered.
    #[serde(default)]
    online: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PullView {
    id: String,
    repository: String,
    /// As asked for; the commit once the hub has told it.
    revision: String,
    /// What the model is or will be registered as; empty until the hub has told its files.
    name: String,
    /// `asking`, `fetching`, `registering`, `done`, `failed` or `stopped`. What a failed or stopped one fetched stays:
    /// the same pull goes on from there.
    state: &'static str,
    /// In the order of fetching; empty while asking.
    files: Vec<PullFileView>,
    /// Of all files; none until all sizes are known.
    bytes: Option<u64>,
    /// Of these, here.
    done_bytes: u64,
    /// 0 to 100.
    percent: u8,
    bytes_per_second: u64,
    /// Seconds until everything is here, at that speed.
    eta_s: Option<u64>,
    /// Why it failed, or what broke off and is tried again.
    message: Option<String>,
    /// Milliseconds since 1970 (UTC).
    started_ms: i64,
    ended_ms: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PullFileView {
    path: String,
    bytes: Option<u64>,
    done_bytes: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pulls {
    /// Newest first, since the host started.
    pulls: Vec<PullView>,
    /// The hub's address; empty when pulling is switched off.
    hub: String,
}

/// Pulls under way and ended, since the host started.
#[utoipa::path(get, path = "/api/v1/models/pulls", tag = "models", operation_id = "list_pulls",
    responses((status = 200, body = Pulls), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(State(state): State<AppState>, caller: Caller) -> ApiResult<Answer<Pulls>> {
    caller.need_unscoped_admin()?;
    let now = state.rag.models.pulls().await?;
    Ok(Answer(Pulls { pulls: now.pulls.into_iter().map(PullView::from).collect(), hub: now.hub }))
}

/// Begin to fetch a model from the hub. It is registered when all of it is here and its hashes are right.
#[utoipa::path(post, path = "/api/v1/models/pulls", tag = "models", operation_id = "start_pull",
    request_body = StartPull,
    responses((status = 202, body = PullView), (status = "default", body = ErrorBody)))]
pub(crate) async fn start(
    State(state): State<AppState>,
    caller: Caller,
    Json(wanted): Json<StartPull>,
) -> ApiResult<(StatusCode, Answer<PullView>)> {
    caller.need_unscoped_admin()?;
    let settings = ModelSettings {
        licence: wanted.licence,
        source: String::new(),
        quantize: wanted.quantize,
        demonstration: wanted.demonstration,
        base: wanted.base,
        adapter_alpha: wanted.adapter_alpha,
        adapter_start: wanted.adapter_start,
    };
    let new = NewPull {
        repository: wanted.repository,
        revision: wanted.revision,
        file: wanted.file,
        name: wanted.name,
        sha256: wanted.sha256,
        settings,
        online: wanted.online,
    };
    Ok((StatusCode::ACCEPTED, Answer(state.rag.models.pull(new).await?.into())))
}

/// How far a pull is.
#[utoipa::path(get, path = "/api/v1/models/pulls/{id}", tag = "models", operation_id = "get_pull",
    params(("id" = String, Path,)),
    responses((status = 200, body = PullView), (status = "default", body = ErrorBody)))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<Answer<PullView>> {
    caller.need_unscoped_admin()?;
    let found = state.rag.models.pulls().await?.pulls.into_iter().find(|pull| pull.id == id);
    Ok(Answer(found.ok_or_else(|| ApiError::not_found("pull", &id))?.into()))
}

/// Stop a pull; what came stays, and the same pull goes on from there.
#[utoipa::path(delete, path = "/api/v1/models/pulls/{id}", tag = "models", operation_id = "stop_pull",
    params(("id" = String, Path,)),
    responses((status = 200, body = PullView), (status = "default", body = ErrorBody)))]
pub(crate) async fn stop(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<Answer<PullView>> {
    caller.need_unscoped_admin()?;
    Ok(Answer(state.rag.models.stop_pull(&id).await?.into()))
}

impl From<Pull> for PullView {
    fn from(pull: Pull) -> Self {
        let done: u64 = pull.files.iter().map(|file| file.done).sum();
        let known = !pull.files.is_empty();
        let bytes = pull.files.iter().map(|file| file.bytes).sum::<Option<u64>>().filter(|_| known);
        let left = bytes.map(|bytes| bytes.saturating_sub(done)).filter(|_| !pull.state.ended());
        let view = |PullFile { path, bytes, done }| PullFileView { path, bytes, done_bytes: done };
        PullView {
            id: pull.id,
            repository: pull.repository,
            revision: pull.revision,
            name: pull.name,
            state: pull.state.name(),
            files: pull.files.into_iter().map(view).collect(),
            bytes,
            done_bytes: done,
            percent: bytes.map_or(0, |bytes| done.saturating_mul(100) / bytes.max(1)).min(100) as u8,
            bytes_per_second: pull.bytes_per_second,
            eta_s: left.and_then(|left| left.checked_div(pull.bytes_per_second)),
            message: pull.message,
            started_ms: pull.started_ms,
            ended_ms: pull.ended_ms,
        }
    }
}
