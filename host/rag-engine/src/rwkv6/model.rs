//! The whole model: tokens of one or several sequences in, logits out, each sequence's state moved on.
//!
//! One call takes any mixture of sequences, long prompts and single tokens alike. Their tokens stand below each other
//! as rows; everything but the token shift and the recurrence is a matrix product over all rows, so that weights are
//! read once. Splitting a prompt over calls, or calling for several sequences together, changes no result.

use std::ops::Range;

use rag_core::Result;

use super::channel_mix::ChannelMixBuffers;
use super::config::Config;
use super::state::State;
use super::time_mix::TimeMixBuffers;
use super::weights::{Parameters, Weights};
use crate::cpu::activations::Activations;
use crate::cpu::maths::{add, normalise};
use crate::cpu::matrix::Format;
use crate::cpu::product::{Cpu, Product};

/// Of all layer normalisations.
const NORM_EPSILON: f32 = 1e-5;
/// Rows of one call. More would not read weights noticeably less often, and buffers would leave the cache.
pub const ROWS_MAX: usize = 256;

/// An RWKV-6 model in memory.
#[derive(Debug)]
pub struct Model {
    config: Config,
    parameters: Parameters,
}

impl Model {
    /// Reads a model, converting matrices that are not packed to `format`.
    pub fn read(weights: &dyn Weights, format: Format) -> Result<Self> {
        let config = Config::read(weights)?;
        let parameters = Parameters::read(weights, &config, format)?;
        if let Some(ids) = &parameters.kept_ids {
            let ascending = ids.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending || ids.last().is_some_and(|&last| last as usize >= config.vocabulary) {
                return Err(weights.error("its list of kept ids is not ascending".to_string()));
            }
        }
        Ok(Self { config, parameters })
    }

    pub fn config(&self) -> &Config {
        &self.config
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

/// Which logits a piece wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    None,
    /// Those after its last token.
    Last,
    /// Those after every token.
    All,
}

/// Tokens that continue one sequence.
#[derive(Debug)]
pub struct Piece<'a> {
    /// At least one, each below the vocabulary's size.
    pub tokens: &'a [u32],
    /// Moved on by the call.
    pub state: &'a mut State,
    pub logits: Logits,
}

/// A piece's rows among all of a call.
#[derive(Debug)]
pub(super) struct Segment<'a> {
    pub(super) rows: Range<usize>,
    pub(super) state: &'a mut State,
}

/// A model with a processor and working memory: one at a time computes.
#[derive(Debug)]
pub struct Engine {
    model: Model,
    cpu: Cpu,
    buffers: Buffers,
}

#[derive(Debug)]
struct Buffers {
    /// The residual stream, [R, D].
    x: Vec<f32>,
    /// Normalised, [R, D], and moved down by one row.
    normed: Vec<f32>,
    shifted: Vec<f32>,
    /// What a mix adds to `x`, [R, D].
    mixed: Vec<f32>,
    time_mix: TimeMixBuffers,
    channel_mix: ChannelMixBuffers,
    /// Input of the head.
    last: Activations,
    /// [rows wanted, vocabulary], and before ids left out were put in.
    logits: Vec<f32>,
    kept_logits: Vec<f32>,
}

impl Engine {
    pub fn new(model: Model, cpu: Cpu) -> Self {
        let config = &model.config;
        let rows = vec![0.0; ROWS_MAX * config.width];
        let buffers = Buffers {
            x: rows.clone(),
            normed: rows.clone(),
            shifted: rows.clone(),
            mixed: rows,
            time_mix: TimeMixBuffers::new(ROWS_MAX, config),
            channel_mix: ChannelMixBuffers::new(ROWS_MAX, config),
            last: Activations::new(1, config.width),
            logits: Vec::new(),
            kept_logits: Vec::new(),
        };
        Self { model, cpu, buffers }
    }

    pub fn config(&self) -> &Config {
        &self.model.config
    }

    pub fn threads(&self) -> usize {
        self.cpu.pool.threads()
    }

    /// Moves a sequence on by any number of tokens; returns the logits after the last, [vocabulary]; none for no
    /// tokens.
    pub fn read(&mut self, tokens: &[u32], state: &mut State) -> Option<&[f32]> {
        let (chunks, last) = tokens.split_at(tokens.len().checked_sub(1)? / ROWS_MAX * ROWS_MAX);
        for tokens in chunks.chunks(ROWS_MAX) {
            self.forward(&mut [Piece { tokens, state, logits: Logits::None }]);
        }
        Some(self.forward(&mut [Piece { tokens: last, state, logits: Logits::Last }]))
    }

    /// Moves sequences on and returns the wanted logits, [rows wanted, vocabulary], in the order of the pieces.
    /// Ids left out of the head have −∞. At most `ROWS_MAX` tokens in all.
    pub fn forward(&mut self, pieces: &mut [Piece<'_>]) -> &[f32] {
        let Self { model, cpu, buffers } = self;
        let mut tokens = Vec::new();
        let mut wanted = Vec::new();
        let mut segments = Vec::with_capacity(pieces.len());
        for piece in pieces {
            assert!(!piece.tokens.is_empty(), "a piece without tokens");
            assert_eq!(*piece.state.config(), model.config, "a state of another model");
            let rows = tokens.len()..tokens.len() + piece.tokens.len();
            tokens.extend_from_slice(piece.tokens);
            match piece.logits {
                Logits::None => {}
                Logits::Last => wanted.push(rows.end - 1),
                Logits::All => wanted.extend(rows.clone()),
            }
            segments.push(Segment { rows, state: &mut *piece.state });
        }
        assert!(tokens.len() <= ROWS_MAX, "more than {ROWS_MAX} tokens in one call");
        assert!(
            tokens.iter().all(|&id| (id as usize) < model.config.vocabulary),
            "an id outside the vocabulary"
        );
        model.embed(cpu, buffers, &tokens);
        for layer in 0..model.config.layers {
            model.layer(cpu, buffers, layer, tokens.len(), &mut segments);
        }
        model.head(cpu, buffers, &wanted);
        &buffers.logits
    }
}

impl Model {
    /// Writes the tokens' normalised embeddings to `x`.
    fn embed(&self, cpu: &Cpu, buffers: &mut Buffers, tokens: &[u32]) {
        let width = self.config.width;
        cpu.rows(width, &mut buffers.x[..tokens.len() * width], |row, out| {
            self.parameters.embedding.row(self.embedding_row(tokens[row]), out);
            if let Some(norm) = &self.parameters.first_norm {
                let raw = out.to_vec();
                normalise(cpu.simd, &raw, &norm.weight, &norm.bias, NORM_EPSILON, out);
            }
        });
    }

    fn layer(
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
            normalise(
                cpu.simd,
                &x[row * width..(row + 1) * width],
                &norm.weight,
                &norm.bias,
                NORM_EPSILON,
                out,
            );
        });
        for segment in &mut *segments {
            shift(normed, shifted, segment.rows.clone(), segment.state.layer(layer).time_shift);
        }
        block.time_mix.forward(cpu, time_mix, [normed, shifted], (layer, segments), mixed);

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

    /// Writes the logits of some rows.
    fn head(&self, cpu: &Cpu, buffers: &mut Buffers, wanted: &[usize]) {
        let width = self.config.width;
        let Buffers { x, last, logits, kept_logits, .. } = buffers;
        last.resize(wanted.len());
        cpu.fill(last, |i, out| {
            let norm = &self.parameters.last_norm;
            let x = &x[wanted[i] * width..(wanted[i] + 1) * width];
            normalise(cpu.simd, x, &norm.weight, &norm.bias, NORM_EPSILON, out);
        });
        logits.resize(wanted.len() * self.config.vocabulary, 0.0);
        let head = &self.parameters.head;
        let Some(ids) = &self.parameters.kept_ids else {
            return cpu.products(&mut [Product { matrix: head, input: last, out: logits }]);
        };
        kept_logits.resize(wanted.len() * ids.len(), 0.0);
        cpu.products(&mut [Product { matrix: head, input: last, out: kept_logits }]);
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
