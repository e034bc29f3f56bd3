//! The model's parameters and what one call computes with them, layer by layer.
//!
//! Tokens of several sequences stand below each other as rows; everything but the token shift and the recurrence is a
//! matrix product over all rows, so that weights are read once.

use std::ops::Range;

use rag_core::Result;

use super::channel_mix::ChannelMixBuffers;
use super::config::{Config, Version};
use super::linear::{Job, apply};
use super::state::State;
use super::time_mix::TimeMixBuffers;
use super::time_mix7::TimeMix7Buffers;
use super::weights::{AnyTimeMix, Formats, Parameters, Slot, Weights};
use crate::cpu::activations::Activations;
use crate::cpu::maths::{add, normalise};
use crate::cpu::matrix::Format;
use crate::cpu::product::Cpu;

/// Of all layer normalisations.
const NORM_EPSILON: f32 = 1e-5;

/// A model in memory. A copy, and what an adapter makes of it, shares the matrices.
#[derive(Debug, Clone)]
pub struct Model {
    pub(super) config: Config,
    pub(super) parameters: Parameters,
    /// The state that was merged into the file, if any.
    initial: Option<State>,
}

impl Model {
    /// Reads a model, converting matrices that are not packed to `format` (`Formats::of`).
    pub fn read(weights: &dyn Weights, format: Format) -> Result<Self> {
        Self::read_as(weights, &Formats::of(format))
    }

    /// Reads a model, converting matrices that are not packed.
    pub fn read_as(weights: &dyn Weights, formats: &Formats) -> Result<Self> {
        let config = Config::read(weights)?;
        let parameters = Parameters::read(weights, &config, formats)?;
        if let Some(ids) = &parameters.kept_ids {
            let ascending = ids.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending || ids.last().is_some_and(|&last| last as usize >= config.vocabulary) {
                return Err(weights.error("its list of kept ids is not ascending".to_string()));
            }
        }
        let merged = weights.shape("blocks.0.att.time_state").is_some();
        let initial = merged.then(|| State::tuned(weights, &config)).transpose()?;
        Ok(Self { config, parameters, initial })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where a sequence starts: the state merged into the file, else zero.
    pub fn initial_state(&self) -> State {
        self.initial.clone().unwrap_or_else(|| State::zero(&self.config))
    }

    /// Bytes of weights that one token reads: all but the embedding table.
    pub(super) fn bytes_read(&self) -> usize {
        let mut bytes = 0;
        let mut count = |name: &str, slot: Slot<'_>| {
            bytes += match slot {
                _ if name == "emb.weight" => 0,
                Slot::Vector(vector) => size_of_val(vector.as_slice()),
                Slot::Matrix { linear, .. } => linear.matrix.bytes(),
            };
            Ok(())
        };
        // Counting does not fail.
        let _ = self.parameters.clone().tensors(&self.config, &mut count);
        bytes
    }

    /// The embedding table's row of a token.
    fn embedding_row(&self, token: u32) -> usize {
        match &self.parameters.kept_ids {
            None => token as usize,
            // The row after the last stands for all that were left out.
            Some(ids) => ids.binary_search(&token).unwrap_or(ids.len()),
        }
    }
}

/// A sequence's rows among all of a call.
#[derive(Debug)]
pub(super) struct Segment<'a> {
    pub(super) rows: Range<usize>,
    pub(super) state: &'a mut State,
}

/// Working memory for calls of up to R rows.
#[derive(Debug)]
pub(super) struct Buffers {
    /// The residual stream, [R, D].
    pub(super) x: Vec<f32>,
    /// Normalised, [R, D], and moved down by one row.
    normed: Vec<f32>,
    shifted: Vec<f32>,
    /// What a mix adds to `x`, [R, D].
    mixed: Vec<f32>,
    time_mix: TimeMixes,
    channel_mix: ChannelMixBuffers,
    /// Input of the head.
    last: Activations,
    /// Before ids left out were put in.
    kept_logits: Vec<f32>,
}

#[derive(Debug)]
enum TimeMixes {
    V6(TimeMixBuffers),
    V7(TimeMix7Buffers),
}

impl Buffers {
    pub(super) fn new(rows: usize, config: &Config) -> Self {
        let of_width = vec![0.0; rows * config.width];
        Self {
            x: of_width.clone(),
            normed: of_width.clone(),
            shifted: of_width.clone(),
            mixed: of_width,
            time_mix: match config.version {
                Version::V6 { .. } => TimeMixes::V6(TimeMixBuffers::new(rows, config)),
                Version::V7 { .. } => TimeMixes::V7(TimeMix7Buffers::new(rows, config)),
            },
            channel_mix: ChannelMixBuffers::new(rows, config),
            last: Activations::new(config.width),
            kept_logits: Vec::new(),
        }
    }
}

impl Model {
    /// Writes the tokens' normalised embeddings to `x`.
    pub(super) fn embed(&self, cpu: &Cpu, buffers: &mut Buffers, tokens: &[u32]) {
        let width = self.config.width;
        cpu.rows(width, &mut buffers.x[..tokens.len() * width], |row, out| {
            self.parameters.embedding.matrix.row(self.embedding_row(tokens[row]), out);
            if let Some(norm) = &self.parameters.first_norm {
                let raw = out.to_vec();
                normalise(cpu.simd, &raw, &norm.weight, &norm.bias, NORM_EPSILON, out);
            }
        });
    }

    /// Moves `rows` rows of `x` through a layer.
    pub(super) fn layer(
        &self,
        cpu: &Cpu,
        buffers: &mut Buffers,
        layer: usize,
        rows: usize,
        segments: &mut [Segment<'_>],
    ) {
        let block = &self.parameters.blocks[layer];
        let width = self.config.width;
        let Buffers { x, normed, shifted, mixed, time_mix, channel_mix, .. } = buffers;
        let [x, normed, shifted, mixed] = [x, normed, shifted, mixed].map(|all| &mut all[..rows * width]);

        cpu.rows(width, normed, |row, out| {
            let norm = &block.time_norm;
            let x = &x[row * width..(row + 1) * width];
            normalise(cpu.simd, x, &norm.weight, &norm.bias, NORM_EPSILON, out);
        });
        for segment in &mut *segments {
            shift(normed, shifted, segment.rows.clone(), segment.state.layer(layer).time_shift);
        }
        let inputs = [&*normed, &*shifted];
        match (&block.time_mix, time_mix) {
            (AnyTimeMix::V6(mix), TimeMixes::V6(buffers)) => {
                mix.forward(cpu, buffers, inputs, (layer, segments), mixed);
            }
            (AnyTimeMix::V7(mix), TimeMixes::V7(buffers)) => {
                mix.forward(cpu, buffers, inputs, (layer, segments), mixed);
            }
            _ => debug_assert!(false, "buffers of another version"),
        }

        let x_parts = crate::cpu::Parts::new(x);
        cpu.rows(width, normed, |row, out| {
            // SAFETY: each row is one task's alone.
            let x = unsafe { x_parts.part(row * width..(row + 1) * width) };
            add(cpu.simd, &mixed[row * width..(row + 1) * width], x);
            let norm = &block.channel_norm;
            normalise(cpu.simd, x, &norm.weight, &norm.bias, NORM_EPSILON, out);
        });
        for segment in segments {
            shift(normed, shifted, segment.rows.clone(), segment.state.layer(layer).channel_shift);
        }
        block.channel_mix.forward(cpu, channel_mix, [normed, shifted], mixed);
        cpu.rows(width, x, |row, x| {
            add(cpu.simd, &mixed[row * width..(row + 1) * width], x);
        });
    }

    /// Writes the last normalisation of some rows, [wanted, D].
    pub(super) fn last_norm(&self, cpu: &Cpu, buffers: &Buffers, wanted: &[usize], out: &mut [f32]) {
        let (width, norm) = (self.config.width, &self.parameters.last_norm);
        cpu.rows(width, out, |i, out| {
            let x = &buffers.x[wanted[i] * width..(wanted[i] + 1) * width];
            normalise(cpu.simd, x, &norm.weight, &norm.bias, NORM_EPSILON, out);
        });
    }

    /// Writes the logits of some rows, [wanted, vocabulary]; ids left out of the head get −∞.
    pub(super) fn head(&self, cpu: &Cpu, buffers: &mut Buffers, wanted: &[usize], logits: &mut [f32]) {
        let width = self.config.width;
        let Buffers { x, last, kept_logits, .. } = buffers;
        let head = &self.parameters.head;
        last.resize(wanted.len(), &head.matrix);
        cpu.fill(last, |i, out| {
            let norm = &self.parameters.last_norm;
            let x = &x[wanted[i] * width..(wanted[i] + 1) * width];
            normalise(cpu.simd, x, &norm.weight, &norm.bias, NORM_EPSILON, out);
        });
        let Some(ids) = &self.parameters.kept_ids else {
            return apply(cpu, &mut [Job { linear: head, input: last, out: logits }]);
        };
        kept_logits.resize(wanted.len() * ids.len(), 0.0);
        apply(cpu, &mut [Job { linear: head, input: last, out: kept_logits }]);
        logits.fill(f32::NEG_INFINITY);
        for (logits, kept) in logits.chunks_mut(self.config.vocabulary).zip(kept_logits.chunks(ids.len())) {
            ids.iter().zip(kept).for_each(|(&id, &logit)| logits[id as usize] = logit);
        }
    }
}

/// Moves a segment's rows down by one: its first row becomes what the state kept, its last one is kept.
fn shift(normed: &[f32], shifted: &mut [f32], rows: Range<usize>, kept: &mut [f32]) {
    let width = kept.len();
    let (first, last) = (rows.start * width, (rows.end - 1) * width);
    shifted[first..first + width].copy_from_slice(kept);
    shifted[first + width..last + width].copy_from_slice(&normed[first..last]);
    kept.copy_from_slice(&normed[last..last + width]);
}
