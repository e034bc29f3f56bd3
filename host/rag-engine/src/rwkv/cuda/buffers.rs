//! The memory that a call works in: taken once, so that a running model never asks for more.

use std::sync::Arc;

use rag_core::Result;

use super::driver::{Gpu, Memory, Pinned};
use super::params::{Draw, Penalty};
use super::weights::Matrix;
use crate::rwkv::config::{Config, Version};

/// Bytes of activations that set how many rows a call has at most.
const ACTIVATIONS_BYTES: usize = 136 << 20;
const ROWS_MIN: usize = 256;
const ROWS_MAX: usize = 2048;
/// Penalties of all sequences of a call together; a call with more gives logits instead.
pub(super) const PENALTIES_MAX: usize = 1 << 17;

/// How much one call can take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Tokens.
    pub(super) rows: usize,
    /// Sequences, and rows of logits.
    pub(super) sequences: usize,
}

impl Limits {
    /// For a model whose inputs of products have so many bytes.
    pub(super) fn of(config: &Config, element: usize, sequences: usize) -> Self {
        let row = row_bytes(config, element);
        let rows = (ACTIVATIONS_BYTES / row / 64 * 64).clamp(ROWS_MIN, ROWS_MAX).max(sequences);
        Self { rows, sequences }
    }

    /// Bytes of all buffers.
    pub(super) fn bytes(&self, config: &Config, element: usize, dense_max: usize) -> usize {
        let logits = self.sequences * config.vocabulary * 4;
        let scratch = self.rows * scratch_width(config) * element;
        self.rows * row_bytes(config, element) + logits.saturating_sub(scratch) + dense_max * 2
    }
}

/// Columns of `low`, of `decay_low` and of `first`.
fn ranks(config: &Config) -> [usize; 3] {
    match config.version {
        Version::V6 { mix_rank, decay_rank } => [5 * mix_rank, decay_rank, 0],
        Version::V7 { decay_rank, rate_rank, gate_rank, value_rank } => {
            [decay_rank + rate_rank + gate_rank + value_rank, 0, config.width]
        }
    }
}

/// Columns of the five inputs and of k, v, r, g (in RWKV-7 of the six inputs and of r, k, v) or the hidden layer.
fn scratch_width(config: &Config) -> usize {
    5 * config.width + (4 * config.width).max(config.hidden)
}

fn row_bytes(config: &Config, element: usize) -> usize {
    let [low, decay, first] = ranks(config);
    let floats = 3 * config.width + low + decay + first;
    floats * 4 + (2 * config.width + scratch_width(config) + decay + low) * element
}

/// What a call works in; R are its rows.
#[derive(Debug)]
pub(super) struct Buffers {
    /// The residual stream, [R, D] f32.
    pub(super) x: Memory,
    /// Normalised, [R, D] f32.
    pub(super) normed: Memory,
    /// ω − w0 (in RWKV-7 what w0 is added to), [R, D] f32; then the channel mix's gate.
    pub(super) omega: Memory,
    /// [R, D] elements: the mixed input, later the gated output, the hidden layer's product, the last norm.
    pub(super) mixed: Memory,
    /// [R, D] elements: what the channel mix adds.
    pub(super) value: Memory,
    /// [R, 5m] and [R, d] f32, and the latter as elements; of RWKV-7 [R, rank] of w, a, g, v behind each other in the
    /// first, the others are empty.
    pub(super) low: Memory,
    pub(super) decay_low: Memory,
    pub(super) decay_mixed: Memory,
    /// `low` as elements, after its functions.
    pub(super) low_mixed: Memory,
    /// RWKV-7: the first layer's v, [R, D] f32.
    pub(super) first: Memory,
    /// Five inputs, then k, v, r, g (or the hidden layer), [R, D] elements each; in between the recurrence's output,
    /// f32, in the inputs' place; at the end logits, [sequences, vocabulary] f32.
    pub(super) scratch: Memory,
    /// Of what adapters add: [R, largest rank] elements.
    pub(super) delta_low: Memory,
    /// Of a quantised matrix, bf16.
    pub(super) dense: Option<Memory>,
    pub(super) dense_elements: usize,
    /// What the host says of a call, and its copy in pinned memory.
    pub(super) control: Memory,
    pub(super) control_pinned: Pinned,
    pub(super) layout: Layout,
    /// Drawn ids, [sequences].
    pub(super) drawn: Memory,
    pub(super) drawn_pinned: Pinned,
    pub(super) banned: Memory,
    element: usize,
    width: usize,
}

/// Where things stand in the control memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// [sequences] addresses.
    pub(super) states: usize,
    /// [sequences + 1] rows.
    pub(super) offsets: usize,
    pub(super) draws: usize,
    /// [R] each.
    pub(super) tokens: usize,
    pub(super) starts: usize,
    pub(super) ends: usize,
    pub(super) wanted: usize,
    pub(super) penalties: usize,
    bytes: usize,
}

impl Layout {
    fn new(limits: &Limits) -> Self {
        let mut at = 0;
        let mut take = |bytes: usize| {
            let start = at;
            at += bytes.next_multiple_of(16);
            start
        };
        let row = limits.rows * 4;
        Self {
            states: take(limits.sequences * 8),
            offsets: take((limits.sequences + 1) * 4),
            draws: take(limits.sequences * size_of::<Draw>()),
            tokens: take(row),
            starts: take(row),
            ends: take(row),
            wanted: take(row),
            penalties: take(PENALTIES_MAX * size_of::<Penalty>()),
            bytes: at,
        }
    }
}

impl Buffers {
    pub(super) fn new(
        gpu: &Arc<Gpu>,
        config: &Config,
        limits: &Limits,
        element: usize,
        dense_elements: usize,
    ) -> Result<Self> {
        let Config { width, vocabulary, .. } = *config;
        let [low, decay, first] = ranks(config);
        let rows = |columns: usize, bytes: usize| Memory::new(gpu, limits.rows * columns * bytes);
        let layout = Layout::new(limits);
        let scratch = (limits.rows * scratch_width(config) * element).max(limits.sequences * vocabulary * 4);
        Ok(Self {
            x: rows(width, 4)?,
            normed: rows(width, 4)?,
            omega: rows(width, 4)?,
            // A few rows are f32 whatever the element is.
            mixed: rows(width, element)?,
            value: rows(width, element)?,
            low: rows(low, 4)?,
            decay_low: rows(decay, 4)?,
            decay_mixed: rows(decay, element)?,
            low_mixed: rows(low, element)?,
            first: rows(first, 4)?,
            scratch: Memory::new(gpu, scratch)?,
            delta_low: Memory::new(gpu, 0)?,
            dense: if dense_elements > 0 { Some(Memory::new(gpu, dense_elements * 2)?) } else { None },
            dense_elements,
            control: Memory::new(gpu, layout.bytes)?,
            control_pinned: Pinned::new(gpu, layout.bytes)?,
            layout,
            drawn: Memory::new(gpu, limits.sequences * 4)?,
            drawn_pinned: Pinned::new(gpu, limits.sequences * 4)?,
            banned: Memory::new(gpu, vocabulary.div_ceil(32) * 4)?,
            element,
            width,
        })
    }

    /// The `index`-th of the nine parts of `scratch` in a call of `rows` rows whose elements have so many bytes.
    pub(super) fn part(&self, index: usize, rows: usize, element: usize) -> u64 {
        debug_assert!(element <= self.element || rows * element <= 64, "few rows only may be wider");
        self.scratch.at(index * rows * self.width * element)
    }

    /// How many rows of a matrix fit into the place for dense weights.
    pub(super) fn dense_rows(&self, matrix: &Matrix) -> usize {
        (self.dense_elements / matrix.cols).clamp(1, matrix.rows)
    }
}
