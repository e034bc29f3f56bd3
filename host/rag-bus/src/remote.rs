//! Ports whose engines run elsewhere: the flows ask them as they ask engines of this process.

mod encoders;

use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_core::Stream;
use rag_core::document::Vectors;
use rag_core::ports::{Embed, Generate, GenerateRequest, GenerationEvent, GenerationStream, Purpose, Rerank};
use rag_core::{Error, Result};
use tokio::sync::mpsc;

use crate::calls::{self, EncoderInfo, Info};
use crate::client::{Client, Event, Repeat};
use crate::value::Value;

pub use encoders::RemoteEncoders;

/// Counts tokens here, with the vocabulary of the model there: budgets are counted text by text.
pub type CountTokens = Arc<dyn Fn(&str) -> u32 + Send + Sync>;

/// Between questions for the model that answers now, which may be switched at the service.
const LOOK: Duration = Duration::from_secs(5);

/// Which models the service has now.
pub async fn info(client: &Client) -> Result<Info> {
    calls::info_of(&client.call(calls::INFO, Value::Nil, Repeat::Safe).await?)
}

/// An embedding model elsewhere.
pub struct RemoteEmbed {
    pub client: Client,
    pub info: EncoderInfo,
    pub count: CountTokens,
}

/// A reranker elsewhere.
#[derive(Debug)]
pub struct RemoteRerank {
    pub client: Client,
    pub identity: String,
    /// None is the one for all.
    pub name: Option<String>,
}

/// A language model elsewhere.
pub struct RemoteGenerate {
    pub client: Client,
    /// What `follow` keeps up to date.
    pub info: Arc<RwLock<Info>>,
    pub count: CountTokens,
}

impl std::fmt::Debug for RemoteEmbed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteEmbed").field("info", &self.info).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RemoteGenerate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteGenerate").field("info", &self.info).finish_non_exhaustive()
    }
}

#[async_trait]
impl Embed for RemoteEmbed {
    fn identity(&self) -> &str {
        &self.info.identity
    }

    fn dim(&self) -> usize {
        self.info.dim
    }

    fn tokens_max(&self) -> usize {
        self.info.tokens_max
    }

    fn count_tokens(&self, texts: &[String]) -> Vec<u32> {
        texts.iter().map(|text| (self.count)(text)).collect()
    }

    async fn embed(&self, texts: Vec<String>, purpose: Purpose) -> Result<Vectors> {
        let rows = texts.len();
        if rows == 0 {
            return Ok(Vectors { dim: self.info.dim, data: Vec::new() });
        }
        let arguments = calls::embed_arguments(texts, purpose, &self.info.identity);
        let answer = self.client.call(calls::EMBED, arguments, Repeat::Safe).await?;
        let vectors = calls::vectors_of(&answer)?;
        if vectors.dim != self.info.dim || vectors.rows() != rows {
            return Err(Error::Unavailable {
                message: format!(
                    "the llm service answers {} vectors of {} values where {rows} of {} are expected: its model changed; restart this role",
                    vectors.rows(),
                    vectors.dim,
                    self.info.dim
                ),
            });
        }
        Ok(vectors)
    }
}

#[async_trait]
impl Rerank for RemoteRerank {
    fn identity(&self) -> &str {
        &self.identity
    }

    async fn rerank(&self, query: &str, passages: &[String]) -> Result<Vec<f32>> {
        let arguments = calls::rerank_arguments(query, passages, self.name.as_deref());
        let scores = calls::scores_of(&self.client.call(calls::RERANK, arguments, Repeat::Safe).await?)?;
        if scores.len() != passages.len() {
            return Err(Error::internal(format!("{} scores for {} passages", scores.len(), passages.len())));
        }
        Ok(scores)
    }
}

#[async_trait]
impl Generate for RemoteGenerate {
    fn identity(&self) -> String {
        self.info.read().unwrap_or_else(PoisonError::into_inner).generator.clone()
    }

    fn demonstration(&self) -> bool {
        self.info.read().unwrap_or_else(PoisonError::into_inner).demonstration
    }

    fn count_tokens(&self, text: &str) -> u32 {
        (self.count)(text)
    }

    async fn generate(&self, request: GenerateRequest) -> Result<GenerationStream> {
        /// Events of a generation that belong to no token.
        const BESIDE_TOKENS: usize = 4;
        let arguments = calls::generate_arguments(&request);
        let parts_max = request.tokens_max as usize + BESIDE_TOKENS;
        let mut events = self.client.stream(calls::GENERATE, arguments, Repeat::Safe, parts_max).await?;
        // The first event tells whether the request was taken at all, as a local queue does.
        let first = events.next().await.unwrap_or_else(|| Err(Error::internal("an answer without an end")));
        let first = event(first)?;
        let (sender, receiver) = mpsc::channel(parts_max);
        let _ = sender.try_send(Ok(first));
        // Ends with the answer, or as soon as the reader is gone; dropping `events` then cancels the request.
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = sender.closed() => return,
                    next = events.next() => {
                        let Some(next) = next else { return };
                        if sender.try_send(next.and_then(|next| event(Ok(next)))).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Box::pin(Received(receiver)))
    }
}

/// Notices when another model answers at the service; ends with the last user of `info`.
pub async fn follow(client: Client, shared: Weak<RwLock<Info>>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(shared) = shared.upgrade() else { return };
        if let Ok(now) = info(&client).await {
            *shared.write().unwrap_or_else(PoisonError::into_inner) = now;
        }
    }
}

fn event(event: Result<Event>) -> Result<GenerationEvent> {
    match event? {
        Event::Chunk(part) => Ok(GenerationEvent::Text(calls::str_of(&part, "text")?.to_owned())),
        Event::Progress(_) => Ok(GenerationEvent::Text(String::new())),
        Event::Reply(end) => calls::done_of(&end),
    }
}

struct Received(mpsc::Receiver<Result<GenerationEvent>>);

impl Stream for Received {
    type Item = Result<GenerationEvent>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// The next event of a stream.
pub(crate) async fn next(stream: &mut GenerationStream) -> Option<Result<GenerationEvent>> {
    std::future::poll_fn(|context| stream.as_mut().poll_next(context)).await
}

/// A whole answer.
pub(crate) async fn collect(mut stream: GenerationStream) -> Result<(String, GenerationEvent)> {
    let mut text = String::new();
    while let Some(event) = next(&mut stream).await {
        match event? {
            GenerationEvent::Text(part) => text.push_str(&part),
            done @ GenerationEvent::Done { .. } => return Ok((text, done)),
        }
    }
    Err(Error::internal("the language model's answer has no end"))
}
