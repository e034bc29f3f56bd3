//! Encoders and rerankers of an llm service that knowledge bases chose: asked for by name, used by identity.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use rag_core::Result;
use rag_core::ports::{Embed, Encoders, Rerank};

use super::{CountTokens, LOOK, RemoteEmbed, RemoteRerank};
use crate::calls;
use crate::client::{Client, Repeat};
use crate::value::Value;

/// Answers of the service that are remembered; more are forgotten together.
const KNOWN_MAX: usize = 256;

/// The models of an llm service. What it answers holds for some seconds: another one may stand under a name by then.
#[expect(missing_debug_implementations, reason = "its parts are ports")]
pub struct RemoteEncoders {
    client: Client,
    embedder: Arc<dyn Embed>,
    reranker: Arc<dyn Rerank>,
    /// Counts with the vocabulary of the encoder for all: chunks of a knowledge base with another one may be a little
    /// longer or shorter than they would be there.
    count: CountTokens,
    encoders: Known<Option<Arc<dyn Embed>>>,
    rerankers: Known<Arc<dyn Rerank>>,
}

type Known<T> = Mutex<HashMap<String, (Instant, T)>>;

impl RemoteEncoders {
    /// The models behind `client`, beside those for all.
    pub fn new(
        client: Client,
        embedder: Arc<dyn Embed>,
        reranker: Arc<dyn Rerank>,
        count: CountTokens,
    ) -> Self {
        let (encoders, rerankers) = (Mutex::default(), Mutex::default());
        RemoteEncoders { client, embedder, reranker, count, encoders, rerankers }
    }

    async fn ask(&self, field: &'static str, value: &str) -> Result<Option<Arc<dyn Embed>>> {
        let key = format!("{field} {value}");
        if let Some(known) = recent(&self.encoders, &key) {
            return Ok(known);
        }
        let arguments = Value::map([(field, value.into())]);
        let found = match self.client.call(calls::ENCODER, arguments, Repeat::Safe).await? {
            Value::Nil => None,
            told => {
                let info = calls::encoder_info_of(&told)?;
                Some(self.same_or_new(info))
            }
        };
        remember(&self.encoders, key, found.clone());
        Ok(found)
    }

    /// One object for one model, so that what is bound to it stays bound.
    fn same_or_new(&self, info: calls::EncoderInfo) -> Arc<dyn Embed> {
        let known = self.encoders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = known.values().filter_map(|(_, encoder)| encoder.as_ref());
        match all.find(|encoder| encoder.identity() == info.identity) {
            Some(encoder) => encoder.clone(),
            None => Arc::new(RemoteEmbed { client: self.client.clone(), info, count: self.count.clone() }),
        }
    }
}

fn recent<T: Clone>(known: &Known<T>, key: &str) -> Option<T> {
    let known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known.get(key).filter(|(since, _)| since.elapsed() < LOOK).map(|(_, value)| value.clone())
}

fn remember<T>(known: &Known<T>, key: String, value: T) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    known.insert(key, (Instant::now(), value));
}

#[async_trait]
impl Encoders for RemoteEncoders {
    async fn encoder(&self, name: Option<&str>) -> Result<Arc<dyn Embed>> {
        let Some(name) = name else { return Ok(self.embedder.clone()) };
        let found = self.ask("name", name).await?;
        found.ok_or_else(|| rag_core::Error::NotFound { what: "encoder", name: name.to_owned() })
    }

    async fn of_identity(&self, identity: &str) -> Result<Option<Arc<dyn Embed>>> {
        match identity == self.embedder.identity() {
            true => Ok(Some(self.embedder.clone())),
            false => self.ask("identity", identity).await,
        }
    }

    async fn reranker(&self, name: Option<&str>) -> Result<Arc<dyn Rerank>> {
        let Some(name) = name else { return Ok(self.reranker.clone()) };
        if let Some(known) = recent(&self.rerankers, name) {
            return Ok(known);
        }
        let arguments = Value::map([("name", name.into())]);
        let told = self.client.call(calls::RERANKER, arguments, Repeat::Safe).await?;
        let identity = calls::str_of(&told, "identity")?.to_owned();
        let same = {
            let known = self.rerankers.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(name).map(|(_, reranker)| reranker.clone()).filter(|one| one.identity() == identity)
        };
        let reranker = same.unwrap_or_else(|| {
            Arc::new(RemoteRerank { client: self.client.clone(), identity, name: Some(name.to_owned()) })
        });
        remember(&self.rerankers, name.to_owned(), reranker.clone());
        Ok(reranker)
    }
}
