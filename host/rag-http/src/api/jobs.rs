//! Jobs: list, read, follow, steer, cancel, run again.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_core::Stream;
use futures_util::stream;
use rag_core::limits::JOB_ATTEMPTS_MAX;
use rag_core::ports::{Job, JobId, JobKind, JobState, Role, Stage};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::audit::now_ms;
use crate::auth::{Caller, still_valid};
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, InQuery, Json};
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
    /// `ingest`, `delete_document`, `enable_document`, `evaluate`, `reindex` or `crawl`.
    kind: &'static str,
    /// Name of the document to ingest, or the address that a crawl begins at.
    name: Option<String>,
    media_type: Option<String>,
    /// Bytes of the original.
    size: Option<u64>,
    /// `queued`, `paused`, `running`, `done`, `failed` or `cancelled`. A failed job has used up its tries, or failed
    /// for a reason that no further try would change: it stays until somebody runs it again.
    state: &'static str,
    /// `queued`, `parse`, `chunk`, `embed`, `commit` or `done`.
    stage: &'static str,
    /// Units of the stage: bytes for `parse` (pages for a crawl), chunks else.
    done: u64,
    /// 0 when unknown.
    total: u64,
    /// Of the whole job, 0 to 100.
    percent: u8,
    /// The document that an ingest made, or that is to be deleted or enabled.
    document: Option<String>,
    /// The evaluation run that it does.
    run: Option<String>,
    /// The generation whose index it fills.
    generation: Option<u64>,
    /// The same document was there already, so nothing was done.
    unchanged: bool,
    /// Why it failed, or why the last try did when another one follows.
    error: Option<String>,
    /// Higher runs earlier, -100 to 100; jobs of equal priority in the order of arrival.
    priority: i32,
    /// Tries that failed for a reason that may pass.
    attempts: u32,
    attempts_max: u32,
    /// When the next try may begin: milliseconds since 1970 (UTC).
    next_try_ms: Option<i64>,
    /// When the present or last try began.
    started_ms: Option<i64>,
    /// Seconds until it is done, guessed from its progress so far; none while that is unknown.
    eta_s: Option<u64>,
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
    /// Only those in this state.
    state: Option<String>,
    /// At most this many, 1 to 1000; 100 when left out.
    limit: Option<u32>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobChange {
    /// -100 to 100; higher runs earlier.
    priority: i32,
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
        None => caller.reached(),
    };
    let fetched = if query.state.is_some() { LIST_MAX } else { limit };
    let mut jobs = Vec::new();
    match wanted {
        None => jobs = state.rag.catalog.jobs(None, fetched).await?,
        Some(kbs) => {
            for kb in kbs {
                jobs.extend(state.rag.catalog.jobs(Some(&kb), fetched).await?);
            }
            jobs.sort_by(|a, b| b.id.cmp(&a.id));
        }
    }
    let views = jobs.into_iter().map(JobView::from);
    let wanted = views.filter(|job| query.state.as_deref().is_none_or(|state| job.state == state));
    Ok(Answer(JobList { jobs: wanted.take(limit as usize).collect() }))
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

/// Hold a job back. A running one stops at its next batch and starts over once resumed.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/pause", tag = "jobs", operation_id = "pause_job",
    params(("id" = String, Path,)),
    responses((status = 200, body = JobView), (status = "default", body = ErrorBody)))]
pub(crate) async fn pause(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<Answer<JobView>> {
    let job = reached(&state, &caller, Role::Editor, id).await?;
    Ok(Answer(state.rag.records.pause(&job.id).await?.into()))
}

/// Let a paused job go on.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/resume", tag = "jobs", operation_id = "resume_job",
    params(("id" = String, Path,)),
    responses((status = 200, body = JobView), (status = "default", body = ErrorBody)))]
pub(crate) async fn resume(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<Answer<JobView>> {
    let job = reached(&state, &caller, Role::Editor, id).await?;
    let job = state.rag.records.resume(&job.id).await?;
    (state.rag.wake_jobs)();
    Ok(Answer(job.into()))
}

/// Change a job's place in the queue.
#[utoipa::path(patch, path = "/api/v1/jobs/{id}", tag = "jobs", operation_id = "change_job",
    params(("id" = String, Path,)), request_body = JobChange,
    responses((status = 200, body = JobView), (status = "default", body = ErrorBody)))]
pub(crate) async fn change(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
    Json(change): Json<JobChange>,
) -> ApiResult<Answer<JobView>> {
    let job = reached(&state, &caller, Role::Editor, id).await?;
    Ok(Answer(state.rag.records.set_priority(&job.id, change.priority).await?.into()))
}

/// A job, as if it did not exist when it belongs to a knowledge base that the key does not reach.
async fn reached(state: &AppState, caller: &Caller, role: Role, id: String) -> ApiResult<Job> {
    caller.need_anywhere(role)?;
    let job = state.rag.catalog.job(&JobId(id.clone())).await?;
    if !caller.reaches(&job.kb) {
        return Err(ApiError::not_found("job", &id));
    }
    caller.kb(role, job.kb.as_str())?;
    Ok(job)
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
            self.ended = !matches!(job.state, JobState::Queued | JobState::Paused | JobState::Running);
            let view = JobView::from(job);
            let told = self.last.as_ref().is_some_and(|last| last.same_as(&view));
            if self.ended || !told {
                self.last = Some(view.clone());
                let name = if self.ended { "end" } else { "progress" };
                return Some(Ok(Event::default().event(name).json_data(view).unwrap_or_default()));
            }
        }
        None
    }
}

impl JobView {
    /// A guess that changes with the clock alone is no news.
    fn same_as(&self, other: &JobView) -> bool {
        JobView { eta_s: None, ..self.clone() } == JobView { eta_s: None, ..other.clone() }
    }
}

/// From the share that is done and the time that it took. The first percents say too little.
fn eta_s(job: &Job, now_ms: i64) -> Option<u64> {
    let percent = u64::from(job.progress.percent);
    if job.state != JobState::Running || !(3..100).contains(&percent) {
        return None;
    }
    let taken_ms = u64::try_from(now_ms - job.started_ms?).ok()?;
    Some((taken_ms * (100 - percent) / percent).div_ceil(1_000))
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        let eta_s = eta_s(&job, now_ms());
        let (mut document, mut run, mut source, mut generation, mut url) = (None, None, None, None, None);
        let kind = match job.kind {
            JobKind::Ingest(what) => {
                source = Some(what);
                "ingest"
            }
            JobKind::DeleteDocument(id) => {
                document = Some(id);
                "delete_document"
            }
            JobKind::EnableDocument(id) => {
                document = Some(id);
                "enable_document"
            }
            JobKind::Evaluate(id) => {
                run = Some(id);
                "evaluate"
            }
            JobKind::Reindex(number) => {
                generation = Some(number);
                "reindex"
            }
            JobKind::Crawl(order) => {
                url = Some(order.url);
                "crawl"
            }
        };
        let (state, error, unchanged) = match job.state {
            JobState::Queued => ("queued", job.reason, false),
            JobState::Paused => ("paused", job.reason, false),
            JobState::Running => ("running", job.reason, false),
            JobState::Done { document: made, unchanged } => {
                document = made.or(document);
                ("done", None, unchanged)
            }
            JobState::Failed { message } => ("failed", Some(message), false),
            JobState::Cancelled => ("cancelled", None, false),
        };
        let (name, media_type, size) = match source {
            Some(source) => (Some(source.name), Some(source.media_type), Some(source.size)),
            None => (url, None, None),
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
            run,
            generation,
            unchanged,
            error,
            priority: job.priority,
            attempts: job.attempts,
            attempts_max: JOB_ATTEMPTS_MAX,
            next_try_ms: job.not_before_ms,
            started_ms: job.started_ms,
            eta_s,
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
