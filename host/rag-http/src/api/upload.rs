//! Upload: files become ingest jobs. Bytes go straight to the blob store; an upload that breaks off leaves nothing.

use axum::Json as Answer;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt as _;
use rag_core::kb::KbName;
use rag_core::media::document_name;
use rag_core::ports::{BlobWriter, Origin, Role};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::jobs::{JobList, JobView};
use super::multipart;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, InQuery, Json};
use crate::state::AppState;

/// Files in one multipart request.
const FILES_MAX: usize = 64;
/// Bytes of a folder's name.
const FOLDER_BYTES_MAX: usize = 4_096;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UploadQuery {
    /// The document's name, for a raw body; the same name again replaces the document.
    name: Option<String>,
    /// The media type; found from the name and the content when left out.
    media_type: Option<String>,
    /// The folder that the document is kept in step with, as the client calls it: told with the document, so that the
    /// client finds what vanished there.
    folder: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewText {
    /// The document's name; the same name again replaces the document.
    name: String,
    text: String,
    /// `text/plain` when left out; `text/markdown` keeps headings.
    media_type: Option<String>,
}

/// Only says what a multipart body looks like.
#[derive(Debug, ToSchema)]
pub(crate) struct UploadForm {
    /// Any number of files, under any field name.
    #[schema(value_type = Vec<String>, format = Binary)]
    #[expect(dead_code, reason = "describes the form in the OpenAPI document")]
    file: Vec<Vec<u8>>,
}

/// All bytes are in the writer; nothing is kept before `submit`.
struct Received {
    name: String,
    media_type: Option<String>,
    folder: Option<String>,
    writer: Box<dyn BlobWriter>,
}

/// Ingest files: a raw body with `?name=`, or `multipart/form-data` with any number of files.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/documents", tag = "documents", operation_id = "upload",
    params(("kb" = String, Path,), UploadQuery),
    request_body(content((Vec<u8> = "application/octet-stream"), (UploadForm = "multipart/form-data"))),
    responses((status = 202, body = JobList), (status = "default", body = ErrorBody)))]
pub(crate) async fn upload(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    InQuery(query): InQuery<UploadQuery>,
    request: Request,
) -> ApiResult<(StatusCode, Answer<JobList>)> {
    let kb = caller.kb(Role::Editor, &kb)?;
    state.rag.kb(kb.as_str()).await?;
    check_length(&state, request.headers())?;
    let files = if is_multipart(request.headers()) {
        receive_form(&state, request).await?
    } else {
        vec![receive_raw(&state, query, request).await?]
    };
    submit(&state, &kb, files).await
}

/// Ingest a text.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/texts", tag = "documents", operation_id = "add_text",
    params(("kb" = String, Path,)), request_body = NewText,
    responses((status = 202, body = JobList), (status = "default", body = ErrorBody)))]
pub(crate) async fn text(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    Json(new): Json<NewText>,
) -> ApiResult<(StatusCode, Answer<JobList>)> {
    let kb = caller.kb(Role::Editor, &kb)?;
    state.rag.kb(kb.as_str()).await?;
    if new.text.trim().is_empty() {
        return Err(ApiError::invalid("the text is empty"));
    }
    let name = document_name(&new.name)?;
    let mut writer = state.rag.upload().await?;
    writer.write(Bytes::from(new.text)).await?;
    let media_type = new.media_type.or_else(|| Some("text/plain".to_owned()));
    submit(&state, &kb, vec![Received { name, media_type, folder: None, writer }]).await
}

async fn submit(
    state: &AppState,
    kb: &KbName,
    files: Vec<Received>,
) -> ApiResult<(StatusCode, Answer<JobList>)> {
    let mut jobs = Vec::with_capacity(files.len());
    for file in files {
        let Received { name, media_type, folder, writer } = file;
        let origin = Origin { url: None, folder };
        let job = state.rag.submit_from(kb.as_str(), &name, media_type.as_deref(), writer, origin).await?;
        jobs.push(JobView::from(job));
    }
    Ok((StatusCode::ACCEPTED, Answer(JobList { jobs })))
}

async fn receive_raw(state: &AppState, query: UploadQuery, request: Request) -> ApiResult<Received> {
    let name = query.name.ok_or_else(|| ApiError::invalid("say the document's name: ?name=manual.md"))?;
    let name = document_name(&name)?;
    if query.folder.as_ref().is_some_and(|folder| folder.is_empty() || folder.len() > FOLDER_BYTES_MAX) {
        return Err(ApiError::invalid(format!("a folder's name has 1 to {FOLDER_BYTES_MAX} bytes")));
    }
    let mut received = 0;
    let mut writer = state.rag.upload().await?;
    let mut body = request.into_body().into_data_stream();
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|error| broken(&error))?;
        count(state, &mut received, bytes.len())?;
        writer.write(bytes).await?;
    }
    Ok(Received { name, media_type: query.media_type, folder: query.folder, writer })
}

async fn receive_form(state: &AppState, request: Request) -> ApiResult<Vec<Received>> {
    let (mut form, ahead) = multipart::open(request).await?;
    let mut files = Vec::new();
    while let Some(mut field) = form.next_field().await.map_err(|error| multipart::refused(&error))? {
        ahead.progress();
        // Fields without a file name are the form's other inputs.
        let Some(name) = field.file_name().map(str::to_owned) else { continue };
        if files.len() == FILES_MAX {
            return Err(ApiError::too_large(format!("one request takes at most {FILES_MAX} files")));
        }
        let name = document_name(&name)?;
        let mut received = 0;
        let mut writer = state.rag.upload().await?;
        while let Some(bytes) = field.chunk().await.map_err(|error| multipart::refused(&error))? {
            ahead.progress();
            count(state, &mut received, bytes.len())?;
            writer.write(bytes).await?;
        }
        files.push(Received { name, media_type: None, folder: None, writer });
    }
    if files.is_empty() {
        return Err(ApiError::invalid("the form holds no file"));
    }
    Ok(files)
}

/// Refuses before anything is read when the head already says that it is too much.
fn check_length(state: &AppState, headers: &HeaderMap) -> ApiResult<()> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let max = if is_multipart(headers) {
        state.settings.document_bytes_max.saturating_mul(FILES_MAX as u64)
    } else {
        state.settings.document_bytes_max
    };
    if length.is_some_and(|length| length > max) { Err(over(state)) } else { Ok(()) }
}

fn count(state: &AppState, received: &mut u64, more: usize) -> ApiResult<()> {
    *received += more as u64;
    if *received > state.settings.document_bytes_max { Err(over(state)) } else { Ok(()) }
}

fn over(state: &AppState) -> ApiError {
    ApiError::too_large(format!(
        "the document is larger than the limit of {} bytes (setting data.document_bytes_max)",
        state.settings.document_bytes_max
    ))
}

fn is_multipart(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.to_ascii_lowercase().starts_with("multipart/form-data")
}

/// The client stopped sending: most often it is gone, so this is seen by tests and logs only.
pub(super) fn broken(error: &axum::Error) -> ApiError {
    tracing::debug!(%error, "an upload broke off");
    ApiError::of_status(StatusCode::REQUEST_TIMEOUT)
}
