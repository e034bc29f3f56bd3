//! Ask: an answer with citations, whole as JSON or as it is written (server-sent events).

use std::convert::Infallible;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use rag_core::ask::AskRequest;
use rag_core::ports::{Role, Usage, Variant};
use rag_core::quote::Citation;
use rag_core::search::Turn;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::FilterTree;
use super::kbs::{ANSWER_TOKENS_MAX, given, in_range};
use super::search::{HitView, Trace};
use crate::answer::Answer;
use crate::auth::Caller;
use crate::error::{ApiResult, ErrorBody};
use crate::extract::{InPath, Json};
use crate::frame::RequestId;
use crate::state::AppState;
use crate::watch::reason_name;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskBody {
    question: String,
    /// 1 to 64 ASCII letters, digits, `-` and `_`. Rounds are kept under it, and the last six are used. Each key has
    /// conversations of its own.
    conversation: Option<String>,
    /// Earlier rounds, oldest first, instead of those kept.
    #[serde(default)]
    history: Vec<Round>,
    filter: Option<FilterTree>,
    /// Passages in the prompt at most, 1 to 100.
    passages: Option<u32>,
    /// Tokens of the answer at most.
    answer_tokens_max: Option<u32>,
    /// 0 to 5; 0 is greedy.
    temperature: Option<f32>,
    /// 0 to 1.
    top_p: Option<f32>,
    /// The same seed gives the same answer.
    seed: Option<u64>,
    /// Id of a retriever in place of the knowledge base's.
    retriever: Option<String>,
    /// For editors: an online tuned state in place of the knowledge base's. With null here or in `adapter` and no name in
    /// the other, the language model answers as it is.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    state: Option<Option<String>>,
    /// Likewise an online adapter.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    adapter: Option<Option<String>>,
    /// Also return everything that was considered.
    #[serde(default)]
    recall: bool,
}

/// An earlier round.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Round {
    question: String,
    answer: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AskAnswer {
    answer: String,
    /// Nothing relevant was found: the answer says so, and there are no citations.
    refused: bool,
    citations: Vec<CitationView>,
    trace: Trace,
    usage: UsageView,
    /// `stop`, or `length` when the limit of tokens cut the answer.
    finish_reason: &'static str,
    /// The model that wrote.
    model: String,
    /// The model is the small one that only demonstrates: read the citations.
    demonstration: bool,
    /// Of the round kept in the conversation: by it the answer is marked.
    #[serde(skip_serializing_if = "Option::is_none")]
    round: Option<u64>,
    /// Everything that was considered, best first, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    recall: Option<Vec<HitView>>,
}

/// What is known before the first word.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AskStart {
    refused: bool,
    citations: Vec<CitationView>,
    model: String,
    demonstration: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    recall: Option<Vec<HitView>>,
}

/// Where an answer comes from.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct CitationView {
    /// The document's name.
    document: String,
    document_id: String,
    chunk: String,
    /// Heading path, joined by ` › `.
    #[serde(skip_serializing_if = "Option::is_none")]
    heading: Option<String>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<u32>,
    /// Bytes [start, end) of the document's text that hold `quote`.
    start: u64,
    end: u64,
    /// Verbatim from the document.
    quote: String,
    score: f32,
    /// The passage around the quote.
    passage: String,
}

/// Tokens read and written.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct UsageView {
    pub(crate) prompt_tokens: u32,
    pub(crate) output_tokens: u32,
}

#[derive(Serialize)]
struct Words {
    text: String,
}

/// Ask a question. With `Accept: text/event-stream` the answer comes as events: `citations` (AskStart), `token`
/// (`{"text"}`) any number of times, then `done` (AskAnswer) or `error` (ErrorBody).
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/ask", tag = "answers", operation_id = "ask",
    params(("kb" = String, Path,)), request_body = AskBody,
    responses((status = 200, content((AskAnswer = "application/json"), (AskStart = "text/event-stream"))),
        (status = "default", body = ErrorBody)))]
pub(crate) async fn ask(
    State(state): State<AppState>,
    caller: Caller,
    Extension(id): Extension<RequestId>,
    InPath(kb): InPath<String>,
    headers: HeaderMap,
    Json(body): Json<AskBody>,
) -> ApiResult<Response> {
    let named = body.state.is_some() || body.adapter.is_some();
    let kb = caller.kb(if named { Role::Editor } else { Role::Reader }, &kb)?;
    let recall = body.recall;
    let conversation = body.conversation.as_deref().map(|id| caller.conversation(&kb, id)).transpose()?;
    let request = AskRequest { tenant: caller.tenant(), ..body.into_request()? };
    let answer = Answer::begin(&state, &caller, kb, conversation, request).await?;

    if !wants_events(&headers) {
        let answer = answer.finish().await?;
        return Ok(axum::Json(AskAnswer::of(&answer, recall)).into_response());
    }
    let told = Told { step: Step::Start(Box::new(answer)), recall, id };
    let events = stream::unfold(told, |told| told.next());
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

pub(crate) fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
    })
}

/// An answer as a caller hears it.
struct Told {
    step: Step,
    recall: bool,
    id: RequestId,
}

enum Step {
    Start(Box<Answer>),
    Words(Box<Answer>),
    End,
}

impl Told {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        let (event, step) = match self.step {
            Step::Start(answer) => {
                (event("citations", &AskStart::of(&answer, self.recall)), Step::Words(answer))
            }
            Step::Words(mut answer) => match answer.next().await {
                Ok(Some(text)) => (event("token", &Words { text }), Step::Words(answer)),
                Ok(None) => (event("done", &AskAnswer::of(&answer, self.recall)), Step::End),
                Err(error) => (event("error", &error.body(&self.id.0)), Step::End),
            },
            Step::End => return None,
        };
        self.step = step;
        Some((Ok(event), self))
    }
}

fn event<T: Serialize>(name: &str, data: &T) -> Event {
    Event::default().event(name).json_data(data).unwrap_or_default()
}

impl AskBody {
    fn into_request(self) -> ApiResult<AskRequest> {
        check_sampling(self.temperature, self.top_p, self.answer_tokens_max)?;
        if let Some(passages) = self.passages {
            in_range("passages", passages, 1, 100)?;
        }
        let turns =
            self.history.into_iter().map(|round| Turn { question: round.question, answer: round.answer });
        let named = self.state.is_some() || self.adapter.is_some();
        let variant = Variant { state: self.state.flatten(), adapter: self.adapter.flatten() };
        Ok(AskRequest {
            question: self.question,
            conversation: None,
            history: turns.collect(),
            filter: self.filter.map(FilterTree::into_filter).transpose()?,
            passages: self.passages,
            answer_tokens_max: self.answer_tokens_max,
            temperature: self.temperature,
            top_p: self.top_p,
            seed: self.seed,
            retriever: self.retriever,
            variant: named.then_some(variant),
            tenant: String::new(),
        })
    }
}

/// Bounds that hold for every caller, in every API.
pub(crate) fn check_sampling(
    temperature: Option<f32>,
    top_p: Option<f32>,
    tokens_max: Option<u32>,
) -> ApiResult<()> {
    if let Some(temperature) = temperature {
        in_range("temperature", temperature, 0.0, 5.0)?;
    }
    if let Some(top_p) = top_p {
        in_range("top_p", top_p, 0.0, 1.0)?;
    }
    if let Some(tokens) = tokens_max {
        in_range("the limit of tokens", tokens, 1, ANSWER_TOKENS_MAX)?;
    }
    Ok(())
}

impl AskStart {
    fn of(answer: &Answer, recall: bool) -> Self {
        AskStart {
            refused: answer.about.refused,
            citations: answer.citations().into_iter().map(CitationView::from).collect(),
            model: answer.about.model.clone(),
            demonstration: answer.about.demonstration,
            recall: recall.then(|| HitView::all(&answer.about.recall, &answer.about.fates)),
        }
    }
}

impl AskAnswer {
    fn of(answer: &Answer, recall: bool) -> Self {
        let start = AskStart::of(answer, recall);
        AskAnswer {
            answer: answer.text.trim().to_owned(),
            refused: start.refused,
            citations: start.citations,
            trace: Trace::of(answer.about.steps.clone(), answer.about.rewritten.clone()),
            usage: answer.usage.into(),
            finish_reason: reason_name(answer.reason),
            model: start.model,
            demonstration: start.demonstration,
            round: answer.round,
            recall: start.recall,
        }
    }
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        UsageView { prompt_tokens: usage.prompt_tokens, output_tokens: usage.output_tokens }
    }
}

impl From<Citation> for CitationView {
    fn from(citation: Citation) -> Self {
        CitationView {
            document: citation.document_name,
            document_id: citation.document.0,
            chunk: citation.chunk.0,
            heading: citation.heading,
            page: citation.page,
            start: citation.span.start,
            end: citation.span.end,
            quote: citation.quote,
            score: citation.score,
            passage: citation.passage,
        }
    }
}
