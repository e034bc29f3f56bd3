//! Measures a language model on this machine: tokens read and written a second, memory.

use std::time::{Duration, Instant};

use rag_core::Result;

use crate::generate::{LanguageModelConfig, load_engine};
use crate::random::Random;
use crate::rwkv::{Engine, Logits, Piece, State};

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
}

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Tokens written a second, by one sequence and by eight together.
    Decode,
    /// Prompt tokens read a second.
    Prefill,
}

/// Each figure is the median of this many rounds.
const ROUNDS: usize = 5;
/// Time of one round.
const ROUND: Duration = Duration::from_millis(1500);

/// Loads the model and measures it.
pub fn run(what: What, config: &LanguageModelConfig) -> Result<Vec<Measurement>> {
    let start = Instant::now();
    let mut engine = load_engine(config)?;
    let load = start.elapsed().as_secs_f64();
    let mut results = match what {
        What::Decode => [1, 8]
            .map(|batch| tokens_a_second(format!("decode, batch {batch}"), &mut engine, batch, 1))
            .to_vec(),
        What::Prefill => [64, 256]
            .map(|len| tokens_a_second(format!("prefill, {len} tokens"), &mut engine, 1, len))
            .to_vec(),
    };
    results.push(Measurement { name: "load".to_string(), value: load, unit: "s" });
    results.extend(peak_memory().map(|value| Measurement {
        name: "peak memory".to_string(),
        value,
        unit: "MiB",
    }));
    Ok(results)
}

/// Reads `len` random tokens into each of `batch` sequences at a time, with the logits of the last.
fn tokens_a_second(name: String, engine: &mut Engine, batch: usize, len: usize) -> Measurement {
    let mut random = Random::seeded(1);
    let vocabulary = engine.config().vocabulary as u64;
    let tokens: Vec<u32> = (0..len).map(|_| random.below(vocabulary) as u32).collect();
    let mut states = vec![State::zero(engine.config()); batch];
    let mut step = || {
        let piece = |state| Piece { tokens: &tokens, state, logits: Logits::Last, adapter: None };
        let mut pieces: Vec<Piece<'_>> = states.iter_mut().map(piece).collect();
        std::hint::black_box(engine.forward(&mut pieces));
    };
    step();
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let mut steps = 0;
            while start.elapsed() < ROUND {
                step();
                steps += 1;
            }
            f64::from(steps) * (batch * len) as f64 / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    Measurement { name, value: rates[ROUNDS / 2], unit: "tokens/s" }
}

/// The process's largest resident size so far; none where the system does not say.
fn peak_memory() -> Option<f64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1024.0)
}
