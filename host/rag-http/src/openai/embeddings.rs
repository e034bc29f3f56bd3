//! `/v1/embeddings`: vectors of texts, as numbers or as Base64 of little-endian f32.

use axum::Json as Reply;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rag_core::limits::EMBED_BATCH;
use rag_core::ports::{Purpose, Role};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{OneOrMany, OpenAiError, means, unknown_model};
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::extract::Json;
use crate::state::AppState;

/// Texts of one request.
const TEXTS_MAX: usize = 2_048;

#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct EmbeddingsBody {
    /// The embedding model's name, or `default`.
    model: String,
    /// Texts; lists of token numbers are refused, as each model has its own.
    input: OneOrMany,
    /// `float` (the default) or `base64`.
    encoding_format: Option<EncodingFormat>,
    /// Only the model's own number.
    dimensions: Option<usize>,
    /// `query` for questions; `passage` (the default) for what is to be found.
    input_type: Option<InputType>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EncodingFormat {
    Float,
    Base64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InputType {
    #[serde(alias = "search_query")]
    Query,
    #[serde(alias = "document", alias = "search_document")]
    Passage,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingList {
    /// `list`
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: EmbeddingUsage,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Embedding {
    /// `embedding`
    object: &'static str,
    index: usize,
    embedding: Encoded,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Encoded {
    Float(Vec<f32>),
    Base64(String),
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingUsage {
    prompt_tokens: u64,
    total_tokens: u64,
}

/// Embed texts.
#[utoipa::path(post, path = "/v1/embeddings", tag = "openai", operation_id = "embeddings",
    request_body = EmbeddingsBody,
    responses((status = 200, body = EmbeddingList), (status = "default", body = OpenAiError)))]
pub(crate) async fn embeddings(
    State(state): State<AppState>,
    caller: Caller,
    Json(body): Json<EmbeddingsBody>,
) -> ApiResult<Reply<EmbeddingList>> {
    caller.need(Role::Reader)?;
    let embedder = &state.rag.embedder;
    if !means(&body.model, embedder.identity()) {
        return Err(unknown_model(&body.model, &format!("'{}'", embedder.identity())));
    }
    if body.dimensions.is_some_and(|dimensions| dimensions != embedder.dim()) {
        return Err(ApiError::invalid(format!("this model's vectors have {} dimensions", embedder.dim())));
    }
    let texts = body.input.into_vec();
    if texts.is_empty() || texts.len() > TEXTS_MAX || texts.iter().any(|text| text.trim().is_empty()) {
        return Err(ApiError::invalid(format!("input must be 1 to {TEXTS_MAX} texts, none of them empty")));
    }
    let purpose = match body.input_type {
        Some(InputType::Query) => Purpose::Query,
        _ => Purpose::Passage,
    };
    let tokens: u64 = embedder.count_tokens(&texts).into_iter().map(u64::from).sum();
    let base64 = body.encoding_format == Some(EncodingFormat::Base64);
    let mut data = Vec::with_capacity(texts.len());
    for batch in texts.chunks(EMBED_BATCH) {
        let vectors = embedder.embed(batch.to_vec(), purpose).await?;
        for row in vectors.iter() {
            let embedding = if base64 { encode(row) } else { Encoded::Float(row.to_vec()) };
            data.push(Embedding { object: "embedding", index: data.len(), embedding });
        }
    }
    let usage = EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens };
    Ok(Reply(EmbeddingList { object: "list", data, model: body.model, usage }))
}

fn encode(row: &[f32]) -> Encoded {
    let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
    Encoded::Base64(STANDARD.encode(bytes))
}
