//! Which encoder embeds for a knowledge base: the one that made its index's vectors, and never another.

use std::sync::Arc;

use async_trait::async_trait;

use crate::document::Vectors;
use crate::error::{Error, Result};
use crate::kb::{Embedded, Kb};
use crate::ports::{Embed, Encoders, Purpose, Rerank};

/// What an encoder makes.
pub fn embedded(encoder: &dyn Embed) -> Embedded {
    Embedded { identity: encoder.identity().to_owned(), dim: encoder.dim() }
}

/// The encoder of a knowledge base's index. An empty index takes the one that was chosen, or the one for all; one with
/// vectors takes the encoder of these, under whichever name it is known. Where that is not to be had, an encoder that
/// refuses to embed and says what to do: what needs no vectors, such as deleting, still works.
pub async fn encoder_of(encoders: &dyn Encoders, kb: &Kb) -> Arc<dyn Embed> {
    let choice = kb.settings.encoder.as_ref();
    let held = kb.embedder.as_ref();
    let meant =
        held.map(|held| held.identity.as_str()).or(choice.and_then(|choice| choice.identity.as_deref()));
    let found = encoders.encoder(choice.map(|choice| choice.name.as_str())).await;
    let reason = match (found, meant) {
        (Ok(encoder), None) => return encoder,
        (Ok(encoder), Some(meant)) if encoder.identity() == meant => return encoder,
        (Ok(encoder), Some(_)) => format!("in its place there is {}", encoder.identity()),
        (Err(error), _) => error.to_string(),
    };
    if let Some(meant) = meant
        && let Ok(Some(encoder)) = encoders.of_identity(meant).await
    {
        return encoder;
    }
    let name = meant.map(str::to_owned).or(choice.map(|choice| choice.name.clone())).unwrap_or_default();
    let missing = Missing {
        message: format!(
            "knowledge base '{kb}' is embedded with {name}, which is not to be had: {reason}. Bring that model back (`rwkv-rag model list`), or embed the documents anew with another one (`rwkv-rag kb encoder --kb {kb} NAME`)",
            kb = kb.name
        ),
        embedded: held.cloned().unwrap_or(Embedded { identity: name, dim: 0 }),
    };
    Arc::new(missing)
}

/// The reranker of a knowledge base; one that is not to be had refuses and says so.
pub async fn reranker_of(encoders: &dyn Encoders, kb: &Kb) -> Arc<dyn Rerank> {
    let name = kb.settings.reranker.as_deref();
    let error = match encoders.reranker(name).await {
        Ok(reranker) => return reranker,
        Err(error) => error,
    };
    let name = name.unwrap_or_default();
    let message = format!(
        "knowledge base '{kb}' reranks with {name}, which is not to be had: {error}. Bring that model back (`rwkv-rag model list`), or choose another one (`rwkv-rag kb reranker --kb {kb} NAME`)",
        kb = kb.name
    );
    Arc::new(Missing { message, embedded: Embedded { identity: name.to_owned(), dim: 0 } })
}

/// Stands where a model is missing.
struct Missing {
    embedded: Embedded,
    message: String,
}

impl Missing {
    fn refusal(&self) -> Error {
        Error::Unavailable { message: self.message.clone() }
    }
}

#[async_trait]
impl Embed for Missing {
    fn identity(&self) -> &str {
        &self.embedded.identity
    }

    fn dim(&self) -> usize {
        self.embedded.dim
    }

    fn tokens_max(&self) -> usize {
        0
    }

    fn count_tokens(&self, texts: &[String]) -> Vec<u32> {
        vec![0; texts.len()]
    }

    async fn embed(&self, _: Vec<String>, _: Purpose) -> Result<Vectors> {
        Err(self.refusal())
    }
}

#[async_trait]
impl Rerank for Missing {
    fn identity(&self) -> &str {
        &self.embedded.identity
    }

    async fn rerank(&self, _: &str, _: &[String]) -> Result<Vec<f32>> {
        Err(self.refusal())
    }
}
