//! An answer from a knowledge base while it is written: shared by the own API and the OpenAI-compatible one.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use rag_core::ask::{Answering, AskRequest, is_model_refusal};
use rag_core::kb::KbName;
use rag_core::ports::{ConversationKey, FinishReason, GenerationEvent, GenerationStream, NewRound, Usage};
use rag_core::quote::Citation;

use crate::api::conversations::Detail;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::state::AppState;
use crate::watch::{Watched, reason_name};

/// What is being written. Dropping it stops the model.
pub(crate) struct Answer {
    pub(crate) about: Answering,
    pub(crate) text: String,
    pub(crate) usage: Usage,
    pub(crate) reason: FinishReason,
    words: Watched,
    state: AppState,
    /// Where the round is to be kept; none once it is.
    conversation: Option<ConversationKey>,
    /// Of the round that was kept.
    pub(crate) round: Option<u64>,
}

impl Answer {
    /// Runs the flow up to the first token.
    pub(crate) async fn begin(
        state: &AppState,
        caller: &Caller,
        kb: KbName,
        conversation: Option<ConversationKey>,
        mut request: AskRequest,
    ) -> ApiResult<Self> {
        request.conversation = conversation.as_ref().map(ConversationKey::name);
        let mut about = state.rag.ask(kb.as_str(), request).await?;
        let stream = std::mem::replace(&mut about.stream, taken());
        Ok(Answer {
            words: Watched::new(state, caller, stream),
            about,
            text: String::new(),
            usage: Usage::default(),
            reason: FinishReason::Stop,
            state: state.clone(),
            conversation,
            round: None,
        })
    }

    /// The next words; none once the answer is complete and, in a conversation, remembered.
    pub(crate) async fn next(&mut self) -> ApiResult<Option<String>> {
        loop {
            match self.words.next().await? {
                GenerationEvent::Text(more) => {
                    // Models begin with white space, which no reader wants.
                    let more = if self.text.is_empty() { more.trim_start() } else { &more };
                    if !more.is_empty() {
                        self.text.push_str(more);
                        return Ok(Some(more.to_owned()));
                    }
                }
                GenerationEvent::Done { reason, usage } => {
                    (self.reason, self.usage) = (reason, usage);
                    self.about.refused |= is_model_refusal(&self.text);
                    self.remember().await?;
                    return Ok(None);
                }
            }
        }
    }

    /// Waits for the whole answer.
    pub(crate) async fn finish(mut self) -> ApiResult<Self> {
        while self.next().await?.is_some() {}
        Ok(self)
    }

    /// Citations for what is written so far.
    pub(crate) fn citations(&self) -> Vec<Citation> {
        let said = (!self.text.is_empty()).then_some(self.text.as_str());
        let citations = self.about.citations(said).into_iter().zip(&self.about.cited);
        let placed = citations.map(|(mut citation, recalled)| {
            let (passage, span) = (&recalled.passage.text, recalled.passage.span);
            // Somebody edited the passage: its sentences stand nowhere in the document, the whole does.
            if span.end - span.start != passage.len() as u64 {
                citation.span = span;
            }
            citation
        });
        placed.collect()
    }

    /// Keeps the round with all that the page shows beside it.
    async fn remember(&mut self) -> ApiResult<()> {
        let Some(key) = self.conversation.take() else { return Ok(()) };
        let round = self.to_keep(reason_name(self.reason));
        self.round = Some(self.state.rag.records.append_round(&key, &round).await?);
        Ok(())
    }

    fn to_keep(&self, reason: &str) -> NewRound {
        NewRound {
            question: self.about.question.clone(),
            answer: self.text.trim().to_owned(),
            refused: self.about.refused,
            detail: Detail::of(self, reason).to_json(),
        }
    }
}

/// Somebody stopped it: what is written so far stays in the conversation.
impl Drop for Answer {
    fn drop(&mut self) {
        let Some(key) = self.conversation.take() else { return };
        if self.text.trim().is_empty() {
            return;
        }
        // When the whole server stops there is nobody left to keep it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (round, state) = (self.to_keep("stopped"), self.state.clone());
        runtime.spawn(async move {
            if let Err(error) = state.rag.records.append_round(&key, &round).await {
                tracing::warn!(%error, "a stopped answer could not be kept");
            }
        });
    }
}

/// Stands where the stream was taken out.
fn taken() -> GenerationStream {
    Box::pin(Nothing)
}

struct Nothing;

impl Stream for Nothing {
    type Item = rag_core::Result<GenerationEvent>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}
