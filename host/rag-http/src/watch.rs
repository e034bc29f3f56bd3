//! A model's words on their way to a caller whose key may be revoked meanwhile.

use std::time::Duration;

use futures_util::StreamExt as _;
use rag_core::ports::{FinishReason, GenerationEvent, GenerationStream, Usage};
use tokio::time::{Instant, Interval, interval_at};

use crate::auth::{Caller, still_valid};
use crate::error::{ApiError, ApiResult};
use crate::state::AppState;

/// How soon a revoked key ends the answers that it reads.
const CHECK: Duration = Duration::from_secs(1);

/// A generation that ends with its caller's key. Dropping it frees the model's slot.
pub(crate) struct Watched {
    stream: GenerationStream,
    state: AppState,
    key_id: String,
    check: Interval,
}

/// A finished text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Written {
    pub(crate) text: String,
    pub(crate) reason: FinishReason,
    pub(crate) usage: Usage,
}

impl Watched {
    pub(crate) fn new(state: &AppState, caller: &Caller, stream: GenerationStream) -> Self {
        Watched {
            stream,
            state: state.clone(),
            key_id: caller.principal.key_id.clone(),
            check: interval_at(Instant::now() + CHECK, CHECK),
        }
    }

    /// The next event; `Done` is the last, and an error ends it too.
    pub(crate) async fn next(&mut self) -> ApiResult<GenerationEvent> {
        loop {
            tokio::select! {
                biased;
                _ = self.check.tick() => {
                    if still_valid(&self.state, &self.key_id).await?.is_none() {
                        return Err(ApiError::unauthenticated("the key was revoked"));
                    }
                }
                event = self.stream.next() => return match event {
                    Some(event) => Ok(event?),
                    None => {
                        tracing::error!("a generation ended without saying so");
                        Err(ApiError::internal())
                    }
                },
            }
        }
    }

    /// Waits for the whole text.
    pub(crate) async fn finish(mut self) -> ApiResult<Written> {
        let mut text = String::new();
        loop {
            match self.next().await? {
                GenerationEvent::Text(more) => text.push_str(&more),
                GenerationEvent::Done { reason, usage } => return Ok(Written { text, reason, usage }),
            }
        }
    }
}

/// The reason in OpenAI's words, which the own API uses too.
pub(crate) fn reason_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}
