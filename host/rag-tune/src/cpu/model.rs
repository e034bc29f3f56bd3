//! The model: tokens in, loss and gradients out, layer by layer forwards and then backwards.
//!
//! A sequence may be read in chunks (truncated backpropagation): what a layer knows of the tokens before a chunk is
//! carried over in f32, and no gradient flows back into the chunk before. With checkpointing a layer keeps its input
//! only, and is computed again on the way back.

use rag_engine::rwkv::Config;

use super::channel_mix::{ChannelMix, ChannelTape};
use super::frozen::Frozen;
use super::head::{self, Label};
use super::linear::{Dropout, Linear};
use super::norm::Norm;
use super::shift::Rows;
use super::tensors::{Gradients, Tensors};
use super::time_mix::{Back, TimeMix, TimeTape};

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) config: Config,
    /// [V, D], or a row for each of `kept` and one more for all other ids.
    pub(crate) embedding: Frozen,
    /// Ids of the rows of embedding and head, ascending, when rows were left out.
    pub(crate) kept: Option<Vec<u32>>,
    pub(crate) first_norm: Option<Norm>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) last_norm: Norm,
    pub(crate) head: Frozen,
    pub(crate) tensors: Tensors,
}

#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) time_norm: Norm,
    pub(crate) time_mix: TimeMix,
    pub(crate) channel_norm: Norm,
    pub(crate) channel_mix: ChannelMix,
}

/// What a layer knows of the tokens before.
#[derive(Debug, Clone)]
struct Carry {
    /// [B, D] each.
    time_shift: Vec<f32>,
    channel_shift: Vec<f32>,
    /// [B, H, N, N].
    state: Vec<f32>,
}

/// What a layer's way back needs.
#[derive(Debug)]
struct Tape {
    /// The layer's input, and the input of its second half, [R, D].
    input: Vec<f32>,
    middle: Vec<f32>,
    time: TimeTape,
    channel: ChannelTape,
}

/// A layer on its way back: all of it, or what it is computed from again.
#[derive(Debug)]
enum Kept {
    Tape(Box<Tape>),
    Input { input: Vec<f32>, carry: Carry },
}

/// Rows that are computed together.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) rows: Rows,
    /// One a row.
    pub(crate) ids: Vec<u32>,
    pub(crate) labels: Vec<Label>,
    /// Whether they are the sequences' first.
    pub(crate) from_start: bool,
}

/// How sequences are trained on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    pub(crate) checkpointing: bool,
    /// Tokens of a chunk; none reads a sequence whole.
    pub(crate) chunk_tokens: Option<usize>,
    pub(crate) l2wrap: f32,
    /// What each label's loss counts: 1 / labels of the update.
    pub(crate) weight: f32,
    pub(crate) dropout: Dropout,
}

/// B sequences of T tokens, row-major, and for each place the label that should follow, if it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub sequences: usize,
    pub tokens: Vec<u32>,
    pub labels: Vec<Option<u32>>,
}

impl Model {
    /// Row of the embedding table.
    pub(crate) fn embedding_row(&self, id: u32) -> usize {
        match &self.kept {
            None => id as usize,
            Some(ids) => ids.binary_search(&id).unwrap_or(ids.len()),
        }
    }

    /// Row of the head; none for an id that the model cannot write.
    pub(crate) fn head_row(&self, id: u32) -> Option<usize> {
        match &self.kept {
            None => ((id as usize) < self.config.vocabulary).then_some(id as usize),
            Some(ids) => ids.binary_search(&id).ok(),
        }
    }

    /// All layers' large matrices, with the names of their weights.
    pub(crate) fn linears(&mut self) -> Vec<(String, &mut Linear)> {
        let mut all = Vec::new();
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            let Block { time_mix: t, channel_mix: c, .. } = block;
            let at = |part: &str| format!("blocks.{layer}.{part}");
            all.push((at("att.receptance"), &mut t.receptance));
            all.push((at("att.key"), &mut t.key));
            all.push((at("att.value"), &mut t.value));
            all.push((at("att.gate"), &mut t.gate));
            all.push((at("att.output"), &mut t.output));
            all.push((at("ffn.key"), &mut c.key));
            all.push((at("ffn.receptance"), &mut c.receptance));
            all.push((at("ffn.value"), &mut c.value));
        }
        all
    }

    /// The summed cross-entropy of a batch's labels, in nats; its derivatives, weighted by `pass`, are added.
    pub(crate) fn accumulate(&self, batch: &Batch, pass: &Pass, gradients: &mut Gradients) -> f64 {
        let mut carry: Vec<Carry> =
            self.blocks.iter().map(|block| self.start(block, batch.sequences)).collect();
        let chunks = self.chunks(batch, pass.chunk_tokens);
        chunks.iter().map(|chunk| self.chunk(chunk, pass, &mut carry, gradients)).sum()
    }

    /// A batch in parts of so many tokens of each sequence, or whole; those that no label needs are left out.
    pub(crate) fn chunks(&self, batch: &Batch, chunk_tokens: Option<usize>) -> Vec<Chunk> {
        let tokens = batch.tokens.len() / batch.sequences.max(1);
        let each = chunk_tokens.unwrap_or(tokens).max(1);
        let mut chunks = Vec::new();
        for first in (0..tokens).step_by(each) {
            let rows = Rows {
                sequences: batch.sequences,
                tokens: each.min(tokens - first),
                width: self.config.width,
            };
            let place = |row: usize| row / rows.tokens * tokens + first + row % rows.tokens;
            let ids: Vec<u32> = (0..rows.count()).map(|row| batch.tokens[place(row)]).collect();
            let label = |row: usize| {
                let label = batch.labels[place(row)].and_then(|id| self.head_row(id))?;
                Some(Label { row, label })
            };
            let labels: Vec<Label> = (0..rows.count()).filter_map(label).collect();
            // What comes after the last label of the sequences changes nothing.
            let rest_counts = (first + rows.tokens..tokens)
                .any(|t| (0..batch.sequences).any(|s| batch.labels[s * tokens + t].is_some()));
            if labels.is_empty() && !rest_counts {
                break;
            }
            chunks.push(Chunk { rows, ids, labels, from_start: first == 0 });
        }
        chunks
    }

    fn start(&self, block: &Block, sequences: usize) -> Carry {
        let zero = vec![0.0; sequences * self.config.width];
        let state = self.tensors[block.time_mix.state].repeat(sequences);
        Carry { time_shift: zero.clone(), channel_shift: zero, state }
    }

    fn chunk(&self, chunk: &Chunk, pass: &Pass, carry: &mut [Carry], gradients: &mut Gradients) -> f64 {
        let Chunk { rows, ids, labels, from_start } = chunk;
        let (rows, from_start) = (*rows, *from_start);
        let table: Vec<f32> =
            ids.iter().flat_map(|&id| self.embedding.row(self.embedding_row(id)).into_owned()).collect();
        let mut x = match &self.first_norm {
            Some(norm) => norm.forward(&self.tensors, &table),
            None => table.clone(),
        };
        let mut kept = Vec::with_capacity(self.blocks.len());
        for (block, carry) in self.blocks.iter().zip(carry) {
            let before = pass.checkpointing.then(|| carry.clone());
            let (out, tape) = block.forward(&self.tensors, rows, x, carry, pass.dropout);
            x = out;
            kept.push(match before {
                Some(carry) => Kept::Input { input: tape.input, carry },
                None => Kept::Tape(Box::new(tape)),
            });
        }
        if labels.is_empty() {
            return 0.0;
        }
        let last = self.last_norm.forward(&self.tensors, &x);
        let mut by_last = vec![0.0; last.len()];
        let total = head::loss(&self.head, &last, labels, pass.weight, pass.l2wrap, &mut by_last);
        drop(last);
        let mut by_x = vec![0.0; x.len()];
        self.last_norm.backward(&self.tensors, gradients, &x, &by_last, &mut by_x);
        drop(x);
        let wants_first = self.first_norm.is_some_and(|norm| gradients.wants(norm.weight));
        for (layer, (block, kept)) in self.blocks.iter().zip(kept).enumerate().rev() {
            let tape = match kept {
                Kept::Tape(tape) => tape,
                Kept::Input { input, mut carry } => {
                    Box::new(block.forward(&self.tensors, rows, input, &mut carry, pass.dropout).1)
                }
            };
            // Below the first layer there is nothing to train but its own first normalisation.
            let through = layer > 0 || wants_first || self.trains_mixes();
            let back = Back { rows, dropout: pass.dropout, from_start, through };
            by_x = block.backward(&self.tensors, gradients, (&tape, by_x), back);
        }
        if let (Some(norm), true) = (&self.first_norm, wants_first) {
            norm.backward(&self.tensors, gradients, &table, &by_x, &mut vec![0.0; table.len()]);
        }
        total
    }

    /// Whether anything but initial states is trained.
    pub(crate) fn trains_mixes(&self) -> bool {
        self.tensors.list().iter().any(|tensor| tensor.trained && !tensor.name.ends_with("time_state"))
    }
}

impl Block {
    /// x [R, D] to the layer's output and its tape; `carry` is moved on.
    fn forward(
        &self,
        tensors: &Tensors,
        rows: Rows,
        x: Vec<f32>,
        carry: &mut Carry,
        dropout: Dropout,
    ) -> (Vec<f32>, Tape) {
        let normed = self.time_norm.forward(tensors, &x);
        let last = rows.last(&normed);
        let before = std::mem::replace(&mut carry.time_shift, last);
        let (mut middle, time) =
            self.time_mix.forward(tensors, rows, (normed, &before), &mut carry.state, dropout);
        super::linalg::add(&mut middle, &x);

        let normed = self.channel_norm.forward(tensors, &middle);
        let last = rows.last(&normed);
        let before = std::mem::replace(&mut carry.channel_shift, last);
        let (mut out, channel) = self.channel_mix.forward(tensors, rows, (normed, &before), dropout);
        super::linalg::add(&mut out, &middle);
        (out, Tape { input: x, middle, time, channel })
    }

    /// From the derivative by the output to that by the input; as it came where `back.through` is false.
    fn backward(
        &self,
        tensors: &Tensors,
        gradients: &mut Gradients,
        (tape, mut by_x): (&Tape, Vec<f32>),
        back: Back,
    ) -> Vec<f32> {
        let Back { rows, dropout, .. } = back;
        let by_normed = self.channel_mix.backward(tensors, gradients, rows, (&tape.channel, &by_x), dropout);
        self.channel_norm.backward(tensors, gradients, &tape.middle, &by_normed, &mut by_x);
        let time = (&tape.time, by_x.as_slice());
        let by_normed = self.time_mix.backward(tensors, gradients, time, back);
        if let Some(by_normed) = by_normed {
            self.time_norm.backward(tensors, gradients, &tape.input, &by_normed, &mut by_x);
        }
        by_x
    }
}

#[cfg(test)]
mod tests;
