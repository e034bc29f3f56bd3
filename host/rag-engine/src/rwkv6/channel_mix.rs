//! A layer's channel mix: two mixes with the previous token, a hidden layer of squared positive parts, and a gate.
//!
//! ```text
//! out = sigmoid(Wrec (xx + (f − xx)·maa_r)) · (Wval relu(Wkey (xx + (f − xx)·maa_k))²)
//! ```

use rag_core::Result;

use super::config::Config;
use super::weights::Reader;
use crate::cpu::activations::Activations;
use crate::cpu::maths;
use crate::cpu::matrix::Matrix;
use crate::cpu::product::{Cpu, Product};

#[derive(Debug)]
pub(super) struct ChannelMix {
    maa_k: Vec<f32>,
    maa_r: Vec<f32>,
    /// [F, D].
    key: Matrix,
    /// [D, D].
    receptance: Matrix,
    /// [D, F].
    value: Matrix,
}

/// Buffers for up to R rows.
#[derive(Debug)]
pub(super) struct ChannelMixBuffers {
    /// Inputs of `key` and `receptance`, [R, D].
    inputs: [Activations; 2],
    /// [R, F].
    key: Vec<f32>,
    hidden: Activations,
    /// [R, D].
    receptance: Vec<f32>,
}

impl ChannelMixBuffers {
    pub(super) fn new(rows: usize, config: &Config) -> Self {
        Self {
            inputs: std::array::from_fn(|_| Activations::new(rows, config.width)),
            key: vec![0.0; rows * config.hidden],
            hidden: Activations::new(rows, config.hidden),
            receptance: vec![0.0; rows * config.width],
        }
    }
}

impl ChannelMix {
    pub(super) fn read(reader: &Reader<'_>, name: &str) -> Result<Self> {
        let Config { width, hidden, .. } = *reader.config;
        let at = |part: &str| format!("{name}.{part}");
        Ok(Self {
            maa_k: reader.vector(&at("time_maa_k"))?,
            maa_r: reader.vector(&at("time_maa_r"))?,
            key: reader.linear(&at("key"), hidden, width)?,
            receptance: reader.linear(&at("receptance"), width, width)?,
            value: reader.linear(&at("value"), width, hidden)?,
        })
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
        let hidden = self.key.rows();
        let rows = normed.len() / width;
        let ChannelMixBuffers { inputs, key, hidden: squared, receptance } = buffers;
        for (input, maa) in inputs.iter_mut().zip([&self.maa_k, &self.maa_r]) {
            input.resize(rows);
            cpu.fill(input, |row, out| {
                let at = row * width..(row + 1) * width;
                maths::mix(cpu.simd, &normed[at.clone()], &shifted[at], maa, out);
            });
        }
        let key = &mut key[..rows * hidden];
        let receptance = &mut receptance[..rows * width];
        cpu.products(&mut [
            Product { matrix: &self.key, input: &inputs[0], out: key },
            Product { matrix: &self.receptance, input: &inputs[1], out: receptance },
        ]);
        squared.resize(rows);
        cpu.fill(squared, |row, out| {
            maths::squared_positive(cpu.simd, &key[row * hidden..(row + 1) * hidden], out);
        });
        cpu.products(&mut [Product { matrix: &self.value, input: squared, out }]);
        cpu.rows(width, out, |row, out| {
            maths::times_sigmoid(cpu.simd, &receptance[row * width..(row + 1) * width], out);
        });
    }
}
