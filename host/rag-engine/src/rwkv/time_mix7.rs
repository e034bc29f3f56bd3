//! RWKV-7's time mix: a memory matrix per head that forgets by channel and replaces what stands at a key.
//!
//! For one token, with xx the normalised input, x_c its mix with the previous token's by a fixed share, and v₀ the
//! first layer's v:
//!
//! ```text
//! r, k, v = Wr x_r, Wk x_k, Wv x_v;     w = exp(−e^(−1/2) · sigmoid(w0 + tanh(x_w · W1) · W2))
//! a = sigmoid(a0 + x_a · A1 · A2);      g = sigmoid(x_g · G1) · G2
//! κ = k·k_k, of length 1 per head;      k ← k · (1 + (a − 1)·k_a)
//! v ← v + (v₀ − v) · sigmoid(v0 + x_v · V1 · V2)                        but in the first layer
//! S_ij ← w_i S_ij − κ_i a_i · Σ_l κ_l S_lj + k_i v_j;   o_j = Σ_i r_i S_ij      per head, key i, value j
//! out = Wo ((groupnorm(o) + (Σ_i r_i k_i r_k_i) · v) · g)
//! ```

use std::ops::Range;

use rag_core::Result;

use super::config::{Config, HEAD_SIZE_V7, Version};
use super::linear::{Job, Linear, apply};
use super::model::Segment;
use super::recurrence::{self, Place};
use super::time_mix::GROUP_EPSILON;
use super::weights::{Kind, Norm, Slot, Visit};
use crate::cpu::activations::Activations;
use crate::cpu::maths::{self, exp, normalised, sigmoid, vectorised};
use crate::cpu::product::Cpu;

const N: usize = HEAD_SIZE_V7;
/// Of the length of κ.
const LENGTH_MIN: f32 = 1e-12;
/// e^(−1/2): the strongest decay's exponent.
const DECAY_MAX: f32 = 0.606_530_66;

/// Order of the shares, of the inputs and of the buffers that are made of them.
const MIXES: [&str; 6] = ["x_r", "x_k", "x_v", "x_w", "x_a", "x_g"];
const LARGE: [&str; 3] = ["receptance", "key", "value"];
/// The low-rank projections, in the order of their inputs: of x_w, x_a, x_g, and of x_v again.
const LOW: [&str; 4] = ["w", "a", "g", "v"];
/// Where in `LOW` the gate stands.
const GATE: usize = 2;

#[derive(Debug, Clone)]
pub(super) struct TimeMix7 {
    /// The first layer keeps its v and has no part `v` of `LOW`.
    first: bool,
    shares: [Vec<f32>; 6],
    large: [Linear; 3],
    /// [rank, D] and [D, rank] each.
    down: [Linear; 4],
    up: [Linear; 4],
    /// w0, a0, none for g, v0.
    base: [Vec<f32>; 4],
    k_k: Vec<f32>,
    k_a: Vec<f32>,
    r_k: Vec<f32>,
    group_norm: Norm,
    output: Linear,
}

/// Buffers for up to R rows.
#[derive(Debug)]
pub(super) struct TimeMix7Buffers {
    /// The six mixes, and x_v for its low-rank projection.
    inputs: [Activations; 7],
    /// r, k, v, [R, D] each.
    large: [Vec<f32>; 3],
    /// The inner values of `LOW`.
    low: [Activations; 4],
    /// Their outputs, [R, D] each.
    projected: [Vec<f32>; 4],
    /// The first layer's v, [R, D].
    first_values: Vec<f32>,
    /// Input of `output`.
    gated: Activations,
}

impl TimeMix7Buffers {
    pub(super) fn new(rows: usize, config: &Config) -> Self {
        let ranks = ranks(config);
        let rows_of_width = || vec![0.0; rows * config.width];
        Self {
            inputs: std::array::from_fn(|_| Activations::new(config.width)),
            large: std::array::from_fn(|_| rows_of_width()),
            low: ranks.map(Activations::new),
            projected: std::array::from_fn(|_| rows_of_width()),
            first_values: rows_of_width(),
            gated: Activations::new(config.width),
        }
    }
}

/// In the order of `LOW`.
fn ranks(config: &Config) -> [usize; 4] {
    match config.version {
        Version::V7 { decay_rank, rate_rank, gate_rank, value_rank } => {
            [decay_rank, rate_rank, gate_rank, value_rank]
        }
        Version::V6 { .. } => [0; 4],
    }
}

impl TimeMix7 {
    /// Places for the tensors of a layer.
    pub(super) fn new(layer: usize) -> Self {
        Self {
            first: layer == 0,
            shares: Default::default(),
            large: Default::default(),
            down: Default::default(),
            up: Default::default(),
            base: Default::default(),
            k_k: Vec::new(),
            k_a: Vec::new(),
            r_k: Vec::new(),
            group_norm: Norm::default(),
            output: Linear::default(),
        }
    }

    /// How many of `LOW` this layer has.
    fn low_count(&self) -> usize {
        if self.first { LOW.len() - 1 } else { LOW.len() }
    }

    /// Hands every tensor to `visit`.
    pub(super) fn tensors(&mut self, name: &str, config: &Config, visit: &mut Visit<'_>) -> Result<()> {
        let width = config.width;
        let at = |part: &str| format!("{name}.{part}");
        for (share, part) in self.shares.iter_mut().zip(MIXES) {
            visit(&at(part), Slot::Vector(share))?;
        }
        for (linear, part) in self.large.iter_mut().zip(LARGE) {
            visit(&at(&format!("{part}.weight")), Slot::linear(linear, Kind::TimeMix, [width, width]))?;
        }
        for (i, rank) in ranks(config).into_iter().enumerate().take(self.low_count()) {
            let part = LOW[i];
            let low_rank = |linear, size| Slot::linear(linear, Kind::LowRank, size);
            if i != GATE {
                visit(&at(&format!("{part}0")), Slot::Vector(&mut self.base[i]))?;
            }
            visit(&at(&format!("{part}1")), low_rank(&mut self.down[i], [rank, width]))?;
            visit(&at(&format!("{part}2")), low_rank(&mut self.up[i], [width, rank]))?;
        }
        for (vector, part) in [(&mut self.k_k, "k_k"), (&mut self.k_a, "k_a"), (&mut self.r_k, "r_k")] {
            visit(&at(part), Slot::Vector(vector))?;
        }
        self.group_norm.tensors(&at("ln_x"), visit)?;
        visit(&at("output.weight"), Slot::linear(&mut self.output, Kind::Output, [width, width]))
    }

    /// Writes the mix of `normed` [rows, D] to `out`. `shifted` holds each row's predecessor.
    pub(super) fn forward(
        &self,
        cpu: &Cpu,
        buffers: &mut TimeMix7Buffers,
        [normed, shifted]: [&[f32]; 2],
        (layer, segments): (usize, &mut [Segment<'_>]),
        out: &mut [f32],
    ) {
        let width = self.k_k.len();
        let rows = normed.len() / width;
        self.project(cpu, buffers, normed, shifted);
        let TimeMix7Buffers { large, projected, first_values, gated, .. } = buffers;
        if self.first {
            first_values[..rows * width].copy_from_slice(&large[2][..rows * width]);
        }
        gated.resize(rows, &self.output.matrix);
        recurrence::run(cpu, layer, segments, &mut gated.values, |place| {
            let Place { columns, at, state, out } = place;
            let head = Part(columns);
            let row = Part(at);
            let token = Token {
                r: row.of(&large[0]),
                k: row.of(&large[1]),
                v: row.of(&large[2]),
                decay: [head.of(&self.base[0]), row.of(&projected[0])],
                rate: [head.of(&self.base[1]), row.of(&projected[1])],
                gate: row.of(&projected[2]),
                first: (!self.first)
                    .then(|| [row.of(first_values), head.of(&self.base[3]), row.of(&projected[3])]),
                k_k: head.of(&self.k_k),
                k_a: head.of(&self.k_a),
                r_k: head.of(&self.r_k),
                norm: [head.of(&self.group_norm.weight), head.of(&self.group_norm.bias)],
            };
            step(cpu.simd, &token, state, out);
        });
        cpu.quantise(gated);
        apply(cpu, &mut [Job { linear: &self.output, input: gated, out }]);
    }

    /// Fills `large` and `projected`.
    fn project(&self, cpu: &Cpu, buffers: &mut TimeMix7Buffers, normed: &[f32], shifted: &[f32]) {
        let width = self.k_k.len();
        let rows = normed.len() / width;
        let TimeMix7Buffers { inputs, large, low, projected, .. } = buffers;
        let count = self.low_count();
        // Which linear layer reads each input: r, k, v, then w, a, g, then v again.
        let linears: Vec<&Linear> = self.large.iter().chain(&self.down[..count]).collect();
        for (i, (input, linear)) in inputs.iter_mut().zip(&linears).enumerate() {
            let share = &self.shares[if i == MIXES.len() { 2 } else { i }];
            input.resize(rows, &linear.matrix);
            cpu.fill(input, |row, out| {
                let at = row * width..(row + 1) * width;
                maths::mix(cpu.simd, &normed[at.clone()], &shifted[at], share, out);
            });
        }
        let mut inner: [Vec<f32>; 4] = Default::default();
        for (inner, low) in inner.iter_mut().zip(&*low) {
            inner.resize(rows * low.cols, 0.0);
        }
        let outs = (large.iter_mut().map(|out| &mut out[..rows * width]))
            .chain(inner.iter_mut().map(Vec::as_mut_slice));
        let mut jobs: Vec<Job<'_>> = (linears.iter().zip(&*inputs).zip(outs))
            .map(|((linear, input), out)| Job { linear, input, out })
            .collect();
        apply(cpu, &mut jobs);
        for (i, activations) in low.iter_mut().enumerate().take(count) {
            activations.resize(rows, &self.up[i].matrix);
            let rank = activations.cols;
            cpu.fill(activations, |row, out| {
                let inner = &inner[i][row * rank..(row + 1) * rank];
                match LOW[i] {
                    "w" => maths::tanh_of(cpu.simd, inner, out),
                    "g" => maths::sigmoid_of(cpu.simd, inner, out),
                    _ => out.copy_from_slice(inner),
                }
            });
        }
        let mut jobs: Vec<Job<'_>> = (self.up[..count].iter().zip(&*low).zip(projected))
            .map(|((linear, input), out)| Job { linear, input, out: &mut out[..rows * width] })
            .collect();
        apply(cpu, &mut jobs);
    }
}

/// Where one head's values stand in a vector or buffer.
struct Part(Range<usize>);

impl Part {
    fn of<'a>(&self, values: &'a [f32]) -> &'a [f32; N] {
        const ZERO: [f32; N] = [0.0; N];
        // Heads have N columns: `Config::read` refuses others.
        values[self.0.clone()].as_array().unwrap_or(&ZERO)
    }
}

/// One head's inputs at one token.
struct Token<'a> {
    r: &'a [f32; N],
    k: &'a [f32; N],
    v: &'a [f32; N],
    /// What the sigmoid is taken of is the sum of both.
    decay: [&'a [f32; N]; 2],
    rate: [&'a [f32; N]; 2],
    gate: &'a [f32; N],
    /// But in the first layer: its v, and the two parts of the share that it gets.
    first: Option<[&'a [f32; N]; 3]>,
    k_k: &'a [f32; N],
    k_a: &'a [f32; N],
    r_k: &'a [f32; N],
    norm: [&'a [f32; N]; 2],
}

vectorised! {
    /// Reads and updates one head's state S [key N][value N]; writes the normalised, gated output.
    fn step(token: &Token<'_>, state: &mut [f32], out: &mut [f32]) {
        let Token { r, k, gate, k_k, k_a, r_k, norm, .. } = token;
        let (mut w, mut rate, mut v) = ([0.0; N], [0.0; N], *token.v);
        for i in 0..N {
            w[i] = exp(-DECAY_MAX * sigmoid(token.decay[0][i] + token.decay[1][i]));
            rate[i] = sigmoid(token.rate[0][i] + token.rate[1][i]);
        }
        if let Some([first, base, low]) = token.first {
            for j in 0..N {
                v[j] += (first[j] - v[j]) * sigmoid(base[j] + low[j]);
            }
        }
        let (mut kappa, mut key, mut own) = ([0.0; N], [0.0; N], [0.0; N]);
        for i in 0..N {
            kappa[i] = k[i] * k_k[i];
            key[i] = k[i] * (1.0 + (rate[i] - 1.0) * k_a[i]);
            own[i] = r[i] * key[i] * r_k[i];
        }
        let length = maths::sum(&kappa, |x| x * x).sqrt().max(LENGTH_MIN);
        kappa.iter_mut().for_each(|x| *x /= length);

        // What stands at κ now.
        let mut held = [0.0; N];
        let rows = state.as_chunks_mut::<N>().0;
        for (row, kappa) in rows.iter().zip(kappa) {
            for j in 0..N {
                held[j] += kappa * row[j];
            }
        }
        let mut sums = [0.0; N];
        for (i, row) in rows.iter_mut().enumerate() {
            let (replaced, key, r, w) = (kappa[i] * rate[i], key[i], r[i], w[i]);
            for j in 0..N {
                row[j] = w * row[j] - replaced * held[j] + key * v[j];
                sums[j] += r * row[j];
            }
        }
        normalised(&sums, norm[0], norm[1], GROUP_EPSILON, out);
        let own = maths::sum(&own, |x| x);
        for ((out, v), gate) in out.iter_mut().zip(v).zip(*gate) {
            *out = (*out + own * v) * gate;
        }
    }
}
