//! The model's two ends on the GPU: rows of the embedding table, and the head with its loss in blocks of rows.

use rag_core::Result;

use super::buffers::{HEAD_ROWS, STRIPS};
use super::ops::{SET, Sum, view};
use super::trainer::Trainer;
use crate::cpu::model::Chunk;
use crate::cpu::shift::Rows;

/// Losses that are being computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Losses(usize);

impl Losses {
    /// Their sum in nats, once they are there.
    pub(super) fn read(self, trainer: &Trainer) -> Result<f64> {
        let mut losses = vec![0.0f32; self.0];
        trainer.work.losses.memory.read(0, &mut losses)?;
        Ok(losses.iter().map(|&loss| f64::from(loss)).sum())
    }
}

impl Trainer {
    /// The first layer's input.
    pub(super) fn embed(&self, ids: &[u32], rows: Rows) -> Result<()> {
        let x = self.inputs[0].first();
        let Some(norm) = self.model.first_norm else { return self.table(ids, rows, x) };
        let table = self.work.sums[0].first();
        self.table(ids, rows, table)?;
        let at = [table, self.arena.exact(norm.weight), self.arena.exact(norm.bias), x, 0, 0];
        self.ops.exact_rows("norm_f32", rows.count(), &at, &[rows.width], &[norm.epsilon])
    }

    fn table(&self, ids: &[u32], rows: Rows, to: u64) -> Result<()> {
        let table: Vec<u32> = ids.iter().map(|&id| self.model.embedding_row(id) as u32).collect();
        self.work.ids.memory.write(0, &table)?;
        let at = [self.embedding.first(), self.work.ids.first(), to];
        self.ops.rows("embed", rows.count(), &at, &[rows.width], &[])
    }

    /// Gradients of the normalisation after the table.
    pub(super) fn first_norm_back(&self, ids: &[u32], rows: Rows) -> Result<()> {
        let Some(norm) = self.model.first_norm else { return Ok(()) };
        let [table, moments] = [self.work.sums[0].first(), self.work.moments.first()];
        self.table(ids, rows, table)?;
        self.normed_sums(self.work.by_x.first(), (table, moments), rows, norm, "strip_sums_normed_f32")
    }

    /// Gradients of a normalisation of whole rows, from the derivative by what it gives.
    fn normed_sums(
        &self,
        by: u64,
        (x, moments): (u64, u64),
        rows: Rows,
        norm: crate::cpu::norm::Norm,
        kernel: &str,
    ) -> Result<()> {
        let Some(by_weight) = self.arena.gradient(norm.weight) else { return Ok(()) };
        let width = rows.width;
        let strips = self.work.strips.first();
        self.ops.exact_rows("row_stats_any", rows.count(), &[x, moments], &[width], &[norm.epsilon])?;
        let n = [width, rows.tokens, rows.count()];
        let shape = ([width.div_ceil(512), STRIPS], 64, 0);
        self.ops.shaped(kernel, shape, &[by, strips, x, moments], &n, &[norm.epsilon])?;
        let at = [strips, by_weight, self.arena.gradient(norm.bias).unwrap_or(0)];
        self.ops.shaped("add_strips_any", ([width.div_ceil(256), 1], 256, 0), &at, &[width], &[])
    }

    /// The losses of a chunk's labels; the derivative by the last layer's output goes to `by_x`.
    pub(super) fn loss(&self, chunk: &Chunk, weight: f32) -> Result<Losses> {
        let Self { ops, work, arena, sizes, .. } = self;
        let (rows, labels) = (chunk.rows, &chunk.labels);
        let (count, d, v) = (rows.count(), rows.width, sizes.vocabulary);
        let norm = self.model.last_norm;
        let [last, by_last, ..] = work.rows.each_ref().map(super::ops::Buffer::first);
        let x = self.inputs[sizes.layers].first();
        let at = [x, arena.exact(norm.weight), arena.exact(norm.bias), last, 0, 0];
        ops.rows("norm", count, &at, &[d], &[norm.epsilon])?;
        work.rows[1].memory.clear(0, count * d * ops.act.bytes())?;
        let (places, ids): (Vec<u32>, Vec<u32>) =
            labels.iter().map(|label| (label.row as u32, label.label as u32)).unzip();
        work.places.memory.write(0, &places)?;
        work.labels.memory.write(0, &ids)?;
        let head = view(self.head.first(), d);
        let [picked, by_picked] = work.head_rows.each_ref().map(super::ops::Buffer::first);
        let logits = work.logits.first();
        let by_logits = match ops.act {
            rag_engine::rwkv::cuda::Element::F32 => logits,
            _ => work.by_logits.first(),
        };
        for first in (0..labels.len()).step_by(HEAD_ROWS) {
            let n = HEAD_ROWS.min(labels.len() - first);
            let (places, ids) = (work.places.at(first), work.labels.at(first));
            ops.rows("pick", n, &[last, places, picked], &[d, 0], &[])?;
            let exact = Sum { exact: true, ..SET };
            ops.multiply([view(picked, d), head.turned(), view(logits, v)], [n, d, v], exact)?;
            let at = [logits, ids, work.losses.at(first), by_logits];
            ops.typed_shaped("loss_rows", ([n, 1], 512, 0), &at, &[v], &[weight, self.pass.l2wrap])?;
            ops.multiply([view(by_logits, v), head, view(by_picked, d)], [n, v, d], SET)?;
            ops.rows("pick", n, &[by_picked, places, by_last], &[d, 1], &[])?;
        }
        let mut at = [0; 13];
        at[0] = by_last;
        at[8..].copy_from_slice(&[x, arena.exact(norm.weight), work.by_x.first(), 0, 0]);
        ops.rows("norm_back_plain", count, &at, &[d, rows.tokens, 1], &[norm.epsilon])?;
        let typed = match ops.act {
            rag_engine::rwkv::cuda::Element::F32 => "strip_sums_normed_f32",
            _ => "strip_sums_normed_bf16",
        };
        self.normed_sums(by_last, (x, work.moments.first()), rows, norm, typed)?;
        Ok(Losses(labels.len()))
    }
}
