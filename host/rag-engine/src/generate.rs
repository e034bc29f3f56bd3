//! The language model as the rest of the program sees it: implements `rag_core::ports::Generate`, and beside it reads
//! texts out as vectors or scores and prepares prefixes.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_core::Stream;
use rag_core::ports::{Generate, GenerateRequest, GenerationEvent, GenerationStream};
use rag_core::{Error, Result};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::oneshot;

use crate::checkpoint;
use crate::cpu::matrix::Format;
use crate::cpu::pool::Pool;
use crate::cpu::product::Cpu;
use crate::cpu::simd::Simd;
use crate::devices::{self, Device};
use crate::dispatch::Dispatch;
use crate::memory;
use crate::profile::{self, DEFAULT_PROFILE, Profile, ProfileConfig};
use crate::runner::Runner;
use crate::rwkv::{Config, Engine, Formats, Model};
use crate::sampler::Sampler;
use crate::slot::{EVENTS_BESIDE_TOKENS, Job, Task, Writing};
use crate::state_cache::{Disk, DiskCache, Scope, StateCache};
use crate::text_stream::TextStream;
use crate::tokenizer::{END_OF_TEXT, Tokenizer};
use crate::within::Within;
use crate::worker::{Worker, worker_gone};

/// One request's answer; the largest published models were trained on fewer.
const OUTPUT_TOKENS_MAX: u32 = 32_768;
/// One request's prompt. The state has one size whatever was read: this bounds the time, and the prompt's memory.
const PROMPT_TOKENS_MAX: usize = 262_144;
const STOP_STRINGS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 256;
pub(crate) const PROFILES_MAX: usize = 64;

/// How to load and run a language model.
#[derive(Debug, Clone, PartialEq)]
pub struct LanguageModelConfig {
    /// `.pth`, `.safetensors`, or a packed file.
    pub weights: PathBuf,
    pub vocabulary: PathBuf,
    /// As shown to people.
    pub name: String,
    /// Where it computes.
    pub device: Device,
    /// Sequences that run at once, 1 to `ROWS_MAX / 2` (on each GPU, to 512).
    pub slots: usize,
    /// Requests that wait at most.
    pub queue_max: usize,
    /// Threads that compute; 0 takes one a core.
    pub threads: usize,
    /// Memory for states of prompt prefixes, in bytes; 0 keeps none.
    pub state_cache_bytes: usize,
    /// Where states go that memory has no room for.
    pub state_cache_disk: Option<DiskCache>,
    /// Uses beside plain generation, and what that starts from.
    pub profiles: Vec<ProfileConfig>,
    /// Converts matrices at load; a packed file keeps its own formats.
    pub quantize: Option<Formats>,
    /// The small model that only shows how things work.
    pub demonstration: bool,
}

/// A loaded language model. Dropping it ends its threads, one a device, once the running answers are written.
#[derive(Debug)]
pub struct LanguageModel {
    name: String,
    demonstration: bool,
    tokenizer: Arc<Tokenizer>,
    vocabulary: usize,
    pub(crate) sizes: Config,
    pub(crate) profiles: RwLock<Vec<Arc<Profile>>>,
    /// Of the weights, as far as what is kept on disk depends on them.
    model_hash: [u8; 32],
    queue: Dispatch,
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
    /// Sequences that hold a slot now.
    pub running: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) prompt_tokens_known: AtomicU64,
    pub(crate) output_tokens: AtomicU64,
    pub(crate) running: AtomicU64,
}

impl LanguageModel {
    /// Loads the weights and starts the worker: blocks for as long as reading the file takes. `Error::Model` for a
    /// file that is no RWKV, `Error::Unavailable` when there is too little memory.
    pub fn load(config: LanguageModelConfig) -> Result<Arc<Self>> {
        let tokenizer = Tokenizer::load(&config.vocabulary)?;
        Self::start_on(devices::load_runners(&config)?, tokenizer, config)
    }

    /// Starts the worker of a model that is in memory already; of `config`, what says how to load is not used.
    pub fn start(
        runner: impl Into<Runner>,
        tokenizer: Tokenizer,
        config: LanguageModelConfig,
    ) -> Result<Arc<Self>> {
        Self::start_on(vec![runner.into()], tokenizer, config)
    }

    /// Starts a worker for each copy of the same model; at least one. Requests go to the one with the least to do, and
    /// what one has read of a prompt is known to all.
    pub fn start_on(
        mut runners: Vec<Runner>,
        tokenizer: Tokenizer,
        config: LanguageModelConfig,
    ) -> Result<Arc<Self>> {
        let disk = config.state_cache_disk.as_ref().map(Disk::open).transpose()?;
        // Within one process a cache belongs to one model: only files need to know which.
        let model_hash = match &disk {
            Some(_) if config.weights.is_file() => model_hash(&config)?,
            _ => [0; 32],
        };
        let sizes = match runners.first() {
            Some(first) => *first.config(),
            None => return Err(Error::invalid("a language model needs a device")),
        };
        let vocabulary = sizes.vocabulary;
        let tokenizer = Arc::new(tokenizer);
        let banned = textless_ids(&tokenizer, vocabulary);
        let mut profiles = Vec::new();
        for runner in &mut runners {
            // The same on all: adapters are numbered in the order of the configuration.
            profiles = load_profiles(runner, &config.profiles)?;
            runner.ban(&banned)?;
        }
        let counters = Arc::new(Counters::default());
        let cache = Arc::new(Mutex::new(StateCache::new(config.state_cache_bytes, disk)));
        let (queue, ends) = Dispatch::new(runners.len(), config.queue_max);
        let others = Arc::new(AtomicUsize::new(runners.len() - 1));
        for (runner, end) in runners.into_iter().zip(ends) {
            let worker = Worker {
                slots_max: config.slots.clamp(1, runner.slots_max()),
                runner,
                tokenizer: tokenizer.clone(),
                cache: cache.clone(),
                banned: banned.clone(),
                counters: counters.clone(),
                others: others.clone(),
            };
            std::thread::Builder::new()
                .name("language-model".to_string())
                .spawn(move || worker.run(&end))
                .map_err(|e| Error::Unavailable { message: format!("cannot start a thread: {e}") })?;
        }
        let LanguageModelConfig { name, demonstration, .. } = config;
        Ok(Arc::new(Self {
            name,
            demonstration,
            tokenizer,
            vocabulary,
            sizes,
            profiles: RwLock::new(profiles),
            model_hash,
            queue,
            counters,
        }))
    }

    /// `generate` under a profile; `Error::NotFound` for one that does not exist.
    pub fn generate_as(&self, profile: &str, request: GenerateRequest) -> Result<GenerationStream> {
        check(&request)?;
        let profile = self.profile(profile)?;
        if profile.read_out.is_some() {
            return Err(Error::invalid(format!("the profile '{}' writes no text", profile.name)));
        }
        let tokens = self.tokens_of(self.tokenizer.encode(&request.prompt))?;
        let (events, receiver) = channel(request.tokens_max as usize + EVENTS_BESIDE_TOKENS);
        let writing = Writing {
            sampler: Sampler::new(&request.sampling)?,
            within: request.bounds.map(Within::new),
            text: TextStream::new(&request.stop),
            tokens_max: request.tokens_max,
            events,
        };
        self.queue(tokens, profile, &request.tenant, Task::Write(Box::new(writing)))?;
        Ok(Box::pin(Events { receiver, ended: false }))
    }

    /// A text's vector or, as its only value, its score under a profile.
    ///
    /// # Errors
    /// `Error::NotFound` for a profile that does not exist, `Error::InvalidInput` for one that writes text,
    /// `Error::Busy` when the queue is full.
    pub async fn read_out(&self, profile: &str, tenant: &str, text: &str) -> Result<Vec<f32>> {
        let profile = self.profile(profile)?;
        let Some(read_out) = &profile.read_out else {
            return Err(Error::invalid(format!("the profile '{}' only writes text", profile.name)));
        };
        let mut tokens = self.tokenizer.encode(text);
        tokens.extend(&read_out.end);
        let tokens = self.tokens_of(tokens)?;
        let (reply, answer) = oneshot::channel();
        let pool = profile::Pool::default();
        self.queue(tokens, profile, tenant, Task::ReadOut { pool, reply })?;
        answer.await.map_err(|_| worker_gone())?
    }

    /// Reads a text that prompts will begin with (a document, a preface) and keeps its state, on disk too where there
    /// is such a cache. Returns how many tokens of such prompts are known then: the last ones are left out where the
    /// text that follows could change them.
    ///
    /// # Errors
    /// As `read_out`.
    pub async fn prepare(&self, profile: &str, tenant: &str, text: &str) -> Result<u32> {
        let profile = self.profile(profile)?;
        let mut tokens = self.tokenizer.encode(text);
        tokens.truncate(self.tokenizer.fixed_len(text));
        if tokens.is_empty() {
            return Ok(0);
        }
        let tokens = self.tokens_of(tokens)?;
        let (reply, answer) = oneshot::channel();
        self.queue(tokens, profile, tenant, Task::Keep { reply })?;
        answer.await.map_err(|_| worker_gone())?
    }

    pub(crate) fn profile(&self, name: &str) -> Result<Arc<Profile>> {
        let profiles = self.profiles.read().unwrap_or_else(PoisonError::into_inner);
        let found = profiles.iter().find(|profile| profile.name == name);
        found.cloned().ok_or_else(|| Error::NotFound { what: "profile", name: name.to_string() })
    }

    /// Checks what is to be read; nothing is a document's start.
    pub(crate) fn tokens_of(&self, mut tokens: Vec<u32>) -> Result<Vec<u32>> {
        if tokens.is_empty() {
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
        Ok(tokens)
    }

    pub(crate) fn queue(
        &self,
        tokens: Vec<u32>,
        profile: Arc<Profile>,
        tenant: &str,
        task: Task,
    ) -> Result<()> {
        let scope = Scope::of(&[&self.model_hash, &profile.hash, tenant.as_bytes()]);
        self.queue.send(Job { tokens, profile, scope, task })
    }

    /// Totals since the start, for metrics.
    pub fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            requests: read(&self.counters.requests),
            prompt_tokens: read(&self.counters.prompt_tokens),
            prompt_tokens_known: read(&self.counters.prompt_tokens_known),
            output_tokens: read(&self.counters.output_tokens),
            running: read(&self.counters.running),
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
    let model = Model::read_as(&*weights, &formats)?;
    Ok(Engine::new(model, cpu_with(config.threads)?))
}

/// The processor with so many threads; 0 takes one a core.
pub(crate) fn cpu_with(threads: usize) -> Result<Cpu> {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    };
    Ok(Cpu { pool: Pool::new(threads)?, simd: Simd::detect() })
}

/// The configured profiles, and the plain one where none takes its name.
fn load_profiles(engine: &mut Runner, configs: &[ProfileConfig]) -> Result<Vec<Arc<Profile>>> {
    if configs.len() > PROFILES_MAX {
        return Err(Error::invalid(format!("{} profiles; {PROFILES_MAX} are allowed", configs.len())));
    }
    let mut profiles: Vec<Arc<Profile>> = Vec::new();
    for config in configs {
        if profiles.iter().any(|profile| profile.name == config.name) {
            return Err(Error::invalid(format!("two profiles are called '{}'", config.name)));
        }
        profiles.push(Profile::load(config, engine)?);
    }
    if profiles.iter().all(|profile| profile.name != DEFAULT_PROFILE) {
        profiles.push(Profile::plain(engine));
    }
    Ok(profiles)
}

/// Of the file and of the formats that it is converted to.
fn model_hash(config: &LanguageModelConfig) -> Result<[u8; 32]> {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new_with_prefix(profile::file_hash(&config.weights)?);
    hash.update(format!("{:?}", config.quantize));
    Ok(hash.finalize().into())
}

/// Ids of the model's table without text: they pad the table and mean nothing.
fn textless_ids(tokenizer: &Tokenizer, vocabulary: usize) -> Vec<u32> {
    (0..vocabulary as u32).filter(|&id| id != END_OF_TEXT && tokenizer.token(id).is_empty()).collect()
}

#[async_trait]
impl Generate for LanguageModel {
    fn identity(&self) -> String {
        self.name.clone()
    }

    fn demonstration(&self) -> bool {
        self.demonstration
    }

    fn count_tokens(&self, text: &str) -> u32 {
        self.tokenizer.count(text) as u32
    }

    async fn generate(&self, request: GenerateRequest) -> Result<GenerationStream> {
        self.generate_as(DEFAULT_PROFILE, request)
    }
}

pub(crate) fn check(request: &GenerateRequest) -> Result<()> {
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
