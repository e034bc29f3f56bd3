//! One forward pass of a BERT-family encoder over several texts at once: post-norm layers, erf-GELU.
//!
//! The tokens of all texts form one matrix `[tokens, width]` for the products; attention runs within each text. One
//! pass stays on one thread: threads take different texts.

use super::attention::{self, Attention};
use super::gemm::{self, Isa, Rows8, Weights8, WeightsF32};
use super::loaded::Precision;
use super::maths::{AddNorm, Gelu};
use super::word_table::WordTable;

/// Tokens that pass through the wide inner layer at a time: their 6 KiB each stay in the cache.
const BLOCK_TOKENS: usize = 64;

/// Weights of an encoder.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) word: WordTable,
    /// `[positions, width]`, the vector of token type 0 included.
    pub(crate) position: Vec<f32>,
    /// What a token of the second of two texts gets more, `[width]`; empty where the model has one type of tokens.
    pub(crate) second: Vec<f32>,
    pub(crate) norm: Norm,
    pub(crate) layers: Vec<Layer>,
    pub(crate) heads: usize,
    pub(crate) width: usize,
    pub(crate) eps: f32,
}

#[derive(Debug)]
pub(crate) struct Layer {
    /// `width` to `3 · width`: queries, keys, values.
    pub(crate) qkv: Linear,
    pub(crate) attention_out: Linear,
    pub(crate) attention_norm: Norm,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    pub(crate) output_norm: Norm,
}

#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Vec<f32>,
}

#[derive(Debug)]
pub(crate) enum Matrix {
    Int8(Weights8),
    F32(WeightsF32),
}

/// Ids of one forward pass, special tokens included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence<'a> {
    pub(crate) ids: &'a [u32],
    /// Where the second of two texts starts; `ids.len()` for a text alone.
    pub(crate) second: usize,
}

/// Buffers of one thread, kept from one pass to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// `[tokens, width]`: the layer's input, and after `forward` the last layer's output.
    pub(crate) hidden: Vec<f32>,
    rows: Rows8,
    /// `[tokens, 3 · width]`.
    qkv: Vec<f32>,
    /// `[tokens, width]`.
    context: Vec<f32>,
    /// `[tokens, width]`: what a half layer adds.
    added: Vec<f32>,
    /// `[BLOCK_TOKENS, inner]`.
    inner: Vec<f32>,
    attention: attention::Scratch,
}

impl Model {
    /// Tokens of the longest sequence, special tokens included.
    pub(crate) fn positions(&self) -> usize {
        self.position.len() / self.width
    }

    /// Runs the sequences, each of 1 to `positions` ids that the word table has, and leaves their token vectors in
    /// `scratch.hidden`, one after the other.
    pub(crate) fn forward(&self, isa: Isa, sequences: &[Sequence<'_>], scratch: &mut Scratch) {
        self.embed(sequences, scratch);
        self.add_norm(isa, &self.norm, scratch);
        for layer in &self.layers {
            scratch.qkv.resize(scratch.hidden.len() * 3, 0.0);
            layer.qkv.apply(isa, &scratch.hidden, &mut scratch.rows, &mut scratch.qkv);
            scratch.context.resize(scratch.hidden.len(), 0.0);
            let mut first = 0;
            for sequence in sequences {
                let tokens = first..first + sequence.ids.len();
                first = tokens.end;
                Attention {
                    width: self.width,
                    heads: self.heads,
                    qkv: &scratch.qkv[tokens.start * 3 * self.width..tokens.end * 3 * self.width],
                    context: &mut scratch.context[tokens.start * self.width..tokens.end * self.width],
                }
                .run(isa, &mut scratch.attention);
            }
            layer.attention_out.apply(isa, &scratch.context, &mut scratch.rows, &mut scratch.added);
            self.add_norm(isa, &layer.attention_norm, scratch);
            scratch.added.resize(scratch.hidden.len(), 0.0);
            let blocks = scratch.hidden.chunks(BLOCK_TOKENS * self.width);
            for (hidden, added) in blocks.zip(scratch.added.chunks_mut(BLOCK_TOKENS * self.width)) {
                scratch.inner.resize(hidden.len() / self.width * layer.up.columns(), 0.0);
                layer.up.apply(isa, hidden, &mut scratch.rows, &mut scratch.inner);
                isa.run(Gelu(&mut scratch.inner));
                layer.down.apply(isa, &scratch.inner, &mut scratch.rows, added);
            }
            self.add_norm(isa, &layer.output_norm, scratch);
        }
    }

    /// Word vectors into `hidden`, position and type vectors into `added`.
    fn embed(&self, sequences: &[Sequence<'_>], scratch: &mut Scratch) {
        let tokens: usize = sequences.iter().map(|sequence| sequence.ids.len()).sum();
        scratch.hidden.resize(tokens * self.width, 0.0);
        let mut rows = scratch.hidden.chunks_exact_mut(self.width);
        scratch.added.clear();
        for Sequence { ids, second } in sequences {
            for (id, row) in ids.iter().zip(&mut rows) {
                self.word.read(*id, row);
            }
            let start = scratch.added.len();
            scratch.added.extend_from_slice(&self.position[..ids.len() * self.width]);
            let of_second = &mut scratch.added[start + second * self.width..];
            of_second.iter_mut().zip(self.second.iter().cycle()).for_each(|(value, more)| *value += more);
        }
    }

    fn add_norm(&self, isa: Isa, norm: &Norm, scratch: &mut Scratch) {
        let Scratch { hidden, added, .. } = scratch;
        isa.run(AddNorm { x: hidden, y: added, weight: &norm.weight, bias: &norm.bias, eps: self.eps });
    }
}

impl Linear {
    /// Takes `values`, `[bias.len(), depth]` row-major: one row a column of the product.
    pub(crate) fn pack(precision: Precision, depth: usize, values: &[f32], bias: Vec<f32>) -> Self {
        let rows = values.chunks_exact(depth);
        let matrix = match precision {
            Precision::Int8 => Matrix::Int8(Weights8::pack(depth, rows)),
            Precision::F32 => Matrix::F32(WeightsF32::pack(depth, rows)),
        };
        Linear { matrix, bias }
    }

    pub(crate) fn columns(&self) -> usize {
        self.bias.len()
    }

    /// Fills `out` with the product, `[tokens, columns]`.
    pub(crate) fn apply(&self, isa: Isa, input: &[f32], rows: &mut Rows8, out: &mut [f32]) {
        match &self.matrix {
            Matrix::Int8(weights) => {
                rows.quantise(isa, input, weights.depth());
                gemm::product8(isa, rows, weights, &self.bias, out);
            }
            Matrix::F32(weights) => {
                gemm::product32(isa, input, weights, &self.bias, out);
            }
        }
    }
}
