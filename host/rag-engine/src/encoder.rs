//! Turns texts into vectors with a model of BERT's family (shipped: multilingual-e5-small), and reranks with its tokens
//! or with a cross-encoder.
//!
//! One thread owns the model and takes work from a bounded queue; what waits together runs together, sorted by
//! length, on all of the encoder's threads. Questions overtake passages.

mod attention;
pub mod bench;
mod cross;
pub mod folder;
pub mod gemm;
#[cfg(feature = "cuda")]
pub mod gpu;
pub(crate) mod hub;
mod job;
mod lexical;
mod loaded;
mod maths;
mod maxsim;
mod model;
mod passage_cache;
mod place;
#[cfg(test)]
mod tests;
mod token_vectors;
mod tokenizer;
mod weights;
mod word_table;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::SyncSender;

use async_trait::async_trait;
use rag_core::document::Vectors;
use rag_core::ports::{Embed, Purpose};
use rag_core::{Error, Result};
use tokio::sync::oneshot;

pub use cross::CrossEncoder;
pub use gemm::Isa;
pub use lexical::Lexical;
pub use loaded::Precision;
pub use maxsim::{MaxSim, PASSAGE_CACHE_BYTES};
pub use tokenizer::Tokenizer;

use crate::devices::Device;
use job::{Job, Slot, Text, Wanted};
use loaded::Loaded;
use token_vectors::TokenVectors;

/// Settings of an encoder.
#[derive(Debug, Clone)]
pub struct EncoderConfig {
    /// The safetensors file that `models/convert/e5.py` writes, or a folder as the usual hub lays it out: `config.json`,
    /// `tokenizer.json` and `model.safetensors` or `pytorch_model.bin` (BERT's family: e5, bge, bge-m3, …).
    pub weights: PathBuf,
    /// Threads that compute, at least 1.
    pub threads: usize,
    /// Calls that may wait or run at once; one more is `Busy`.
    pub queue_max: usize,
    /// Tokens computed before waiting questions are looked at again.
    pub batch_tokens_max: usize,
    /// Where it computes: one GPU at most.
    pub device: Device,
}

/// An embedding model in memory. Dropping it ends its thread after the batch in work.
#[derive(Debug)]
pub struct Encoder {
    model: Arc<Loaded>,
    identity: String,
    isa: Isa,
    /// The processor's kernels, or the GPU's name.
    computes_on: String,
    threads: usize,
    queue: SyncSender<Job>,
    queue_max: usize,
    /// Calls that wait or run.
    taken: Arc<AtomicUsize>,
}

impl Encoder {
    /// Reads the weights and starts the thread; takes a fraction of a second.
    ///
    /// # Errors
    /// `Unavailable` when the file is not there or the GPU that was named is not, or has too little memory; `Model`
    /// when the file is cut short or damaged.
    pub fn load(config: &EncoderConfig) -> Result<Arc<Self>> {
        Self::load_as(config, Precision::Int8, Isa::detect())
    }

    /// As `load`, with the precision and the instruction set chosen by the caller. A GPU computes with halves in place
    /// of 8 bits.
    ///
    /// # Errors
    /// As `load`.
    pub fn load_as(config: &EncoderConfig, precision: Precision, isa: Isa) -> Result<Arc<Self>> {
        let placed = place::load(config, precision, isa)?;
        let model = Arc::new(placed.loaded);
        let worker = worker::Worker {
            model: Arc::clone(&model),
            isa,
            threads: config.threads.max(1),
            batch_tokens_max: config.batch_tokens_max.max(1),
            queue_max: config.queue_max.max(1),
        };
        let queue = worker::start(worker, placed.gpu)?;
        Ok(Arc::new(Encoder {
            identity: identity_of(&model.name, &model.hash),
            model,
            isa,
            computes_on: placed.computes_on,
            threads: config.threads.max(1),
            queue,
            queue_max: config.queue_max.max(1),
            taken: Arc::new(AtomicUsize::new(0)),
        }))
    }

    /// The vocabulary, which may outlive the model.
    pub fn vocabulary(&self) -> Arc<Tokenizer> {
        Arc::clone(&self.model.tokenizer)
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.model.tokenizer
    }

    /// The processor's kernels in use, e.g. `avx512-vnni`, or the GPU's name: for reports.
    pub fn computes_on(&self) -> &str {
        &self.computes_on
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Vectors of texts, one row of unit length each.
    fn submit_vectors(&self, texts: Vec<Text>) -> Result<oneshot::Receiver<Result<Vectors>>> {
        let (reply, answer) = oneshot::channel();
        self.submit(texts, Wanted::Vectors { dim: self.dim(), reply })?;
        Ok(answer)
    }

    /// Token vectors of texts, without special and prefix tokens.
    fn submit_tokens(&self, texts: Vec<Text>) -> Result<oneshot::Receiver<Result<Vec<TokenVectors>>>> {
        let (reply, answer) = oneshot::channel();
        self.submit(texts, Wanted::Tokens { reply })?;
        Ok(answer)
    }

    /// Learned weights of the texts' tokens, order kept. `Unsupported` for a model without a lexical head.
    ///
    /// # Errors
    /// As `Embed::embed`.
    pub async fn lexical(&self, texts: Vec<String>, purpose: Purpose) -> Result<Vec<Lexical>> {
        if self.model.lexical_head.is_none() {
            return Err(Error::Unsupported {
                message: format!(
                    "{} has no lexical head (sparse_linear.pt, as bge-m3 has it)",
                    self.identity
                ),
            });
        }
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let texts = texts.into_iter().map(|content| Text::alone(content, purpose)).collect();
        let tokens = self.submit_tokens(texts)?.await.map_err(|_| stopped())??;
        Ok(tokens.into_iter().map(|tokens| tokens.lexical().clone()).collect())
    }

    /// Scores of passages for a question, 0 to 1.
    fn submit_pairs(&self, query: &str, passages: &[String]) -> Result<oneshot::Receiver<Result<Vec<f32>>>> {
        let (reply, answer) = oneshot::channel();
        let text = |content: &String| Text {
            content: content.clone(),
            purpose: Purpose::Passage,
            question: Some(query.to_owned()),
        };
        self.submit(passages.iter().map(text).collect(), Wanted::Scores { reply })?;
        Ok(answer)
    }

    fn submit(&self, texts: Vec<Text>, wanted: Wanted) -> Result<()> {
        let slot = Slot::take(&self.taken, self.queue_max)
            .ok_or(Error::Busy { what: "the embedding model", limit: self.queue_max })?;
        // The channel has room for every slot, so it is never full.
        self.queue.try_send(Job { texts, wanted, slot }).map_err(|_| stopped())
    }
}

/// The thread is gone, which only a defect of ours can cause.
fn stopped() -> Error {
    Error::internal("the embedding thread has stopped")
}

/// Only the vocabulary of an encoder's file, for programs that count tokens of a model that runs elsewhere.
///
/// # Errors
/// As `Encoder::load`.
pub fn load_tokenizer(file: &std::path::Path) -> Result<Arc<Tokenizer>> {
    loaded::load_tokenizer(file)
}

/// What `Embed::identity` will say of an encoder's file or folder; reads the weights through.
///
/// # Errors
/// As `Encoder::load`.
pub fn identity(file: &std::path::Path) -> Result<String> {
    loaded::identity(file)
}

fn identity_of(name: &str, hash: &str) -> String {
    format!("{name}@{hash}")
}

#[async_trait]
impl Embed for Encoder {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn dim(&self) -> usize {
        self.model.model.width
    }

    fn tokens_max(&self) -> usize {
        self.model.window() - self.tokenizer().encode(&self.model.prefix_passage).len()
    }

    fn count_tokens(&self, texts: &[String]) -> Vec<u32> {
        texts.iter().map(|text| self.tokenizer().encode(text).len() as u32).collect()
    }

    async fn embed(&self, texts: Vec<String>, purpose: Purpose) -> Result<Vectors> {
        if texts.is_empty() {
            return Ok(Vectors { dim: self.dim(), data: Vec::new() });
        }
        let texts = texts.into_iter().map(|content| Text::alone(content, purpose)).collect();
        self.submit_vectors(texts)?.await.map_err(|_| stopped())?
    }
}
