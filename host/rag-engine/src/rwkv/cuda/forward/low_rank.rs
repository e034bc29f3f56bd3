//! Products of low rank with many rows: the five mixes, and what adapters add.

use rag_core::Result;

use super::super::blas::{Element, Product};
use super::super::params::{Map, MixRows};
use super::super::weights::{Delta, Layer, MIX_UP, Matrix, Vector};
use super::{Forward, Rows};
use crate::rwkv::config::Version;

impl Forward {
    /// The five mixed inputs of many rows, out of the low-rank product.
    pub(super) fn queue_mixes(&self, index: usize, layer: &Layer, rows: &Rows) -> Result<()> {
        let Version::V6 { mix_rank, .. } = self.config.version else { return Ok(()) };
        let (b, n, width) = (&self.buffers, rows.rows, self.config.width);
        let element = self.many.element;
        let count = n * 5 * mix_rank;
        let tanh = Map { input: b.low.at(0), out: b.low_mixed.at(0), count: count as i64 };
        self.launch(self.many.tanh, [count.div_ceil(256), 1], 256, 0, &tanh)?;
        // Turned: [5][m, D].
        let up = Product {
            x: b.low_mixed.at(0),
            x_strides: [5 * mix_rank, mix_rank],
            weights: layer.low[MIX_UP].at_row(0).values,
            out: b.part(0, n, element.bytes()),
            rows: n,
            inputs: mix_rank,
            outputs: width,
            outputs_first: false,
            element,
            out_element: element,
            out_stride: width,
            add: false,
            count: 5,
        };
        // SAFETY: all of it are buffers and weights of these sizes.
        unsafe { self.blas.queue(&up) }?;
        let params = MixRows {
            out: up.out,
            maa: self.weights().vector(index, Vector::Maa),
            normed: b.normed.at(0),
            states: self.states(),
            starts: self.control(b.layout.starts),
            shift: self.layer_at(index),
            rows: n as i32,
            width: width as i32,
        };
        self.launch(self.many.mix_rows, [n, 1], 256, 0, &params)
    }

    /// Adds what an adapter does: B (A x).
    pub(super) fn queue_delta(
        &self,
        matrix: &Matrix,
        delta: &Delta,
        x: u64,
        (out, out_element, out_stride): (u64, Element, usize),
        [rows, count]: [usize; 2],
    ) -> Result<()> {
        let element = self.many.element;
        let part = delta.first_row / (matrix.rows / count);
        let low = self.buffers.delta_low.at(0);
        let down = Product {
            x: x + (part * rows * matrix.cols * element.bytes()) as u64,
            x_strides: [matrix.cols, 0],
            weights: delta.down.at(0),
            out: low,
            rows,
            inputs: matrix.cols,
            outputs: delta.rank,
            outputs_first: true,
            element,
            out_element: element,
            out_stride: delta.rank,
            add: false,
            count: 1,
        };
        let up = Product {
            x: low,
            x_strides: [delta.rank, 0],
            weights: delta.up.at(0),
            out: out + (part * rows * out_stride * out_element.bytes()) as u64,
            inputs: delta.rank,
            outputs: delta.rows,
            out_element,
            out_stride,
            add: true,
            ..down
        };
        // SAFETY: all of it are buffers and weights of these sizes; `delta_low` has room for the largest rank.
        unsafe {
            self.blas.queue(&down)?;
            self.blas.queue(&up)
        }
    }
}
