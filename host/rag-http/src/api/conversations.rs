//! Conversations: list, search, read, rename, delete, and mark their answers.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use rag_core::ports::{Conversation, ConversationQuery, Mark, NewRound, Role, Round};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ask::{CitationView, UsageView};
use crate::auth::Caller;
use crate::error::{ApiResult, ErrorBody};
use crate::extract::{InPath, InQuery, Json};
use crate::state::AppState;

/// Conversations, and rounds, in one answer at most.
const LIST_MAX: u32 = 200;
const ROUNDS_MAX: u32 = 2_000;

/// A conversation as listed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConversationView {
    id: String,
    kb: String,
    /// The first question until somebody renames it.
    title: String,
    rounds: u64,
    /// Milliseconds since 1970 (UTC).
    created_ms: i64,
    updated_ms: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConversationList {
    /// The latest first.
    conversations: Vec<ConversationView>,
    /// Give this as `skip` for the next page; none on the last.
    next: Option<u32>,
}

/// A conversation's rounds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConversationRounds {
    /// None when nothing was said yet.
    conversation: Option<ConversationView>,
    /// Oldest first.
    rounds: Vec<RoundView>,
    /// Give this as `before` for earlier rounds; none at the beginning.
    before: Option<u64>,
}

/// A question with its answer, as they were.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoundView {
    id: u64,
    question: String,
    answer: String,
    /// Nothing relevant was found.
    refused: bool,
    citations: Vec<CitationView>,
    usage: Option<UsageView>,
    /// `stop`, `length`, or `stopped` when somebody stopped it or it broke off.
    finish_reason: Option<String>,
    model: Option<String>,
    demonstration: bool,
    mark: Option<MarkName>,
    note: Option<String>,
    /// Milliseconds since 1970 (UTC).
    created_ms: i64,
}

/// What a reader thought of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MarkName {
    Good,
    Bad,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTitle {
    /// 1 to 80 characters.
    title: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMark {
    /// Null takes the mark back.
    mark: Option<MarkName>,
    /// Why, in the reader's words.
    note: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MarkedList {
    /// Newest first.
    rounds: Vec<RoundView>,
    /// Give this as `before` for the next page; none on the last.
    before: Option<u64>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only this knowledge base's.
    kb: Option<String>,
    /// Part of a title, question or answer.
    q: Option<String>,
    /// Conversations to skip.
    skip: Option<u32>,
    /// At most this many, 1 to 200; 50 when left out.
    limit: Option<u32>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RoundsQuery {
    /// Only rounds before this one.
    before: Option<u64>,
    /// At most this many, the latest, 1 to 2000; 2000 when left out.
    limit: Option<u32>,
}

/// List the caller's own conversations, the latest first.
#[utoipa::path(get, path = "/api/v1/conversations", tag = "conversations", operation_id = "list_conversations",
    params(ListQuery),
    responses((status = 200, body = ConversationList), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    InQuery(query): InQuery<ListQuery>,
) -> ApiResult<Answer<ConversationList>> {
    caller.need(Role::Reader)?;
    let kb = query.kb.map(|kb| caller.kb(Role::Reader, &kb)).transpose()?;
    let limit = query.limit.unwrap_or(50).clamp(1, LIST_MAX);
    let skip = query.skip.unwrap_or(0);
    let wanted =
        ConversationQuery { owner: caller.principal.key_id.clone(), kb, words: query.q, skip, limit };
    let found = state.rag.records.conversations(&wanted).await?;
    let next = (found.len() >= limit as usize).then(|| skip.saturating_add(limit));
    // A right may have been taken back since.
    let reached = found.into_iter().filter(|found| caller.reaches(&found.key.kb));
    Ok(Answer(ConversationList { conversations: reached.map(ConversationView::from).collect(), next }))
}

/// The rounds of one of the caller's own conversations; empty for an unknown one.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/conversations/{id}", tag = "conversations",
    operation_id = "conversation", params(("kb" = String, Path,), ("id" = String, Path,), RoundsQuery),
    responses((status = 200, body = ConversationRounds), (status = "default", body = ErrorBody)))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, id)): InPath<(String, String)>,
    InQuery(query): InQuery<RoundsQuery>,
) -> ApiResult<Answer<ConversationRounds>> {
    let kb = caller.kb(Role::Reader, &kb)?;
    let key = caller.conversation(&kb, &id)?;
    let limit = query.limit.unwrap_or(ROUNDS_MAX).clamp(1, ROUNDS_MAX);
    let rounds = state.rag.records.rounds(&key, query.before, limit).await?;
    let conversation = if rounds.is_empty() && query.before.is_none() {
        None
    } else {
        Some(state.rag.records.conversation(&key).await?.into())
    };
    let before = earlier(&rounds, limit, rounds.first());
    Ok(Answer(ConversationRounds {
        conversation,
        rounds: rounds.into_iter().map(RoundView::from).collect(),
        before,
    }))
}

/// Rename a conversation.
#[utoipa::path(patch, path = "/api/v1/kbs/{kb}/conversations/{id}", tag = "conversations",
    operation_id = "rename_conversation", params(("kb" = String, Path,), ("id" = String, Path,)),
    request_body = NewTitle,
    responses((status = 200, body = ConversationView), (status = "default", body = ErrorBody)))]
pub(crate) async fn rename(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, id)): InPath<(String, String)>,
    Json(new): Json<NewTitle>,
) -> ApiResult<Answer<ConversationView>> {
    let kb = caller.kb(Role::Reader, &kb)?;
    let key = caller.conversation(&kb, &id)?;
    Ok(Answer(state.rag.records.rename_conversation(&key, &new.title).await?.into()))
}

/// Delete a conversation with all its rounds.
#[utoipa::path(delete, path = "/api/v1/kbs/{kb}/conversations/{id}", tag = "conversations",
    operation_id = "delete_conversation", params(("kb" = String, Path,), ("id" = String, Path,)),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, id)): InPath<(String, String)>,
) -> ApiResult<StatusCode> {
    let kb = caller.kb(Role::Reader, &kb)?;
    state.rag.records.delete_conversation(&caller.conversation(&kb, &id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Mark an answer as good or bad, or take the mark back.
#[utoipa::path(put, path = "/api/v1/kbs/{kb}/conversations/{id}/rounds/{round}/mark", tag = "conversations",
    operation_id = "mark_answer",
    params(("kb" = String, Path,), ("id" = String, Path,), ("round" = u64, Path,)), request_body = NewMark,
    responses((status = 200, body = RoundView), (status = "default", body = ErrorBody)))]
pub(crate) async fn mark(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, id, round)): InPath<(String, String, String)>,
    Json(new): Json<NewMark>,
) -> ApiResult<Answer<RoundView>> {
    let kb = caller.kb(Role::Reader, &kb)?;
    let key = caller.conversation(&kb, &id)?;
    let unknown = || crate::error::ApiError::not_found("round", &round);
    let number = round.parse().map_err(|_| unknown())?;
    let mark = new.mark.map(|mark| if mark == MarkName::Good { Mark::Good } else { Mark::Bad });
    let note = new.note.as_deref().filter(|_| mark.is_some());
    Ok(Answer(state.rag.records.mark_round(&key, number, mark, note).await?.into()))
}

/// Marked answers of a knowledge base, whoever asked, newest first: material for question sets.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/marks", tag = "conversations", operation_id = "marked_answers",
    params(("kb" = String, Path,), RoundsQuery),
    responses((status = 200, body = MarkedList), (status = "default", body = ErrorBody)))]
pub(crate) async fn marked(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    InQuery(query): InQuery<RoundsQuery>,
) -> ApiResult<Answer<MarkedList>> {
    let kb = caller.kb(Role::Editor, &kb)?;
    let limit = query.limit.unwrap_or(LIST_MAX).clamp(1, ROUNDS_MAX);
    let rounds = state.rag.records.marked_rounds(&kb, query.before, limit).await?;
    let before = earlier(&rounds, limit, rounds.last());
    Ok(Answer(MarkedList { rounds: rounds.into_iter().map(RoundView::from).collect(), before }))
}

fn earlier(rounds: &[Round], limit: u32, oldest: Option<&Round>) -> Option<u64> {
    oldest.filter(|_| rounds.len() >= limit as usize).map(|round| round.id)
}

/// What is shown beside a kept answer; later versions may add to it, so nothing is required.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Detail {
    citations: Vec<CitationView>,
    usage: Option<UsageView>,
    finish_reason: Option<String>,
    model: Option<String>,
    demonstration: bool,
}

impl Detail {
    pub(crate) fn of(answer: &crate::answer::Answer, reason: &str) -> Self {
        Detail {
            citations: answer.citations().into_iter().map(CitationView::from).collect(),
            usage: Some(answer.usage.into()),
            finish_reason: Some(reason.to_owned()),
            model: Some(answer.about.model.clone()),
            demonstration: answer.about.demonstration,
        }
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

impl From<Conversation> for ConversationView {
    fn from(conversation: Conversation) -> Self {
        ConversationView {
            id: conversation.key.id,
            kb: conversation.key.kb.as_str().to_owned(),
            title: conversation.title,
            rounds: conversation.rounds,
            created_ms: conversation.created_ms,
            updated_ms: conversation.updated_ms,
        }
    }
}

impl From<Round> for RoundView {
    fn from(kept: Round) -> Self {
        let NewRound { question, answer, refused, detail } = kept.round;
        // What an older version wrote may lack everything beside the words.
        let detail: Detail = serde_json::from_str(&detail).unwrap_or_default();
        RoundView {
            id: kept.id,
            question,
            answer,
            refused,
            citations: detail.citations,
            usage: detail.usage,
            finish_reason: detail.finish_reason,
            model: detail.model,
            demonstration: detail.demonstration,
            mark: kept.mark.map(|mark| if mark == Mark::Good { MarkName::Good } else { MarkName::Bad }),
            note: kept.note,
            created_ms: kept.created_ms,
        }
    }
}
