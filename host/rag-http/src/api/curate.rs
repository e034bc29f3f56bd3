//! What people change about documents and chunks: switched off and on, tagged, edited, cut anew.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use rag_core::document::ChunkId;
use rag_core::kb::PluginChoice;
use rag_core::ports::Role;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::documents::{ChunkView, DocumentView, Pair, within};
use super::jobs::{JobList, JobView};
use super::kbs::PluginView;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, Json};
use crate::state::AppState;

/// Documents in one batch.
const BATCH_MAX: usize = 1_000;

/// What to change about a document; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocumentChange {
    /// False takes it out of every search at once; true queues a job that brings it back.
    enabled: Option<bool>,
    /// Replaces what was noted: at most 64 pairs; keys and values have at most 512 bytes.
    metadata: Option<Vec<Pair>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangedDocument {
    document: DocumentView,
    /// The job that makes it searchable again.
    job: Option<JobView>,
}

/// What to change about a chunk; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChunkChange {
    /// Whether searches find it.
    enabled: Option<bool>,
    /// Its new text, at most 16 KiB; the chunk gets a new id. The document's text stays.
    text: Option<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rechunk {
    /// The knowledge base's own when left out.
    chunker: Option<PluginView>,
}

/// What to do with each document of a batch.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BatchAction {
    Enable,
    Disable,
    Delete,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    action: BatchAction,
    /// Ids of documents, at most 1000.
    documents: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchResult {
    /// Documents that were changed.
    changed: Vec<String>,
    /// Jobs that make documents searchable again.
    jobs: Vec<JobView>,
    failed: Vec<BatchFailure>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchFailure {
    document: String,
    message: String,
}

/// Change a document: enable, disable, metadata.
#[utoipa::path(patch, path = "/api/v1/kbs/{kb}/documents/{document}", tag = "documents",
    operation_id = "change_document", params(("kb" = String, Path,), ("document" = String, Path,)),
    request_body = DocumentChange,
    responses((status = 200, body = ChangedDocument), (status = "default", body = ErrorBody)))]
pub(crate) async fn document(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, document)): InPath<(String, String)>,
    Json(change): Json<DocumentChange>,
) -> ApiResult<Answer<ChangedDocument>> {
    let found = within(&state, &caller, Role::Editor, &kb, document).await?;
    if let Some(metadata) = change.metadata {
        let metadata: Vec<_> = metadata.into_iter().map(|pair| (pair.key, pair.value)).collect();
        state.rag.records.set_metadata(&found.id, &metadata).await?;
    }
    let mut job = None;
    if let Some(enabled) = change.enabled {
        job = state.rag.set_document_enabled(&found.id, enabled).await?.map(JobView::from);
    }
    let document = state.rag.catalog.document(&found.id).await?.into();
    Ok(Answer(ChangedDocument { document, job }))
}

/// Enable, disable or delete many documents; each on its own, so that one failure stops no other.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/documents/batch", tag = "documents",
    operation_id = "change_documents", params(("kb" = String, Path,)), request_body = Batch,
    responses((status = 200, body = BatchResult), (status = "default", body = ErrorBody)))]
pub(crate) async fn batch(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    Json(batch): Json<Batch>,
) -> ApiResult<Answer<BatchResult>> {
    caller.kb(Role::Editor, &kb)?;
    if batch.documents.len() > BATCH_MAX {
        return Err(ApiError::invalid(format!("one batch takes at most {BATCH_MAX} documents")));
    }
    let mut result = BatchResult { changed: Vec::new(), jobs: Vec::new(), failed: Vec::new() };
    for id in batch.documents {
        match one(&state, &caller, &kb, id.clone(), batch.action).await {
            Ok(job) => {
                result.changed.push(id);
                result.jobs.extend(job);
            }
            Err(error) => result.failed.push(BatchFailure { document: id, message: error.message }),
        }
    }
    Ok(Answer(result))
}

async fn one(
    state: &AppState,
    caller: &Caller,
    kb: &str,
    id: String,
    action: BatchAction,
) -> ApiResult<Option<JobView>> {
    let found = within(state, caller, Role::Editor, kb, id).await?;
    let job = match action {
        BatchAction::Enable => state.rag.set_document_enabled(&found.id, true).await?,
        BatchAction::Disable => state.rag.set_document_enabled(&found.id, false).await?,
        BatchAction::Delete => {
            state.rag.delete_document(&found.id).await?;
            None
        }
    };
    Ok(job.map(JobView::from))
}

/// Cut a document anew, with another chunker or the knowledge base's own. Edits of its chunks are lost.
///
/// A document that is cut like this already stays as it is. What is cut anew has a new id: see the job's `document`.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/documents/{document}/rechunk", tag = "documents",
    operation_id = "rechunk", params(("kb" = String, Path,), ("document" = String, Path,)),
    request_body = Rechunk,
    responses((status = 202, body = JobList), (status = "default", body = ErrorBody)))]
pub(crate) async fn rechunk(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, document)): InPath<(String, String)>,
    Json(body): Json<Rechunk>,
) -> ApiResult<(StatusCode, Answer<JobList>)> {
    let found = within(&state, &caller, Role::Editor, &kb, document).await?;
    let chunker = body.chunker.map(PluginChoice::try_from).transpose()?;
    let job = state.rag.rechunk(&found.id, chunker).await?;
    Ok((StatusCode::ACCEPTED, Answer(JobList { jobs: vec![job.into()] })))
}

/// Change a chunk: edit its text, take it out of every search or bring it back.
#[utoipa::path(patch, path = "/api/v1/kbs/{kb}/chunks/{chunk}", tag = "chunks", operation_id = "change_chunk",
    params(("kb" = String, Path,), ("chunk" = String, Path,)), request_body = ChunkChange,
    responses((status = 200, body = ChunkView), (status = "default", body = ErrorBody)))]
pub(crate) async fn chunk(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, chunk)): InPath<(String, String)>,
    Json(change): Json<ChunkChange>,
) -> ApiResult<Answer<ChunkView>> {
    let kb = caller.kb(Role::Editor, &kb)?;
    let mut stored = state.rag.records.chunk(&kb, &ChunkId(chunk)).await?;
    if let Some(text) = change.text {
        stored = state.rag.edit_chunk(&kb, &stored.chunk.id, &text).await?;
    }
    if let Some(enabled) = change.enabled {
        stored = state.rag.set_chunk_enabled(&kb, &stored.chunk.id, enabled).await?;
    }
    Ok(Answer(stored.into()))
}
