//! The GPU memory that a training computes in, taken once for the largest batch.

use rag_core::Result;

use super::linear::Scratch;
use super::ops::{Buffer, Ops};

/// Tokens that the recurrence takes at once, as `kernels/wkv.cuh` has it.
pub(super) const CHUNK: usize = 64;
/// Rows whose logits are in memory at once.
pub(super) const HEAD_ROWS: usize = 512;
/// Strips of rows, as `kernels/sums.cuh` has it.
pub(super) const STRIPS: usize = 64;

/// Sizes of a model and of the largest batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) width: usize,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) layers: usize,
    /// Rows of the head.
    pub(super) vocabulary: usize,
    /// m and d: ranks of the mixes and of the decay.
    pub(super) mix: usize,
    pub(super) decay: usize,
    pub(super) sequences: usize,
    /// Of a sequence, or of a chunk of it that is read at once.
    pub(super) tokens: usize,
}

impl Sizes {
    pub(super) fn rows(&self) -> usize {
        self.sequences * self.tokens
    }

    /// Values of all heads' states of a sequence.
    pub(super) fn state(&self) -> usize {
        self.width * CHUNK
    }
}

/// What a layer keeps for its way back; [R, D] of the activations' type but where stated.
#[derive(Debug)]
pub(super) struct Tape {
    pub(super) normed: Buffer,
    /// tanh of the mixes' first product, [R, 5m], and the second product, [5, R, D].
    pub(super) low: Buffer,
    pub(super) shares: Buffer,
    /// tanh of the decay's first product, [R, d].
    pub(super) decay_low: Buffer,
    /// −log w, f32.
    pub(super) rate: Buffer,
    pub(super) r: Buffer,
    pub(super) k: Buffer,
    pub(super) v: Buffer,
    pub(super) gate: Buffer,
    /// Of the recurrence.
    pub(super) out: Buffer,
    /// The input of the channel mix, f32, and that normalised.
    pub(super) middle: Buffer,
    pub(super) normed2: Buffer,
    /// [R, F].
    pub(super) key: Buffer,
    pub(super) receptance: Buffer,
    pub(super) value: Buffer,
}

impl Tape {
    pub(super) fn new(ops: &Ops, sizes: &Sizes) -> Result<Self> {
        let (rows, d) = (sizes.rows(), sizes.width);
        let row = || ops.activations(rows * d);
        Ok(Self {
            normed: row()?,
            low: ops.activations(rows * 5 * sizes.mix)?,
            shares: ops.activations(5 * rows * d)?,
            decay_low: ops.activations(rows * sizes.decay)?,
            rate: ops.exact(rows * d)?,
            r: row()?,
            k: row()?,
            v: row()?,
            gate: row()?,
            out: row()?,
            middle: ops.exact(rows * d)?,
            normed2: row()?,
            key: ops.activations(rows * sizes.hidden)?,
            receptance: row()?,
            value: row()?,
        })
    }
}

/// What a layer knows of the tokens before, f32.
#[derive(Debug)]
pub(super) struct Carry {
    /// [B, D] each.
    pub(super) time_shift: Buffer,
    pub(super) channel_shift: Buffer,
    /// [B, H, 64, 64].
    pub(super) state: Buffer,
}

impl Carry {
    pub(super) fn new(ops: &Ops, sizes: &Sizes) -> Result<Self> {
        let shift = || ops.exact(sizes.sequences * sizes.width);
        Ok(Self {
            time_shift: shift()?,
            channel_shift: shift()?,
            state: ops.exact(sizes.sequences * sizes.state())?,
        })
    }
}

/// What layers work with, one after another.
#[derive(Debug)]
pub(super) struct Work {
    /// x_w, x_k, x_v, x_r, x_g, and the derivatives by them, [5, R, D].
    pub(super) inputs: Buffer,
    pub(super) by_inputs: Buffer,
    /// [R, D].
    pub(super) rows: [Buffer; 4],
    /// Derivatives by r, k, v, ω and the gate, [R, D].
    pub(super) by_recurrence: [Buffer; 5],
    /// [R, F].
    pub(super) hidden: [Buffer; 2],
    /// [R, 5m] and [R, d].
    pub(super) by_low: Buffer,
    pub(super) by_decay_low: Buffer,
    /// f32 [R, D]: the derivative by the residual stream, and two that add up.
    pub(super) by_x: Buffer,
    pub(super) sums: [Buffer; 2],
    /// Of each chunk of each head: S before it, G after it, f32 [64, 64]; the decay over it, and the derivative by u, [64].
    pub(super) states: Buffer,
    pub(super) by_states: Buffer,
    pub(super) decays: Buffer,
    pub(super) by_bonus: Buffer,
    /// [B, H, 64, 64].
    pub(super) by_state: Buffer,
    /// [STRIPS, 2, D] f32, and moments of rows, [R, 2].
    pub(super) strips: Buffer,
    pub(super) moments: Buffer,
    pub(super) linear: Scratch,
    /// Of the head: rows, logits f32 and their derivatives, losses f32 [R].
    pub(super) head_rows: [Buffer; 2],
    pub(super) logits: Buffer,
    pub(super) by_logits: Buffer,
    pub(super) losses: Buffer,
    /// Rows of tables, rows with labels, and labels, u32 [R].
    pub(super) ids: Buffer,
    pub(super) places: Buffer,
    pub(super) labels: Buffer,
}

/// What a training needs of the scratch of linear layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    /// Values of the largest matrix that is not held dense, or 0.
    pub(super) dense: usize,
    /// Of the adapters.
    pub(super) rank: usize,
    pub(super) dropout: bool,
}

impl Work {
    pub(super) fn new(ops: &Ops, sizes: &Sizes, needs: Needs) -> Result<Self> {
        let (rows, d, f) = (sizes.rows(), sizes.width, sizes.hidden);
        let row = || ops.activations(rows * d);
        let hidden = || ops.activations(rows * f);
        let low = || ops.activations(rows * needs.rank);
        let chunks = sizes.sequences * sizes.heads * sizes.tokens.div_ceil(CHUNK);
        let head = HEAD_ROWS.min(rows);
        let logits = head * sizes.vocabulary;
        // In f32 derivatives take the place of the logits.
        let exact = ops.act == rag_engine::rwkv::cuda::Element::F32;
        let numbers = || ops.upload(&vec![0u32; rows]);
        let dropped = if needs.dropout { Some(ops.activations(rows * f.max(d))?) } else { None };
        Ok(Self {
            inputs: ops.activations(5 * rows * d)?,
            by_inputs: ops.activations(5 * rows * d)?,
            rows: [row()?, row()?, row()?, row()?],
            by_recurrence: [row()?, row()?, row()?, row()?, row()?],
            hidden: [hidden()?, hidden()?],
            by_low: ops.activations(rows * 5 * sizes.mix)?,
            by_decay_low: ops.activations(rows * sizes.decay)?,
            by_x: ops.exact(rows * d)?,
            sums: [ops.exact(rows * d)?, ops.exact(rows * d)?],
            states: ops.exact(chunks * CHUNK * CHUNK)?,
            by_states: ops.exact(chunks * CHUNK * CHUNK)?,
            decays: ops.exact(chunks * CHUNK)?,
            by_bonus: ops.exact(chunks * CHUNK)?,
            by_state: ops.exact(sizes.sequences * sizes.state())?,
            strips: ops.exact(STRIPS * 2 * d)?,
            moments: ops.exact(rows * 2)?,
            linear: Scratch { dense: ops.activations(needs.dense)?, low: [low()?, low()?], dropped },
            head_rows: [ops.activations(head * d)?, ops.activations(head * d)?],
            logits: ops.exact(logits)?,
            by_logits: ops.activations(if exact { 0 } else { logits })?,
            losses: ops.exact(rows)?,
            ids: numbers()?,
            places: numbers()?,
            labels: numbers()?,
        })
    }
}
