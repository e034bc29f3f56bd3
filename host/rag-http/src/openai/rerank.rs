//! `/v1/rerank`: texts ordered by how well they answer a query, in the shape that Jina and Cohere share.

use axum::Json as Reply;
use axum::extract::State;
use rag_core::ports::Role;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{OpenAiError, means, new_id, unknown_model};
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::extract::Json;
use crate::state::AppState;

/// Texts of one request.
const DOCUMENTS_MAX: usize = 1_000;

#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RerankBody {
    /// The reranker's name, or `default`, which is also meant when left out.
    model: Option<String>,
    query: String,
    documents: Vec<Document>,
    /// Results wanted; all when left out.
    top_n: Option<usize>,
    /// Whether results repeat their text; yes when left out.
    return_documents: Option<bool>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Document {
    Text(String),
    Object { text: String },
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reranked {
    id: String,
    model: String,
    /// Best first.
    results: Vec<RerankResult>,
    usage: RerankUsage,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RerankResult {
    /// Of the text in the request, from 0.
    index: usize,
    /// Higher is better; comparable within one model only.
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentText>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DocumentText {
    text: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RerankUsage {
    total_tokens: u64,
}

/// Rerank texts.
#[utoipa::path(post, path = "/v1/rerank", tag = "openai", operation_id = "rerank", request_body = RerankBody,
    responses((status = 200, body = Reranked), (status = "default", body = OpenAiError)))]
pub(crate) async fn rerank(
    State(state): State<AppState>,
    caller: Caller,
    Json(body): Json<RerankBody>,
) -> ApiResult<Reply<Reranked>> {
    caller.need(Role::Reader)?;
    let reranker = &state.rag.reranker;
    let model = body.model.unwrap_or_else(|| "default".to_owned());
    if !means(&model, reranker.identity()) {
        return Err(unknown_model(&model, &format!("'{}'", reranker.identity())));
    }
    if body.query.trim().is_empty() {
        return Err(ApiError::invalid("the query is empty"));
    }
    if body.documents.is_empty() || body.documents.len() > DOCUMENTS_MAX {
        return Err(ApiError::invalid(format!("documents must hold 1 to {DOCUMENTS_MAX} texts")));
    }
    let texts: Vec<String> = body.documents.into_iter().map(Document::into_text).collect();
    let scores = reranker.rerank(&body.query, &texts).await?;
    let tokens: u64 = state.rag.embedder.count_tokens(&texts).into_iter().map(u64::from).sum();

    let with_text = body.return_documents.unwrap_or(true);
    let mut results: Vec<RerankResult> = texts
        .into_iter()
        .zip(scores)
        .enumerate()
        .map(|(index, (text, relevance_score))| RerankResult {
            index,
            relevance_score,
            document: with_text.then_some(DocumentText { text }),
        })
        .collect();
    results.sort_by(|a, b| b.relevance_score.total_cmp(&a.relevance_score));
    results.truncate(body.top_n.unwrap_or(usize::MAX));
    let usage = RerankUsage { total_tokens: tokens };
    Ok(Reply(Reranked { id: new_id("rerank-"), model, results, usage }))
}

impl Document {
    fn into_text(self) -> String {
        match self {
            Document::Text(text) | Document::Object { text } => text,
        }
    }
}
