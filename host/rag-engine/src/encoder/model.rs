//! One forward pass of a BERT-family encoder over several texts at once: post-norm layers, erf-GELU.
//!
//! The tokens of all texts form one matrix `[tokens, width]` for the products; attention runs within each text. One
//! pass stays on one thread: threads take different texts.

use super::attention::{self, Attention};
use super::gemm::{self, Isa, Rows8, Weights8, WeightsF32};
use super::maths::{AddNorm, Gelu};
use super::weights::{BLOCK, unpack};

/// Tokens that pass through the wide inner layer at a time: their 6 KiB each stay in the cache.
const BLOCK_TOKENS: usize = 64;

/// Weights of an encoder.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) word: WordTable,
    /// `[positions, width]`, the vector of token type 0 included.
    pub(crate) position: Vec<f32>,
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

/// The word vectors, kept in 4 bits: a text touches few of them.
#[derive(Debug)]
pub(crate) struct WordTable {
    pub(crate) width: usize,
    /// `[rows, width / 2]`.
    pub(crate) nibbles: Vec<u8>,
    /// `[rows, width / BLOCK]`.
    pub(crate) scales: Vec<f32>,
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

    /// Runs the sequences, each of 1 to `positions` ids below `word.rows()`, and leaves their token vectors in
    /// `scratch.hidden`, one after the other.
    pub(crate) fn forward(&self, isa: Isa, sequences: &[&[u32]], scratch: &mut Scratch) {
        self.embed(sequences, scratch);
        self.add_norm(isa, &self.norm, scratch);
        for layer in &self.layers {
            scratch.qkv.resize(scratch.hidden.len() * 3, 0.0);
            layer.qkv.apply(isa, &scratch.hidden, &mut scratch.rows, &mut scratch.qkv);
            scratch.context.resize(scratch.hidden.len(), 0.0);
            let mut first = 0;
            for sequence in sequences {
                let tokens = first..first + sequence.len();
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

    /// Word vectors into `hidden`, position vectors into `added`.
    fn embed(&self, sequences: &[&[u32]], scratch: &mut Scratch) {
        let tokens: usize = sequences.iter().map(|sequence| sequence.len()).sum();
        scratch.hidden.resize(tokens * self.width, 0.0);
        let mut rows = scratch.hidden.chunks_exact_mut(self.width);
        scratch.added.clear();
        for sequence in sequences {
            for (id, row) in sequence.iter().zip(&mut rows) {
                self.word.read(*id, row);
            }
            scratch.added.extend_from_slice(&self.position[..sequence.len() * self.width]);
        }
    }

    fn add_norm(&self, isa: Isa, norm: &Norm, scratch: &mut Scratch) {
        let Scratch { hidden, added, .. } = scratch;
        isa.run(AddNorm { x: hidden, y: added, weight: &norm.weight, bias: &norm.bias, eps: self.eps });
    }
}

impl Linear {
    pub(crate) fn columns(&self) -> usize {
        self.bias.len()
    }

    /// Fills `out` with the product, `[tokens, columns]`.
    fn apply(&self, isa: Isa, input: &[f32], rows: &mut Rows8, out: &mut [f32]) {
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

impl WordTable {
    /// The table, if its parts fit each other.
    pub(crate) fn checked(self) -> Result<Self, String> {
        let whole = self.nibbles.len().is_multiple_of(self.width / 2);
        if whole && self.scales.len() * BLOCK == self.nibbles.len() * 2 {
            return Ok(self);
        }
        Err(format!("the word table has {} bytes and {} scales", self.nibbles.len(), self.scales.len()))
    }

    fn read(&self, id: u32, row: &mut [f32]) {
        let (half, blocks) = (self.width / 2, self.width / BLOCK);
        let id = id as usize;
        unpack(&self.nibbles[id * half..][..half], &self.scales[id * blocks..][..blocks], row);
    }
}
