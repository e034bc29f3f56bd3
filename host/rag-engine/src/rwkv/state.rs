//! What a sequence has read: of fixed size, copied to branch off, saved and restored to the bit.

use rag_core::Result;

use super::config::Config;
use super::weights::{Weights, transpose};

/// The state of one sequence; zero before its first token. Always f32: a decay of 0.9999 has no half-precision.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Per layer: time mix's shift [D], S [H][key N][value N], channel mix's shift [D].
    values: Vec<f32>,
    config: Config,
}

/// One layer's part.
#[derive(Debug)]
pub(super) struct LayerState<'a> {
    /// The previous token's input to the time mix, [D].
    pub(super) time_shift: &'a mut [f32],
    /// S, [H][key N][value N].
    pub(super) heads: &'a mut [f32],
    /// The previous token's input to the channel mix, [D].
    pub(super) channel_shift: &'a mut [f32],
}

impl State {
    pub fn zero(config: &Config) -> Self {
        Self { values: vec![0.0; config.state_len()], config: *config }
    }

    /// A tuned state: tensors `blocks.I.att.time_state`, [H][value N][key N] each as training stores them; nothing was
    /// read yet. `Error::Model` when it belongs to a model of other sizes.
    pub fn tuned(weights: &dyn Weights, config: &Config) -> Result<Self> {
        let mut state = Self::zero(config);
        let size = config.head_size;
        for layer in 0..config.layers {
            let name = format!("blocks.{layer}.att.time_state");
            let values = weights.read(&name)?;
            let heads = state.layer(layer).heads;
            if values.len() != heads.len() {
                let message = format!(
                    "{name} has {} values; a state of this model has {} × {size} × {size}",
                    values.len(),
                    config.heads
                );
                return Err(weights.error(message));
            }
            let stored = values.chunks(size * size);
            for (head, stored) in heads.chunks_mut(size * size).zip(stored) {
                head.copy_from_slice(&transpose(stored, size, size));
            }
        }
        let next = format!("blocks.{}.att.time_state", config.layers);
        match weights.shape(&next) {
            None => Ok(state),
            Some(_) => Err(weights.error(format!("it has a {next}: it belongs to a deeper model"))),
        }
    }

    /// Every value, little-endian: what `from_bytes` restores to the bit.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// A saved state of a model of these sizes; none when there are not as many values as it has.
    pub fn from_bytes(bytes: &[u8], config: &Config) -> Option<Self> {
        let (values, rest) = bytes.as_chunks::<4>();
        let whole = rest.is_empty() && values.len() == config.state_len();
        whole.then(|| Self {
            values: values.iter().map(|&value| f32::from_le_bytes(value)).collect(),
            config: *config,
        })
    }

    /// Sets every value to 0.
    pub fn clear(&mut self) {
        self.values.fill(0.0);
    }

    /// Takes over another sequence's past; both belong to models of the same sizes.
    pub fn copy_from(&mut self, other: &State) {
        assert_eq!(self.config, other.config, "a state of another model");
        self.values.copy_from_slice(&other.values);
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(self.values.as_slice())
    }

    /// S of one layer, [H][key N][value N].
    pub fn heads(&self, layer: usize) -> &[f32] {
        let start = layer * self.config.layer_state_len() + self.config.width;
        &self.values[start..start + self.config.width * self.config.head_size]
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// All values in their order, for copies to and from a GPU.
    #[cfg(feature = "cuda")]
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    #[cfg(feature = "cuda")]
    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    pub(super) fn layer(&mut self, layer: usize) -> LayerState<'_> {
        let len = self.config.layer_state_len();
        let values = &mut self.values[layer * len..(layer + 1) * len];
        let (time_shift, rest) = values.split_at_mut(self.config.width);
        let (heads, channel_shift) = rest.split_at_mut(self.config.width * self.config.head_size);
        LayerState { time_shift, heads, channel_shift }
    }
}
