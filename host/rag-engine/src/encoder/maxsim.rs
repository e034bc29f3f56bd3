//! Reranks passages by MaxSim: how well, on average, each token of the question finds its like in the passage.
//!
//! An encoder with a lexical head (bge-m3) adds how much of the tokens' weight question and passage share.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rag_core::ports::{Purpose, Rerank};
use rag_core::{Error, Result};

use super::job::Text;
use super::passage_cache::{PassageCache, TextHash, hash};
use super::token_vectors::TokenVectors;
use super::{Encoder, stopped};

/// Bytes of token vectors remembered: about 1 000 passages of 250 Han characters.
pub const PASSAGE_CACHE_BYTES: usize = 64 << 20;

/// Shares of MaxSim and of the lexical score in the score of an encoder that has both: those of multi-vector and sparse
/// scores in what bge-m3's authors show. Nobody has measured them here.
const SHARES: [f32; 2] = [0.4, 0.2];

/// A reranker on the encoder's own token vectors. Remembers passages, so that the candidates of a conversation's
/// next question cost little.
#[derive(Debug)]
pub struct MaxSim {
    encoder: Arc<Encoder>,
    identity: String,
    cache: Mutex<PassageCache>,
}

impl MaxSim {
    /// A reranker with a cache of `PASSAGE_CACHE_BYTES`.
    pub fn new(encoder: Arc<Encoder>) -> Self {
        Self::with_cache(encoder, PASSAGE_CACHE_BYTES)
    }

    /// A reranker that remembers `bytes_max` of token vectors; 0 remembers none.
    pub fn with_cache(encoder: Arc<Encoder>, bytes_max: usize) -> Self {
        let way = if encoder.model.lexical_head.is_some() { "maxsim+lexical" } else { "maxsim" };
        let identity = format!("{way}:{}", encoder.identity);
        MaxSim { encoder, identity, cache: Mutex::new(PassageCache::new(bytes_max)) }
    }

    /// What the cache has of each passage.
    pub(super) fn remembered(&self, hashes: &[TextHash]) -> Vec<Option<Arc<TokenVectors>>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        hashes.iter().map(|hash| cache.get(hash)).collect()
    }

    /// The call that computes the question's vectors and those of the passages not remembered.
    pub(super) fn texts(query: &str, passages: &[String], known: &[Option<Arc<TokenVectors>>]) -> Vec<Text> {
        let missing = passages.iter().zip(known).filter(|(_, known)| known.is_none());
        std::iter::once(Text::alone(query.to_owned(), Purpose::Query))
            .chain(missing.map(|(text, _)| Text::alone(text.clone(), Purpose::Passage)))
            .collect()
    }

    /// Scores in the passages' order; `computed` is the answer to `texts`.
    pub(super) fn scores(
        &self,
        hashes: &[TextHash],
        known: Vec<Option<Arc<TokenVectors>>>,
        computed: Vec<TokenVectors>,
    ) -> Result<Vec<f32>> {
        let mut computed = computed.into_iter();
        let question = computed.next().ok_or_else(stopped)?;
        if question.tokens() == 0 {
            return Err(Error::invalid("the question is blank"));
        }
        let mut scores = Vec::with_capacity(hashes.len());
        let mut fresh = Vec::new();
        for (hash, known) in hashes.iter().zip(known) {
            let vectors = match known {
                Some(vectors) => vectors,
                None => {
                    let vectors = Arc::new(computed.next().ok_or_else(stopped)?);
                    fresh.push((*hash, Arc::clone(&vectors)));
                    vectors
                }
            };
            scores.push(self.score(&question, &vectors));
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.into_iter().for_each(|(hash, vectors)| cache.insert(hash, vectors));
        Ok(scores)
    }

    fn score(&self, question: &TokenVectors, passage: &TokenVectors) -> f32 {
        let max_sim = question.max_sim(passage, self.encoder.isa);
        if self.encoder.model.lexical_head.is_none() {
            return max_sim;
        }
        let [of_max_sim, of_lexical] = SHARES;
        let lexical = question.lexical().score(passage.lexical());
        (of_max_sim * max_sim + of_lexical * lexical) / (of_max_sim + of_lexical)
    }
}

#[async_trait]
impl Rerank for MaxSim {
    fn identity(&self) -> &str {
        &self.identity
    }

    async fn rerank(&self, query: &str, passages: &[String]) -> Result<Vec<f32>> {
        if passages.is_empty() {
            return Ok(Vec::new());
        }
        let hashes: Vec<TextHash> = passages.iter().map(|text| hash(text)).collect();
        let known = self.remembered(&hashes);
        let texts = Self::texts(query, passages, &known);
        let computed = self.encoder.submit_tokens(texts)?.await.map_err(|_| stopped())??;
        self.scores(&hashes, known, computed)
    }
}
