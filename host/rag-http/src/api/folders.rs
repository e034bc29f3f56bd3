//! Files of the server: looked at and ingested, under the configured roots only.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use rag_core::folder_sync::{FolderOrder, FolderReport, Refused};
use rag_core::ports::{FolderEntry, Role};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::jobs::JobView;
use crate::auth::Caller;
use crate::error::{ApiResult, ErrorBody};
use crate::extract::{InPath, InQuery, Json};
use crate::state::AppState;

/// Entries shown of a folder.
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
    /// A file, or a folder with all below it (at most 20000 files), as `folders` shows it.
    path: String,
    /// Whether documents go that came from there and whose file is there no more; they stay when left out.
    #[serde(default)]
    delete_missing: bool,
    /// Only tells what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// What became of a folder's files, or would become.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FolderReportView {
    /// One for each file that is read; none of a dry run.
    jobs: Vec<JobView>,
    added: Vec<String>,
    changed: Vec<String>,
    /// Archives, whose files are documents of their own: looked into again.
    archives: Vec<String>,
    /// Files that are documents already, word for word: they cost nothing.
    unchanged: u64,
    /// Documents that came from there and whose file is there no more.
    vanished: Vec<String>,
    /// Whether those were deleted.
    deleted: bool,
    /// Files that found no place in the queue; send the same again once it is shorter.
    postponed: u64,
    refused: Vec<RefusedView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RefusedView {
    name: String,
    reason: String,
}

impl From<FolderReport> for FolderReportView {
    fn from(report: FolderReport) -> Self {
        let refused = |Refused { name, reason }| RefusedView { name, reason };
        FolderReportView {
            jobs: report.jobs.into_iter().map(JobView::from).collect(),
            added: report.added,
            changed: report.changed,
            archives: report.archives,
            unchanged: report.unchanged,
            vanished: report.vanished,
            deleted: report.deleted,
            postponed: report.postponed,
            refused: report.refused.into_iter().map(refused).collect(),
        }
    }
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

/// Ingest a file or folder of the server, and again: what changed is replaced, what is unchanged costs nothing.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/paths", tag = "documents", operation_id = "add_path",
    params(("kb" = String, Path,)), request_body = NewPath,
    responses((status = 202, body = FolderReportView), (status = "default", body = ErrorBody)))]
pub(crate) async fn add(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    Json(new): Json<NewPath>,
) -> ApiResult<(StatusCode, Answer<FolderReportView>)> {
    let kb = caller.kb(Role::Editor, &kb)?;
    let NewPath { path, delete_missing, dry_run } = new;
    let order = FolderOrder { path, delete_missing, dry_run };
    let report = state.rag.sync_folder(kb.as_str(), &order).await?;
    Ok((StatusCode::ACCEPTED, Answer(report.into())))
}
