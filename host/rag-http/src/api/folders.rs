//! Files of the server: looked at and ingested, under the configured roots only.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use rag_core::ports::{FolderEntry, Role};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::jobs::{JobList, JobView};
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, InQuery, Json};
use crate::state::AppState;

/// Entries shown of a folder, and files ingested by one request.
const ENTRIES_MAX: u32 = 1_000;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FolderList {
    /// Folders first, then by name.
    entries: Vec<FolderEntryView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FolderEntryView {
    /// A root's name, `/`, and the path within.
    path: String,
    folder: bool,
    /// Bytes; 0 for a folder.
    size: u64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FolderQuery {
    /// The folder to look into; the roots when left out.
    path: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPath {
    /// A file, or a folder with all below it (at most 1000 files), as `folders` shows it.
    path: String,
}

/// Look into the server's folders that may be ingested.
#[utoipa::path(get, path = "/api/v1/folders", tag = "documents", operation_id = "list_folder",
    params(FolderQuery),
    responses((status = 200, body = FolderList), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    InQuery(query): InQuery<FolderQuery>,
) -> ApiResult<Answer<FolderList>> {
    caller.need_anywhere(Role::Editor)?;
    let entries = match query.path {
        Some(path) => state.rag.records.list_folder(&path, ENTRIES_MAX).await?,
        None => {
            let roots = state.rag.records.roots().await?.into_iter();
            roots.map(|path| FolderEntry { path, folder: true, size: 0 }).collect()
        }
    };
    let view =
        |entry: FolderEntry| FolderEntryView { path: entry.path, folder: entry.folder, size: entry.size };
    Ok(Answer(FolderList { entries: entries.into_iter().map(view).collect() }))
}

/// Ingest a file or folder of the server.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/paths", tag = "documents", operation_id = "add_path",
    params(("kb" = String, Path,)), request_body = NewPath,
    responses((status = 202, body = JobList), (status = "default", body = ErrorBody)))]
pub(crate) async fn add(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    Json(new): Json<NewPath>,
) -> ApiResult<(StatusCode, Answer<JobList>)> {
    let kb = caller.kb(Role::Editor, &kb)?;
    state.rag.kb(kb.as_str()).await?;
    let files = state.rag.records.files_under(new.path.trim_end_matches('/'), ENTRIES_MAX).await?;
    if files.is_empty() {
        return Err(ApiError::invalid("there is no file below that path"));
    }
    let mut jobs = Vec::with_capacity(files.len());
    for found in files {
        let mut file = state.rag.records.open_file(&found.path).await?;
        let mut writer = state.rag.upload().await?;
        while let Some(bytes) = file.read().await? {
            writer.write(bytes).await?;
        }
        let job = state.rag.submit(kb.as_str(), &found.path, None, writer).await?;
        jobs.push(JobView::from(job));
    }
    Ok((StatusCode::ACCEPTED, Answer(JobList { jobs })))
}
