//! Reranks passages with a cross-encoder, which reads the question and a passage together (bge-reranker-v2-m3).

use std::sync::Arc;

use async_trait::async_trait;
use rag_core::ports::Rerank;
use rag_core::{Error, Result};

use super::gemm::Isa;
use super::loaded::Precision;
use super::{Encoder, EncoderConfig, stopped};

/// A cross-encoder in memory. Scores are probabilities, 0 to 1: the logistic function of the model's one label.
#[derive(Debug)]
pub struct CrossEncoder {
    encoder: Arc<Encoder>,
    identity: String,
}

impl CrossEncoder {
    /// Reads the model and starts its thread.
    ///
    /// # Errors
    /// As `Encoder::load`; `Model` for a model that only embeds.
    pub fn load(config: &EncoderConfig) -> Result<Self> {
        Self::load_as(config, Precision::Int8)
    }

    /// As `load`, with the precision chosen by the caller.
    ///
    /// # Errors
    /// As `load`.
    pub fn load_as(config: &EncoderConfig, precision: Precision) -> Result<Self> {
        let encoder = Encoder::load_as(config, precision, Isa::detect())?;
        if encoder.model.score_head.is_none() {
            return Err(Error::Model {
                path: config.weights.display().to_string(),
                message:
                    "it only embeds; a reranker's config.json names an architecture ForSequenceClassification"
                        .to_owned(),
            });
        }
        let identity = format!("cross:{}", encoder.identity);
        Ok(CrossEncoder { encoder, identity })
    }
}

#[async_trait]
impl Rerank for CrossEncoder {
    fn identity(&self) -> &str {
        &self.identity
    }

    async fn rerank(&self, query: &str, passages: &[String]) -> Result<Vec<f32>> {
        if passages.is_empty() {
            return Ok(Vec::new());
        }
        if query.trim().is_empty() {
            return Err(Error::invalid("the question is blank"));
        }
        self.encoder.submit_pairs(query, passages)?.await.map_err(|_| stopped())?
    }
}
