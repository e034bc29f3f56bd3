//! A model's version and sizes, read from the names and shapes of its tensors.

use rag_core::Result;

use super::weights::Weights;

/// Sizes beyond these are no RWKV but a damaged file (the largest published one has 61 layers of 4 096).
const LAYERS_MAX: usize = 256;
const WIDTH_MAX: usize = 1 << 16;
const SIZE_MAX: usize = 1 << 24;
/// Published models have heads of 64.
pub(super) const HEAD_SIZE_MAX: usize = 256;
/// RWKV-7's recurrence is compiled for the head size of every published model.
pub(super) const HEAD_SIZE_V7: usize = 64;

/// Sizes of an RWKV model.
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
    pub version: Version,
}

/// The architecture, with the ranks of its low-rank projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// RWKV-6, "x060".
    V6 {
        /// m: of each of the five token-shift mixes.
        mix_rank: usize,
        /// d: of the decay's projection.
        decay_rank: usize,
    },
    /// RWKV-7, "x070".
    V7 { decay_rank: usize, rate_rank: usize, gate_rank: usize, value_rank: usize },
}

impl Config {
    /// Reads the sizes and checks that they fit each other; `Error::Model` says what is missing or wrong.
    pub fn read(weights: &dyn Weights) -> Result<Self> {
        let names = weights.names();
        let any = |part: &str| names.iter().any(|name| name.contains(part));
        let version6 = any("time_maa");
        if !version6 && !any("att.r_k") {
            let message = "it is neither RWKV-6 nor RWKV-7: no tensor is named time_maa or att.r_k";
            return Err(weights.error(message.to_string()));
        }
        let layers = names
            .iter()
            .filter_map(|name| name.strip_prefix("blocks.")?.split('.').next()?.parse::<usize>().ok())
            .max()
            .map_or(0, |last| last.saturating_add(1));
        let [vocabulary, width] = sizes(weights, "emb.weight")?;
        let [hidden, _] = sizes(weights, "blocks.0.ffn.key.weight")?;
        let per_head = if version6 { "blocks.0.att.time_faaaa" } else { "blocks.0.att.r_k" };
        let [heads, head_size] = heads(weights, per_head)?;
        let rank = |name: &str| sizes(weights, name).map(|[_, rank]| rank);
        let version = if version6 {
            let mixes = rank("blocks.0.att.time_maa_w1")?;
            if !mixes.is_multiple_of(5) {
                return Err(weights.error(format!("time_maa_w1 has {mixes} columns, no multiple of five")));
            }
            Version::V6 { mix_rank: mixes / 5, decay_rank: rank("blocks.0.att.time_decay_w1")? }
        } else {
            Version::V7 {
                decay_rank: rank("blocks.0.att.w1")?,
                rate_rank: rank("blocks.0.att.a1")?,
                gate_rank: rank("blocks.0.att.g1")?,
                // The first layer's is not used; a model of one layer may lack it.
                value_rank: if layers > 1 { rank("blocks.1.att.v1")? } else { 1 },
            }
        };
        let config = Self { vocabulary, width, layers, heads, head_size, hidden, version };
        if !config.is_whole() {
            return Err(weights.error(format!("its sizes do not fit each other: {config:?}")));
        }
        Ok(config)
    }

    fn is_whole(&self) -> bool {
        let Self { vocabulary, width, layers, heads, head_size, hidden, version } = *self;
        let ranks = match version {
            Version::V6 { mix_rank, decay_rank } => [mix_rank, decay_rank, 1, 1],
            Version::V7 { decay_rank, rate_rank, gate_rank, value_rank } => {
                [decay_rank, rate_rank, gate_rank, value_rank]
            }
        };
        let heads_fit = match version {
            Version::V6 { .. } => head_size <= HEAD_SIZE_MAX,
            Version::V7 { .. } => head_size == HEAD_SIZE_V7,
        };
        (1..=LAYERS_MAX).contains(&layers)
            && (1..=WIDTH_MAX).contains(&width)
            && [vocabulary, heads, head_size, hidden]
                .iter()
                .chain(&ranks)
                .all(|part| (1..=SIZE_MAX).contains(part))
            && heads * head_size == width
            && heads_fit
    }

    /// The version's name, e.g. "RWKV-6".
    pub fn architecture(&self) -> &'static str {
        match self.version {
            Version::V6 { .. } => "RWKV-6",
            Version::V7 { .. } => "RWKV-7",
        }
    }

    /// Values in the state of one sequence.
    pub fn state_len(&self) -> usize {
        self.layers * self.layer_state_len()
    }

    /// Values in one layer of it.
    pub(crate) fn layer_state_len(&self) -> usize {
        2 * self.width + self.width * self.head_size
    }

    /// f32 values that a row of a call takes in working memory, about.
    pub(crate) fn row_values(&self) -> usize {
        24 * self.width + 3 * self.hidden
    }
}

/// A two-dimensional tensor's shape; leading axes of size 1 are dropped.
fn sizes(weights: &dyn Weights, name: &str) -> Result<[usize; 2]> {
    let shape = weights.shape(name).ok_or_else(|| weights.error(format!("it has no tensor {name}")))?;
    <[usize; 2]>::try_from(shape.as_slice())
        .map_err(|_| weights.error(format!("{name} has the shape {shape:?} instead of two sizes")))
}

/// Heads and head size; with one head, its axis may be dropped.
fn heads(weights: &dyn Weights, name: &str) -> Result<[usize; 2]> {
    match weights.shape(name).as_deref() {
        Some(&[size]) => Ok([1, size]),
        _ => sizes(weights, name),
    }
}
