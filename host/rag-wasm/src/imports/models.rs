//! The models of a knowledge base, lent to plugins: token counts, vectors, relevance, text.

use futures_util::StreamExt;
use rag_core::ports::{GenerateRequest, GenerationEvent, GenerationStream, Purpose, Sampling, Usage};
use rag_core::{Error, Result};

use super::{absent, invalid, too_many};
use crate::bindings::ragkit::host::{embed, generate, rerank, tokens};
use crate::bindings::ragkit::types::types as wit;
use crate::convert;
use crate::state::{State, refusal};

/// Texts and bytes of one call of `count`.
const COUNT_TEXTS_MAX: usize = 65_536;
const COUNT_BYTES_MAX: usize = 8 << 20;
/// Texts and bytes of one call of `embed` and `rerank`.
const EMBED_TEXTS_MAX: usize = 256;
const EMBED_BYTES_MAX: usize = 4 << 20;
/// Bytes of a prompt.
const PROMPT_BYTES_MAX: usize = 1 << 20;
/// Stop strings of one generation.
const STOPS_MAX: usize = 16;

/// Refuses a list of texts beyond the limits.
fn check_texts(texts: &[String], texts_max: usize, bytes_max: usize) -> Result<(), wit::Error> {
    if texts.len() > texts_max {
        return Err(too_many("texts", texts_max));
    }
    if texts.iter().map(String::len).sum::<usize>() > bytes_max {
        return Err(too_many("bytes of text", bytes_max));
    }
    Ok(())
}

impl tokens::Host for State {
    async fn limit(&mut self) -> wasmtime::Result<u32> {
        Ok(self.grants.embedder.as_ref().map_or(0, |embedder| convert::u32_of(embedder.tokens_max())))
    }

    async fn count(&mut self, texts: Vec<String>) -> wasmtime::Result<Result<Vec<u32>, wit::Error>> {
        if let Err(refused) = check_texts(&texts, COUNT_TEXTS_MAX, COUNT_BYTES_MAX) {
            return Ok(Err(refused));
        }
        let Some(embedder) = self.grants.embedder.clone() else { return Ok(Err(absent("embedding model"))) };
        self.perform(async move { Ok(embedder.count_tokens(&texts)) }).await
    }
}

impl embed::Host for State {
    async fn dim(&mut self) -> wasmtime::Result<u32> {
        Ok(self.grants.embedder.as_ref().map_or(0, |embedder| convert::u32_of(embedder.dim())))
    }

    async fn embed(
        &mut self,
        texts: Vec<String>,
        purpose: embed::Purpose,
    ) -> wasmtime::Result<Result<wit::Vectors, wit::Error>> {
        if let Err(refused) = check_texts(&texts, EMBED_TEXTS_MAX, EMBED_BYTES_MAX) {
            return Ok(Err(refused));
        }
        let Some(embedder) = self.grants.embedder.clone() else { return Ok(Err(absent("embedding model"))) };
        let purpose = match purpose {
            embed::Purpose::Query => Purpose::Query,
            embed::Purpose::Passage => Purpose::Passage,
        };
        let vectors = self.perform(async move { embedder.embed(texts, purpose).await }).await?;
        Ok(vectors.map(|vectors| wit::Vectors { dim: convert::u32_of(vectors.dim), data: vectors.data }))
    }
}

impl rerank::Host for State {
    async fn rerank(
        &mut self,
        query: String,
        passages: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<f32>, wit::Error>> {
        if let Err(refused) = check_texts(&passages, EMBED_TEXTS_MAX, EMBED_BYTES_MAX) {
            return Ok(Err(refused));
        }
        let Some(reranker) = self.grants.reranker.clone() else { return Ok(Err(absent("reranker"))) };
        self.perform(async move { reranker.rerank(&query, &passages).await }).await
    }
}

impl generate::Host for State {
    async fn generate(
        &mut self,
        prompt: String,
        options: generate::Options,
    ) -> wasmtime::Result<Result<generate::Generation, wit::Error>> {
        if let Err(refused) = check_options(&prompt, &options) {
            return Ok(Err(refused));
        }
        let budget = self.limits.generate_tokens_max.saturating_sub(self.generated_tokens);
        if options.max_tokens > budget {
            let message = format!("this call may have {budget} more tokens written");
            return Ok(Err(refusal(wit::ErrorCode::Quota, &message)));
        }
        let Some(generator) = self.grants.generator.clone() else { return Ok(Err(absent("language model"))) };
        // Charged as asked for: an answer cut short by a failure was written all the same.
        self.generated_tokens = self.generated_tokens.saturating_add(options.max_tokens);
        let request = GenerateRequest {
            prompt,
            sampling: Sampling {
                temperature: options.temperature,
                top_p: options.top_p,
                ..Sampling::default()
            },
            tokens_max: options.max_tokens,
            stop: options.stop,
            // Whoever lends the model knows the knowledge base and says it.
            tenant: String::new(),
            bounds: None,
            variant: None,
        };
        let work = async move { collect(generator.generate(request).await?).await };
        Ok(self.perform(work).await?.map(|(text, usage)| generate::Generation {
            text,
            prompt_tokens: usage.prompt_tokens,
            output_tokens: usage.output_tokens,
        }))
    }
}

fn check_options(prompt: &str, options: &generate::Options) -> Result<(), wit::Error> {
    if prompt.len() > PROMPT_BYTES_MAX {
        return Err(too_many("bytes of a prompt", PROMPT_BYTES_MAX));
    }
    if options.stop.len() > STOPS_MAX || options.stop.iter().any(String::is_empty) {
        return Err(invalid("stop strings: at most 16, none empty"));
    }
    let in_range = |value: f32, max: f32| value.is_finite() && (0.0..=max).contains(&value);
    if !in_range(options.temperature, 10.0) || !in_range(options.top_p, 1.0) {
        return Err(invalid("temperature is 0 to 10 and top-p 0 to 1"));
    }
    Ok(())
}

async fn collect(mut stream: GenerationStream) -> Result<(String, Usage)> {
    let mut text = String::new();
    while let Some(event) = stream.next().await {
        match event? {
            GenerationEvent::Text(piece) => text.push_str(&piece),
            GenerationEvent::Done { usage, .. } => return Ok((text, usage)),
        }
    }
    Err(Error::Unavailable { message: "the language model stopped in the middle".to_owned() })
}
