//! A layer's channel mix, forwards and backwards.
//!
//! ```text
//! out = sigmoid(Wrec (xx + dx·maa_r)) · (Wval relu(Wkey (xx + dx·maa_k))²)      dx = previous − xx
//! ```

use rag_engine::cpu::maths::sigmoid;

use super::linalg::{each_row, row_sums};
use super::linear::{Dropout, Linear};
use super::shift::Rows;
use super::tensors::{Gradients, Id, Tensors};

#[derive(Debug, Clone)]
pub(crate) struct ChannelMix {
    pub(crate) maa_k: Id,
    pub(crate) maa_r: Id,
    /// [F, D].
    pub(crate) key: Linear,
    /// [D, D].
    pub(crate) receptance: Linear,
    /// [D, F].
    pub(crate) value: Linear,
}

/// What the way back needs, [R, D] but where stated.
#[derive(Debug)]
pub(crate) struct ChannelTape {
    normed: Vec<f32>,
    differences: Vec<f32>,
    /// Before relu², [R, F].
    key: Vec<f32>,
    /// After the sigmoid.
    gate: Vec<f32>,
    value: Vec<f32>,
}

impl ChannelMix {
    /// `normed` [R, D] to the mix and its tape; `before` [B, D] stands before each sequence.
    pub(crate) fn forward(
        &self,
        tensors: &Tensors,
        rows: Rows,
        (normed, before): (Vec<f32>, &[f32]),
        dropout: Dropout,
    ) -> (Vec<f32>, ChannelTape) {
        let differences = rows.differences(&normed, before);
        let mixed = |maa: Id| mix(&normed, &differences, &tensors[maa]);
        let key = self.key.forward(tensors, &mixed(self.maa_k), dropout);
        let mut gate = self.receptance.forward(tensors, &mixed(self.maa_r), dropout);
        each_row(&mut gate, rows.width, |_, gate| gate.iter_mut().for_each(|gate| *gate = sigmoid(*gate)));
        let value = self.value.forward(tensors, &squared(&key), dropout);
        let out = value.iter().zip(&gate).map(|(value, gate)| value * gate).collect();
        (out, ChannelTape { normed, differences, key, gate, value })
    }

    /// From the derivative by the mix to that by `normed`.
    pub(crate) fn backward(
        &self,
        tensors: &Tensors,
        gradients: &mut Gradients,
        rows: Rows,
        (tape, by_out): (&ChannelTape, &[f32]),
        dropout: Dropout,
    ) -> Vec<f32> {
        let ChannelTape { normed, differences, key, gate, value } = tape;
        let mut by_gate = vec![0.0; gate.len()];
        let mut by_value = vec![0.0; gate.len()];
        for i in 0..gate.len() {
            by_value[i] = by_out[i] * gate[i];
            by_gate[i] = by_out[i] * value[i] * gate[i] * (1.0 - gate[i]);
        }
        let mut by_key = vec![0.0; key.len()];
        self.value.backward(tensors, gradients, [&squared(key), &by_value], dropout, &mut by_key);
        by_key.iter_mut().zip(key).for_each(|(by, key)| *by *= 2.0 * key.max(0.0));

        let mut by_normed = vec![0.0; normed.len()];
        let mut by_differences = vec![0.0; normed.len()];
        for (linear, maa, by) in [(&self.key, self.maa_k, &by_key), (&self.receptance, self.maa_r, &by_gate)]
        {
            let input = mix(normed, differences, &tensors[maa]);
            let mut by_input = vec![0.0; normed.len()];
            linear.backward(tensors, gradients, [&input, by], dropout, &mut by_input);
            mix_back(
                tensors,
                gradients,
                maa,
                [&by_input, differences],
                [&mut by_normed, &mut by_differences],
            );
        }
        rows.differences_back(&by_differences, &mut by_normed);
        by_normed
    }
}

/// relu(x)².
fn squared(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&x| x.max(0.0) * x.max(0.0)).collect()
}

/// x + dx·maa, [R, D].
pub(crate) fn mix(x: &[f32], differences: &[f32], maa: &[f32]) -> Vec<f32> {
    let width = maa.len();
    let mut out = differences.to_vec();
    each_row(&mut out, width, |row, out| {
        let x = &x[row * width..(row + 1) * width];
        out.iter_mut().zip(x).zip(maa).for_each(|((out, x), maa)| *out = x + *out * maa);
    });
    out
}

/// Adds what the derivative by a mix means for x, for the differences, and for maa.
pub(crate) fn mix_back(
    tensors: &Tensors,
    gradients: &mut Gradients,
    maa: Id,
    [by_mix, differences]: [&[f32]; 2],
    [by_x, by_differences]: [&mut [f32]; 2],
) {
    let shares = &tensors[maa];
    let width = shares.len();
    super::linalg::add(by_x, by_mix);
    each_row(by_differences, width, |row, by| {
        let by_mix = &by_mix[row * width..(row + 1) * width];
        by.iter_mut().zip(by_mix).zip(shares).for_each(|((by, by_mix), maa)| *by += by_mix * maa);
    });
    if gradients.wants(maa) {
        let sums = row_sums(by_mix.len() / width, width, |row, sums| {
            let at = row * width..(row + 1) * width;
            let values = by_mix[at.clone()].iter().zip(&differences[at]);
            sums.iter_mut().zip(values).for_each(|(sum, (by, difference))| *sum += by * difference);
        });
        gradients.add(maa, &sums);
    }
}
