//! RWKV-7's layer, of few rows and of many.
//!
//! Beside the products there are three kernels: the six mixes, all between the products and `output` (`wkv7.cuh`), and
//! the channel mix's norm. The low-rank projections of few rows end in the second one.

use rag_core::Result;

use super::super::blas::{Element, Product};
use super::super::params::{Ahead, Combine, Epilogue, LnMix7, Map, Wkv7};
use super::super::weights::{Layer, Vector, Vector7};
use super::few::{Job, share};
use super::{Forward, GROUP_EPSILON, NORM_EPSILON, Rows};
use crate::rwkv::config::{Config, Version};

/// As in the kernels.
const THREADS: usize = 256;
/// Low-rank projections: of w, a, g, v.
const LOWS: usize = 4;
/// What is done to their inner values.
const FUNCTIONS: [Epilogue; LOWS] = [Epilogue::Tanh, Epilogue::Store, Epilogue::Sigmoid, Epilogue::Store];
/// Parts of the scratch memory: the mixes of r, k, v, w, a, g, and of v for few rows whose others are int8.
const LOW_PARTS: [usize; LOWS] = [3, 4, 5, 2];
const VALUE_AGAIN: usize = 6;
/// r, k, v of many rows.
const PROJECTED: usize = 6;

impl Forward {
    fn ranks(&self) -> [usize; LOWS] {
        match self.config.version {
            Version::V7 { decay_rank, rate_rank, gate_rank, value_rank } => {
                [decay_rank, rate_rank, gate_rank, value_rank]
            }
            Version::V6 { .. } => [0; LOWS],
        }
    }

    /// Where the inner values of each low-rank projection begin, in a memory of [rows, rank] of each.
    fn low_at(&self, index: usize, rows: usize, bytes: usize) -> usize {
        self.ranks()[..index].iter().sum::<usize>() * rows * bytes
    }

    /// The six mixes; returns where each low-rank projection's input is.
    fn queue_mixes7(&self, index: usize, few: bool, rows: &Rows, mut ahead: Ahead) -> Result<[u64; LOWS]> {
        let (b, path) = (&self.buffers, self.path(few));
        let part = |i| b.part(i, rows.rows, path.element.bytes());
        let mut dense = LOW_PARTS.map(part);
        let again = path.element == Element::Int8;
        dense[LOWS - 1] = if again { part(VALUE_AGAIN) } else { 0 };
        ahead.blocks = rows.rows as i32;
        let params = LnMix7 {
            x: b.x.at(0),
            norm: self.weights().norm(index, Vector::TimeNorm),
            shares: self.weights().vector7(index, Vector7::Shares),
            states: self.states(),
            starts: self.control(b.layout.starts),
            shift: self.layer_at(index),
            normed: b.normed.at(0),
            out: [part(0), part(1), part(2)],
            dense,
            rows: rows.rows as i32,
            width: self.config.width as i32,
            epsilon: NORM_EPSILON,
            ahead,
        };
        let blocks = rows.rows + ahead.extra as usize;
        self.launch(path.ln_mix7, [blocks, 1], self.norm_threads(), 0, &params)?;
        if !again {
            dense[LOWS - 1] = part(LOW_PARTS[LOWS - 1]);
        }
        Ok(dense)
    }

    /// All between the products and `output`, which is left in `mixed`. Low-rank outputs that are not there yet, 0, are
    /// made of `low`.
    fn queue_wkv7(
        &self,
        index: usize,
        (few, rows): (bool, &Rows),
        inputs: [u64; 3],
        projected: [u64; LOWS],
        mut ahead: Ahead,
    ) -> Result<()> {
        let Config { width, heads, .. } = self.config;
        let (b, weights) = (&self.buffers, self.weights());
        let vector = |vector| weights.vector7(index, vector);
        let low = &weights.layers[index].low;
        let ranks = self.ranks();
        let blocks = rows.sequences * heads;
        ahead.blocks = blocks as i32;
        let params = Wkv7 {
            inputs,
            projected,
            low: std::array::from_fn(|i| b.low.at(self.low_at(i, rows.rows, 4))),
            up: std::array::from_fn(|i| low.get(2 * i + 1).map_or(0, |up| up.at_row(0).values)),
            base: [vector(Vector7::Decay), vector(Vector7::Rate), 0, vector(Vector7::Value)],
            keys: [Vector7::KeyRemoved, Vector7::KeyRate, Vector7::Bonus].map(vector),
            norm: weights.norm(index, Vector::GroupNorm),
            first: b.first.at(0),
            normed: b.normed.at(0),
            states: self.states(),
            offsets: if rows.single { 0 } else { self.control(b.layout.offsets) },
            shift: self.layer_at(index),
            heads_at: self.layer_at(index) + width as i64,
            out: b.mixed.at(0),
            ranks: ranks.map(|rank| rank as i32),
            rows: rows.rows as i32,
            width: width as i32,
            heads: heads as i32,
            is_first: i32::from(index == 0),
            epsilon: GROUP_EPSILON,
            ahead,
        };
        let path = self.path(few);
        let kernel = if rows.single { path.step7 } else { path.seq7 };
        self.launch(kernel, [blocks + ahead.extra as usize, 1], THREADS, 0, &params)
    }

    pub(super) fn queue_few7(&self, index: usize, rows: &Rows) -> Result<()> {
        let layer = &self.weights().layers[index];
        let (b, Config { width, hidden, .. }) = (&self.buffers, self.config);
        let part = |i| b.part(i, rows.rows, self.few.element.bytes());
        let ahead = |matrix| share(matrix, self.tuning.ahead_bytes, 0);
        let mixed = b.mixed.at(0);

        let low_inputs = self.queue_mixes7(index, true, rows, ahead(&layer.projections))?;
        let inputs: [u64; 3] = std::array::from_fn(|i| self.few_projection(i));
        let mut jobs: Vec<Job<'_>> = (inputs.iter().enumerate())
            .map(|(i, &out)| Job {
                matrix: &layer.projections,
                first_row: i * width,
                outputs: width,
                x: part(i),
                out,
                epilogue: Epilogue::Store,
                gate: 0,
            })
            .collect();
        for (i, down) in layer.low.iter().step_by(2).enumerate() {
            let out = b.low.at(self.low_at(i, rows.rows, 4));
            jobs.push(Job::whole(down, low_inputs[i], out, FUNCTIONS[i]));
        }
        self.queue_gemv(&jobs, width, rows, index, Ahead::default())?;
        self.queue_wkv7(index, (true, rows), inputs, [0; LOWS], ahead(&layer.output))?;
        let output = Job::whole(&layer.output, mixed, b.x.at(0), Epilogue::Add);
        self.queue_gemv(&[output], width, rows, index, Ahead::default())?;

        self.queue_ln_mix(index, true, [part(0), 0], ahead(&layer.key), rows)?;
        let key = Job::whole(&layer.key, part(0), part(5), Epilogue::Relu2);
        self.queue_gemv(&[key], width, rows, index, Ahead::default())?;
        let value = Job::whole(&layer.value, part(5), b.x.at(0), Epilogue::AddKept);
        self.queue_gemv(&[value], hidden, rows, index, Ahead::default())
    }

    pub(super) fn queue_many7(&self, index: usize, rows: &Rows) -> Result<()> {
        let layer = &self.weights().layers[index];
        let (b, n, element) = (&self.buffers, rows.rows, self.many.element);
        let part = |i| b.part(i, n, element.bytes());

        let low_inputs = self.queue_mixes7(index, false, rows, Ahead::default())?;
        self.queue_product(&layer.projections, part(0), (part(PROJECTED), element), rows, 3)?;
        let projected = self.queue_low7(layer, low_inputs, rows)?;
        let inputs = std::array::from_fn(|i| part(PROJECTED + i));
        self.queue_wkv7(index, (false, rows), inputs, projected, Ahead::default())?;
        self.queue_add(&layer.output, b.mixed.at(0), b.x.at(0), n)?;

        self.queue_ln_mix(index, true, [part(0), 0], Ahead::default(), rows)?;
        self.queue_product(&layer.key, part(0), (part(5), element), rows, 1)?;
        self.queue_squares(part(5), n)?;
        self.queue_add(&layer.value, part(5), b.x.at(0), n)?;
        let combine = Combine {
            x: b.x.at(0),
            gate: 0,
            value: 0,
            normed: b.normed.at(0),
            states: self.states(),
            ends: self.control(b.layout.ends),
            shift: self.channel_shift(index),
            width: self.config.width as i32,
        };
        self.launch(self.many.combine, [n, 1], 256, 0, &combine)
    }

    /// The low-rank projections of many rows, [R, D] f32 each: the first in `omega`, the others over the mixes.
    fn queue_low7(&self, layer: &Layer, inputs: [u64; LOWS], rows: &Rows) -> Result<[u64; LOWS]> {
        let (b, n, element, width) = (&self.buffers, rows.rows, self.many.element, self.config.width);
        let mut inner = [0; LOWS];
        for (i, down) in layer.low.iter().step_by(2).enumerate() {
            let raw = b.low.at(self.low_at(i, n, 4));
            inner[i] = b.low_mixed.at(self.low_at(i, n, element.bytes()));
            let map = match FUNCTIONS[i] {
                Epilogue::Tanh => self.many.tanh,
                Epilogue::Sigmoid => self.many.sigmoid,
                _ => {
                    self.queue_product(down, inputs[i], (inner[i], element), rows, 1)?;
                    continue;
                }
            };
            self.queue_product(down, inputs[i], (raw, Element::F32), rows, 1)?;
            let count = n * down.rows;
            let params = Map { input: raw, out: inner[i], count: count as i64 };
            self.launch(map, [count.div_ceil(256), 1], 256, 0, &params)?;
        }
        let outs: [u64; LOWS] = std::array::from_fn(|i| match i.checked_sub(1) {
            None => b.omega.at(0),
            // Three in the place of six mixes of two bytes, or of three of four.
            Some(place) => b.scratch.at(place * n * width * 4),
        });
        // Only now: the inputs are read.
        for (i, up) in layer.low.iter().skip(1).step_by(2).enumerate() {
            let rank = up.cols;
            let product = Product {
                x: inner[i],
                x_strides: [rank, 0],
                weights: up.at_row(0).values,
                out: outs[i],
                rows: n,
                inputs: rank,
                outputs: width,
                outputs_first: false,
                element,
                out_element: Element::F32,
                out_stride: width,
                add: false,
                count: 1,
            };
            // SAFETY: all of it are buffers and weights of these sizes.
            unsafe { self.blas.queue(&product) }?;
        }
        Ok(outs)
    }
}
