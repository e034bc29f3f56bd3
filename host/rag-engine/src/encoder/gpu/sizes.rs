//! How large an encoder is, whether the kernels run it, and how much memory it takes.

use std::sync::Arc;

use rag_core::{Error, Result};

use super::{Options, Parts};
use crate::rwkv::cuda::{Element, Gpu};

/// Widest rows that the kernels take, and the sizes of heads; with f32 products any up to the last.
const WIDTH_MAX: usize = 4096;
const HEADS: [usize; 3] = [16, 32, 64];
const HEAD_EXACT_MAX: usize = 128;
/// Texts in one pass.
pub(super) const TEXTS_MAX: usize = 1024;
/// Queries that a block of attention takes, or twice as many.
pub(super) const TILE: usize = 64;
pub(super) const WIDE_TILE: usize = 2 * TILE;
/// Numbers that pass through memory at a time while weights are brought over.
pub(super) const STAGE_VALUES: usize = 8 << 20;
/// Of cuBLAS's memory.
const WORKSPACE_BYTES: usize = 32 << 20;
/// Of the driver, of cuBLAS's own code, and room for what other programs do meanwhile.
const RESERVE_BYTES: usize = 400 << 20;

/// Sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Sizes {
    /// Rows of the word table.
    pub(in super::super) words: usize,
    pub(in super::super) positions: usize,
    pub(in super::super) width: usize,
    pub(in super::super) heads: usize,
    pub(in super::super) inner: usize,
    pub(in super::super) layers: usize,
    /// Of the vectors that the multi-vector head gives; those of the model without one.
    pub(in super::super) token_width: usize,
}

impl Sizes {
    pub(super) fn of(parts: &Parts<'_>) -> Result<Self> {
        let model = parts.model;
        let inner = model.layers.first().map_or(0, |layer| layer.up.columns());
        if model.layers.iter().any(|layer| layer.up.columns() != inner) {
            return Err(Error::invalid("a GPU runs encoders whose layers are alike"));
        }
        Ok(Sizes {
            words: model.word.rows(),
            positions: model.positions(),
            width: model.width,
            heads: model.heads,
            inner,
            layers: model.layers.len(),
            token_width: parts.token_head.map_or(model.width, |head| head.columns()),
        })
    }

    /// Columns of a head.
    pub(super) fn head(&self) -> usize {
        self.width / self.heads
    }

    /// Tokens of one pass. `Error::Unavailable` when the model does not fit into what is free of a GPU's memory,
    /// `Error::InvalidInput` when the kernels do not run it.
    pub(super) fn require(&self, gpu: &Arc<Gpu>, options: &Options) -> Result<usize> {
        let element = options.element();
        let head = self.head();
        let heads = if element == Element::F32 { head <= HEAD_EXACT_MAX } else { HEADS.contains(&head) };
        let eights = [self.width, self.inner, self.token_width].iter().all(|size| size.is_multiple_of(8));
        if !heads || !eights || self.width > WIDTH_MAX {
            return Err(Error::invalid(format!(
                "a GPU runs encoders up to {WIDTH_MAX} wide with heads of 16, 32 or 64; this one is {} wide with heads \
                 of {head}: set models.encoder_device to cpu",
                self.width
            )));
        }
        // A text of all positions is one batch.
        let rows = options.batch_tokens_max.max(self.positions);
        let (weights, buffers) = (self.weight_bytes(element), self.buffer_bytes(element, rows));
        let need = weights + buffers + WORKSPACE_BYTES + RESERVE_BYTES;
        let (free, _) = gpu.memory()?;
        if need <= free {
            return Ok(rows);
        }
        Err(Error::Unavailable {
            message: format!(
                "the encoder needs {} MiB of the memory of {} ({} of weights, {} for batches) and {} MiB are free; set \
                 models.encoder_device to cpu or another GPU, or choose a smaller model",
                need >> 20,
                gpu.name,
                weights >> 20,
                buffers >> 20,
                free >> 20
            ),
        })
    }

    /// Bytes of the processor's memory while a model is brought over: its layers in f32, and one matrix more.
    pub(super) fn host_bytes(&self) -> usize {
        (self.layers + 1) * self.layer_values() * 4
    }

    fn layer_values(&self) -> usize {
        4 * self.width * self.width + 2 * self.width * self.inner
    }

    fn weight_bytes(&self, element: Element) -> usize {
        let Sizes { words, positions, width, inner, layers, token_width, .. } = *self;
        let matrices = layers * self.layer_values() + words * width + width * token_width;
        let vectors = layers * (9 * width + inner) + (positions + 4) * width + width * width;
        let stage = if element == Element::F32 { 0 } else { STAGE_VALUES * 4 };
        matrices * element.bytes() + vectors * 4 + stage
    }

    fn buffer_bytes(&self, element: Element, rows: usize) -> usize {
        let Sizes { width, inner, token_width, .. } = *self;
        let row = width * 4 + (5 * width + inner) * element.bytes() + token_width * 5 + 6 * 4;
        rows * row + TEXTS_MAX * (2 * width * 4 + 16)
    }

    /// Operations of one pass over texts of so many tokens: two for each multiplication with a weight, and attention.
    pub(super) fn operations(&self, texts: usize, tokens: usize) -> f64 {
        let products = 2.0 * self.layer_values() as f64;
        let attention = 4.0 * (self.width * tokens) as f64;
        (texts * tokens * self.layers) as f64 * (products + attention)
    }
}
