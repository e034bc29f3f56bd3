//! How the system is: models, counts, health, metrics.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use rag_core::ports::JobState;
use serde::Serialize;
use utoipa::ToSchema;

use super::models::ModelKindName;
use crate::auth::Caller;
use crate::error::{ApiResult, ErrorBody};
use crate::metrics::Gauge;
use crate::state::AppState;

/// Jobs counted for the metrics at most: more than the queue holds.
const JOBS_COUNTED: u32 = 1_000;

/// The models in use.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Models {
    /// Tuned states and adapters that editors may name for an answer.
    variants: Vec<VariantView>,
    generator: GeneratorView,
    embedder: EmbedderView,
    reranker: RerankerView,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VariantView {
    name: String,
    /// `state` or `adapter`.
    kind: ModelKindName,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GeneratorView {
    id: String,
    /// The small model that only demonstrates.
    demonstration: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbedderView {
    id: String,
    dim: usize,
    /// Tokens of one passage that are read at once.
    tokens_max: usize,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RerankerView {
    id: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    version: &'static str,
    /// Seconds since the start.
    uptime_s: u64,
    /// Of the knowledge bases that the key reaches.
    kbs: usize,
    documents: u64,
    chunks: u64,
    models: Models,
}

/// Models in use.
#[utoipa::path(get, path = "/api/v1/models", tag = "system", operation_id = "list_models",
    responses((status = 200, body = Models), (status = "default", body = ErrorBody)))]
pub(crate) async fn models(State(state): State<AppState>, _caller: Caller) -> ApiResult<Answer<Models>> {
    Ok(Answer(Models::of(&state).await?))
}

/// Version, models and counts.
#[utoipa::path(get, path = "/api/v1/status", tag = "system", operation_id = "status",
    responses((status = 200, body = Status), (status = "default", body = ErrorBody)))]
pub(crate) async fn status(State(state): State<AppState>, caller: Caller) -> ApiResult<Answer<Status>> {
    let kbs = state.rag.catalog.kbs().await?;
    let reached: Vec<_> = kbs.iter().filter(|kb| caller.reaches(&kb.name)).collect();
    Ok(Answer(Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: state.started.elapsed().as_secs(),
        kbs: reached.len(),
        documents: reached.iter().map(|kb| kb.documents).sum(),
        chunks: reached.iter().map(|kb| kb.chunks).sum(),
        models: Models::of(&state).await?,
    }))
}

/// Whether the process answers at all.
#[utoipa::path(get, path = "/healthz", tag = "system", operation_id = "health", security(()),
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

/// Whether the data folder answers.
#[utoipa::path(get, path = "/readyz", tag = "system", operation_id = "ready", security(()),
    responses((status = 200, body = String, content_type = "text/plain"), (status = "default", body = ErrorBody)))]
pub(crate) async fn ready(State(state): State<AppState>) -> ApiResult<&'static str> {
    state.rag.catalog.kbs().await?;
    Ok("ready\n")
}

/// Prometheus metrics, for any key: numbers only, no names.
#[utoipa::path(get, path = "/metrics", tag = "system", operation_id = "metrics",
    responses((status = 200, body = String, content_type = "text/plain"), (status = "default", body = ErrorBody)))]
pub(crate) async fn metrics(State(state): State<AppState>, _caller: Caller) -> ApiResult<impl IntoResponse> {
    let kbs = state.rag.catalog.kbs().await?;
    let jobs = state.rag.catalog.jobs(None, JOBS_COUNTED).await?;
    let in_state =
        |wanted: fn(&JobState) -> bool| jobs.iter().filter(|job| wanted(&job.state)).count() as f64;
    let running = state.settings.requests_max - state.requests.available_permits();
    let sum = |count: fn(&rag_core::kb::Kb) -> u64| kbs.iter().map(count).sum::<u64>() as f64;
    let single = |name, help, number| Gauge { name, help, values: vec![("", "", number)] };
    let gauges = [
        Gauge {
            name: "rwkv_rag_jobs",
            help: "Jobs by state, of the newest 1000.",
            values: vec![
                ("state", "queued", in_state(|state| matches!(state, JobState::Queued))),
                ("state", "running", in_state(|state| matches!(state, JobState::Running))),
                ("state", "done", in_state(|state| matches!(state, JobState::Done { .. }))),
                ("state", "failed", in_state(|state| matches!(state, JobState::Failed { .. }))),
                ("state", "cancelled", in_state(|state| matches!(state, JobState::Cancelled))),
            ],
        },
        single("rwkv_rag_http_requests_running", "Requests in work, streams included.", running as f64),
        single("rwkv_rag_kbs", "Knowledge bases.", kbs.len() as f64),
        single("rwkv_rag_documents", "Documents in all knowledge bases.", sum(|kb| kb.documents)),
        single("rwkv_rag_chunks", "Chunks in all knowledge bases.", sum(|kb| kb.chunks)),
        single("rwkv_rag_uptime_seconds", "Seconds since the start.", state.started.elapsed().as_secs_f64()),
    ];
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render(&gauges)))
}

impl Models {
    async fn of(state: &AppState) -> ApiResult<Self> {
        let rag = &state.rag;
        let variants = rag.models.variants().await?.into_iter();
        Ok(Models {
            variants: variants.map(|(kind, name)| VariantView { kind: kind.into(), name }).collect(),
            generator: GeneratorView {
                id: rag.generator.identity(),
                demonstration: rag.generator.demonstration(),
            },
            embedder: EmbedderView {
                id: rag.embedder.identity().to_owned(),
                dim: rag.embedder.dim(),
                tokens_max: rag.embedder.tokens_max(),
            },
            reranker: RerankerView { id: rag.reranker.identity().to_owned() },
        })
    }
}
