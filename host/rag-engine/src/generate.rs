//! The language model as the rest of the program sees it: implements `rag_core::ports::Generate`.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_core::Stream;
use rag_core::ports::{Generate, GenerateRequest, GenerationEvent, GenerationStream};
use rag_core::{Error, Result};
use tokio::sync::mpsc::{Receiver, channel};

use crate::checkpoint;
use crate::cpu::matrix::Format;
use crate::cpu::pool::Pool;
use crate::cpu::product::Cpu;
use crate::cpu::simd::Simd;
use crate::memory;
use crate::rwkv::engine::ROWS_MAX;
use crate::rwkv::{Config, Engine, Formats, Model};
use crate::sampler::Sampler;
use crate::state_cache::StateCache;
use crate::tokenizer::{END_OF_TEXT, Tokenizer};
use crate::within::Within;
use crate::worker::{EVENTS_BESIDE_TOKENS, Job, Worker, worker_gone};

/// One request's answer; the largest published models were trained on fewer.
const OUTPUT_TOKENS_MAX: u32 = 32_768;
/// One request's prompt. The state has one size whatever was read: this bounds the time, and the prompt's memory.
const PROMPT_TOKENS_MAX: usize = 262_144;
const STOP_STRINGS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 256;

/// How to load and run a language model.
#[derive(Debug, Clone, PartialEq)]
pub struct LanguageModelConfig {
    /// `.pth`, `.safetensors`, or a packed file.
    pub weights: PathBuf,
    pub vocabulary: PathBuf,
    /// As shown to people.
    pub name: String,
    /// Sequences that run at once, 1 to `ROWS_MAX / 2`.
    pub slots: usize,
    /// Requests that wait at most.
    pub queue_max: usize,
    /// Threads that compute; 0 takes one a core.
    pub threads: usize,
    /// Memory for states of prompt prefixes, in bytes; 0 keeps none.
    pub state_cache_bytes: usize,
    /// Converts matrices at load; a packed file keeps its own formats.
    pub quantize: Option<Formats>,
    /// The small model that only shows how things work.
    pub demonstration: bool,
}

/// A loaded language model. Dropping it ends its thread once the running answers are written.
#[derive(Debug)]
pub struct LanguageModel {
    name: String,
    demonstration: bool,
    tokenizer: Arc<Tokenizer>,
    vocabulary: usize,
    queue: SyncSender<Job>,
    queue_max: usize,
    counters: Arc<Counters>,
}

/// What a model has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that got a slot.
    pub requests: u64,
    pub prompt_tokens: u64,
    /// Of these, tokens whose state was known from an earlier prompt.
    pub prompt_tokens_known: u64,
    pub output_tokens: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) prompt_tokens_known: AtomicU64,
    pub(crate) output_tokens: AtomicU64,
}

impl LanguageModel {
    /// Loads the weights and starts the worker: blocks for as long as reading the file takes. `Error::Model` for a
    /// file that is no RWKV-6, `Error::Unavailable` when there is too little memory.
    pub fn load(config: LanguageModelConfig) -> Result<Arc<Self>> {
        let tokenizer = Tokenizer::load(&config.vocabulary)?;
        let engine = load_engine(&config)?;
        Self::start(engine, tokenizer, config)
    }

    /// Starts the worker of a model that is in memory already; of `config`, what says how to load is not used.
    pub fn start(engine: Engine, tokenizer: Tokenizer, config: LanguageModelConfig) -> Result<Arc<Self>> {
        let tokenizer = Arc::new(tokenizer);
        let counters = Arc::new(Counters::default());
        let vocabulary = engine.config().vocabulary;
        let worker = Worker {
            banned: textless_ids(&tokenizer, vocabulary),
            tokenizer: tokenizer.clone(),
            cache: StateCache::new(config.state_cache_bytes),
            slots_max: config.slots.clamp(1, ROWS_MAX / 2),
            counters: counters.clone(),
            engine,
        };
        let queue_max = config.queue_max.max(1);
        let (queue, requests) = sync_channel(queue_max);
        std::thread::Builder::new()
            .name("language-model".to_string())
            .spawn(move || worker.run(&requests))
            .map_err(|e| Error::Unavailable { message: format!("cannot start a thread: {e}") })?;
        let LanguageModelConfig { name, demonstration, .. } = config;
        Ok(Arc::new(Self { name, demonstration, tokenizer, vocabulary, queue, queue_max, counters }))
    }

    /// Totals since the start, for metrics.
    pub fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            requests: read(&self.counters.requests),
            prompt_tokens: read(&self.counters.prompt_tokens),
            prompt_tokens_known: read(&self.counters.prompt_tokens_known),
            output_tokens: read(&self.counters.output_tokens),
        }
    }

    /// The tokenizer, for callers that count or cut texts.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }
}

/// Loads weights for computing without a worker: benchmarks, conversions, tests.
pub fn load_engine(config: &LanguageModelConfig) -> Result<Engine> {
    let weights = checkpoint::open(&config.weights)?;
    let formats = config.quantize.unwrap_or(Formats::of(Format::F32));
    let sizes = Config::read(&*weights)?;
    let beside = config.slots * sizes.state_len() * 4 + config.state_cache_bytes;
    memory::require(&config.weights, memory::of_model(&*weights, &sizes, &formats) + beside)?;
    let threads = match config.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    };
    let cpu = Cpu { pool: Pool::new(threads)?, simd: Simd::detect() };
    let model = Model::read_as(&*weights, &formats)?;
    Ok(Engine::new(model, cpu))
}

/// Ids of the model's table without text: they pad the table and mean nothing.
fn textless_ids(tokenizer: &Tokenizer, vocabulary: usize) -> Vec<u32> {
    (0..vocabulary as u32).filter(|&id| id != END_OF_TEXT && tokenizer.token(id).is_empty()).collect()
}

#[async_trait]
impl Generate for LanguageModel {
    fn identity(&self) -> &str {
        &self.name
    }

    fn demonstration(&self) -> bool {
        self.demonstration
    }

    fn count_tokens(&self, text: &str) -> u32 {
        self.tokenizer.count(text) as u32
    }

    async fn generate(&self, request: GenerateRequest) -> Result<GenerationStream> {
        check(&request)?;
        let mut tokens = self.tokenizer.encode(&request.prompt);
        if tokens.is_empty() {
            // A document starts where another ended.
            tokens.push(END_OF_TEXT);
        }
        if tokens.len() > PROMPT_TOKENS_MAX {
            let len = tokens.len();
            return Err(Error::invalid(format!(
                "the prompt has {len} tokens; {PROMPT_TOKENS_MAX} are allowed"
            )));
        }
        if let Some(id) = tokens.iter().find(|&&id| id as usize >= self.vocabulary) {
            return Err(Error::invalid(format!("the model has no token {id}: another vocabulary's model?")));
        }
        let (events, receiver) = channel(request.tokens_max as usize + EVENTS_BESIDE_TOKENS);
        let job = Job {
            tokens,
            sampler: Sampler::new(&request.sampling)?,
            within: request.bounds.map(Within::new),
            stop: request.stop,
            tokens_max: request.tokens_max,
            events,
        };
        match self.queue.try_send(job) {
            Ok(()) => Ok(Box::pin(Events { receiver, ended: false })),
            Err(TrySendError::Full(_)) => {
                Err(Error::Busy { what: "the language model", limit: self.queue_max })
            }
            Err(TrySendError::Disconnected(_)) => Err(worker_gone()),
        }
    }
}

fn check(request: &GenerateRequest) -> Result<()> {
    if !(1..=OUTPUT_TOKENS_MAX).contains(&request.tokens_max) {
        let asked = request.tokens_max;
        return Err(Error::invalid(format!(
            "tokens_max is {asked}; it must lie between 1 and {OUTPUT_TOKENS_MAX}"
        )));
    }
    if request.stop.len() > STOP_STRINGS_MAX {
        return Err(Error::invalid(format!("more than {STOP_STRINGS_MAX} stop strings")));
    }
    if request.stop.iter().any(|stop| stop.is_empty() || stop.len() > STOP_BYTES_MAX) {
        return Err(Error::invalid(format!("a stop string must have 1 to {STOP_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// A request's events as a stream that always ends in `Done` or an error.
struct Events {
    receiver: Receiver<Result<GenerationEvent>>,
    ended: bool,
}

impl Stream for Events {
    type Item = Result<GenerationEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.receiver.poll_recv(context).map(|event| {
            let event = event.unwrap_or_else(|| Err(worker_gone()));
            self.ended = !matches!(event, Ok(GenerationEvent::Text(_)));
            Some(event)
        })
    }
}
