//! A layer's channel mix: a mix with the previous token, a hidden layer of squared positive parts, and in RWKV-6 a gate.
//!
//! ```text
//! out = Wval relu(Wkey (xx + (f − xx)·maa_k))²                                    RWKV-7
//! out = sigmoid(Wrec (xx + (f − xx)·maa_r)) · (Wval relu(Wkey (xx + (f − xx)·maa_k))²)   RWKV-6
//! ```

use rag_core::Result;

use super::config::{Config, Version};
use super::linear::{Job, Linear, apply};
use super::weights::{Kind, Slot, Visit};
use crate::cpu::activations::Activations;
use crate::cpu::maths;
use crate::cpu::product::Cpu;

#[derive(Debug, Clone, Default)]
pub(super) struct ChannelMix {
    maa_k: Vec<f32>,
    /// [F, D].
    key: Linear,
    /// [D, F].
    value: Linear,
    /// RWKV-6 only: maa_r, and [D, D].
    gate: Option<(Vec<f32>, Linear)>,
}

/// Buffers for up to R rows.
#[derive(Debug)]
pub(super) struct ChannelMixBuffers {
    /// Inputs of `key` and of the gate, [R, D].
    inputs: [Activations; 2],
    /// [R, F].
    key: Vec<f32>,
    hidden: Activations,
    /// [R, D].
    gate: Vec<f32>,
}

impl ChannelMixBuffers {
    pub(super) fn new(rows: usize, config: &Config) -> Self {
        Self {
            inputs: std::array::from_fn(|_| Activations::new(config.width)),
            key: vec![0.0; rows * config.hidden],
            hidden: Activations::new(config.hidden),
            gate: vec![0.0; rows * config.width],
        }
    }
}

impl ChannelMix {
    /// Hands every tensor to `visit`.
    pub(super) fn tensors(&mut self, name: &str, config: &Config, visit: &mut Visit<'_>) -> Result<()> {
        let Config { width, hidden, .. } = *config;
        let linear = |linear, size| Slot::linear(linear, Kind::ChannelMix, size);
        visit(&format!("{name}.key.weight"), linear(&mut self.key, [hidden, width]))?;
        visit(&format!("{name}.value.weight"), linear(&mut self.value, [width, hidden]))?;
        if matches!(config.version, Version::V7 { .. }) {
            return visit(&format!("{name}.x_k"), Slot::Vector(&mut self.maa_k));
        }
        visit(&format!("{name}.time_maa_k"), Slot::Vector(&mut self.maa_k))?;
        let (maa, receptance) = self.gate.get_or_insert_default();
        visit(&format!("{name}.time_maa_r"), Slot::Vector(maa))?;
        visit(&format!("{name}.receptance.weight"), linear(receptance, [width, width]))
    }

    /// Writes the mix of `normed` [rows, D] to `out`. `shifted` holds each row's predecessor.
    pub(super) fn forward(
        &self,
        cpu: &Cpu,
        buffers: &mut ChannelMixBuffers,
        [normed, shifted]: [&[f32]; 2],
        out: &mut [f32],
    ) {
        let width = self.maa_k.len();
        let hidden = self.key.matrix.rows();
        let rows = normed.len() / width;
        let ChannelMixBuffers { inputs: [input, gate_input], key, hidden: squared, gate } = buffers;
        let mix = |input: &mut Activations, maa: &[f32], linear: &Linear| {
            input.resize(rows, &linear.matrix);
            cpu.fill(input, |row, out| {
                let at = row * width..(row + 1) * width;
                maths::mix(cpu.simd, &normed[at.clone()], &shifted[at], maa, out);
            });
        };
        mix(input, &self.maa_k, &self.key);
        let key = &mut key[..rows * hidden];
        let gate = &mut gate[..rows * width];
        match &self.gate {
            Some((maa, receptance)) => {
                mix(gate_input, maa, receptance);
                apply(
                    cpu,
                    &mut [
                        Job { linear: &self.key, input, out: key },
                        Job { linear: receptance, input: gate_input, out: gate },
                    ],
                );
            }
            None => apply(cpu, &mut [Job { linear: &self.key, input, out: key }]),
        }
        squared.resize(rows, &self.value.matrix);
        cpu.fill(squared, |row, out| {
            maths::squared_positive(cpu.simd, &key[row * hidden..(row + 1) * hidden], out);
        });
        apply(cpu, &mut [Job { linear: &self.value, input: squared, out }]);
        if self.gate.is_some() {
            cpu.rows(width, out, |row, out| {
                maths::times_sigmoid(cpu.simd, &gate[row * width..(row + 1) * width], out);
            });
        }
    }
}
