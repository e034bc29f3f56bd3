//! RWKV-6's time mix: mixes each token with the one before, then reads and updates a matrix of memory per head.
//!
//! For one token, with xx the normalised input, a the previous token's xx, and c one of w, k, v, r, g:
//!
//! ```text
//! z   = tanh((xx + (a − xx)·maa_x) · W1)              five slices z_c of rank m
//! x_c = xx + (a − xx)·(maa_c + z_c · W2_c)
//! w   = exp(−exp(w0 + tanh(x_w · Wd1) · Wd2))         the decay, in (0, 1)
//! r, k, v = Wr x_r, Wk x_k, Wv x_v;   g = silu(Wg x_g)
//! o_j = Σ_i r_i (S_ij + u_i k_i v_j);   S_ij ← w_i S_ij + k_i v_j      per head
//! out = Wo (groupnorm(o) · g)
//! ```

use rag_core::Result;

use super::config::{Config, HEAD_SIZE_MAX, Version};
use super::linear::{Job, Linear, apply};
use super::model::Segment;
use super::recurrence::{self, Place};
use super::weights::{Kind, Norm, Slot, Visit};
use crate::cpu::activations::Activations;
use crate::cpu::maths::{self, exp, normalised, sigmoid, vectorised};
use crate::cpu::product::Cpu;

/// Of the normalisation within each head: 1e-5 · 8².
pub(super) const GROUP_EPSILON: f32 = 64e-5;
/// Head size of every published model: its recurrence is compiled for this size.
const HEAD_SIZE: usize = 64;
/// Order of the five mixes in `time_maa_w1` and `_w2`.
const MIXES: [&str; 5] = ["w", "k", "v", "r", "g"];

#[derive(Debug, Clone, Default)]
pub(super) struct TimeMix {
    maa_x: Vec<f32>,
    /// [D] for each of w, k, v, r, g.
    maa: [Vec<f32>; 5],
    /// [5m, D].
    mix_down: Linear,
    /// [D, m] each.
    mix_up: [Linear; 5],
    /// w0, [D].
    decay: Vec<f32>,
    /// [d, D] and [D, d].
    decay_down: Linear,
    decay_up: Linear,
    /// u, [H·N].
    bonus: Vec<f32>,
    /// [D, D] each, in the order k, v, r, g.
    projections: [Linear; 4],
    group_norm: Norm,
    /// [D, D].
    output: Linear,
}

/// Buffers for up to R rows.
#[derive(Debug)]
pub(super) struct TimeMixBuffers {
    /// Input of `mix_down`, [R, D].
    mixed: Activations,
    /// [R, 5m].
    low: Vec<f32>,
    /// [R, m] each.
    lows: [Activations; 5],
    /// [R, D] each: what the mixes add to `maa`.
    shifts: [Vec<f32>; 5],
    /// x_w, x_k, x_v, x_r, x_g, [R, D] each.
    inputs: [Activations; 5],
    /// [R, d].
    decay_low: Activations,
    /// ω − w0, k, v, r, g before its activation, [R, D] each.
    projected: [Vec<f32>; 5],
    /// Input of `output`, [R, D].
    gated: Activations,
}

impl TimeMixBuffers {
    pub(super) fn new(rows: usize, config: &Config) -> Self {
        let width = config.width;
        let (rank, decay_rank) = match config.version {
            Version::V6 { mix_rank, decay_rank } => (mix_rank, decay_rank),
            Version::V7 { .. } => (0, 0),
        };
        Self {
            mixed: Activations::new(width),
            low: vec![0.0; rows * 5 * rank],
            lows: std::array::from_fn(|_| Activations::new(rank)),
            shifts: std::array::from_fn(|_| vec![0.0; rows * width]),
            inputs: std::array::from_fn(|_| Activations::new(width)),
            decay_low: Activations::new(decay_rank),
            projected: std::array::from_fn(|_| vec![0.0; rows * width]),
            gated: Activations::new(width),
        }
    }
}

impl TimeMix {
    /// Hands every tensor to `visit`.
    pub(super) fn tensors(&mut self, name: &str, config: &Config, visit: &mut Visit<'_>) -> Result<()> {
        let Version::V6 { mix_rank: mix, decay_rank } = config.version else { return Ok(()) };
        let width = config.width;
        let at = |part: &str| format!("{name}.{part}");
        visit(&at("time_maa_x"), Slot::Vector(&mut self.maa_x))?;
        for (vector, part) in self.maa.iter_mut().zip(MIXES) {
            visit(&at(&format!("time_maa_{part}")), Slot::Vector(vector))?;
        }
        let low_rank = |linear, size| Slot::linear(linear, Kind::LowRank, size);
        visit(&at("time_maa_w1"), low_rank(&mut self.mix_down, [5 * mix, width]))?;
        for (part, linear) in self.mix_up.iter_mut().enumerate() {
            visit(&at("time_maa_w2"), Slot::part(linear, part, [width, mix]))?;
        }
        visit(&at("time_decay"), Slot::Vector(&mut self.decay))?;
        visit(&at("time_decay_w1"), low_rank(&mut self.decay_down, [decay_rank, width]))?;
        visit(&at("time_decay_w2"), low_rank(&mut self.decay_up, [width, decay_rank]))?;
        visit(&at("time_faaaa"), Slot::Vector(&mut self.bonus))?;
        for (linear, part) in self.projections.iter_mut().zip(["key", "value", "receptance", "gate"]) {
            visit(&at(&format!("{part}.weight")), Slot::linear(linear, Kind::TimeMix, [width, width]))?;
        }
        self.group_norm.tensors(&at("ln_x"), visit)?;
        visit(&at("output.weight"), Slot::linear(&mut self.output, Kind::Output, [width, width]))
    }

    /// Writes the mix of `normed` [rows, D] to `out`. `shifted` holds each row's predecessor.
    pub(super) fn forward(
        &self,
        cpu: &Cpu,
        buffers: &mut TimeMixBuffers,
        [normed, shifted]: [&[f32]; 2],
        (layer, segments): (usize, &mut [Segment<'_>]),
        out: &mut [f32],
    ) {
        let width = self.maa_x.len();
        let rows = normed.len() / width;
        self.mix(cpu, buffers, normed, shifted);

        // k, v, r, g and the decay's first half need only the mixes: one step for all.
        let decay_rank = self.decay_down.matrix.rows();
        let TimeMixBuffers { inputs, decay_low, projected, gated, .. } = buffers;
        let [decay, k, v, r, g] = projected.each_mut().map(|values| &mut values[..rows * width]);
        let mut low = vec![0.0; rows * decay_rank];
        let job = |i: usize, out| Job { linear: &self.projections[i - 1], input: &inputs[i], out };
        apply(
            cpu,
            &mut [
                job(1, k),
                job(2, v),
                job(3, r),
                job(4, g),
                Job { linear: &self.decay_down, input: &inputs[0], out: &mut low },
            ],
        );
        decay_low.resize(rows, &self.decay_up.matrix);
        cpu.fill(decay_low, |row, out| {
            maths::tanh_of(cpu.simd, &low[row * decay_rank..(row + 1) * decay_rank], out);
        });
        apply(cpu, &mut [Job { linear: &self.decay_up, input: decay_low, out: decay }]);

        gated.resize(rows, &self.output.matrix);
        self.recur(cpu, projected, gated, layer, segments);
        cpu.quantise(gated);
        apply(cpu, &mut [Job { linear: &self.output, input: gated, out }]);
    }

    /// Fills the five `inputs`.
    fn mix(&self, cpu: &Cpu, buffers: &mut TimeMixBuffers, normed: &[f32], shifted: &[f32]) {
        let width = self.maa_x.len();
        let rows = normed.len() / width;
        let rank = self.mix_up[0].matrix.cols();
        let row_of = |row: usize| row * width..(row + 1) * width;
        buffers.mixed.resize(rows, &self.mix_down.matrix);
        cpu.fill(&mut buffers.mixed, |row, out| {
            maths::mix(cpu.simd, &normed[row_of(row)], &shifted[row_of(row)], &self.maa_x, out);
        });
        let low = &mut buffers.low[..rows * 5 * rank];
        apply(cpu, &mut [Job { linear: &self.mix_down, input: &buffers.mixed, out: low }]);
        for (c, activations) in buffers.lows.iter_mut().enumerate() {
            activations.resize(rows, &self.mix_up[c].matrix);
            cpu.fill(activations, |row, out| {
                let start = (row * 5 + c) * rank;
                maths::tanh_of(cpu.simd, &low[start..start + rank], out);
            });
        }
        let mut jobs: Vec<Job<'_>> = (self.mix_up.iter().zip(&buffers.lows))
            .zip(&mut buffers.shifts)
            .map(|((linear, input), out)| Job { linear, input, out: &mut out[..rows * width] })
            .collect();
        apply(cpu, &mut jobs);
        let readers = std::iter::once(&self.decay_down).chain(&self.projections);
        for (c, (activations, linear)) in buffers.inputs.iter_mut().zip(readers).enumerate() {
            let (maa, shifts) = (&self.maa[c], buffers.shifts[c].as_slice());
            activations.resize(rows, &linear.matrix);
            cpu.fill(activations, |row, out| {
                let [xx, previous, shift] = [normed, shifted, shifts].map(|all| &all[row_of(row)]);
                maths::mix_shifted(cpu.simd, xx, previous, maa, shift, out);
            });
        }
    }

    /// Runs the recurrence of every head and sequence; writes the normalised, gated output.
    fn recur(
        &self,
        cpu: &Cpu,
        projected: &[Vec<f32>; 5],
        gated: &mut Activations,
        layer: usize,
        segments: &mut [Segment<'_>],
    ) {
        let [decay, k, v, r, g] = projected;
        recurrence::run(cpu, layer, segments, &mut gated.values, |place| {
            let Place { columns, at, state, out } = place;
            let token = Token {
                decay: [&self.decay[columns.clone()], &decay[at.clone()]],
                bonus: &self.bonus[columns.clone()],
                k: &k[at.clone()],
                v: &v[at.clone()],
                r: &r[at.clone()],
            };
            step(cpu.simd, &token, state, out);
            let Norm { weight, bias } = &self.group_norm;
            gate(cpu.simd, [&weight[columns.clone()], &bias[columns]], &g[at], out);
        });
    }
}

/// One head's inputs at one token, [N] each.
pub(super) struct Token<'a> {
    /// ω is the sum of both.
    pub(super) decay: [&'a [f32]; 2],
    pub(super) bonus: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) r: &'a [f32],
}

vectorised! {
    /// Reads and updates one head's state S [key N][value N].
    pub(super) fn step(token: &Token<'_>, state: &mut [f32], out: &mut [f32]) {
        if let (Some(v), Some(out)) = (token.v.as_array::<HEAD_SIZE>(), out.as_mut_array::<HEAD_SIZE>()) {
            step_of_64(token, v, state, out);
            return;
        }
        let bonus = bonus(token, out);
        let size = token.v.len();
        out.iter_mut().zip(token.v).for_each(|(out, v)| *out = bonus * v);
        for (i, row) in state.chunks_exact_mut(size).enumerate() {
            let (r, k, w) = (token.r[i], token.k[i], decay(token, i));
            for ((out, s), v) in out.iter_mut().zip(row).zip(token.v) {
                *out += r * *s;
                *s = w * *s + k * v;
            }
        }
    }
}

/// The same for the size that every published model has: the sums stay in registers.
#[inline(always)]
fn step_of_64(token: &Token<'_>, v: &[f32; HEAD_SIZE], state: &mut [f32], out: &mut [f32; HEAD_SIZE]) {
    let bonus = bonus(token, out);
    let mut w = [0.0; HEAD_SIZE];
    w.iter_mut().zip(token.decay[0].iter().zip(token.decay[1])).for_each(|(w, (a, b))| *w = exp(-exp(a + b)));
    let mut sums = v.map(|v| bonus * v);
    let rows = state.as_chunks_mut::<HEAD_SIZE>().0.iter_mut();
    for (row, ((&r, &k), &w)) in rows.zip(token.r.iter().zip(token.k).zip(&w)) {
        for j in 0..HEAD_SIZE {
            sums[j] += r * row[j];
            row[j] = w * row[j] + k * v[j];
        }
    }
    *out = sums;
}

/// Σ r·u·k: what the current token weighs itself; `scratch` takes the products.
#[inline(always)]
fn bonus(token: &Token<'_>, scratch: &mut [f32]) -> f32 {
    let factors = token.r.iter().zip(token.bonus).zip(token.k);
    scratch.iter_mut().zip(factors).for_each(|(product, ((r, u), k))| *product = r * u * k);
    maths::sum(scratch, |product| product)
}

#[inline(always)]
fn decay(token: &Token<'_>, i: usize) -> f32 {
    exp(-exp(token.decay[0][i] + token.decay[1][i]))
}

vectorised! {
    /// Normalises one head's output and multiplies it by silu(g).
    fn gate(norm: [&[f32]; 2], g: &[f32], out: &mut [f32]) {
        let mut buffer = [0.0; HEAD_SIZE_MAX];
        let buffer = &mut buffer[..out.len()];
        normalised(out, norm[0], norm[1], GROUP_EPSILON, buffer);
        for ((out, normed), &g) in out.iter_mut().zip(buffer).zip(g) {
            *out = *normed * (g * sigmoid(g));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::Simd;

    /// Three tokens with two keys and values, from a double-precision reference.
    #[test]
    fn the_recurrence_gives_the_reference_s_numbers() {
        let r = [[1.0, -0.5], [0.3, 0.8], [-0.7, 0.2]];
        let k = [[0.5, 1.0], [-1.0, 0.25], [0.6, -0.4]];
        let v = [[1.0, 2.0], [-0.5, 0.5], [0.25, -1.0]];
        let decays = [[-1.0, 0.5], [0.0, -2.0], [-3.0, 1.0]];
        let want = [[0.2, 0.1], [1.076_917, 1.860_002_6], [-0.351_821_12, 0.575_940_5]];
        for simd in Simd::available() {
            let mut state = [0.1, -0.2, 0.3, 0.4];
            for t in 0..3 {
                let mut out = [0.0; 2];
                let decay = [&decays[t][..], &[0.0; 2]];
                let token = Token { decay, bonus: &[0.2, -0.3], k: &k[t], v: &v[t], r: &r[t] };
                step(simd, &token, &mut state, &mut out);
                for (got, want) in out.iter().zip(want[t]) {
                    assert!((got - want).abs() < 1e-6, "{simd:?} token {t}: {got} for {want}");
                }
            }
            for (got, want) in state.iter().zip([0.82495, -0.774_159_5, -0.047_288_12, 0.527_952_7]) {
                assert!((got - want).abs() < 1e-6, "{simd:?}: {got} for {want}");
            }
        }
    }

    /// The size with its own code path gives what the general one gives.
    #[test]
    fn the_size_of_64_is_no_special_case() {
        let wave = |seed: f32| (0..64).map(|i| (i as f32 * seed).sin()).collect::<Vec<f32>>();
        let (d, u, k, v, r) = (wave(0.3), wave(0.5), wave(0.7), wave(1.1), wave(1.3));
        let token = Token { decay: [&d, &u], bonus: &u, k: &k, v: &v, r: &r };
        let mut state: Vec<f32> = (0..4096).map(|i| (i as f32 * 0.01).cos()).collect();
        let before = state.clone();
        let mut out = [0.0; 64];
        step(Simd::detect(), &token, &mut state, &mut out);
        for j in 0..64 {
            let mut sum = 0.0f64;
            for i in 0..64 {
                let kv = f64::from(k[i]) * f64::from(v[j]);
                sum += f64::from(r[i]) * (f64::from(before[i * 64 + j]) + f64::from(u[i]) * kv);
                let w = (-f64::from(d[i] + u[i]).exp()).exp();
                let want = w * f64::from(before[i * 64 + j]) + kv;
                assert!((f64::from(state[i * 64 + j]) - want).abs() < 1e-6);
            }
            assert!((f64::from(out[j]) - sum).abs() < 1e-5);
        }
    }
}
