//! What a tuning job made becomes a model that answers can be written with.

use std::path::Path;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use rag_core::Error;
use rag_core::ports::{ModelChange, ModelKind, ModelSettings, NewModel, TuneJob, TuneMethod};
use serde::Deserialize;
use utoipa::ToSchema;

use super::on;
use crate::api::models::ModelView;
use crate::auth::Caller;
use crate::error::{ApiResult, ErrorBody};
use crate::extract::{InPath, Json};
use crate::state::AppState;

/// PiSSA's beginning, which its result needs.
const PISSA_START: &str = "init_pissa.pth";

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfferResult {
    /// By which requests and knowledge bases name it: 3 to 64 letters, digits, `.`, `_` or `-`.
    name: String,
    /// One of the job's files; the newest result when left out.
    file: Option<String>,
}

/// Register a tuning job's result as a model and take it online: answers can name it at once.
#[utoipa::path(post, path = "/api/v1/tuning/jobs/{id}/offer", tag = "tuning", operation_id = "offer_tuning_result",
    params(("id" = String, Path,)), request_body = OfferResult,
    responses((status = 201, body = ModelView), (status = "default", body = ErrorBody)))]
pub(crate) async fn offer(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
    Json(wanted): Json<OfferResult>,
) -> ApiResult<(StatusCode, Answer<ModelView>)> {
    let file = wanted.file;
    let (job, path, start) = on(&state, &caller, move |tune| {
        let job = tune.job(&id)?;
        let file = match file {
            Some(file) => file,
            None => newest(&job)?,
        };
        let path = tune.output(&id, &file)?;
        let start = match job.request.settings.method {
            TuneMethod::Pissa => Some(tune.output(&id, PISSA_START)?),
            _ => None,
        };
        Ok((job, path, start))
    })
    .await?;
    let text = |path: &Path| path.display().to_string();
    let settings = &job.request.settings;
    let settings = ModelSettings {
        source: format!("tuning job {}", job.request.name),
        base: base(&state, &job).await?,
        adapter_alpha: (settings.method == TuneMethod::Lora).then_some(settings.alpha),
        adapter_start: start.as_deref().map(text),
        ..ModelSettings::default()
    };
    let new = NewModel { name: wanted.name.clone(), path: text(&path), settings, ..NewModel::default() };
    state.rag.models.add(new).await?;
    let online = ModelChange { online: Some(true), ..ModelChange::default() };
    match state.rag.models.change(&wanted.name, online).await {
        Ok(entry) => Ok((StatusCode::CREATED, Answer(entry.into()))),
        Err(error) => {
            // What cannot answer is not left behind.
            state.rag.models.remove(&wanted.name).await?;
            Err(error.into())
        }
    }
}

/// Refuses to delete what answers are written with.
pub(super) async fn refuse_while_registered(state: &AppState, job: &str) -> ApiResult<()> {
    let known = state.rag.models.models().await?.entries;
    let of_job = |path: &str| Path::new(path).parent().and_then(Path::file_name) == Some(job.as_ref());
    match known.iter().find(|entry| of_job(&entry.path)) {
        Some(entry) => Err(Error::Conflict {
            message: format!("'{}' is registered from this job: forget that model first", entry.name),
        }
        .into()),
        None => Ok(()),
    }
}

/// The newest state or adapter.
fn newest(job: &TuneJob) -> rag_core::Result<String> {
    let results = job.outputs.iter().rev();
    let found = results.into_iter().find(|name| name.starts_with("rwkv-") && !name.ends_with(".json"));
    found.cloned().ok_or_else(|| Error::Conflict { message: "this job has no result yet".to_owned() })
}

/// The registered model that was tuned, by name or file; that of the configuration when the job names none.
async fn base(state: &AppState, job: &TuneJob) -> ApiResult<Option<String>> {
    let known = state.rag.models.models().await?.entries.into_iter();
    let mut language = known.filter(|entry| entry.kind == ModelKind::Language);
    let found = match &job.request.base {
        Some(base) => language.find(|entry| entry.name == *base || Path::new(&entry.path).ends_with(base)),
        None => language.find(|entry| entry.configured),
    };
    Ok(found.map(|entry| entry.name))
}
