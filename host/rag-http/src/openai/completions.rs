//! `/v1/completions`: the generator continues a text as it stands.

use std::convert::Infallible;

use axum::Json as Reply;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use rag_core::ports::{GenerationEvent, Role};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    OneOrMany, OpenAiError, OpenAiUsage, SamplingBody, StreamOptions, error_json, means, new_id, now_s,
    unknown_model,
};
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::extract::Json;
use crate::state::AppState;
use crate::watch::{Watched, reason_name};

#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CompletionBody {
    /// The generator's name, or `default`.
    model: String,
    /// One text, or a list of exactly one.
    prompt: OneOrMany,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    sampling: SamplingBody,
}

/// A completion, or a piece of a streamed one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Completion {
    id: String,
    /// `text_completion`
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<OpenAiUsage>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompletionChoice {
    index: u32,
    text: String,
    finish_reason: Option<&'static str>,
}

/// Continue a text. With `stream` it comes in pieces, ended by `[DONE]`.
#[utoipa::path(post, path = "/v1/completions", tag = "openai", operation_id = "completions",
    request_body = CompletionBody,
    responses((status = 200, content((Completion = "application/json"), (Completion = "text/event-stream"))),
        (status = "default", body = OpenAiError)))]
pub(crate) async fn completions(
    State(state): State<AppState>,
    caller: Caller,
    Json(body): Json<CompletionBody>,
) -> ApiResult<Response> {
    caller.need(Role::Reader)?;
    let generator = &state.rag.generator;
    if !means(&body.model, &generator.identity()) {
        return Err(unknown_model(&body.model, &format!("'{}'", generator.identity())));
    }
    let Ok([prompt]) = <[String; 1]>::try_from(body.prompt.into_vec()) else {
        return Err(ApiError::invalid("prompt must be one text"));
    };
    let usage_wanted = body.stream_options.is_some_and(|options| options.include_usage);
    let request = body.sampling.into_request(&caller, prompt, &[])?;
    let words = Watched::new(&state, &caller, generator.generate(request).await?);
    let told = Told {
        step: Step::Words(words),
        id: new_id("cmpl-"),
        created: now_s(),
        model: body.model,
        usage_wanted,
    };
    if body.stream {
        let events = stream::unfold(told, Told::next);
        return Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response());
    }
    let Told { step: Step::Words(words), id, created, model, .. } = told else {
        return Err(ApiError::internal());
    };
    let written = words.finish().await?;
    let choice =
        CompletionChoice { index: 0, text: written.text, finish_reason: Some(reason_name(written.reason)) };
    let usage = Some(written.usage.into());
    Ok(Reply(Completion { id, object: "text_completion", created, model, choices: vec![choice], usage })
        .into_response())
}

struct Told {
    step: Step,
    id: String,
    created: u64,
    model: String,
    usage_wanted: bool,
}

enum Step {
    Words(Watched),
    Usage(OpenAiUsage),
    Done,
    Closed,
}

impl Told {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        let (event, step) = match std::mem::replace(&mut self.step, Step::Closed) {
            Step::Words(mut words) => match words.next().await {
                Ok(GenerationEvent::Text(text)) => (self.piece(text, None), Step::Words(words)),
                Ok(GenerationEvent::Done { reason, usage }) => {
                    let next = if self.usage_wanted { Step::Usage(usage.into()) } else { Step::Done };
                    (self.piece(String::new(), Some(reason_name(reason))), next)
                }
                Err(error) => {
                    let json = error_json(&error);
                    (Event::default().data(std::str::from_utf8(&json).unwrap_or_default()), Step::Closed)
                }
            },
            Step::Usage(usage) => (self.event(Vec::new(), Some(usage)), Step::Done),
            Step::Done => (Event::default().data("[DONE]"), Step::Closed),
            Step::Closed => return None,
        };
        self.step = step;
        Some((Ok(event), self))
    }

    fn piece(&self, text: String, finish_reason: Option<&'static str>) -> Event {
        self.event(vec![CompletionChoice { index: 0, text, finish_reason }], None)
    }

    fn event(&self, choices: Vec<CompletionChoice>, usage: Option<OpenAiUsage>) -> Event {
        let completion = Completion {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.model.clone(),
            choices,
            usage,
        };
        Event::default().json_data(completion).unwrap_or_default()
    }
}
