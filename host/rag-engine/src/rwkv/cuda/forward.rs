//! Queues the kernels of one call, layer by layer.
//!
//! Two ways lead through a layer. Few rows (up to eight sequences, one token each) are bound by reading weights: own
//! products with everything elementwise fused into them, nine kernels a layer (eight in RWKV-7). Many rows go through
//! cuBLAS; quantised weights are made bf16 before, one matrix at a time.

mod end;
mod few;
mod low_rank;
mod seq;
mod seven;

use std::sync::Arc;

use rag_core::Result;

use super::Tuning;
use super::blas::{Blas, Element, Product};
use super::buffers::Buffers;
use super::driver::{Gpu, Kernel, Shape};
use super::kernels::{Common, FEW, Path};
use super::params::{Ahead, Combine, Dequantise, Embed, Lerp, LnMix, Map, WkvStep};
use super::weights::{
    DECAY_DOWN, DECAY_UP, Layer, MIX_DOWN, MIX_UP, Matrix, ModelWeights, Place, Storage, Vector,
};
use crate::rwkv::config::{Config, Version};

const NORM_EPSILON: f32 = 1e-5;
/// Of the normalisation within each head: 1e-5 · 8².
const GROUP_EPSILON: f32 = 64e-5;
/// From so many rows on, cuBLAS makes the five mixes.
const MIX_ROWS_MIN: usize = 128;
/// As in the kernels.
const GEMV_THREADS: usize = 256;
const GEMV_WARPS: usize = GEMV_THREADS / 32;
const LERP_THREADS: usize = 64;
const NORM_THREADS_MAX: usize = 1024;
/// Rows whose elements an int8 scale is for.
const SCALED: usize = 16;
const SAMPLE_THREADS: usize = 1024;

/// What stands in the control memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) rows: usize,
    pub(super) sequences: usize,
    /// Every sequence has one token.
    pub(super) single: bool,
    /// Rows whose logits are wanted.
    pub(super) wanted: usize,
}

/// All that queuing needs.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) gpu: Arc<Gpu>,
    pub(super) blas: Blas,
    pub(super) config: Config,
    /// The model as it is, then what adapters make of it; `variant` is the one that is queued.
    pub(super) models: Vec<ModelWeights>,
    pub(super) variant: usize,
    pub(super) common: Common,
    pub(super) few: Path,
    pub(super) many: Path,
    pub(super) buffers: Buffers,
    pub(super) tuning: Tuning,
}

impl Forward {
    pub(super) fn weights(&self) -> &ModelWeights {
        &self.models[self.variant]
    }

    fn is_few(&self, rows: &Rows) -> bool {
        // What adapters add is not fused into own products.
        self.variant == 0 && rows.single && rows.rows <= FEW[FEW.len() - 1].min(self.tuning.few_max)
    }

    fn path(&self, few: bool) -> &Path {
        if few { &self.few } else { &self.many }
    }

    fn launch<P>(
        &self,
        kernel: Kernel,
        blocks: [usize; 2],
        threads: usize,
        shared: usize,
        p: &P,
    ) -> Result<()> {
        let shape = Shape { blocks, threads, shared, overlap: self.tuning.overlap };
        // SAFETY: each caller hands a kernel its own structure with addresses inside of buffers of the right sizes,
        // which live as long as `self`.
        unsafe { self.gpu.launch(kernel, shape, p) }
    }

    fn control(&self, offset: usize) -> u64 {
        self.buffers.control.at(offset)
    }

    fn states(&self) -> u64 {
        self.control(self.buffers.layout.states)
    }

    /// Queues the embeddings and all layers: `x` holds the last one's output.
    pub(super) fn queue_layers(&self, rows: &Rows) -> Result<()> {
        let buffers = &self.buffers;
        let embed = Embed {
            table: self.weights().embedding.at_row(0).values,
            tokens: self.control(buffers.layout.tokens),
            norm: self.weights().first_norm(),
            x: buffers.x.at(0),
            width: self.config.width as i32,
            epsilon: NORM_EPSILON,
        };
        self.launch(self.common.embed, [rows.rows, 1], self.norm_threads(), 0, &embed)?;
        for index in 0..self.config.layers {
            match (self.config.version, self.is_few(rows)) {
                (Version::V6 { .. }, true) => self.queue_few(index, rows)?,
                (Version::V6 { .. }, false) => self.queue_many(index, rows)?,
                (Version::V7 { .. }, true) => self.queue_few7(index, rows)?,
                (Version::V7 { .. }, false) => self.queue_many7(index, rows)?,
            }
        }
        Ok(())
    }

    // ---- both ways

    /// Threads of a normalisation: four columns each, or more.
    fn norm_threads(&self) -> usize {
        (self.config.width / 4).next_multiple_of(32).min(NORM_THREADS_MAX)
    }

    /// Values in a state before a layer's.
    fn layer_at(&self, layer: usize) -> i64 {
        (layer * self.config.layer_state_len()) as i64
    }

    fn channel_shift(&self, layer: usize) -> i64 {
        self.layer_at(layer) + (self.config.width + self.config.width * self.config.head_size) as i64
    }

    fn queue_ln_mix(
        &self,
        layer: usize,
        channel: bool,
        out: [u64; 2],
        mut ahead: Ahead,
        rows: &Rows,
    ) -> Result<()> {
        ahead.blocks = rows.rows as i32;
        let (norm, maa) = if channel {
            let maa = [Vector::MaaK, Vector::MaaR].map(|vector| self.weights().vector(layer, vector));
            // RWKV-7 has one mix, without a gate.
            (Vector::ChannelNorm, if out[1] == 0 { [maa[0], 0] } else { maa })
        } else {
            (Vector::TimeNorm, [self.weights().vector(layer, Vector::MaaX), 0])
        };
        let params = LnMix {
            x: self.buffers.x.at(0),
            norm: self.weights().norm(layer, norm),
            maa,
            states: self.states(),
            starts: self.control(self.buffers.layout.starts),
            shift: if channel { self.channel_shift(layer) } else { self.layer_at(layer) },
            normed: self.buffers.normed.at(0),
            out,
            rows: rows.rows as i32,
            width: self.config.width as i32,
            epsilon: NORM_EPSILON,
            ahead,
        };
        let blocks = rows.rows + ahead.extra as usize;
        let kernel = self.path(self.is_few(rows)).ln_mix[usize::from(channel)];
        self.launch(kernel, [blocks, 1], self.norm_threads(), 0, &params)
    }

    fn queue_lerp(
        &self,
        index: usize,
        layer: &Layer,
        rows: &Rows,
        tanh_low: bool,
        mut ahead: Ahead,
    ) -> Result<()> {
        let Version::V6 { mix_rank, .. } = self.config.version else { return Ok(()) };
        let eight = rows.rows > 4;
        let tile = if eight { 8 } else { 1 };
        let path = self.path(self.is_few(rows));
        let work = (self.config.width / 2).div_ceil(LERP_THREADS) * rows.rows.div_ceil(tile);
        ahead.blocks = work as i32;
        let params = Lerp {
            low: self.buffers.low.at(0),
            up: layer.low[MIX_UP].at_row(0).values,
            maa: self.weights().vector(index, Vector::Maa),
            normed: self.buffers.normed.at(0),
            states: self.states(),
            starts: self.control(self.buffers.layout.starts),
            shift: self.layer_at(index),
            out: self.buffers.part(0, rows.rows, path.element.bytes()),
            rows: rows.rows as i32,
            width: self.config.width as i32,
            rank: mix_rank as i32,
            tanh_low: i32::from(tanh_low),
            ahead,
        };
        let blocks = [work + ahead.extra as usize, 5];
        self.launch(path.lerp[usize::from(eight)], blocks, LERP_THREADS, 0, &params)
    }

    /// The recurrence of one token a sequence, with all that follows it up to the gate.
    fn queue_step(
        &self,
        few: bool,
        index: usize,
        layer: &Layer,
        rows: &Rows,
        mut ahead: Ahead,
    ) -> Result<()> {
        let Version::V6 { decay_rank, .. } = self.config.version else { return Ok(()) };
        let Config { width, heads, head_size, .. } = self.config;
        let path = self.path(few);
        let b = &self.buffers;
        let inputs = std::array::from_fn(|i| {
            if few { self.few_projection(i) } else { b.part(5 + i, rows.rows, path.element.bytes()) }
        });
        ahead.blocks = (rows.rows * heads) as i32;
        let params = WkvStep {
            inputs,
            omega: if few { 0 } else { b.omega.at(0) },
            decay_low: b.decay_low.at(0),
            decay_up: layer.low[DECAY_UP].at_row(0).values,
            decay: self.weights().vector(index, Vector::Decay),
            bonus: self.weights().vector(index, Vector::Bonus),
            norm: self.weights().norm(index, Vector::GroupNorm),
            normed: b.normed.at(0),
            states: self.states(),
            shift: self.layer_at(index),
            heads_at: self.layer_at(index) + width as i64,
            out: b.mixed.at(0),
            rows: rows.rows as i32,
            width: width as i32,
            heads: heads as i32,
            decay_rank: decay_rank as i32,
            epsilon: GROUP_EPSILON,
            ahead,
        };
        let blocks = rows.rows * heads + ahead.extra as usize;
        let threads = (head_size * head_size / 16).max(32);
        self.launch(path.step, [blocks, 1], threads, 0, &params)
    }

    // ---- many rows

    fn queue_many(&self, index: usize, rows: &Rows) -> Result<()> {
        let layer = &self.weights().layers[index];
        let width = self.config.width;
        let Version::V6 { decay_rank, .. } = self.config.version else { return Ok(()) };
        let Some(receptance) = &layer.receptance else { return Ok(()) };
        let (b, n) = (&self.buffers, rows.rows);
        let element = self.many.element;
        let part = |i| b.part(i, n, element.bytes());
        let mixed = b.mixed.at(0);

        self.queue_ln_mix(index, false, [mixed, 0], Ahead::default(), rows)?;
        self.queue_product(&layer.low[MIX_DOWN], mixed, (b.low.at(0), Element::F32), rows, 1)?;
        if n >= MIX_ROWS_MIN {
            self.queue_mixes(index, layer, rows)?;
        } else {
            self.queue_lerp(index, layer, rows, true, Ahead::default())?;
        }
        self.queue_product(&layer.low[DECAY_DOWN], part(0), (b.decay_low.at(0), Element::F32), rows, 1)?;
        let tanh = Map { input: b.decay_low.at(0), out: b.decay_mixed.at(0), count: (n * decay_rank) as i64 };
        self.launch(self.many.tanh, [(n * decay_rank).div_ceil(256), 1], 256, 0, &tanh)?;
        // Turned: [d, D].
        let up = Product {
            x: b.decay_mixed.at(0),
            x_strides: [decay_rank, 0],
            weights: layer.low[DECAY_UP].at_row(0).values,
            out: b.omega.at(0),
            rows: n,
            inputs: decay_rank,
            outputs: width,
            outputs_first: false,
            element,
            out_element: Element::F32,
            out_stride: width,
            add: false,
            count: 1,
        };
        // SAFETY: all of it are buffers and weights of these sizes.
        unsafe { self.blas.queue(&up) }?;
        self.queue_product(&layer.projections, part(1), (part(5), element), rows, 4)?;
        if rows.single {
            self.queue_step(false, index, layer, rows, Ahead::default())?;
        } else {
            self.queue_seq(index, rows)?;
        }
        self.queue_add(&layer.output, mixed, b.x.at(0), n)?;

        self.queue_ln_mix(index, true, [part(0), part(1)], Ahead::default(), rows)?;
        self.queue_product(&layer.key, part(0), (part(5), element), rows, 1)?;
        self.queue_squares(part(5), n)?;
        self.queue_product(receptance, part(1), (b.omega.at(0), element), rows, 1)?;
        self.queue_product(&layer.value, part(5), (b.value.at(0), element), rows, 1)?;
        let combine = Combine {
            x: b.x.at(0),
            gate: b.omega.at(0),
            value: b.value.at(0),
            normed: b.normed.at(0),
            states: self.states(),
            ends: self.control(b.layout.ends),
            shift: self.channel_shift(index),
            width: width as i32,
        };
        self.launch(self.many.combine, [n, 1], 256, 0, &combine)
    }

    /// The hidden layer's squared positive parts, in place.
    fn queue_squares(&self, at: u64, rows: usize) -> Result<()> {
        let count = rows * self.config.hidden;
        let squares = Map { input: at, out: at, count: count as i64 };
        let blocks = (count * self.many.element.bytes() / 16).div_ceil(256);
        let blocks = blocks.min(self.gpu.multiprocessors * 8).max(1);
        self.launch(self.many.squares, [blocks, 1], 256, 0, &squares)
    }

    /// x += product.
    fn queue_add(&self, matrix: &Matrix, x: u64, out: u64, rows: usize) -> Result<()> {
        self.queue_parts(matrix, x, (out, Element::F32, matrix.rows), [rows, 1], true)
    }

    /// `count` products whose inputs, weights and outputs stand behind each other.
    fn queue_product(
        &self,
        matrix: &Matrix,
        x: u64,
        (out, out_element): (u64, Element),
        rows: &Rows,
        count: usize,
    ) -> Result<()> {
        self.queue_parts(matrix, x, (out, out_element, matrix.rows / count), [rows.rows, count], false)
    }

    fn queue_parts(
        &self,
        matrix: &Matrix,
        x: u64,
        out: (u64, Element, usize),
        [rows, count]: [usize; 2],
        add: bool,
    ) -> Result<()> {
        self.queue_matrix(matrix, x, out, [rows, count], add)?;
        matrix.deltas.iter().try_for_each(|delta| self.queue_delta(matrix, delta, x, out, [rows, count]))
    }

    fn queue_matrix(
        &self,
        matrix: &Matrix,
        x: u64,
        (out, out_element, out_stride): (u64, Element, usize),
        [rows, count]: [usize; 2],
        add: bool,
    ) -> Result<()> {
        let mut product = Product {
            x,
            x_strides: [matrix.cols, rows * matrix.cols],
            weights: matrix.at_row(0).values,
            out,
            rows,
            inputs: matrix.cols,
            outputs: matrix.rows / count,
            outputs_first: true,
            element: self.many.element,
            out_element,
            out_stride,
            add,
            count,
        };
        let (Storage::Quantised(format), Some(dense)) = (matrix.storage, &self.buffers.dense) else {
            // SAFETY: all of it are buffers and weights of these sizes.
            return unsafe { self.blas.queue(&product) };
        };
        let fit = self.buffers.dense_rows(matrix);
        let mut first = 0;
        while first < matrix.rows {
            let some = fit.min(matrix.rows - first);
            let Place { values, scales, minima } = matrix.at_row(first);
            let params = Dequantise {
                levels: values,
                scales,
                minima,
                out: dense.at(0),
                rows: some as i64,
                cols: matrix.cols as i32,
                block: matrix.block as i32,
            };
            let blocks = (some * matrix.cols / 8).div_ceil(256).min(self.gpu.multiprocessors * 16).max(1);
            self.launch(self.common.dequantise(format), [blocks, 1], 256, 0, &params)?;
            if count == 1 {
                product.outputs = some;
                product.out = out + (first * out_element.bytes()) as u64;
            }
            product.weights = dense.at(0);
            // SAFETY: as above; several products are never cut, `dense` has room for them.
            unsafe { self.blas.queue(&product) }?;
            first += some;
        }
        Ok(())
    }
}
