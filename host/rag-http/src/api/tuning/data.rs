//! Data sets for tuning: uploaded as JSONL, or collected from what people marked.

use axum::Json as Answer;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use rag_core::Error;
use rag_core::ports::{Expected, Mark, Role};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::on;
use super::views::{DatasetDetail, DatasetList, DatasetView, DocumentPreview};
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, InQuery, Json};
use crate::state::AppState;

/// Marked answers read at once.
const PAGE: u32 = 200;
/// Examples of one collection.
const EXAMPLES_MAX: usize = 100_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PreviewQuery {
    /// Documents shown, 100 at most; 10 when left out.
    limit: Option<u32>,
}

/// How a binidx pair is written.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Conversion {
    /// Copies of the documents, each in a new order, 1 to 100; 3 when left out.
    epochs: Option<u32>,
    /// Tokens of a sample; the magic prime depends on it. 1024 when left out.
    context_tokens: Option<u32>,
    #[serde(default)]
    seed: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PairView {
    /// Path on the host without `.bin` and `.idx`.
    prefix: String,
    documents: u64,
    tokens: u64,
    /// For trainers that sample by it; none when the data is shorter than three contexts.
    magic_prime: Option<u64>,
}

/// What to collect from a knowledge base.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Collection {
    kb: String,
    /// Whether answers that were marked as good are taken, as question and answer.
    #[serde(default)]
    marks: bool,
    /// Question sets whose questions are taken, with their first expected text as the answer.
    #[serde(default)]
    question_sets: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CollectedView {
    dataset: DatasetView,
    /// Examples from marked answers and from questions.
    marks: u64,
    questions: u64,
    /// Questions without an expected text: they have no answer to learn.
    skipped: u64,
}

/// List data sets.
#[utoipa::path(get, path = "/api/v1/tuning/datasets", tag = "tuning", operation_id = "list_tuning_datasets",
    responses((status = 200, body = DatasetList), (status = "default", body = ErrorBody)))]
pub(crate) async fn datasets(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<Answer<DatasetList>> {
    let sets = on(&state, &caller, |tune| tune.datasets()).await?;
    Ok(Answer(DatasetList { datasets: sets.into_iter().map(DatasetView::from).collect() }))
}

/// Save a data set: JSONL, one object with a `text` a line. Every bad line is named, and nothing is saved then.
#[utoipa::path(put, path = "/api/v1/tuning/datasets/{name}", tag = "tuning", operation_id = "put_tuning_dataset",
    params(("name" = String, Path,)), request_body(content = String, content_type = "application/jsonl"),
    responses((status = 200, body = DatasetView), (status = "default", body = ErrorBody)))]
pub(crate) async fn put_dataset(
    State(state): State<AppState>,
    caller: Caller,
    InPath(name): InPath<String>,
    body: Bytes,
) -> ApiResult<Answer<DatasetView>> {
    let made = on(&state, &caller, move |tune| {
        let text = std::str::from_utf8(&body).map_err(|error| {
            Error::invalid(format!("the data set is not UTF-8: byte {} is wrong", error.valid_up_to()))
        })?;
        tune.add_dataset(&name, text)
    });
    Ok(Answer(made.await?.into()))
}

/// A data set with its first documents.
#[utoipa::path(get, path = "/api/v1/tuning/datasets/{name}", tag = "tuning", operation_id = "preview_tuning_dataset",
    params(("name" = String, Path,), PreviewQuery),
    responses((status = 200, body = DatasetDetail), (status = "default", body = ErrorBody)))]
pub(crate) async fn preview(
    State(state): State<AppState>,
    caller: Caller,
    InPath(name): InPath<String>,
    InQuery(query): InQuery<PreviewQuery>,
) -> ApiResult<Answer<DatasetDetail>> {
    let limit = query.limit.unwrap_or(10);
    let (dataset, shown) = on(&state, &caller, move |tune| tune.preview(&name, limit)).await?;
    let documents = shown.into_iter().map(DocumentPreview::from).collect();
    Ok(Answer(DatasetDetail { dataset: dataset.into(), documents }))
}

/// Delete a data set.
#[utoipa::path(delete, path = "/api/v1/tuning/datasets/{name}", tag = "tuning",
    operation_id = "delete_tuning_dataset", params(("name" = String, Path,)),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn delete_dataset(
    State(state): State<AppState>,
    caller: Caller,
    InPath(name): InPath<String>,
) -> ApiResult<StatusCode> {
    on(&state, &caller, move |tune| tune.delete_dataset(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Write a data set as a binidx pair, for RWKV's own trainers (J2B).
#[utoipa::path(post, path = "/api/v1/tuning/datasets/{name}/binidx", tag = "tuning",
    operation_id = "convert_tuning_dataset", params(("name" = String, Path,)), request_body = Conversion,
    responses((status = 200, body = PairView), (status = "default", body = ErrorBody)))]
pub(crate) async fn convert(
    State(state): State<AppState>,
    caller: Caller,
    InPath(name): InPath<String>,
    Json(asked): Json<Conversion>,
) -> ApiResult<Answer<PairView>> {
    let (epochs, context) = (asked.epochs.unwrap_or(3), asked.context_tokens.unwrap_or(1_024));
    let pair = on(&state, &caller, move |tune| tune.convert(&name, epochs, context, asked.seed)).await?;
    Ok(Answer(PairView {
        prefix: pair.prefix.display().to_string(),
        documents: pair.documents,
        tokens: pair.tokens,
        magic_prime: pair.magic_prime,
    }))
}

/// Make a data set from use: answers of a knowledge base that were marked as good, and questions of its sets.
#[utoipa::path(post, path = "/api/v1/tuning/datasets/{name}/collect", tag = "tuning",
    operation_id = "collect_tuning_dataset", params(("name" = String, Path,)), request_body = Collection,
    responses((status = 200, body = CollectedView), (status = "default", body = ErrorBody)))]
pub(crate) async fn collect(
    State(state): State<AppState>,
    caller: Caller,
    InPath(name): InPath<String>,
    Json(asked): Json<Collection>,
) -> ApiResult<Answer<CollectedView>> {
    caller.need_unscoped_admin()?;
    let kb = caller.kb(Role::Editor, &asked.kb)?;
    let (mut lines, mut marks, mut questions, mut skipped) = (String::new(), 0, 0, 0);
    let mut before = None;
    while asked.marks && marks < EXAMPLES_MAX {
        let rounds = state.rag.records.marked_rounds(&kb, before, PAGE).await?;
        for round in rounds.iter().filter(|round| round.mark == Some(Mark::Good) && !round.round.refused) {
            add(&mut lines, &round.round.question, &round.round.answer);
            marks += 1;
        }
        let Some(oldest) = rounds.last().filter(|_| rounds.len() == PAGE as usize) else { break };
        before = Some(oldest.id);
    }
    for set in &asked.question_sets {
        let found = state.rag.records.question_set(set).await?;
        if found.kb != kb {
            return Err(ApiError::not_found("question set", set));
        }
        for question in state.rag.records.questions(set).await? {
            let text = question.expected.iter().find_map(|expected| match expected {
                Expected::Text(text) => Some(text),
                Expected::Document(_) | Expected::Chunk(_) => None,
            });
            match text {
                Some(text) if questions < EXAMPLES_MAX => {
                    add(&mut lines, &question.question, text);
                    questions += 1;
                }
                _ => skipped += 1,
            }
        }
    }
    if lines.is_empty() {
        return Err(ApiError::invalid(
            "there is nothing to learn from: mark answers as good, or choose question sets with expected texts",
        ));
    }
    let made = on(&state, &caller, move |tune| tune.add_dataset(&name, &lines)).await?;
    Ok(Answer(CollectedView {
        dataset: made.into(),
        marks: marks as u64,
        questions: questions as u64,
        skipped,
    }))
}

/// One example as RWKV's chats are written: blank lines separate turns, so none may stand within one.
fn add(lines: &mut String, question: &str, answer: &str) {
    let turn = |text: &str| {
        let text = text.replace("\r\n", "\n");
        text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    };
    let text = format!("User: {}\n\nAssistant: {}", turn(question), turn(answer));
    lines.push_str(&json!({ "text": text }).to_string());
    lines.push('\n');
}
