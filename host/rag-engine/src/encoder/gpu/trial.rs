//! Encoders of random weights, made where they are needed: whether a GPU computes what the processor does, and how fast.

use std::time::{Duration, Instant};

use rag_core::Result;

use super::{Answer, Forward, KERNELS, Options, Parts, Text, Wish, open};
use crate::encoder::gemm::{Isa, Rows8};
use crate::encoder::job::pool;
use crate::encoder::loaded::{Pooling, Precision, ScoreHead};
use crate::encoder::maths::normalise;
use crate::encoder::model::{Layer, Linear, Model, Norm, Scratch, Sequence};
use crate::encoder::token_vectors::TokenVectors;
use crate::encoder::word_table::{BLOCK, WordTable};
use crate::random::Random;
use crate::rwkv::cuda::Gpu;

/// Random numbers that all matrices take theirs from, a prime, so that no two begin alike.
const NOISE: usize = 1_048_573;
const EPS: f32 = 1e-5;
/// Tokens of a pass that is timed, where the model's positions are fewer.
const PASS_TOKENS: usize = 8192;
/// Each figure is the median of so many rounds.
const ROUNDS: usize = 5;

/// Sizes of an encoder, with all heads that there may be.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// Rows of the word table.
    pub words: usize,
    /// Tokens of the longest text.
    pub positions: usize,
    /// A multiple of 32.
    pub width: usize,
    pub heads: usize,
    pub inner: usize,
    pub layers: usize,
    /// Whether tokens of a second text are told apart, as BERT does; a text's vector is then the first token's, else
    /// the mean.
    pub kinds: bool,
    /// Of the multi-vector head; none has no such head.
    pub token_width: Option<usize>,
    pub seed: u64,
}

/// How far a GPU is from the processor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Distance {
    /// Of the last layer's rows, relative to their length.
    pub rows: f64,
    /// Largest cosine distance of a text's vector, and of a token's, which are of 8 bits on both.
    pub vectors: f64,
    pub tokens: f64,
    /// Of the tokens' weights, relative to their length.
    pub weights: f64,
    /// Largest difference of a score.
    pub scores: f64,
}

/// How fast a GPU is with so many texts a call of so many tokens.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub texts: usize,
    pub tokens: usize,
    /// Of one call.
    pub milliseconds: f64,
    pub texts_a_second: f64,
    pub operations_a_second: f64,
}

struct Made {
    model: Model,
    pooling: Pooling,
    token_head: Option<Linear>,
    lexical_head: Linear,
    score_head: ScoreHead,
}

impl Made {
    fn parts(&self) -> Parts<'_> {
        Parts {
            model: &self.model,
            pooling: self.pooling,
            token_head: self.token_head.as_ref(),
            lexical_head: Some(&self.lexical_head),
            score_head: Some(&self.score_head),
        }
    }
}

/// Of the tokens of all texts: one token's may be as good as nothing, beside which every rounding is large.
#[derive(Default)]
struct Weights {
    found: Vec<f32>,
    right: Vec<f32>,
}

/// Numbers of mean 0 and variance 1, the same ones again and again.
struct Noise {
    numbers: Vec<f32>,
    at: usize,
    random: Random,
}

impl Noise {
    fn new(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let numbers = (0..NOISE).map(|_| (random.unit() as f32 - 0.5) * 12f32.sqrt()).collect();
        Noise { numbers, at: 0, random }
    }

    fn take(&mut self, count: usize, scale: f32) -> Vec<f32> {
        let mut values = Vec::with_capacity(count);
        while values.len() < count {
            let part = &self.numbers[self.at..];
            let part = &part[..part.len().min(count - values.len())];
            values.extend(part.iter().map(|value| value * scale));
            self.at = (self.at + part.len()) % NOISE;
        }
        values
    }

    fn linear(&mut self, depth: usize, columns: usize) -> Linear {
        let values = self.take(depth * columns, 1.0 / (depth as f32).sqrt());
        Linear::pack(Precision::F32, depth, &values, self.take(columns, 0.3))
    }

    fn norm(&mut self, width: usize) -> Norm {
        let mut weight = self.take(width, 0.1);
        weight.iter_mut().for_each(|value| *value += 1.0);
        Norm { weight, bias: self.take(width, 0.1) }
    }

    fn layer(&mut self, width: usize, inner: usize) -> Layer {
        Layer {
            qkv: self.linear(width, 3 * width),
            attention_out: self.linear(width, width),
            attention_norm: self.norm(width),
            up: self.linear(width, inner),
            down: self.linear(inner, width),
            output_norm: self.norm(width),
        }
    }
}

impl Trial {
    /// The sizes of multilingual-e5-small and of bge-m3.
    pub fn published(name: &str) -> Option<Self> {
        let e5 = Trial {
            words: 250_037,
            positions: 512,
            width: 384,
            heads: 12,
            inner: 1536,
            layers: 12,
            kinds: false,
            token_width: None,
            seed: 1,
        };
        match name {
            "e5" => Some(e5),
            "bge-m3" => Some(Trial {
                words: 250_002,
                positions: 8192,
                width: 1024,
                heads: 16,
                inner: 4096,
                layers: 24,
                token_width: Some(1024),
                ..e5
            }),
            _ => None,
        }
    }

    fn make(&self) -> Result<Made> {
        let Trial { words, positions, width, inner, .. } = *self;
        let mut noise = Noise::new(self.seed);
        let mut nibbles = vec![0u8; words * width / 2];
        for bytes in nibbles.chunks_mut(8) {
            bytes.copy_from_slice(&noise.random.bits().to_le_bytes()[..bytes.len()]);
        }
        let scales = noise.take(words * width / BLOCK, 0.1);
        let word = WordTable::nibbles(width, nibbles, scales).map_err(rag_core::Error::internal)?;
        Ok(Made {
            model: Model {
                word,
                position: noise.take(positions * width, 0.5),
                second: if self.kinds { noise.take(width, 0.5) } else { Vec::new() },
                norm: noise.norm(width),
                layers: (0..self.layers).map(|_| noise.layer(width, inner)).collect(),
                heads: self.heads,
                width,
                eps: EPS,
            },
            pooling: if self.kinds { Pooling::First } else { Pooling::Mean },
            token_head: self.token_width.map(|columns| noise.linear(width, columns)),
            lexical_head: noise.linear(width, 1),
            score_head: ScoreHead { dense: noise.linear(width, width), out: noise.linear(width, 1) },
        })
    }

    fn ids(&self, random: &mut Random, length: usize) -> Vec<u32> {
        (0..length).map(|_| random.below(self.words as u64) as u32).collect()
    }

    /// Runs texts of these lengths on both, all together on the GPU.
    ///
    /// # Errors
    /// `Unavailable` without the GPU, or when it has too little memory.
    pub fn distance(&self, device: usize, precision: Precision, lengths: &[usize]) -> Result<Distance> {
        let made = self.make()?;
        let mut random = Random::seeded(self.seed + 1);
        let ids: Vec<Vec<u32>> = lengths.iter().map(|&length| self.ids(&mut random, length)).collect();
        let second = |ids: &[u32]| if self.kinds && ids.len() > 2 { ids.len() / 2 } else { ids.len() };
        let sequences: Vec<_> = ids.iter().map(|ids| Sequence { ids, second: second(ids) }).collect();
        let mut scratch = Scratch::default();
        made.model.forward(Isa::detect(), &sequences, &mut scratch);
        let tokens = lengths.iter().sum::<usize>();
        let options = Options { device, precision, batch_tokens_max: tokens };
        let mut gpu = open(&Gpu::open_with(device, KERNELS)?, made.parts(), &options)?;
        let texts: Vec<_> =
            ids.iter().map(|ids| Text { ids, second: second(ids), wish: Wish::Vector }).collect();
        gpu.pass(&texts)?;
        let mut rows = vec![0.0; tokens * self.width];
        gpu.buffers.x.read(0, &mut rows)?;
        let mut distance = Distance { rows: relative(&rows, &scratch.hidden), ..Distance::default() };
        let mut weights = Weights::default();
        // Each text wishes each thing once, beside texts that wish others.
        for turn in 0..3 {
            let texts: Vec<_> = (texts.iter().enumerate())
                .map(|(index, text)| {
                    let wish = match (index + turn) % 3 {
                        0 => Wish::Vector,
                        1 => Wish::Score,
                        _ => Wish::Tokens(usize::from(text.ids.len() > 1)..text.ids.len()),
                    };
                    Text { wish, ..text.clone() }
                })
                .collect();
            let answers = gpu.run(&texts)?;
            let mut rest = scratch.hidden.as_slice();
            for (text, answer) in texts.iter().zip(&answers) {
                let (hidden, after) = rest.split_at(text.ids.len() * self.width);
                rest = after;
                made.compare(text, answer, hidden, &mut distance, &mut weights);
            }
        }
        distance.weights = relative(&weights.found, &weights.right);
        Ok(distance)
    }

    /// Times calls of texts that wish vectors; each figure takes about `round` five times.
    ///
    /// # Errors
    /// As `distance`.
    pub fn rates(&self, device: usize, plans: &[[usize; 2]], round: Duration) -> Result<(String, Vec<Rate>)> {
        let options = Options { device, precision: Precision::Int8, batch_tokens_max: PASS_TOKENS };
        let mut gpu = open(&Gpu::open_with(device, KERNELS)?, self.make()?.parts(), &options)?;
        let mut random = Random::seeded(self.seed + 1);
        let mut rates = Vec::new();
        for &[texts, tokens] in plans {
            let ids: Vec<Vec<u32>> = (0..texts).map(|_| self.ids(&mut random, tokens)).collect();
            let seconds = median(&mut gpu, &ids, round)?;
            rates.push(Rate {
                texts,
                tokens,
                milliseconds: seconds * 1e3,
                texts_a_second: texts as f64 / seconds,
                operations_a_second: gpu.sizes.operations(texts, tokens) / seconds,
            });
        }
        Ok((gpu.name().to_owned(), rates))
    }
}

/// Seconds of one call.
fn median(gpu: &mut Forward, ids: &[Vec<u32>], round: Duration) -> Result<f64> {
    let texts: Vec<_> = ids.iter().map(|ids| Text { ids, second: ids.len(), wish: Wish::Vector }).collect();
    gpu.run(&texts)?;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let (start, mut calls) = (Instant::now(), 0);
        while calls == 0 || start.elapsed() < round {
            gpu.run(&texts)?;
            calls += 1;
        }
        times.push(start.elapsed().as_secs_f64() / f64::from(calls));
    }
    times.sort_by(f64::total_cmp);
    Ok(times[ROUNDS / 2])
}

impl Made {
    /// Adds what an answer is away from what the processor's rows give.
    fn compare(
        &self,
        text: &Text<'_>,
        answer: &Answer,
        hidden: &[f32],
        distance: &mut Distance,
        all: &mut Weights,
    ) {
        let (isa, width) = (Isa::detect(), self.model.width);
        match (answer, &text.wish) {
            (Answer::Vector(vector), Wish::Vector) => {
                let apart = cosine_distance(vector, &pool(self.pooling, hidden, width));
                distance.vectors = distance.vectors.max(apart);
            }
            (Answer::Score(score), Wish::Score) => {
                let right = self.score_head.score(isa, &hidden[..width]);
                distance.scores = distance.scores.max(f64::from((score - right).abs()));
            }
            (Answer::Tokens { vectors, weights }, Wish::Tokens(own)) => {
                let hidden = &hidden[own.start * width..own.end * width];
                let of = |head: &Linear| {
                    let mut out = vec![0.0; own.len() * head.columns()];
                    head.apply(isa, hidden, &mut Rows8::default(), &mut out);
                    out
                };
                let mapped = self.token_head.as_ref().map_or_else(|| hidden.to_vec(), of);
                let columns = mapped.len() / own.len();
                let right = TokenVectors::of(&mapped, columns).vectors();
                let found = vectors.vectors();
                let apart = found.chunks(columns).zip(right.chunks(columns));
                let apart = apart.map(|(found, right)| cosine_distance(found, right));
                let apart = apart.fold(0.0, f64::max);
                let whole = found.len() == right.len();
                distance.tokens = distance.tokens.max(if whole { apart } else { f64::INFINITY });
                all.found.extend_from_slice(weights.as_deref().unwrap_or_default());
                all.right.extend(of(&self.lexical_head));
            }
            _ => distance.rows = f64::INFINITY,
        }
    }
}

/// How long the difference is beside what is right; infinite where something is no number.
fn relative(found: &[f32], right: &[f32]) -> f64 {
    let (mut off, mut all) = (0.0, 0.0);
    for (found, right) in found.iter().zip(right) {
        off += (f64::from(*found) - f64::from(*right)).powi(2);
        all += f64::from(*right).powi(2);
    }
    let error = (off / all.max(1e-30)).sqrt();
    if found.len() != right.len() || error.is_nan() { f64::INFINITY } else { error }
}

/// From the difference of the vectors at unit length, whose square is twice the distance: exact where they are close.
fn cosine_distance(found: &[f32], right: &[f32]) -> f64 {
    let [mut found, mut right] = [found.to_vec(), right.to_vec()];
    normalise(&mut found);
    normalise(&mut right);
    relative(&found, &right).powi(2) / 2.0
}
