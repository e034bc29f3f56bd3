//! A whole knowledge base as one file: out as a stream, in from one.

use axum::Json as Answer;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use rag_core::bundle::Imported;
use rag_core::ports::Role;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::documents::attachment;
use super::kbs::KbView;
use super::upload::broken;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, InQuery};
use crate::state::AppState;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImportQuery {
    /// Another name than that in the file.
    name: Option<String>,
}

/// What came of a file.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImportedView {
    kb: KbView,
    /// Chunks that were embedded, because the file did not hold this encoder's vectors of them.
    embedded: u64,
    /// Plugins that are here in another version only, which is bound instead.
    exchanged: Vec<String>,
}

/// Download a knowledge base as one zip file: originals, texts, chunks, vectors, settings, and the hashes of all.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/export", tag = "knowledge bases", operation_id = "export_kb",
    params(("kb" = String, Path,)),
    responses((status = 200, content_type = "application/zip", body = Vec<u8>), (status = "default", body = ErrorBody)))]
pub(crate) async fn export(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
) -> ApiResult<Response> {
    let kb = caller.kb(Role::Admin, &kb)?;
    let (bytes, writing) = state.rag.clone().export_kb(kb.as_str()).await?;
    // Ends with its reader.
    tokio::spawn(writing);
    let name =
        HeaderValue::from_str(&attachment(&format!("{kb}.kb.zip"))).map_err(|_| ApiError::internal())?;
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/zip")), (CONTENT_DISPOSITION, name)];
    Ok((headers, Body::from_stream(bytes)).into_response())
}

/// Make a knowledge base of such a file. Nothing is kept of one that is damaged, changed or cut off.
#[utoipa::path(post, path = "/api/v1/imports", tag = "knowledge bases", operation_id = "import_kb",
    params(ImportQuery), request_body(content((Vec<u8> = "application/zip"))),
    responses((status = 201, body = ImportedView), (status = "default", body = ErrorBody)))]
pub(crate) async fn import(
    State(state): State<AppState>,
    caller: Caller,
    InQuery(query): InQuery<ImportQuery>,
    request: Request,
) -> ApiResult<(StatusCode, Answer<ImportedView>)> {
    caller.need_unscoped_admin()?;
    let mut upload = state.rag.bundles.upload()?;
    let mut body = request.into_body().into_data_stream();
    while let Some(bytes) = body.next().await {
        upload.write(bytes.map_err(|error| broken(&error))?).await?;
    }
    // Whether or not its caller waits, it comes to an end.
    let rag = state.rag.clone();
    let importing = tokio::spawn(async move { rag.import_kb(upload, query.name.as_deref()).await });
    let Imported { kb, embedded, exchanged } = importing.await.map_err(|_| ApiError::internal())??;
    Ok((StatusCode::CREATED, Answer(ImportedView { kb: KbView::from(kb), embedded, exchanged })))
}
