//! Attention within one text, head by head, as small matrix products in f32.

use super::gemm::{Isa, NR, PANEL, Slab, TILE32_ROWS, Target, tile32};
use super::maths::Weigh;

/// One text's queries, keys and values, and where the result goes.
pub(crate) struct Attention<'a> {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    /// `[tokens, 3 · width]`: queries, keys, values of a token beside each other, heads within each.
    pub(crate) qkv: &'a [f32],
    /// `[tokens, width]`.
    pub(crate) context: &'a mut [f32],
}

/// Buffers kept from text to text.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Keys of a head, `[tile][2 panels][size][16 tokens]`.
    keys: Vec<f32>,
    /// Values of a head, `[tile][2 panels][tokens][16 dimensions]`.
    values: Vec<f32>,
    /// Weights of a few queries, `[TILE32_ROWS][tokens, padded]`.
    weights: Vec<f32>,
}

impl Attention<'_> {
    pub(crate) fn run(mut self, isa: Isa, scratch: &mut Scratch) {
        for head in 0..self.heads {
            self.pack(head, scratch);
            self.head(isa, head, scratch);
        }
    }

    /// Dimensions of a head.
    fn size(&self) -> usize {
        self.width / self.heads
    }

    fn tokens(&self) -> usize {
        self.context.len() / self.width
    }

    /// Lays out a head's keys and values as panels of 16 columns; columns beyond the last stay zero.
    fn pack(&self, head: usize, scratch: &mut Scratch) {
        let (size, tokens) = (self.size(), self.tokens());
        scratch.keys.clear();
        scratch.keys.resize(tokens.next_multiple_of(NR) * size, 0.0);
        scratch.values.clear();
        scratch.values.resize(size.next_multiple_of(NR) * tokens, 0.0);
        for (token, line) in self.qkv.chunks_exact(3 * self.width).enumerate() {
            let keys = &line[self.width + head * size..][..size];
            let panel = &mut scratch.keys[token / PANEL * PANEL * size..][..PANEL * size];
            for (slot, key) in panel.iter_mut().skip(token % PANEL).step_by(PANEL).zip(keys) {
                *slot = *key;
            }
            let values = &line[2 * self.width + head * size..][..size];
            for (part, values) in values.chunks(PANEL).enumerate() {
                scratch.values[(part * tokens + token) * PANEL..][..values.len()].copy_from_slice(values);
            }
        }
    }

    /// Scores, softmax and weighted values, for a few queries at a time.
    fn head(&mut self, isa: Isa, head: usize, scratch: &mut Scratch) {
        let (size, tokens, width) = (self.size(), self.tokens(), self.width);
        let padded = tokens.next_multiple_of(NR);
        let scale = 1.0 / (size as f32).sqrt();
        scratch.weights.resize(TILE32_ROWS * padded, 0.0);
        let mut sums = [0.0; TILE32_ROWS * NR];
        for first in (0..tokens).step_by(TILE32_ROWS) {
            let rows = TILE32_ROWS.min(tokens - first);
            let queries =
                Slab { data: &self.qkv[first * 3 * width + head * size..], stride: 3 * width, rows };
            for (tile, keys) in scratch.keys.chunks_exact(NR * size).enumerate() {
                let mut target = Target { data: &mut scratch.weights[tile * NR..], stride: padded };
                tile32(isa, &queries, size, keys, &mut target);
            }
            let mut shares = [0.0; TILE32_ROWS];
            isa.run(Weigh {
                rows: &mut scratch.weights[..rows * padded],
                stride: padded,
                tokens,
                scale,
                shares: &mut shares,
            });
            let weights = Slab { data: &scratch.weights, stride: padded, rows };
            for (tile, values) in scratch.values.chunks_exact(NR * tokens).enumerate() {
                tile32(isa, &weights, tokens, values, &mut Target { data: &mut sums, stride: NR });
                let wide = NR.min(size - tile * NR);
                for (row, sums) in sums.chunks_exact(NR).enumerate().take(rows) {
                    let at = (first + row) * width + head * size + tile * NR;
                    let target = &mut self.context[at..at + wide];
                    target.iter_mut().zip(sums).for_each(|(value, sum)| *value = sum * shares[row]);
                }
            }
        }
    }
}
