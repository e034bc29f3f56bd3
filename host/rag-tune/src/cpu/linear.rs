//! A linear layer: a frozen matrix W and, while it is adapted, what is trained beside it.
//!
//! ```text
//! low rank   y = W x + s · B (A drop(x))        LoRA: s = α/r; PiSSA: s = 1 and W without its largest r directions
//! bone       y = W x + Dᵀ (Σ_q x[q·r .. (q+1)·r])
//! ```

use super::frozen::Frozen;
use super::linalg::{each_row, product, view, view_mut};
use super::tensors::{Gradients, Id, Tensors};

#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// [out, in].
    pub(crate) frozen: Frozen,
    pub(crate) adapter: Adapter,
    /// Distinguishes the layers' dropouts.
    pub(crate) number: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Adapter {
    None,
    /// A [r, in], B [out, r].
    LowRank {
        a: Id,
        b: Id,
        rank: usize,
        scale: f32,
    },
    /// D [r, out].
    Bone {
        d: Id,
        rank: usize,
    },
}

/// Which inputs of adapters are left out; the same for the same seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    pub(crate) share: f32,
    pub(crate) seed: u64,
}

impl Dropout {
    /// Scales the inputs that stay, and sets the others to 0.
    fn apply(self, number: u64, values: &mut [f32], width: usize) {
        if self.share <= 0.0 {
            return;
        }
        let stay = 1.0 / (1.0 - self.share);
        let limit = (f64::from(self.share) * 2f64.powi(32)) as u64;
        each_row(values, width, |row, values| {
            for (i, value) in values.iter_mut().enumerate() {
                let place = (number << 40 | row as u64) << 20 ^ i as u64;
                let drawn = mix(self.seed ^ mix(place)) >> 32;
                *value *= if drawn < limit { 0.0 } else { stay };
            }
        });
    }
}

/// SplitMix64's finaliser.
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

impl Linear {
    pub(crate) fn new(frozen: Frozen, number: u64) -> Self {
        Self { frozen, adapter: Adapter::None, number }
    }

    /// x [R, in] to [R, out].
    pub(crate) fn forward(&self, tensors: &Tensors, x: &[f32], dropout: Dropout) -> Vec<f32> {
        let (out, input) = (self.frozen.rows(), self.frozen.cols());
        let rows = x.len() / input;
        let mut y = vec![0.0; rows * out];
        self.frozen.apply(x, &mut y);
        match self.adapter {
            Adapter::None => {}
            Adapter::LowRank { b, rank, scale, .. } => {
                let mut low = self.low(tensors, x, dropout);
                low.iter_mut().for_each(|value| *value *= scale);
                let b = view(&tensors[b], out, rank);
                product(view(&low, rows, rank), b.t(), 1.0, view_mut(&mut y, rows, out));
            }
            Adapter::Bone { d, rank } => {
                let folded = fold(x, input, rank);
                let d = view(&tensors[d], rank, out);
                product(view(&folded, rows, rank), d, 1.0, view_mut(&mut y, rows, out));
            }
        }
        y
    }

    /// Adds the derivative by `x` to `dx` and those by what is trained to `gradients`.
    pub(crate) fn backward(
        &self,
        tensors: &Tensors,
        gradients: &mut Gradients,
        [x, dy]: [&[f32]; 2],
        dropout: Dropout,
        dx: &mut [f32],
    ) {
        let (out, input) = (self.frozen.rows(), self.frozen.cols());
        let rows = x.len() / input;
        self.frozen.apply_back(dy, dx);
        match self.adapter {
            Adapter::None => {}
            Adapter::LowRank { a, b, rank, scale } => {
                // h [R, r] = s · A drop(x); by_low [R, r] = s · dy B.
                let mut h = self.low(tensors, x, dropout);
                h.iter_mut().for_each(|value| *value *= scale);
                let mut by_low = vec![0.0; rows * rank];
                let b_matrix = view(&tensors[b], out, rank);
                product(view(dy, rows, out), b_matrix, 0.0, view_mut(&mut by_low, rows, rank));
                by_low.iter_mut().for_each(|value| *value *= scale);
                let (dy, by_low) = (view(dy, rows, out), view(&by_low, rows, rank));
                if let Some(d_b) = gradients.of(b) {
                    product(dy.t(), view(&h, rows, rank), 1.0, view_mut(d_b, out, rank));
                }
                let dropped = self.dropped(x, dropout);
                if let Some(d_a) = gradients.of(a) {
                    product(by_low.t(), view(&dropped, rows, input), 1.0, view_mut(d_a, rank, input));
                }
                let a = view(&tensors[a], rank, input);
                if dropout.share <= 0.0 {
                    return product(by_low, a, 1.0, view_mut(dx, rows, input));
                }
                let mut by_input = vec![0.0; rows * input];
                product(by_low, a, 0.0, view_mut(&mut by_input, rows, input));
                dropout.apply(self.number, &mut by_input, input);
                super::linalg::add(dx, &by_input);
            }
            Adapter::Bone { d, rank } => {
                let folded = fold(x, input, rank);
                let mut by_folded = vec![0.0; rows * rank];
                let d_matrix = view(&tensors[d], rank, out);
                product(view(dy, rows, out), d_matrix.t(), 0.0, view_mut(&mut by_folded, rows, rank));
                if let Some(by_d) = gradients.of(d) {
                    let folded = view(&folded, rows, rank);
                    product(folded.t(), view(dy, rows, out), 1.0, view_mut(by_d, rank, out));
                }
                each_row(dx, input, |row, dx| {
                    let by_folded = &by_folded[row * rank..(row + 1) * rank];
                    dx.chunks_mut(rank).for_each(|dx| super::linalg::add(dx, by_folded));
                });
            }
        }
    }

    /// A drop(x), [R, r].
    fn low(&self, tensors: &Tensors, x: &[f32], dropout: Dropout) -> Vec<f32> {
        let Adapter::LowRank { a, rank, .. } = self.adapter else { return Vec::new() };
        let input = self.frozen.cols();
        let rows = x.len() / input;
        let mut low = vec![0.0; rows * rank];
        let a = view(&tensors[a], rank, input);
        let dropped = self.dropped(x, dropout);
        product(view(&dropped, rows, input), a.t(), 0.0, view_mut(&mut low, rows, rank));
        low
    }

    fn dropped<'a>(&self, x: &'a [f32], dropout: Dropout) -> std::borrow::Cow<'a, [f32]> {
        let mut x = std::borrow::Cow::Borrowed(x);
        if dropout.share > 0.0 {
            dropout.apply(self.number, x.to_mut(), self.frozen.cols());
        }
        x
    }
}

/// Σ_q x[q·r + i] of each row, [R, r]; the last block may be a part of one.
fn fold(x: &[f32], input: usize, rank: usize) -> Vec<f32> {
    let mut folded = vec![0.0; x.len() / input * rank];
    for (folded, x) in folded.chunks_exact_mut(rank).zip(x.chunks_exact(input)) {
        x.chunks(rank).for_each(|block| super::linalg::add(folded, block));
    }
    folded
}
