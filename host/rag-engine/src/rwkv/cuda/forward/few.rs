//! A layer of few rows: own products, with everything elementwise fused into them.

use rag_core::Result;

use super::super::params::{Ahead, Epilogue, Gemv, GemvJob};
use super::super::weights::{DECAY_DOWN, MIX_DOWN, Matrix, Place, Storage};
use super::{FEW, Forward, GEMV_THREADS, GEMV_WARPS, Rows, SCALED};
use crate::cpu::matrix::Format;

/// Blocks that fetch weights ahead, beside those that compute.
const AHEAD_BLOCKS: usize = 16;

/// One product of few rows.
pub(super) struct Job<'a> {
    pub(super) matrix: &'a Matrix,
    /// Of the matrix, from which on `outputs` are computed.
    pub(super) first_row: usize,
    pub(super) outputs: usize,
    pub(super) x: u64,
    pub(super) out: u64,
    pub(super) epilogue: Epilogue,
    pub(super) gate: u64,
}

impl<'a> Job<'a> {
    pub(super) fn whole(matrix: &'a Matrix, x: u64, out: u64, epilogue: Epilogue) -> Self {
        Self { matrix, first_row: 0, outputs: matrix.rows, x, out, epilogue, gate: 0 }
    }
}

impl Forward {
    pub(super) fn queue_few(&self, index: usize, rows: &Rows) -> Result<()> {
        let layer = &self.weights().layers[index];
        let Some(receptance) = &layer.receptance else { return Ok(()) };
        let (b, width) = (&self.buffers, self.config.width);
        let bytes = self.few.element.bytes();
        let part = |i| b.part(i, rows.rows, bytes);
        let ahead = |place: usize| share(&layer.projections, self.tuning.ahead_bytes, place);
        let mixed = b.mixed.at(0);

        self.queue_ln_mix(index, false, [mixed, 0], ahead(0), rows)?;
        let low = Job::whole(&layer.low[MIX_DOWN], mixed, b.low.at(0), Epilogue::Tanh);
        self.queue_gemv(&[low], width, rows, index, ahead(1))?;
        self.queue_lerp(index, layer, rows, false, ahead(2))?;
        let mut jobs: Vec<Job<'_>> = (0..4)
            .map(|i| Job {
                matrix: &layer.projections,
                first_row: i * width,
                outputs: width,
                x: part(i + 1),
                // f32, which takes the place of two elements of bf16: kept apart in the other buffers.
                out: self.few_projection(i),
                epilogue: Epilogue::Store,
                gate: 0,
            })
            .collect();
        jobs.push(Job::whole(&layer.low[DECAY_DOWN], part(0), b.decay_low.at(0), Epilogue::Tanh));
        self.queue_gemv(&jobs, width, rows, index, Ahead::default())?;
        self.queue_step(true, index, layer, rows, share(&layer.output, self.tuning.ahead_bytes, 0))?;
        let output = Job::whole(&layer.output, mixed, b.x.at(0), Epilogue::Add);
        self.queue_gemv(&[output], width, rows, index, Ahead::default())?;

        let inputs = [part(0), part(1)];
        let key_ahead = share(&layer.key, self.tuning.ahead_bytes, 0);
        self.queue_ln_mix(index, true, inputs, key_ahead, rows)?;
        let hidden = part(5);
        let key = Job::whole(&layer.key, inputs[0], hidden, Epilogue::Relu2);
        let gate = Job::whole(receptance, inputs[1], b.omega.at(0), Epilogue::Sigmoid);
        self.queue_gemv(&[key, gate], width, rows, index, Ahead::default())?;
        let mut value = Job::whole(&layer.value, hidden, b.x.at(0), Epilogue::AddGated);
        value.gate = b.omega.at(0);
        self.queue_gemv(&[value], self.config.hidden, rows, index, Ahead::default())
    }

    /// Where k, v, r, g (r, k, v) of few rows go, f32: the space behind the inputs, of which RWKV-7 has seven, and the
    /// hidden layer of eight rows.
    pub(super) fn few_projection(&self, index: usize) -> u64 {
        let few = FEW[FEW.len() - 1];
        let after = few * (7 * self.config.width + self.config.hidden) * 4;
        self.buffers.scratch.at(after + index * few * self.config.width * 4)
    }

    pub(super) fn queue_gemv(
        &self,
        jobs: &[Job<'_>],
        cols: usize,
        rows: &Rows,
        layer: usize,
        ahead: Ahead,
    ) -> Result<()> {
        let mut params = Gemv {
            job_count: jobs.len() as i32,
            cols: cols as i32,
            batch: rows.rows as i32,
            states: self.states(),
            shift: self.channel_shift(layer),
            normed: self.buffers.normed.at(0),
            ahead,
            ..Gemv::default()
        };
        let main = jobs[0].matrix.storage;
        let quantised = matches!(main, Storage::Quantised(_));
        // Rows of one warp.
        let each = if rows.rows <= 2 { 8 } else { 4 };
        let mut first = 0;
        for (job, out) in jobs.iter().zip(&mut params.jobs) {
            let split = split_of(job.matrix.storage, cols, each);
            let blocks = job.outputs.div_ceil(GEMV_WARPS / split * each);
            let Place { values, scales, minima } = job.matrix.at_row(job.first_row);
            *out = GemvJob {
                weights: values,
                scales,
                minima,
                x: job.x,
                out: job.out,
                gate: job.gate,
                rows: job.outputs as i32,
                block: job.matrix.block as i32,
                epilogue: job.epilogue as i32,
                dense: i32::from(quantised && job.matrix.storage != main),
                first,
                split: split as i32,
            };
            first += blocks as i32;
        }
        params.ahead.blocks = first;
        let blocks = first as usize + params.ahead.extra as usize;
        let Some(kernel) = self.few.gemv(main, rows.rows) else {
            let message = format!("CUDA: no product of few rows with {main:?}");
            return Err(rag_core::Error::Unavailable { message });
        };
        self.launch(kernel, [blocks, 1], GEMV_THREADS, 0, &params)
    }
}

/// Warps that share a row: as many as it has pieces of one load a lane, but so many rows a block that those of an int8
/// scale are in one.
fn split_of(storage: Storage, cols: usize, each: usize) -> usize {
    let (piece, quantised) = match storage {
        Storage::Dense(element) => (32 * 16 / element.bytes(), false),
        Storage::Quantised(Format::Int8) => (32 * 16, true),
        Storage::Quantised(_) => (32 * 32, true),
    };
    let mut split = GEMV_WARPS;
    while split > 1
        && (split > cols.div_ceil(piece) || quantised && !(GEMV_WARPS / split * each).is_multiple_of(SCALED))
    {
        split /= 2;
    }
    split
}

/// The `place`-th piece of a matrix to fetch ahead, of at most `bytes`.
pub(super) fn share(matrix: &Matrix, bytes: usize, place: usize) -> Ahead {
    let all = matrix.value_bytes(matrix.rows);
    let start = (place * bytes).min(all);
    let bytes = bytes.min(all - start);
    if bytes == 0 {
        return Ahead::default();
    }
    Ahead {
        at: matrix.at_row(0).values + start as u64,
        bytes: bytes as u64,
        blocks: 0,
        extra: AHEAD_BLOCKS as i32,
    }
}
