//! A model's sizes, read from the shapes of its tensors.

use rag_core::Result;

use super::weights::Weights;
use crate::cpu::matrix::Format;

/// Sizes beyond these are no RWKV-6 but a damaged file (the largest published one has 61 layers of 4 096).
const LAYERS_MAX: usize = 256;
const WIDTH_MAX: usize = 1 << 16;
/// Published models have heads of 64.
pub(super) const HEAD_SIZE_MAX: usize = 256;

/// Sizes of an RWKV-6 model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// Rows of the embedding table and of the head: ids are below this.
    pub vocabulary: usize,
    /// D: width of the residual stream.
    pub width: usize,
    pub layers: usize,
    /// H; heads · head size = width.
    pub heads: usize,
    /// N: rows and columns of a head's state.
    pub head_size: usize,
    /// F: width of the channel mix's hidden layer.
    pub hidden: usize,
    /// m: rank of each of the five token-shift mixes.
    pub mix_rank: usize,
    /// d: rank of the decay's projection.
    pub decay_rank: usize,
}

impl Config {
    /// Reads the sizes and checks that they fit each other; `Error::Model` says what is missing or wrong.
    pub fn read(weights: &dyn Weights) -> Result<Self> {
        if !weights.names().iter().any(|name| name.contains("time_maa")) {
            return Err(weights.error("it is no RWKV-6: no tensor is named time_maa".to_string()));
        }
        let layers = weights
            .names()
            .iter()
            .filter_map(|name| name.strip_prefix("blocks.")?.split('.').next()?.parse::<usize>().ok())
            .max()
            .map_or(0, |last| last.saturating_add(1));
        let [vocabulary, width] = sizes(weights, "emb.weight")?;
        let [heads, head_size] = sizes(weights, "blocks.0.att.time_faaaa")?;
        let [hidden, _] = sizes(weights, "blocks.0.ffn.key.weight")?;
        let [_, mixes] = sizes(weights, "blocks.0.att.time_maa_w1")?;
        let [_, decay_rank] = sizes(weights, "blocks.0.att.time_decay_w1")?;
        let config =
            Self { vocabulary, width, layers, heads, head_size, hidden, mix_rank: mixes / 5, decay_rank };
        let parts = [vocabulary, heads, head_size, hidden, config.mix_rank, decay_rank];
        let whole = (1..=LAYERS_MAX).contains(&layers)
            && (1..=WIDTH_MAX).contains(&width)
            && parts.iter().all(|part| (1..=1 << 24).contains(part))
            && heads * head_size == width
            && head_size <= HEAD_SIZE_MAX
            && config.mix_rank * 5 == mixes;
        if !whole {
            return Err(weights.error(format!("its sizes do not fit each other: {config:?}")));
        }
        Ok(config)
    }

    /// Values in the state of one sequence.
    pub fn state_len(&self) -> usize {
        self.layers * self.layer_state_len()
    }

    /// Values in one layer of it.
    pub(crate) fn layer_state_len(&self) -> usize {
        2 * self.width + self.width * self.head_size
    }

    /// Bytes that the weights take in memory when every matrix has this format; an upper bound for packed files.
    pub fn weight_bytes(&self, format: Format) -> usize {
        let Self { vocabulary, width: d, layers, hidden, mix_rank, decay_rank, .. } = *self;
        let matrix = |rows, cols| format.bytes(rows, cols);
        let time_mix = 5 * matrix(d, d)
            + matrix(5 * mix_rank, d)
            + 5 * matrix(d, mix_rank)
            + matrix(decay_rank, d)
            + matrix(d, decay_rank);
        let channel_mix = matrix(hidden, d) + matrix(d, d) + matrix(d, hidden);
        2 * matrix(vocabulary, d) + layers * (time_mix + channel_mix + 18 * d * 4) + 4 * d * 4
    }
}

/// A two-dimensional tensor's shape; leading axes of size 1 are dropped.
fn sizes(weights: &dyn Weights, name: &str) -> Result<[usize; 2]> {
    let shape = weights.shape(name).ok_or_else(|| weights.error(format!("it has no tensor {name}")))?;
    <[usize; 2]>::try_from(shape.as_slice())
        .map_err(|_| weights.error(format!("{name} has the shape {shape:?} instead of two sizes")))
}
