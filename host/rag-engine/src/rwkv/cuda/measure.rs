//! How fast a model on a GPU is: tokens written and read a second, and what the GPU's memory allows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rag_core::Result;

use super::driver::{Gpu, Memory};
use super::{DeviceState, Engine, Piece};
use crate::random::Random;
use crate::rwkv::Logits;
use crate::sampler::Drawing;

/// Each figure is the median of this many rounds.
const ROUNDS: usize = 5;
const BANDWIDTH_BYTES: usize = 1 << 30;
const SEED: u64 = 1;

/// Bytes a second of a large copy within the GPU's memory, read and written both counted.
pub(super) fn bandwidth(gpu: &Arc<Gpu>) -> Result<f64> {
    let (free, _) = gpu.memory()?;
    let bytes = BANDWIDTH_BYTES.min(free / 4);
    let (from, to) = (Memory::new(gpu, bytes)?, Memory::new(gpu, bytes)?);
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        gpu.wait()?;
        let start = Instant::now();
        for _ in 0..4 {
            to.copy_from(&from)?;
        }
        gpu.wait()?;
        best = best.min(start.elapsed().as_secs_f64() / 4.0);
    }
    Ok(2.0 * bytes as f64 / best)
}

/// The median of what `round` returns.
fn median(mut round: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut rates = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        rates.push(round()?);
    }
    rates.sort_by(f64::total_cmp);
    Ok(rates[ROUNDS / 2])
}

impl Engine {
    /// Tokens that `batch` sequences write a second together: each step's tokens, drawn on the GPU, come to the host and
    /// go into the next step, as when a text is written.
    pub fn decode_rate(&mut self, batch: usize, round: Duration) -> Result<f64> {
        let mut states = self.states(batch)?;
        let mut tokens: Vec<[u32; 1]> = (0..batch as u32).map(|i| [i % 256]).collect();
        let mut step = |engine: &mut Self| -> Result<()> {
            let draw = || Some(Drawing::default());
            let piece =
                |(state, tokens)| Piece { tokens, state, logits: Logits::Last, draw: draw(), adapter: None };
            let mut pieces: Vec<Piece<'_>> =
                states.iter_mut().zip(&tokens).map(|(state, token)| piece((state, &token[..]))).collect();
            engine.forward(&mut pieces)?;
            tokens.iter_mut().zip(engine.drawn()).for_each(|(token, &drawn)| *token = [drawn]);
            Ok(())
        };
        // The first runs, the second is recorded.
        for _ in 0..5 {
            step(self)?;
        }
        median(|| {
            let (start, mut steps) = (Instant::now(), 0);
            while start.elapsed() < round {
                step(self)?;
                steps += 1;
            }
            Ok(f64::from(steps) * batch as f64 / start.elapsed().as_secs_f64())
        })
    }

    /// Tokens that are read a second of `prompts` prompts of `len` random tokens, with the logits after each prompt.
    pub fn prefill_rate(&mut self, prompts: usize, len: usize, round: Duration) -> Result<f64> {
        let mut random = Random::seeded(SEED);
        let vocabulary = self.config().vocabulary as u64;
        let texts: Vec<Vec<u32>> =
            (0..prompts).map(|_| (0..len).map(|_| random.below(vocabulary) as u32).collect()).collect();
        let mut states = self.states(prompts)?;
        self.read_all(&texts, &mut states)?;
        median(|| {
            let (start, mut times) = (Instant::now(), 0);
            while start.elapsed() < round {
                self.read_all(&texts, &mut states)?;
                times += 1;
            }
            Ok(f64::from(times) * (prompts * len) as f64 / start.elapsed().as_secs_f64())
        })
    }

    /// Reads whole prompts, as many together as a call takes, and draws a token after each.
    fn read_all(&mut self, texts: &[Vec<u32>], states: &mut [DeviceState]) -> Result<()> {
        let mut left: Vec<(&[u32], &mut DeviceState)> =
            texts.iter().map(Vec::as_slice).zip(states.iter_mut()).collect();
        while !left.is_empty() {
            let (mut room, mut pieces) = (self.rows_max(), Vec::new());
            for (tokens, state) in left.iter_mut().take(self.sequences_max()) {
                let now = tokens.len().min(room);
                if now == 0 {
                    break;
                }
                let (head, rest) = tokens.split_at(now);
                let last = rest.is_empty();
                let logits = if last { Logits::Last } else { Logits::None };
                let draw = last.then(Drawing::default);
                pieces.push(Piece { tokens: head, state, logits, draw, adapter: None });
                *tokens = rest;
                room -= now;
            }
            self.forward(&mut pieces)?;
            drop(pieces);
            left.retain(|(tokens, _)| !tokens.is_empty());
        }
        Ok(())
    }

    fn states(&self, count: usize) -> Result<Vec<DeviceState>> {
        (0..count).map(|_| self.state()).collect()
    }

    /// See `bandwidth`.
    pub fn memory_bandwidth(&self) -> Result<f64> {
        bandwidth(self.gpu())
    }
}
