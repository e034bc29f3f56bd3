//! Conversations: what was said in one, for the page to show again.

use axum::Json as Answer;
use axum::extract::State;
use rag_core::ports::Role;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::error::{ApiResult, ErrorBody};
use crate::extract::InPath;
use crate::state::AppState;

/// Rounds shown at most, the newest.
const ROUNDS_MAX: usize = 100;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Conversation {
    /// Oldest first.
    rounds: Vec<SaidRound>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SaidRound {
    question: String,
    answer: String,
}

/// The rounds kept of one of the key's own conversations; empty for an unknown one.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/conversations/{id}", tag = "answers", operation_id = "conversation",
    params(("kb" = String, Path,), ("id" = String, Path,)),
    responses((status = 200, body = Conversation), (status = "default", body = ErrorBody)))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, id)): InPath<(String, String)>,
) -> ApiResult<Answer<Conversation>> {
    let kb = caller.kb(Role::Reader, &kb)?;
    let conversation = caller.conversation(&kb, &id)?;
    let turns = state.rag.catalog.turns(&conversation, ROUNDS_MAX).await?.into_iter();
    let rounds = turns.map(|turn| SaidRound { question: turn.question, answer: turn.answer });
    Ok(Answer(Conversation { rounds: rounds.collect() }))
}
