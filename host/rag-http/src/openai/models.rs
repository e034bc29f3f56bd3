//! `/v1/models`: the generator, the embedding model, and each knowledge base as `kb:NAME`.

use axum::Json as Reply;
use axum::extract::State;
use rag_core::ports::Role;
use serde::Serialize;
use utoipa::ToSchema;

use super::{KB_PREFIX, OpenAiError, unknown_model};
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::InPath;
use crate::state::AppState;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// `list`
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Model {
    id: String,
    /// `model`
    object: &'static str,
    /// Seconds since 1970; 0 for what came with the program.
    created: i64,
    owned_by: &'static str,
}

/// List what `model` may be.
#[utoipa::path(get, path = "/v1/models", tag = "openai", operation_id = "openai_models",
    responses((status = 200, body = ModelList), (status = "default", body = OpenAiError)))]
pub(crate) async fn list(State(state): State<AppState>, caller: Caller) -> ApiResult<Reply<ModelList>> {
    Ok(Reply(ModelList { object: "list", data: all(&state, &caller).await? }))
}

/// One of them.
#[utoipa::path(get, path = "/v1/models/{model}", tag = "openai", operation_id = "openai_model",
    params(("model" = String, Path,)),
    responses((status = 200, body = Model), (status = "default", body = OpenAiError)))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<Reply<Model>> {
    let found = all(&state, &caller).await?.into_iter().find(|model| model.id == id);
    found.map(Reply).ok_or_else(|| unknown_model(&id, "what GET /v1/models lists"))
}

async fn all(state: &AppState, caller: &Caller) -> ApiResult<Vec<Model>> {
    caller.need(Role::Reader)?;
    let own = |id: &str| Model { id: id.to_owned(), object: "model", created: 0, owned_by: "rwkv-rag" };
    let mut models = vec![own(&state.rag.generator.identity()), own(state.rag.embedder.identity())];
    let kbs = state.rag.catalog.kbs().await?;
    models.extend(
        kbs.iter()
            .filter(|kb| caller.reaches(&kb.name))
            .map(|kb| Model { created: kb.created_ms / 1_000, ..own(&format!("{KB_PREFIX}{}", kb.name)) }),
    );
    Ok(models)
}
