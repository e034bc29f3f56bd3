//! Tuning jobs: defaults, estimates, start, follow, stop, resume, merge, results.

mod data;
mod offer;
mod views;

use std::convert::Infallible;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Json as Answer;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use futures_util::stream;
use rag_core::Error;
use rag_core::ports::{Tune, TuneMethod, TuneState};

pub(crate) use data::{
    __path_collect, __path_convert, __path_datasets, __path_delete_dataset, __path_preview,
    __path_put_dataset, collect, convert, datasets, delete_dataset, preview, put_dataset,
};
pub(crate) use offer::{__path_offer, offer};
use views::{
    DefaultsQuery, EstimateView, FollowQuery, JobList, JobView, MergedView, NewJob, PointList, PointView,
    PointsQuery, SettingsView,
};

use super::documents::attachment;
use crate::auth::{Caller, still_valid};
use crate::error::{ApiResult, ErrorBody};
use crate::extract::{InPath, InQuery, Json};
use crate::state::AppState;

/// How often a followed job is looked at.
const POLL: Duration = Duration::from_millis(300);
/// Points of one look.
const POINTS: u32 = 1_000;
/// Bytes of one piece of a downloaded file.
const PIECE_BYTES: usize = 1 << 20;

/// Bytes of one data set's upload.
pub(crate) const DATASET_BYTES_MAX: usize = 256 << 20;

/// The method and settings that suit a model on this machine: what one click starts.
#[utoipa::path(get, path = "/api/v1/tuning/defaults", tag = "tuning", operation_id = "tuning_defaults",
    params(DefaultsQuery),
    responses((status = 200, body = SettingsView), (status = "default", body = ErrorBody)))]
pub(crate) async fn defaults(
    State(state): State<AppState>,
    caller: Caller,
    InQuery(query): InQuery<DefaultsQuery>,
) -> ApiResult<Answer<SettingsView>> {
    let method = query.method.as_deref().map(method).transpose()?;
    let settings = on(&state, &caller, move |tune| tune.defaults(query.base.as_deref(), method)).await?;
    Ok(Answer(settings.into()))
}

/// What a job would need, without starting it.
#[utoipa::path(post, path = "/api/v1/tuning/estimate", tag = "tuning", operation_id = "tuning_estimate",
    request_body = NewJob,
    responses((status = 200, body = EstimateView), (status = "default", body = ErrorBody)))]
pub(crate) async fn estimate(
    State(state): State<AppState>,
    caller: Caller,
    Json(new): Json<NewJob>,
) -> ApiResult<Answer<EstimateView>> {
    let estimate = on(&state, &caller, move |tune| tune.estimate(&new.read(tune)?)).await?;
    Ok(Answer(estimate.into()))
}

/// List tuning jobs, newest first.
#[utoipa::path(get, path = "/api/v1/tuning/jobs", tag = "tuning", operation_id = "list_tuning_jobs",
    responses((status = 200, body = JobList), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(State(state): State<AppState>, caller: Caller) -> ApiResult<Answer<JobList>> {
    let jobs = on(&state, &caller, |tune| tune.jobs()).await?;
    Ok(Answer(JobList { jobs: jobs.into_iter().map(JobView::from).collect() }))
}

/// Queue a tuning job. Settings left out take the defaults of the model and the method.
#[utoipa::path(post, path = "/api/v1/tuning/jobs", tag = "tuning", operation_id = "start_tuning_job",
    request_body = NewJob,
    responses((status = 202, body = JobView), (status = "default", body = ErrorBody)))]
pub(crate) async fn start(
    State(state): State<AppState>,
    caller: Caller,
    Json(new): Json<NewJob>,
) -> ApiResult<(StatusCode, Answer<JobView>)> {
    let job = on(&state, &caller, move |tune| tune.start(&new.read(tune)?)).await?;
    Ok((StatusCode::ACCEPTED, Answer(job.into())))
}

/// One tuning job.
#[utoipa::path(get, path = "/api/v1/tuning/jobs/{id}", tag = "tuning", operation_id = "get_tuning_job",
    params(("id" = String, Path,)),
    responses((status = 200, body = JobView), (status = "default", body = ErrorBody)))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<Answer<JobView>> {
    Ok(Answer(on(&state, &caller, move |tune| tune.job(&id)).await?.into()))
}

/// Delete a tuning job with everything it made; one that runs must be stopped first.
#[utoipa::path(delete, path = "/api/v1/tuning/jobs/{id}", tag = "tuning", operation_id = "delete_tuning_job",
    params(("id" = String, Path,)),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<StatusCode> {
    caller.need_unscoped_admin()?;
    offer::refuse_while_registered(&state, &id).await?;
    on(&state, &caller, move |tune| tune.delete(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stop a tuning job. A running one writes a checkpoint after the update that it is in.
#[utoipa::path(post, path = "/api/v1/tuning/jobs/{id}/stop", tag = "tuning", operation_id = "stop_tuning_job",
    params(("id" = String, Path,)),
    responses((status = 200, body = JobView), (status = "default", body = ErrorBody)))]
pub(crate) async fn stop(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<Answer<JobView>> {
    Ok(Answer(on(&state, &caller, move |tune| tune.stop(&id)).await?.into()))
}

/// Go on with a stopped or failed tuning job from its last checkpoint.
#[utoipa::path(post, path = "/api/v1/tuning/jobs/{id}/resume", tag = "tuning", operation_id = "resume_tuning_job",
    params(("id" = String, Path,)),
    responses((status = 200, body = JobView), (status = "default", body = ErrorBody)))]
pub(crate) async fn resume(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<Answer<JobView>> {
    Ok(Answer(on(&state, &caller, move |tune| tune.resume(&id)).await?.into()))
}

/// Write the base model with the newest result merged in, in bf16. It takes as long as writing such a model does.
#[utoipa::path(post, path = "/api/v1/tuning/jobs/{id}/merge", tag = "tuning", operation_id = "merge_tuning_job",
    params(("id" = String, Path,)),
    responses((status = 200, body = MergedView), (status = "default", body = ErrorBody)))]
pub(crate) async fn merge(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<Answer<MergedView>> {
    Ok(Answer(MergedView { file: on(&state, &caller, move |tune| tune.merge(&id)).await? }))
}

/// The points of a job's curves, oldest first.
#[utoipa::path(get, path = "/api/v1/tuning/jobs/{id}/points", tag = "tuning", operation_id = "tuning_points",
    params(("id" = String, Path,), PointsQuery),
    responses((status = 200, body = PointList), (status = "default", body = ErrorBody)))]
pub(crate) async fn points(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
    InQuery(query): InQuery<PointsQuery>,
) -> ApiResult<Answer<PointList>> {
    let (after, limit) = (query.after.unwrap_or(0), query.limit.unwrap_or(POINTS));
    let points = on(&state, &caller, move |tune| tune.points(&id, after, limit)).await?;
    Ok(Answer(PointList { points: points.into_iter().map(PointView::from).collect() }))
}

/// Follow a tuning job: server-sent events `points` (a list, after step `after`), `job` when it stands otherwise, and
/// one `end` with the job.
#[utoipa::path(get, path = "/api/v1/tuning/jobs/{id}/events", tag = "tuning", operation_id = "follow_tuning_job",
    params(("id" = String, Path,), FollowQuery),
    responses((status = 200, body = JobView, content_type = "text/event-stream"),
        (status = "default", body = ErrorBody)))]
pub(crate) async fn events(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
    InQuery(query): InQuery<FollowQuery>,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let asked = id.clone();
    on(&state, &caller, move |tune| tune.job(&asked)).await?;
    let follow =
        Follow { state, caller, id, after: query.after.unwrap_or(0), last: None, ended: false, first: true };
    let events = stream::unfold(follow, |mut follow| async move { Some((follow.next().await?, follow)) });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// Download a file that a job made: a state or adapter, its sidecar, a merged model.
#[utoipa::path(get, path = "/api/v1/tuning/jobs/{id}/files/{file}", tag = "tuning",
    operation_id = "tuning_file", params(("id" = String, Path,), ("file" = String, Path,)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", body = ErrorBody)))]
pub(crate) async fn file(
    State(state): State<AppState>,
    caller: Caller,
    InPath((id, name)): InPath<(String, String)>,
) -> ApiResult<Response> {
    let asked = name.clone();
    let (file, bytes) = on(&state, &caller, move |tune| {
        let path = tune.output(&id, &asked)?;
        let failed = |e: std::io::Error| Error::Storage { message: e.to_string() };
        let file = fs_err::File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok((file, bytes))
    })
    .await?;
    let pieces = stream::try_unfold(file, |mut file| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE_BYTES];
            let len = file.read(&mut piece)?;
            piece.truncate(len);
            std::io::Result::Ok((Bytes::from(piece), file))
        });
        let (piece, file) = read.await.map_err(std::io::Error::other)??;
        std::io::Result::Ok((!piece.is_empty()).then_some((piece, file)))
    });
    let disposition =
        HeaderValue::from_str(&attachment(&name)).unwrap_or(HeaderValue::from_static("attachment"));
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (CONTENT_DISPOSITION, disposition),
        (CONTENT_LENGTH, HeaderValue::from(bytes)),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// Calls the tuner on a thread that may wait. Tuning is the administrator's: it takes the machine, and what is trained
/// on may be anybody's words.
async fn on<T: Send + 'static>(
    state: &AppState,
    caller: &Caller,
    call: impl FnOnce(&dyn Tune) -> rag_core::Result<T> + Send + 'static,
) -> ApiResult<T> {
    caller.need_unscoped_admin()?;
    let tune: Arc<dyn Tune> = state.tune.clone().ok_or_else(|| Error::Unsupported {
        message: "this host does not tune; the role that does is `tuning` or `all`".to_owned(),
    })?;
    let called = tokio::task::spawn_blocking(move || call(&*tune)).await;
    Ok(called.map_err(|error| Error::internal(error.to_string()))??)
}

fn method(name: &str) -> rag_core::Result<TuneMethod> {
    TuneMethod::parse(name).ok_or_else(|| {
        let known: Vec<&str> = TuneMethod::ALL.map(TuneMethod::name).to_vec();
        Error::invalid(format!("method is '{name}'; it may be {}", known.join(", ")))
    })
}

/// A follower, with what it was told last.
struct Follow {
    state: AppState,
    caller: Caller,
    id: String,
    after: u64,
    /// State and step.
    last: Option<JobView>,
    ended: bool,
    first: bool,
}

impl Follow {
    async fn next(&mut self) -> Option<Result<Event, Infallible>> {
        while !self.ended {
            if !std::mem::take(&mut self.first) {
                tokio::time::sleep(POLL).await;
            }
            let key = &self.caller.principal.key_id;
            still_valid(&self.state, key).await.ok().flatten()?;
            let (id, after) = (self.id.clone(), self.after);
            let looked = on(&self.state, &self.caller, move |tune| {
                let points = tune.points(&id, after, POINTS)?;
                Ok((points, tune.job(&id)?))
            });
            let (points, job) = looked.await.ok()?;
            if let Some(newest) = points.last() {
                self.after = newest.step;
                // More may wait already.
                self.first = points.len() == POINTS as usize;
                let list = PointList { points: points.into_iter().map(PointView::from).collect() };
                return Some(Ok(event("points", &list)));
            }
            self.ended = !matches!(job.state, TuneState::Queued | TuneState::Running);
            let view = JobView::from(job);
            if self.ended || self.last.as_ref().is_none_or(|last| !last.stands_as(&view)) {
                self.last = Some(view.clone());
                return Some(Ok(event(if self.ended { "end" } else { "job" }, &view)));
            }
        }
        None
    }
}

fn event(name: &str, data: &impl serde::Serialize) -> Event {
    Event::default().event(name).json_data(data).unwrap_or_default()
}

impl From<rag_core::ports::TuneEstimate> for EstimateView {
    fn from(estimate: rag_core::ports::TuneEstimate) -> Self {
        EstimateView {
            memory_bytes: estimate.memory_bytes,
            available_bytes: estimate.available_bytes,
            trained_values: estimate.trained_values,
            steps: estimate.steps,
        }
    }
}
