//! Measures a language model on this machine: tokens read and written a second, how near that is to what the memory's
//! speed allows, memory taken.

use std::time::{Duration, Instant};

use rag_core::{Error, Result};

use crate::cpu::matrix::Format;
use crate::devices::Device;
use crate::generate::{LanguageModelConfig, cpu_with, load_engine};
pub use crate::measure::{Measurement, peak_memory};
use crate::random::Random;
use crate::rwkv::engine::ROWS_MAX;
use crate::rwkv::random_model::size_names;
use crate::rwkv::{Config, Engine, Formats, Logits, Model, Piece, RandomModel, State, weights};
use crate::{checkpoint, memory};

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Tokens written a second.
    Decode,
    /// Prompt tokens read a second.
    Prefill,
}

/// Which model.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    File(LanguageModelConfig),
    /// A published size by name with random weights, threads (0: one a core), and where to compute.
    Random {
        size: String,
        threads: usize,
        device: Device,
    },
}

/// How to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub source: Source,
    /// Formats one after the other; none measures a file as it is, a random model in int8.
    pub formats: Vec<Format>,
    /// Sequences at once, each 1 to `ROWS_MAX`.
    pub batches: Vec<usize>,
    /// Tokens of each prompt.
    pub lengths: Vec<usize>,
    /// Time of one of the `ROUNDS`.
    pub round: Duration,
}

/// Each figure is the median of this many rounds.
pub const ROUNDS: u32 = 5;
/// Of random weights and tokens.
const SEED: u64 = 1;

/// Loads the model in each format and measures it.
///
/// # Errors
/// `Error::InvalidInput` for a size, batch or length that does not exist; else as loading.
pub fn run(what: What, plan: &Plan) -> Result<Vec<Measurement>> {
    let counts = if what == What::Decode { &plan.batches } else { &plan.lengths };
    if counts.contains(&0) || plan.batches.iter().any(|&batch| batch > ROWS_MAX) {
        return Err(Error::invalid(format!(
            "a batch must lie between 1 and {ROWS_MAX}, a length must not be 0"
        )));
    }
    let mut formats: Vec<Option<Format>> = plan.formats.iter().copied().map(Some).collect();
    if formats.is_empty() {
        formats.push(match plan.source {
            Source::File(_) => None,
            Source::Random { .. } => Some(Format::Int8),
        });
    }
    #[cfg(feature = "cuda")]
    if let Some(device) = gpu_of(&plan.source) {
        return on_gpu(what, plan, device);
    }
    #[cfg(not(feature = "cuda"))]
    if let Device::Cuda(_) | Device::CudaAll = device_of(&plan.source) {
        return Err(crate::devices::without_cuda("models.device"));
    }
    let mut results = Vec::new();
    for format in formats {
        let start = Instant::now();
        let (mut engine, bytes) = load(&plan.source, format)?;
        let name = format.map_or("as stored", Format::name);
        let load = start.elapsed().as_secs_f64();
        let bandwidth = engine.memory_bandwidth();
        results.push(Measurement::new(format!("{name}, load"), load, "s"));
        results.push(Measurement::new(format!("{name}, weights read a token"), bytes as f64 / 1e6, "MB"));
        results.push(Measurement::new(format!("{name}, memory read"), bandwidth / 1e9, "GB/s"));
        for &count in counts {
            let (label, batch, len) = match what {
                What::Decode => (format!("{name}, decode, batch {count}"), count, 1),
                What::Prefill => (format!("{name}, prefill, {count} tokens"), 1, count),
            };
            let rate = tokens_a_second(&mut engine, batch, len, plan.round);
            results.push(Measurement::new(&label, rate, "tokens/s"));
            if what == What::Decode {
                // Weights are read once a step, each sequence's state read and written.
                let state = engine.config().state_len() * 4;
                let bound = batch as f64 * bandwidth / (bytes + 2 * batch * state) as f64;
                results.push(Measurement::new(
                    format!("{label}, of the memory bound"),
                    rate / bound,
                    "share",
                ));
            }
        }
    }
    results.extend(peak_memory());
    Ok(results)
}

fn device_of(source: &Source) -> &Device {
    match source {
        Source::File(config) => &config.device,
        Source::Random { device, .. } => device,
    }
}

/// The GPU that is meant, if one is; the first of several.
#[cfg(feature = "cuda")]
fn gpu_of(source: &Source) -> Option<usize> {
    match device_of(source) {
        Device::Cpu => None,
        Device::Cuda(gpus) => gpus.first().copied(),
        Device::CudaAll => Some(0),
        Device::Auto => matches!(crate::rwkv::cuda::count(), Ok(1..)).then_some(0),
    }
}

/// `run` on a GPU; f32, or no format, stands for bf16.
#[cfg(feature = "cuda")]
fn on_gpu(what: What, plan: &Plan, device: usize) -> Result<Vec<Measurement>> {
    use crate::rwkv::cuda::{Dense, Engine as GpuEngine, Options, Tuning};
    let counts = if what == What::Decode { &plan.batches } else { &plan.lengths };
    let sequences = if what == What::Decode { counts.iter().copied().max().unwrap_or(1) } else { 1 };
    let formats = if plan.formats.is_empty() { vec![Format::F32] } else { plan.formats.clone() };
    let mut results = Vec::new();
    for format in formats {
        let start = Instant::now();
        let options = Options {
            device,
            sequences,
            formats: Formats::of(format),
            dense: Dense::Bf16,
            tuning: Tuning::default(),
        };
        let mut engine = match &plan.source {
            Source::File(config) => GpuEngine::load(&*checkpoint::open(&config.weights)?, &options)?,
            Source::Random { size, .. } => GpuEngine::random(&published(size)?, SEED, &options)?,
        };
        let name = if format == Format::F32 { "bf16" } else { format.name() };
        let bandwidth = engine.memory_bandwidth()?;
        let (bytes, state) = (engine.bytes_read(), engine.config().state_len() * 4);
        results.push(Measurement::new(format!("{name}, load"), start.elapsed().as_secs_f64(), "s"));
        results.push(Measurement::new(format!("{name}, weights read a token"), bytes as f64 / 1e6, "MB"));
        results.push(Measurement::new(format!("{name}, GPU memory copied"), bandwidth / 1e9, "GB/s"));
        let taken = engine.memory_taken()? as f64 / f64::from(1 << 20);
        results.push(Measurement::new(format!("{name}, GPU memory taken"), taken, "MiB"));
        for &count in counts {
            if what == What::Prefill {
                let rate = engine.prefill_rate(1, count, plan.round)?;
                results.push(Measurement::new(format!("{name}, prefill, {count} tokens"), rate, "tokens/s"));
                continue;
            }
            let label = format!("{name}, decode, batch {count}");
            let rate = engine.decode_rate(count, plan.round)?;
            let bound = count as f64 * bandwidth / (bytes + 2 * count * state) as f64;
            results.push(Measurement::new(&label, rate, "tokens/s"));
            results.push(Measurement::new(format!("{label}, of the memory bound"), rate / bound, "share"));
        }
    }
    Ok(results)
}

/// A size by its name.
fn published(size: &str) -> Result<Config> {
    Config::published(size).ok_or_else(|| {
        let known: Vec<&str> = size_names().collect();
        Error::invalid(format!("there is no size {size}; known are {}", known.join(", ")))
    })
}

/// The engine, and the bytes of weights that one token reads.
fn load(source: &Source, format: Option<Format>) -> Result<(Engine, usize)> {
    match source {
        Source::File(config) => {
            let quantize = format.map(Formats::of).or(config.quantize);
            let engine = load_engine(&LanguageModelConfig { quantize, ..config.clone() })?;
            let bytes = engine.bytes_read();
            Ok((engine, bytes))
        }
        Source::Random { size, threads, .. } => {
            let sizes = published(size)?;
            let weights = RandomModel::new(&sizes, SEED);
            let formats = Formats::of(format.unwrap_or(Format::Int8));
            memory::require(size.as_ref(), memory::of_model(&weights, &sizes, &formats))?;
            let engine = Engine::new(Model::read_as(&weights, &formats)?, cpu_with(*threads)?);
            debug_assert_eq!(engine.bytes_read(), weights::bytes(&sizes, &formats).1);
            let bytes = engine.bytes_read();
            Ok((engine, bytes))
        }
    }
}

/// Reads `len` random tokens into each of `batch` sequences at a time, with the logits of the last.
fn tokens_a_second(engine: &mut Engine, batch: usize, len: usize, round: Duration) -> f64 {
    let mut random = Random::seeded(SEED);
    let vocabulary = engine.config().vocabulary as u64;
    let mut states = vec![State::zero(engine.config()); batch];
    let mut step = || {
        let tokens: Vec<u32> = (0..batch * len).map(|_| random.below(vocabulary) as u32).collect();
        if batch == 1 {
            std::hint::black_box(engine.read(&tokens, &mut states[0]));
            return;
        }
        let piece = |(state, tokens)| Piece { tokens, state, logits: Logits::Last, adapter: None };
        let mut pieces: Vec<Piece<'_>> = states.iter_mut().zip(tokens.chunks(len)).map(piece).collect();
        std::hint::black_box(engine.forward(&mut pieces));
    };
    step();
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let mut steps = 0;
            while start.elapsed() < round {
                step();
                steps += 1;
            }
            f64::from(steps) * (batch * len) as f64 / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Memory that a model needs when it is loaded like this, in bytes, without slots and caches.
///
/// # Errors
/// `Error::Model` for a file that is none.
pub fn memory_need(config: &LanguageModelConfig) -> Result<usize> {
    let weights = checkpoint::open(&config.weights)?;
    let formats = config.quantize.unwrap_or(Formats::of(Format::F32));
    Ok(memory::of_model(&*weights, &Config::read(&*weights)?, &formats))
}
