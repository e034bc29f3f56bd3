//! Large uploads in pieces: when a connection breaks, the client asks how far it came and goes on from there.
//!
//! What arrived is kept while the server runs and the upload is not left alone for too long; after a restart the client
//! begins anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json as Answer;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use futures_util::StreamExt as _;
use rag_core::kb::KbName;
use rag_core::media::document_name;
use rag_core::ports::{BlobWriter, Role};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::jobs::JobView;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, InQuery, Json};
use crate::openai::new_id;
use crate::state::AppState;

/// Uploads begun and not finished at once.
const UPLOADS_MAX: usize = 64;
/// How long one may stand still.
const IDLE: Duration = Duration::from_secs(3_600);

/// Uploads that are not finished, by id.
#[derive(Default)]
pub(crate) struct Uploads(Mutex<HashMap<String, Held>>);

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Uploads").field(&self.locked().len()).finish()
    }
}

struct Held {
    owner: String,
    kb: KbName,
    touched: Instant,
    /// Taken by the request that writes: a second one at the same time is refused.
    part: Arc<tokio::sync::Mutex<Part>>,
}

struct Part {
    name: String,
    media_type: Option<String>,
    size: u64,
    offset: u64,
    /// None once it failed or was finished.
    writer: Option<Box<dyn BlobWriter>>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUpload {
    /// The document's name; the same name again replaces the document.
    name: String,
    /// Bytes of the whole file.
    size: u64,
    /// Found from the name and the content when left out.
    media_type: Option<String>,
}

/// How far an upload is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadView {
    id: String,
    name: String,
    size: u64,
    /// Bytes that arrived: send the rest from here.
    offset: u64,
    /// The ingest job, once all bytes are in.
    job: Option<JobView>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OffsetQuery {
    /// Where the body belongs: must be the number of bytes that arrived.
    offset: u64,
}

/// Begin a large upload.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/uploads", tag = "documents", operation_id = "begin_upload",
    params(("kb" = String, Path,)), request_body = NewUpload,
    responses((status = 201, body = UploadView), (status = "default", body = ErrorBody)))]
pub(crate) async fn begin(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    Json(new): Json<NewUpload>,
) -> ApiResult<(StatusCode, Answer<UploadView>)> {
    let kb = caller.kb(Role::Editor, &kb)?;
    state.rag.kb(kb.as_str()).await?;
    let limit = state.settings.document_bytes_max;
    if new.size == 0 || new.size > limit {
        return Err(ApiError::too_large(format!(
            "a document has 1 to {limit} bytes (setting data.document_bytes_max), not {}",
            new.size
        )));
    }
    let name = document_name(&new.name)?;
    let writer = Some(state.rag.upload().await?);
    let part = Part { name, media_type: new.media_type, size: new.size, offset: 0, writer };
    let view = part.view(String::new(), None);
    let owner = caller.principal.key_id;
    let part = Arc::new(tokio::sync::Mutex::new(part));
    let id = state.uploads.keep(Held { owner, kb, touched: Instant::now(), part })?;
    Ok((StatusCode::CREATED, Answer(UploadView { id, ..view })))
}

/// How far an upload is.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/uploads/{id}", tag = "documents", operation_id = "get_upload",
    params(("kb" = String, Path,), ("id" = String, Path,)),
    responses((status = 200, body = UploadView), (status = "default", body = ErrorBody)))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, id)): InPath<(String, String)>,
) -> ApiResult<Answer<UploadView>> {
    let part = find(&state, &caller, &kb, &id)?;
    let part = part.lock().await;
    Ok(Answer(part.view(id, None)))
}

/// Send the next bytes; with the last ones the ingest job is queued.
#[utoipa::path(patch, path = "/api/v1/kbs/{kb}/uploads/{id}", tag = "documents", operation_id = "send_upload",
    params(("kb" = String, Path,), ("id" = String, Path,), OffsetQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = UploadView), (status = "default", body = ErrorBody)))]
pub(crate) async fn send(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, id)): InPath<(String, String)>,
    query: ApiResult<InQuery<OffsetQuery>>,
    request: Request,
) -> ApiResult<Answer<UploadView>> {
    // Who may not send learns nothing about how.
    let held = find(&state, &caller, &kb, &id)?;
    let InQuery(OffsetQuery { offset }) = query?;
    let busy = || ApiError::conflict("another request is sending this upload just now");
    let mut part = held.try_lock().map_err(|_| busy())?;
    if offset != part.offset {
        return Err(ApiError::conflict(format!("{} bytes arrived; send the rest from there", part.offset)));
    }
    let mut body = request.into_body().into_data_stream();
    while part.offset < part.size {
        // A broken connection keeps what arrived.
        let Some(Ok(bytes)) = body.next().await else { break };
        if bytes.len() as u64 > part.size - part.offset {
            return Err(ApiError::invalid("there are more bytes than the upload was announced with"));
        }
        let (length, writer) = (bytes.len() as u64, part.writer.take());
        let Some(mut writer) = writer else {
            state.uploads.remove(&id);
            return Err(ApiError::conflict("this upload failed before; begin it anew"));
        };
        writer.write(bytes).await?;
        part.writer = Some(writer);
        part.offset += length;
        state.uploads.touch(&id);
    }
    if part.offset < part.size {
        return Ok(Answer(part.view(id, None)));
    }
    state.uploads.remove(&id);
    let finished = part.writer.take().ok_or_else(|| ApiError::conflict("this upload was finished before"))?;
    let job = state.rag.submit(&kb, &part.name, part.media_type.as_deref(), finished).await?;
    Ok(Answer(part.view(id, Some(job.into()))))
}

/// Give an upload up.
#[utoipa::path(delete, path = "/api/v1/kbs/{kb}/uploads/{id}", tag = "documents", operation_id = "drop_upload",
    params(("kb" = String, Path,), ("id" = String, Path,)),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn drop_upload(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, id)): InPath<(String, String)>,
) -> ApiResult<StatusCode> {
    find(&state, &caller, &kb, &id)?;
    state.uploads.remove(&id);
    Ok(StatusCode::NO_CONTENT)
}

/// One of the caller's own uploads to this very knowledge base.
fn find(state: &AppState, caller: &Caller, kb: &str, id: &str) -> ApiResult<Arc<tokio::sync::Mutex<Part>>> {
    let kb = caller.kb(Role::Editor, kb)?;
    state.uploads.find(&kb, &caller.principal.key_id, id).ok_or_else(|| ApiError::not_found("upload", id))
}

impl Part {
    fn view(&self, id: String, job: Option<JobView>) -> UploadView {
        UploadView { id, name: self.name.clone(), size: self.size, offset: self.offset, job }
    }
}

impl Uploads {
    fn keep(&self, held: Held) -> ApiResult<String> {
        let mut uploads = self.locked();
        uploads.retain(|_, upload| upload.touched.elapsed() < IDLE);
        if uploads.len() >= UPLOADS_MAX {
            return Err(ApiError::too_many(format!("{UPLOADS_MAX} uploads are under way already"), 60));
        }
        let id = new_id("up-");
        uploads.insert(id.clone(), held);
        Ok(id)
    }

    fn find(&self, kb: &KbName, owner: &str, id: &str) -> Option<Arc<tokio::sync::Mutex<Part>>> {
        let mut uploads = self.locked();
        uploads.retain(|_, upload| upload.touched.elapsed() < IDLE);
        let held = uploads.get_mut(id).filter(|held| held.kb == *kb && held.owner == owner)?;
        held.touched = Instant::now();
        Some(held.part.clone())
    }

    fn touch(&self, id: &str) {
        if let Some(held) = self.locked().get_mut(id) {
            held.touched = Instant::now();
        }
    }

    fn remove(&self, id: &str) {
        self.locked().remove(id);
    }

    /// A panic elsewhere leaves the map whole: each change is one call.
    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
