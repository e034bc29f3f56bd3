//! `/v1/chat/completions`: model `kb:NAME` answers from that knowledge base with citations, any other name is plain
//! generation.

use std::convert::Infallible;

use axum::Json as Reply;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use rag_core::ask::AskRequest;
use rag_core::ports::{FinishReason, GenerationEvent, Role, Usage};
use rag_core::quote::Citation;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::prompt::{self, Message};
use super::{
    KB_PREFIX, OpenAiError, OpenAiUsage, SamplingBody, StreamOptions, error_json, means, new_id, now_s,
    unknown_model,
};
use crate::answer::Answer;
use crate::api::ask::CitationView;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::Json;
use crate::state::AppState;
use crate::watch::{Watched, reason_name};

#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ChatBody {
    /// `kb:NAME` for a knowledge base, else the generator's name or `default`.
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    sampling: SamplingBody,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatCompletion {
    id: String,
    /// `chat.completion`
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<Choice>,
    usage: OpenAiUsage,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Choice {
    index: u32,
    message: ChatMessage,
    finish_reason: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatMessage {
    role: &'static str,
    /// From a knowledge base it ends with a numbered list of the sources.
    content: String,
    /// For a knowledge base: where the answer comes from, in the order of the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    citations: Option<Vec<CitationView>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChunk {
    id: String,
    /// `chat.completion.chunk`
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<ChunkChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<OpenAiUsage>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChunkChoice {
    index: u32,
    delta: Delta,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// In the last chunk of an answer from a knowledge base.
    #[serde(skip_serializing_if = "Option::is_none")]
    citations: Option<Vec<CitationView>>,
}

/// Chat. With `stream` the answer comes as chunks, ended by `[DONE]`.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai", operation_id = "chat_completions",
    request_body = ChatBody,
    responses((status = 200, content((ChatCompletion = "application/json"), (ChatChunk = "text/event-stream"))),
        (status = "default", body = OpenAiError)))]
pub(crate) async fn chat(
    State(state): State<AppState>,
    caller: Caller,
    Json(body): Json<ChatBody>,
) -> ApiResult<Response> {
    let model = body.model.clone();
    let stream = body.stream;
    let usage_wanted = body.stream_options.is_some_and(|options| options.include_usage);
    let mut speech = Speech { source: Source::open(&state, &caller, body).await?, begun: false };
    if stream {
        let told =
            Told { step: Step::Role(speech), id: new_id("chatcmpl-"), created: now_s(), model, usage_wanted };
        let events = stream::unfold(told, Told::next);
        return Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response());
    }
    let mut content = String::new();
    let end = loop {
        match speech.next().await? {
            Said::Text(more) => content.push_str(&more),
            Said::End(end) => break end,
        }
    };
    let content = content.trim_end().to_owned() + &end.sources;
    let message = ChatMessage { role: "assistant", content, citations: end.citations };
    Ok(Reply(ChatCompletion {
        id: new_id("chatcmpl-"),
        object: "chat.completion",
        created: now_s(),
        model,
        choices: vec![Choice { index: 0, message, finish_reason: reason_name(end.reason) }],
        usage: end.usage.into(),
    })
    .into_response())
}

/// Who answers.
enum Source {
    Kb(Box<Answer>),
    Plain(Watched),
}

/// An answer without the white space that models begin with.
struct Speech {
    source: Source,
    begun: bool,
}

enum Said {
    Text(String),
    End(End),
}

struct End {
    reason: FinishReason,
    usage: Usage,
    /// To add to the text: the numbered list of sources, or nothing.
    sources: String,
    citations: Option<Vec<CitationView>>,
}

impl Source {
    async fn open(state: &AppState, caller: &Caller, body: ChatBody) -> ApiResult<Self> {
        if let Some(name) = body.model.strip_prefix(KB_PREFIX) {
            let kb = caller.kb(Role::Reader, name)?;
            body.sampling.check()?;
            let (question, history) = prompt::question(body.messages)?;
            let request = AskRequest {
                question,
                history,
                answer_tokens_max: body.sampling.tokens_max(),
                temperature: body.sampling.temperature,
                top_p: body.sampling.top_p,
                seed: body.sampling.seed,
                tenant: caller.tenant(),
                ..AskRequest::default()
            };
            return Ok(Source::Kb(Box::new(Answer::begin(state, caller, kb, None, request).await?)));
        }
        caller.need(Role::Reader)?;
        let generator = &state.rag.generator;
        if !means(&body.model, &generator.identity()) {
            return Err(unknown_model(&body.model, &format!("'{}' and 'kb:NAME'", generator.identity())));
        }
        let prompt = prompt::chat_prompt(body.messages)?;
        let request = body.sampling.into_request(caller, prompt, &prompt::STOPS)?;
        Ok(Source::Plain(Watched::new(state, caller, generator.generate(request).await?)))
    }
}

impl Speech {
    async fn next(&mut self) -> ApiResult<Said> {
        loop {
            let said = match &mut self.source {
                Source::Kb(answer) => match answer.next().await? {
                    Some(text) => Said::Text(text),
                    None => Said::End(End::of(answer)),
                },
                Source::Plain(words) => match words.next().await? {
                    GenerationEvent::Text(text) => Said::Text(text),
                    GenerationEvent::Done { reason, usage } => {
                        Said::End(End { reason, usage, sources: String::new(), citations: None })
                    }
                },
            };
            match said {
                Said::Text(text) if !self.begun => {
                    let text = text.trim_start();
                    self.begun = !text.is_empty();
                    if self.begun {
                        return Ok(Said::Text(text.to_owned()));
                    }
                }
                said => return Ok(said),
            }
        }
    }
}

impl End {
    fn of(answer: &Answer) -> Self {
        let citations = answer.citations();
        End {
            reason: answer.reason,
            usage: answer.usage,
            sources: source_list(&answer.about.question, &citations),
            citations: Some(citations.into_iter().map(CitationView::from).collect()),
        }
    }
}

/// `[1] manual.md › Chapter 3`, one a line, headed in the question's language.
fn source_list(question: &str, citations: &[Citation]) -> String {
    if citations.is_empty() {
        return String::new();
    }
    let han = question.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
    let mut list = String::from(if han { "\n\n来源：" } else { "\n\nSources:" });
    for (number, citation) in (1..).zip(citations) {
        list.push_str(&format!("\n[{number}] {}", citation.document_name));
        if let Some(heading) = &citation.heading {
            list.push_str(&format!(" › {heading}"));
        }
        match citation.page {
            Some(page) if han => list.push_str(&format!("，第 {page} 页")),
            Some(page) => list.push_str(&format!(", page {page}")),
            None => {}
        }
    }
    list
}

/// A streamed answer: role, words, sources and end, token counts, `[DONE]`.
struct Told {
    step: Step,
    id: String,
    created: u64,
    model: String,
    usage_wanted: bool,
}

enum Step {
    Role(Speech),
    Words(Speech),
    Usage(OpenAiUsage),
    Done,
    Closed,
}

impl Told {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        let (event, step) = match std::mem::replace(&mut self.step, Step::Closed) {
            Step::Role(speech) => {
                let delta = Delta { role: Some("assistant"), ..Delta::default() };
                (self.chunk(delta, None), Step::Words(speech))
            }
            Step::Words(mut speech) => match speech.next().await {
                Ok(Said::Text(text)) => {
                    let delta = Delta { content: Some(text), ..Delta::default() };
                    (self.chunk(delta, None), Step::Words(speech))
                }
                Ok(Said::End(end)) => {
                    let content = Some(end.sources).filter(|sources| !sources.is_empty());
                    let delta = Delta { role: None, content, citations: end.citations };
                    let next = if self.usage_wanted { Step::Usage(end.usage.into()) } else { Step::Done };
                    (self.chunk(delta, Some(reason_name(end.reason))), next)
                }
                // Clients know an error in a stream by its body; nothing follows it.
                Err(error) => (Event::default().data(text_of(&error_json(&error))), Step::Closed),
            },
            Step::Usage(usage) => (self.event(Vec::new(), Some(usage)), Step::Done),
            Step::Done => (Event::default().data("[DONE]"), Step::Closed),
            Step::Closed => return None,
        };
        self.step = step;
        Some((Ok(event), self))
    }

    fn chunk(&self, delta: Delta, finish_reason: Option<&'static str>) -> Event {
        self.event(vec![ChunkChoice { index: 0, delta, finish_reason }], None)
    }

    fn event(&self, choices: Vec<ChunkChoice>, usage: Option<OpenAiUsage>) -> Event {
        let chunk = ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: self.model.clone(),
            choices,
            usage,
        };
        Event::default().json_data(chunk).unwrap_or_default()
    }
}

/// JSON of ours is UTF-8 and has no line break.
fn text_of(json: &[u8]) -> &str {
    std::str::from_utf8(json).unwrap_or_default()
}
