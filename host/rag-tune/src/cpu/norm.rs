//! Normalisation of rows or of groups within rows, forwards and backwards.

use rag_engine::cpu::maths::sum;

use super::linalg::{each_row, row_sums};
use super::tensors::{Gradients, Id, Tensors};

/// Weight and bias, [D] each, of a normalisation over groups of `size` values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm {
    pub(crate) weight: Id,
    pub(crate) bias: Id,
    pub(crate) size: usize,
    pub(crate) epsilon: f32,
}

impl Norm {
    /// (x − mean) / √(variance + ε) · weight + bias, with the biased variance; `x` is [R, D].
    pub(crate) fn forward(&self, tensors: &Tensors, x: &[f32]) -> Vec<f32> {
        let (weight, bias) = (&tensors[self.weight], &tensors[self.bias]);
        let width = weight.len();
        let mut out = vec![0.0; x.len()];
        each_row(&mut out, width, |row, out| {
            let x = &x[row * width..(row + 1) * width];
            for (group, (x, out)) in x.chunks(self.size).zip(out.chunks_mut(self.size)).enumerate() {
                let at = group * self.size..(group + 1) * self.size;
                let (mean, scale) = self.moments(x);
                for (((out, &x), &w), &b) in out.iter_mut().zip(x).zip(&weight[at.clone()]).zip(&bias[at]) {
                    *out = (x - mean) * scale * w + b;
                }
            }
        });
        out
    }

    /// Adds the derivative by `x` to `dx`, and those by weight and bias to `gradients`.
    pub(crate) fn backward(
        &self,
        tensors: &Tensors,
        gradients: &mut Gradients,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
    ) {
        let weight = &tensors[self.weight];
        let width = weight.len();
        each_row(dx, width, |row, dx| {
            let row = row * width..(row + 1) * width;
            let groups = x[row.clone()].chunks(self.size).zip(dy[row].chunks(self.size));
            for (group, ((x, dy), dx)) in groups.zip(dx.chunks_mut(self.size)).enumerate() {
                let weight = &weight[group * self.size..(group + 1) * self.size];
                let (mean, scale) = self.moments(x);
                let (mut total, mut along) = (0.0, 0.0);
                for ((&x, &dy), &w) in x.iter().zip(dy).zip(weight) {
                    total += dy * w;
                    along += dy * w * (x - mean) * scale;
                }
                let n = self.size as f32;
                let (total, along) = (total / n, along / n);
                for (((dx, &x), &dy), &w) in dx.iter_mut().zip(x).zip(dy).zip(weight) {
                    *dx += scale * (dy * w - total - (x - mean) * scale * along);
                }
            }
        });
        if !gradients.wants(self.weight) && !gradients.wants(self.bias) {
            return;
        }
        let sums = row_sums(x.len() / width, 2 * width, |row, sums| {
            let (by_weight, by_bias) = sums.split_at_mut(width);
            let row = row * width..(row + 1) * width;
            let groups = x[row.clone()].chunks(self.size).zip(dy[row].chunks(self.size));
            for (group, (x, dy)) in groups.enumerate() {
                let at = group * self.size..(group + 1) * self.size;
                let (mean, scale) = self.moments(x);
                let sums = by_weight[at.clone()].iter_mut().zip(&mut by_bias[at]);
                for (((by_weight, by_bias), &x), &dy) in sums.zip(x).zip(dy) {
                    *by_weight += dy * (x - mean) * scale;
                    *by_bias += dy;
                }
            }
        });
        gradients.add(self.weight, &sums[..width]);
        gradients.add(self.bias, &sums[width..]);
    }

    /// Mean and 1 / √(variance + ε).
    #[inline(always)]
    fn moments(&self, x: &[f32]) -> (f32, f32) {
        let n = x.len() as f32;
        let mean = sum(x, |v| v) / n;
        let variance = sum(x, |v| (v - mean) * (v - mean)) / n;
        (mean, 1.0 / (variance + self.epsilon).sqrt())
    }
}
