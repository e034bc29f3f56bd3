//! Jobs: list, read, follow, cancel, run again.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_core::Stream;
use futures_util::stream;
use rag_core::ports::{Job, JobId, JobKind, JobState, Role, Stage};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::{Caller, still_valid};
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, InQuery};
use crate::state::AppState;

/// How often a followed job is looked at.
const POLL: Duration = Duration::from_millis(200);
/// Jobs in one list at most.
const LIST_MAX: u32 = 1_000;

/// A piece of work with its progress.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct JobView {
    id: String,
    kb: String,
    /// `ingest` or `delete_document`.
    kind: &'static str,
    /// Name of the document to ingest.
    name: Option<String>,
    media_type: Option<String>,
    /// Bytes of the original.
    size: Option<u64>,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    state: &'static str,
    /// `queued`, `parse`, `chunk`, `embed`, `commit` or `done`.
    stage: &'static str,
    /// Units of the stage: bytes for `parse`, chunks else.
    done: u64,
    /// 0 when unknown.
    total: u64,
    /// Of the whole job, 0 to 100.
    percent: u8,
    /// The document that an ingest made, or that is to be deleted.
    document: Option<String>,
    /// The same document was there already, so nothing was done.
    unchanged: bool,
    /// Why it failed.
    error: Option<String>,
    /// Milliseconds since 1970 (UTC).
    created_ms: i64,
    updated_ms: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobList {
    pub(crate) jobs: Vec<JobView>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only this knowledge base's.
    kb: Option<String>,
    /// At most this many, 1 to 1000; 100 when left out.
    limit: Option<u32>,
}

/// List jobs, newest first.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", operation_id = "list_jobs", params(ListQuery),
    responses((status = 200, body = JobList), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    InQuery(query): InQuery<ListQuery>,
) -> ApiResult<Answer<JobList>> {
    let limit = query.limit.unwrap_or(100).clamp(1, LIST_MAX);
    let wanted = match &query.kb {
        Some(kb) => Some(vec![caller.kb(Role::Reader, kb)?]),
        None => caller.principal.kbs.clone(),
    };
    let mut jobs = Vec::new();
    match wanted {
        None => jobs = state.rag.catalog.jobs(None, limit).await?,
        Some(kbs) => {
            for kb in kbs {
                jobs.extend(state.rag.catalog.jobs(Some(&kb), limit).await?);
            }
            jobs.sort_by(|a, b| b.id.cmp(&a.id));
            jobs.truncate(limit as usize);
        }
    }
    Ok(Answer(JobList { jobs: jobs.into_iter().map(JobView::from).collect() }))
}

/// One job.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "jobs", operation_id = "get_job",
    params(("id" = String, Path,)),
    responses((status = 200, body = JobView), (status = "default", body = ErrorBody)))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<Answer<JobView>> {
    Ok(Answer(reached(&state, &caller, Role::Reader, id).await?.into()))
}

/// Follow a job: server-sent events `progress`, then one `end`, each with the job as data.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/events", tag = "jobs", operation_id = "follow_job",
    params(("id" = String, Path,)),
    responses((status = 200, body = JobView, content_type = "text/event-stream"),
        (status = "default", body = ErrorBody)))]
pub(crate) async fn events(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let job = reached(&state, &caller, Role::Reader, id).await?;
    let follow = Follow { state, key_id: caller.principal.key_id, id: job.id, last: None, ended: false };
    let events = stream::unfold(follow, |mut follow| async move { Some((follow.next().await?, follow)) });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// Stop a job. A running one stops at its next batch and leaves nothing behind.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs", operation_id = "cancel_job",
    params(("id" = String, Path,)),
    responses((status = 200, body = JobView), (status = "default", body = ErrorBody)))]
pub(crate) async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<Answer<JobView>> {
    let job = reached(&state, &caller, Role::Editor, id).await?;
    Ok(Answer(state.rag.cancel(&job.id).await?.into()))
}

/// Run a failed or cancelled job again.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/retry", tag = "jobs", operation_id = "retry_job",
    params(("id" = String, Path,)),
    responses((status = 200, body = JobView), (status = "default", body = ErrorBody)))]
pub(crate) async fn retry(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<Answer<JobView>> {
    let job = reached(&state, &caller, Role::Editor, id).await?;
    Ok(Answer(state.rag.retry(&job.id).await?.into()))
}

/// A job, as if it did not exist when it belongs to a knowledge base that the key does not reach.
async fn reached(state: &AppState, caller: &Caller, role: Role, id: String) -> ApiResult<Job> {
    caller.need(role)?;
    let job = state.rag.catalog.job(&JobId(id.clone())).await?;
    if caller.reaches(&job.kb) { Ok(job) } else { Err(ApiError::not_found("job", &id)) }
}

/// A client that watches a job.
struct Follow {
    state: AppState,
    key_id: String,
    id: JobId,
    last: Option<JobView>,
    ended: bool,
}

impl Follow {
    /// The next event, once something changed; none after the end, when the job is gone, or the key was revoked.
    async fn next(&mut self) -> Option<Result<Event, Infallible>> {
        while !self.ended {
            if self.last.is_some() {
                tokio::time::sleep(POLL).await;
            }
            let valid =
                still_valid(&self.state, &self.key_id).await.is_ok_and(|principal| principal.is_some());
            let job = self.state.rag.catalog.job(&self.id).await.ok().filter(|_| valid)?;
            self.ended = !matches!(job.state, JobState::Queued | JobState::Running);
            let view = JobView::from(job);
            if self.ended || self.last.as_ref() != Some(&view) {
                self.last = Some(view.clone());
                let name = if self.ended { "end" } else { "progress" };
                return Some(Ok(Event::default().event(name).json_data(view).unwrap_or_default()));
            }
        }
        None
    }
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        let (kind, mut document, source) = match job.kind {
            JobKind::Ingest(source) => ("ingest", None, Some(source)),
            JobKind::DeleteDocument(id) => ("delete_document", Some(id), None),
        };
        let (state, error, unchanged) = match job.state {
            JobState::Queued => ("queued", None, false),
            JobState::Running => ("running", None, false),
            JobState::Done { document: made, unchanged } => {
                document = made.or(document);
                ("done", None, unchanged)
            }
            JobState::Failed { message } => ("failed", Some(message), false),
            JobState::Cancelled => ("cancelled", None, false),
        };
        let (name, media_type, size) = match source {
            Some(source) => (Some(source.name), Some(source.media_type), Some(source.size)),
            None => (None, None, None),
        };
        JobView {
            id: job.id.0,
            kb: job.kb.as_str().to_owned(),
            kind,
            name,
            media_type,
            size,
            state,
            stage: stage_name(job.progress.stage),
            done: job.progress.done,
            total: job.progress.total,
            percent: job.progress.percent,
            document: document.map(|id| id.0),
            unchanged,
            error,
            created_ms: job.created_ms,
            updated_ms: job.updated_ms,
        }
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Queued => "queued",
        Stage::Parse => "parse",
        Stage::Chunk => "chunk",
        Stage::Embed => "embed",
        Stage::Commit => "commit",
        Stage::Done => "done",
    }
}
