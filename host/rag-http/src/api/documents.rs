//! Documents and their chunks: list, read, download, delete.

use axum::Json as Answer;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use rag_core::document::{ChunkId, DocumentId};
use rag_core::kb::KbName;
use rag_core::ports::{DocumentInfo, DocumentQuery, DocumentState, Role, Stored};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, InQuery};
use crate::state::AppState;

/// Entries of one page of a list.
const PAGE_MAX: u32 = 1_000;
/// Bytes of text in one answer.
const TEXT_MAX: u64 = 1 << 20;
/// Bytes of an original read at once.
const READ: u32 = 256 << 10;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DocumentView {
    id: String,
    kb: String,
    name: String,
    title: Option<String>,
    language: Option<String>,
    /// SHA-256 of the original.
    sha256: String,
    /// Bytes of the original.
    size: u64,
    media_type: String,
    /// `pending`, `ready` or `deleting`.
    state: &'static str,
    chunks: u64,
    /// Bytes of its text.
    text_bytes: u64,
    /// Out of every search until it is enabled.
    disabled: bool,
    /// What the parser found, e.g. the author.
    attributes: Vec<Pair>,
    /// What people noted; filters find both.
    metadata: Vec<Pair>,
    /// The folder that it is kept in step with.
    folder: Option<String>,
    /// Milliseconds since 1970 (UTC).
    created_ms: i64,
}

/// A key with its value; a key may occur several times.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) value: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DocumentList {
    documents: Vec<DocumentView>,
    /// Give this as `after` for the next page; none on the last.
    next: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChunkView {
    id: String,
    document: String,
    /// Counts from 0.
    ordinal: u32,
    text: String,
    /// Bytes [start, end) of the document's text.
    start: u64,
    end: u64,
    heading: Option<String>,
    page: Option<u32>,
    parent: Option<String>,
    /// Put before the text for embedding only.
    context: Option<String>,
    /// Out of every search until it is enabled.
    disabled: bool,
    /// Its text is no longer that of the document.
    edited: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChunkList {
    chunks: Vec<ChunkView>,
    /// Give this as `after` for the next page; none on the last.
    next: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TextView {
    document: String,
    /// Bytes of the whole text.
    text_bytes: u64,
    /// The range asked for, cut to the text and to 1 MiB; `text` is widened to whole characters.
    start: u64,
    end: u64,
    text: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DocumentsQuery {
    /// Names after this one.
    after: Option<String>,
    /// At most this many, 1 to 1000; 100 when left out.
    limit: Option<u32>,
    /// Part of a name or title.
    q: Option<String>,
    /// Only disabled ones, or only the others.
    disabled: Option<bool>,
    /// Only those whose original another document of the knowledge base has too.
    duplicates: Option<bool>,
    /// `key:value`: only those with this pair among attributes or metadata.
    tag: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChunksQuery {
    /// Ordinals after this one.
    after: Option<u32>,
    /// At most this many, 1 to 1000; 100 when left out.
    limit: Option<u32>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RangeQuery {
    /// First byte; 0 when left out.
    start: Option<u64>,
    /// Byte after the last; the end when left out.
    end: Option<u64>,
}

/// List a knowledge base's documents by name.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/documents", tag = "documents", operation_id = "list_documents",
    params(("kb" = String, Path,), DocumentsQuery),
    responses((status = 200, body = DocumentList), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    InQuery(query): InQuery<DocumentsQuery>,
) -> ApiResult<Answer<DocumentList>> {
    let kb = caller.kb(Role::Reader, &kb)?;
    state.rag.kb(kb.as_str()).await?;
    let limit = query.limit.unwrap_or(100).clamp(1, PAGE_MAX);
    let tagged = query.tag.as_deref().map(|tag| tag.split_once(':').unwrap_or(("tag", tag)));
    let wanted = DocumentQuery {
        words: query.q.filter(|words| !words.is_empty()),
        disabled: query.disabled,
        duplicates: query.duplicates.unwrap_or(false),
        tagged: tagged.map(|(key, value)| (key.to_owned(), value.to_owned())),
        after: query.after,
        limit,
    };
    let found = state.rag.records.find_documents(&kb, &wanted).await?;
    let next = (found.len() >= limit as usize).then(|| found.last().map(|last| last.name.clone())).flatten();
    Ok(Answer(DocumentList { documents: found.into_iter().map(DocumentView::from).collect(), next }))
}

/// One document.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/documents/{document}", tag = "documents",
    operation_id = "get_document", params(("kb" = String, Path,), ("document" = String, Path,)),
    responses((status = 200, body = DocumentView), (status = "default", body = ErrorBody)))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, document)): InPath<(String, String)>,
) -> ApiResult<Answer<DocumentView>> {
    Ok(Answer(within(&state, &caller, Role::Reader, &kb, document).await?.into()))
}

/// Delete a document: no answer uses it any more, and its original goes when nothing else refers to it.
#[utoipa::path(delete, path = "/api/v1/kbs/{kb}/documents/{document}", tag = "documents",
    operation_id = "delete_document", params(("kb" = String, Path,), ("document" = String, Path,)),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, document)): InPath<(String, String)>,
) -> ApiResult<StatusCode> {
    let document = within(&state, &caller, Role::Editor, &kb, document).await?;
    state.rag.delete_document(&document.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A range of a document's text.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/documents/{document}/text", tag = "documents",
    operation_id = "document_text", params(("kb" = String, Path,), ("document" = String, Path,), RangeQuery),
    responses((status = 200, body = TextView), (status = "default", body = ErrorBody)))]
pub(crate) async fn text(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, document)): InPath<(String, String)>,
    InQuery(range): InQuery<RangeQuery>,
) -> ApiResult<Answer<TextView>> {
    let document = within(&state, &caller, Role::Reader, &kb, document).await?;
    let start = range.start.unwrap_or(0).min(document.text_bytes);
    let end = range.end.unwrap_or(u64::MAX).min(document.text_bytes).min(start + TEXT_MAX);
    if end < start {
        return Err(ApiError::invalid("the range ends before it starts"));
    }
    let text = state.rag.catalog.document_text(&document.id, start, end).await?;
    Ok(Answer(TextView { document: document.id.0, text_bytes: document.text_bytes, start, end, text }))
}

/// Download the original. Never shown by the browser: a document may hold anything.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/documents/{document}/original", tag = "documents",
    operation_id = "download", params(("kb" = String, Path,), ("document" = String, Path,)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", body = ErrorBody)))]
pub(crate) async fn original(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, document)): InPath<(String, String)>,
) -> ApiResult<Response> {
    let document = within(&state, &caller, Role::Reader, &kb, document).await?;
    let blob = state.rag.blobs.open(&document.blob, &document.name, &document.media_type).await?;
    let size = blob.size();
    let pieces = stream::unfold(Some(0_u64), move |offset| {
        let blob = blob.clone();
        async move {
            let offset = offset.filter(|&offset| offset < size)?;
            let piece = blob.read_at(offset, READ).await;
            // A piece that cannot be read ends the answer short of its length: the client sees that it is broken.
            let next = piece
                .as_ref()
                .ok()
                .filter(|bytes| !bytes.is_empty())
                .map(|bytes| offset + bytes.len() as u64);
            if let Err(error) = &piece {
                tracing::error!(%error, "an original could not be read");
            }
            Some((piece, next))
        }
    });
    let disposition =
        HeaderValue::from_str(&attachment(&document.name)).unwrap_or(HeaderValue::from_static("attachment"));
    let headers = [
        // Nothing of it runs or loads anything, even where a browser would show it all the same.
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox")),
        (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (CONTENT_DISPOSITION, disposition),
        (CONTENT_LENGTH, HeaderValue::from(size)),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// List a document's chunks in order.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/documents/{document}/chunks", tag = "chunks",
    operation_id = "list_chunks", params(("kb" = String, Path,), ("document" = String, Path,), ChunksQuery),
    responses((status = 200, body = ChunkList), (status = "default", body = ErrorBody)))]
pub(crate) async fn chunks(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, document)): InPath<(String, String)>,
    InQuery(query): InQuery<ChunksQuery>,
) -> ApiResult<Answer<ChunkList>> {
    let document = within(&state, &caller, Role::Reader, &kb, document).await?;
    let limit = query.limit.unwrap_or(100).clamp(1, PAGE_MAX);
    let found = state.rag.catalog.chunks(&document.id, query.after, limit).await?;
    let next = (found.len() >= limit as usize).then(|| found.last().map(|last| last.chunk.ordinal)).flatten();
    Ok(Answer(ChunkList { chunks: found.into_iter().map(ChunkView::from).collect(), next }))
}

/// One chunk.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/chunks/{chunk}", tag = "chunks", operation_id = "get_chunk",
    params(("kb" = String, Path,), ("chunk" = String, Path,)),
    responses((status = 200, body = ChunkView), (status = "default", body = ErrorBody)))]
pub(crate) async fn chunk(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, chunk)): InPath<(String, String)>,
) -> ApiResult<Answer<ChunkView>> {
    let kb = caller.kb(Role::Reader, &kb)?;
    Ok(Answer(state.rag.records.chunk(&kb, &ChunkId(chunk)).await?.into()))
}

/// Delete one chunk; the document's text and other chunks stay.
#[utoipa::path(delete, path = "/api/v1/kbs/{kb}/chunks/{chunk}", tag = "chunks", operation_id = "delete_chunk",
    params(("kb" = String, Path,), ("chunk" = String, Path,)),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn delete_chunk(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, chunk)): InPath<(String, String)>,
) -> ApiResult<StatusCode> {
    let kb = caller.kb(Role::Editor, &kb)?;
    state.rag.delete_chunk(kb.as_str(), &ChunkId(chunk)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A document of this very knowledge base: an id of another one does not exist here.
pub(crate) async fn within(
    state: &AppState,
    caller: &Caller,
    role: Role,
    kb: &str,
    document: String,
) -> ApiResult<DocumentInfo> {
    let kb: KbName = caller.kb(role, kb)?;
    state.rag.kb(kb.as_str()).await?;
    let found = state.rag.catalog.document(&DocumentId(document.clone())).await?;
    if found.kb == kb { Ok(found) } else { Err(ApiError::not_found("document", &document)) }
}

/// `attachment` with the name's last part: in ASCII for old clients, and in full, percent-encoded (RFC 6266).
pub(crate) fn attachment(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    let ascii: String = file
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ') { c } else { '_' })
        .collect();
    let mut encoded = String::new();
    for byte in file.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
}

fn pairs(pairs: Vec<(String, String)>) -> Vec<Pair> {
    pairs.into_iter().map(|(key, value)| Pair { key, value }).collect()
}

impl From<DocumentInfo> for DocumentView {
    fn from(document: DocumentInfo) -> Self {
        DocumentView {
            id: document.id.0,
            kb: document.kb.as_str().to_owned(),
            name: document.name,
            title: document.title,
            language: document.language,
            sha256: document.blob.0,
            size: document.size,
            media_type: document.media_type,
            state: match document.state {
                DocumentState::Pending => "pending",
                DocumentState::Ready => "ready",
                DocumentState::Deleting => "deleting",
            },
            chunks: document.chunks,
            text_bytes: document.text_bytes,
            disabled: document.disabled,
            attributes: pairs(document.attributes),
            metadata: pairs(document.metadata),
            folder: document.folder,
            created_ms: document.created_ms,
        }
    }
}

impl From<Stored> for ChunkView {
    fn from(stored: Stored) -> Self {
        let chunk = stored.chunk;
        ChunkView {
            id: chunk.id.0,
            document: stored.document.0,
            ordinal: chunk.ordinal,
            text: chunk.text,
            start: chunk.span.start,
            end: chunk.span.end,
            heading: chunk.heading,
            page: chunk.page,
            parent: chunk.parent.map(|id| id.0),
            context: chunk.context,
            disabled: stored.disabled,
            edited: stored.edited,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leaves_its_header_field() {
        let check = |name: &str, want: &str| assert_eq!(attachment(name), want);
        check(
            "手册/第 1 章.md",
            "attachment; filename=\"_ 1 _.md\"; filename*=UTF-8''%E7%AC%AC%201%20%E7%AB%A0.md",
        );
        check(
            "a\"; x=\"b.html",
            "attachment; filename=\"a__ x__b.html\"; filename*=UTF-8''a%22%3B%20x%3D%22b.html",
        );
        check(
            "a\r\nSet-Cookie: b",
            "attachment; filename=\"a__Set-Cookie_ b\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20b",
        );
    }
}
