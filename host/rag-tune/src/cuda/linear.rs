//! A linear layer on the GPU, forwards and backwards: a frozen matrix and the adapter beside it.

use rag_core::Result;

use super::ops::{Buffer, GRADIENT, Ops, SET, Sum, view};
use super::weights::{Arena, Linear};
use crate::cpu::linear::{Adapter, Dropout};

/// What linear layers work with.
#[derive(Debug)]
pub(super) struct Scratch {
    /// A matrix that is not held dense.
    pub(super) dense: Buffer,
    /// [R, r] twice, and inputs of which some are left out, [R, F].
    pub(super) low: [Buffer; 2],
    pub(super) dropped: Option<Buffer>,
}

/// Where and how a linear layer runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) ops: &'a Ops,
    pub(super) arena: &'a Arena,
    pub(super) scratch: &'a Scratch,
    pub(super) rows: usize,
    pub(super) dropout: Dropout,
}

impl Linear {
    /// x [R, in] to out [R, out].
    pub(super) fn forward(&self, run: Run<'_>, x: u64, out: u64) -> Result<()> {
        let Run { ops, arena, scratch, rows, .. } = run;
        let (outputs, inputs) = (self.matrix.rows, self.matrix.cols);
        let weights = self.matrix.dense(ops, &scratch.dense)?;
        let (x_view, out_view) = (view(x, inputs), view(out, outputs));
        ops.multiply([x_view, weights.turned(), out_view], [rows, inputs, outputs], SET)?;
        let add = Sum { adds: true, ..SET };
        let low = view(scratch.low[0].first(), self.rank());
        match self.adapter {
            Adapter::None => Ok(()),
            Adapter::LowRank { b, rank, .. } => {
                self.low(run, x)?;
                ops.multiply([low, view(arena.act(b), rank).turned(), out_view], [rows, rank, outputs], add)
            }
            Adapter::Bone { d, rank } => {
                ops.rows("fold", rows, &[x, scratch.low[0].first()], &[inputs, rank], &[])?;
                ops.multiply([low, view(arena.act(d), outputs), out_view], [rows, rank, outputs], add)
            }
        }
    }

    /// by_x [R, in] from by_out [R, out]; gradients of the adapter are added. `x` is read only where there is one.
    pub(super) fn backward(&self, run: Run<'_>, x: u64, by_out: u64, by_x: u64) -> Result<()> {
        let Run { ops, arena, scratch, rows, dropout } = run;
        let (outputs, inputs) = (self.matrix.rows, self.matrix.cols);
        let weights = self.matrix.dense(ops, &scratch.dense)?;
        let (by_out_view, by_x_view) = (view(by_out, outputs), view(by_x, inputs));
        ops.multiply([by_out_view, weights, by_x_view], [rows, outputs, inputs], SET)?;
        let rank = self.rank();
        let [low, by_low] = [&scratch.low[0], &scratch.low[1]].map(|buffer| view(buffer.first(), rank));
        match self.adapter {
            Adapter::None => Ok(()),
            Adapter::LowRank { a, b, scale, .. } => {
                let dropped = self.low(run, x)?;
                let scaled = Sum { alpha: scale, ..SET };
                ops.multiply([by_out_view, view(arena.act(b), rank), by_low], [rows, outputs, rank], scaled)?;
                if let Some(by_b) = arena.gradient(b) {
                    let views = [by_out_view.turned(), low, view(by_b, rank)];
                    ops.multiply(views, [outputs, rows, rank], GRADIENT)?;
                }
                if let Some(by_a) = arena.gradient(a) {
                    let views = [by_low.turned(), view(dropped, inputs), view(by_a, inputs)];
                    ops.multiply(views, [rank, rows, inputs], GRADIENT)?;
                }
                let a = view(arena.act(a), inputs);
                let Some(part) = scratch.dropped.as_ref().filter(|_| dropout.share > 0.0) else {
                    return ops.multiply(
                        [by_low, a, by_x_view],
                        [rows, rank, inputs],
                        Sum { adds: true, ..SET },
                    );
                };
                let part = part.first();
                ops.multiply([by_low, a, view(part, inputs)], [rows, rank, inputs], SET)?;
                self.drop(run, part, part)?;
                ops.map("add_all", rows * inputs, &[by_x, part], 0, &[])
            }
            Adapter::Bone { d, .. } => {
                let views = [by_out_view, view(arena.act(d), outputs).turned(), by_low];
                ops.multiply(views, [rows, outputs, rank], SET)?;
                if let Some(by_d) = arena.gradient(d) {
                    ops.rows("fold", rows, &[x, scratch.low[0].first()], &[inputs, rank], &[])?;
                    let views = [low.turned(), by_out_view, view(by_d, outputs)];
                    ops.multiply(views, [rank, rows, outputs], GRADIENT)?;
                }
                ops.rows("fold_back", rows, &[by_x, scratch.low[1].first()], &[inputs, rank], &[])
            }
        }
    }

    /// Whether the way back reads the layer's input.
    pub(super) fn reads_input(&self) -> bool {
        !matches!(self.adapter, Adapter::None)
    }

    fn rank(&self) -> usize {
        match self.adapter {
            Adapter::None => 0,
            Adapter::LowRank { rank, .. } | Adapter::Bone { rank, .. } => rank,
        }
    }

    /// s · A drop(x) to the first scratch; returns where drop(x) is.
    fn low(&self, run: Run<'_>, x: u64) -> Result<u64> {
        let Adapter::LowRank { a, rank, scale, .. } = self.adapter else { return Ok(x) };
        let inputs = self.matrix.cols;
        let mut dropped = x;
        if let Some(place) = run.scratch.dropped.as_ref().filter(|_| run.dropout.share > 0.0) {
            dropped = place.first();
            self.drop(run, x, dropped)?;
        }
        let views = [
            view(dropped, inputs),
            view(run.arena.act(a), inputs).turned(),
            view(run.scratch.low[0].first(), rank),
        ];
        run.ops.multiply(views, [run.rows, inputs, rank], Sum { alpha: scale, ..SET })?;
        Ok(dropped)
    }

    /// Leaves out the same values as the CPU does.
    fn drop(&self, run: Run<'_>, x: u64, out: u64) -> Result<()> {
        let Dropout { share, seed } = run.dropout;
        let limit = (f64::from(share) * 2f64.powi(32)) as u64;
        let at = [x, out, seed, self.number, limit];
        run.ops.map("drop", run.rows * self.matrix.cols, &at, self.matrix.cols, &[1.0 / (1.0 - share)])
    }
}
