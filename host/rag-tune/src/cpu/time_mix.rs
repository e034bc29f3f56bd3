//! A layer's time mix, forwards and backwards. With dx = previous − xx, and c one of w, k, v, r, g:
//!
//! ```text
//! z   = tanh((xx + dx·maa_x) W1)                      five slices z_c of rank m
//! x_c = xx + dx·(maa_c + z_c W2_c)
//! ω   = w0 + tanh(x_w Wd1) Wd2
//! r, k, v = Wr x_r, Wk x_k, Wv x_v;   g = silu(Wg x_g)
//! out = Wo (groupnorm(wkv(ω, r, k, v, u, S)) · g)
//! ```

use rag_engine::cpu::maths::{sigmoid, tanh};
use rayon::prelude::*;

use super::channel_mix::{mix, mix_back};
use super::linalg::{each_row, fast, product, row_sums, view, view_mut};
use super::linear::{Dropout, Linear};
use super::norm::Norm;
use super::shift::Rows;
use super::tensors::{Gradients, Id, Tensors};
use super::wkv::{Derivatives, Head};

/// Places in `maa` and in `time_maa_w2`.
const W: usize = 0;
const K: usize = 1;
const V: usize = 2;
const R: usize = 3;
const G: usize = 4;

#[derive(Debug, Clone)]
pub(crate) struct TimeMix {
    pub(crate) heads: usize,
    pub(crate) maa_x: Id,
    /// w, k, v, r, g, [D] each.
    pub(crate) maa: [Id; 5],
    /// W1 [D, 5m] and W2 [5, m, D].
    pub(crate) mix_down: Id,
    pub(crate) mix_up: Id,
    /// w0 [D], Wd1 [D, d], Wd2 [d, D].
    pub(crate) decay: Id,
    pub(crate) decay_down: Id,
    pub(crate) decay_up: Id,
    /// u, [H, N].
    pub(crate) bonus: Id,
    /// [D, D] each.
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) receptance: Linear,
    pub(crate) gate: Linear,
    pub(crate) output: Linear,
    pub(crate) group_norm: Norm,
    /// What every sequence starts from, [H][key N][value N].
    pub(crate) state: Id,
}

/// A layer's way back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Back {
    pub(crate) rows: Rows,
    pub(crate) dropout: Dropout,
    /// Whether the rows begin at the sequences' start, and so at the initial state.
    pub(crate) from_start: bool,
    /// Whether anything below wants the derivative by the input.
    pub(crate) through: bool,
}

/// What the way back needs, [R, D] but where stated.
#[derive(Debug)]
pub(crate) struct TimeTape {
    normed: Vec<f32>,
    differences: Vec<f32>,
    /// z, [R, 5m].
    low: Vec<f32>,
    /// tanh(x_w Wd1), [R, d].
    decay_low: Vec<f32>,
    omega: Vec<f32>,
    r: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Before silu.
    gate: Vec<f32>,
    /// Of the recurrence.
    out: Vec<f32>,
    /// Before the first token, [B, H, N, N].
    state: Vec<f32>,
}

impl TimeMix {
    /// `normed` [R, D] to the mix, moving `state` [B, H, N, N] on; `before` [B, D] stands before each sequence.
    pub(crate) fn forward(
        &self,
        tensors: &Tensors,
        rows: Rows,
        (normed, before): (Vec<f32>, &[f32]),
        state: &mut [f32],
        dropout: Dropout,
    ) -> (Vec<f32>, TimeTape) {
        let differences = rows.differences(&normed, before);
        let first = state.to_vec();
        let mut low =
            matmul(&mix(&normed, &differences, &tensors[self.maa_x]), &tensors[self.mix_down], rows.width);
        low.iter_mut().for_each(|z| *z = tanh(*z));
        let input = |c: usize| self.input(tensors, [&normed, &differences, &low], c);

        let mut decay_low = matmul(&input(W), &tensors[self.decay_down], rows.width);
        decay_low.iter_mut().for_each(|z| *z = tanh(*z));
        let rank = decay_low.len() / rows.count();
        let mut omega = matmul(&decay_low, &tensors[self.decay_up], rank);
        let decay = &tensors[self.decay];
        each_row(&mut omega, rows.width, |_, omega| super::linalg::add(omega, decay));
        let r = self.receptance.forward(tensors, &input(R), dropout);
        let k = self.key.forward(tensors, &input(K), dropout);
        let v = self.value.forward(tensors, &input(V), dropout);
        let gate = self.gate.forward(tensors, &input(G), dropout);

        let tape = TimeTape {
            normed,
            differences,
            low,
            decay_low,
            omega,
            r,
            k,
            v,
            gate,
            out: Vec::new(),
            state: first,
        };
        let out = self.recur(tensors, rows, &tape, state);
        let tape = TimeTape { out, ..tape };
        let gated = self.gated(tensors, &tape);
        (self.output.forward(tensors, &gated, dropout), tape)
    }

    /// From the derivative by the mix to that by `normed`; none when `back.through` is false.
    pub(crate) fn backward(
        &self,
        tensors: &Tensors,
        gradients: &mut Gradients,
        (tape, by_mix): (&TimeTape, &[f32]),
        back: Back,
    ) -> Option<Vec<f32>> {
        let Back { rows, dropout, from_start, through } = back;
        let width = rows.width;
        let gated = self.gated(tensors, tape);
        let mut by_gated = vec![0.0; gated.len()];
        self.output.backward(tensors, gradients, [&gated, by_mix], dropout, &mut by_gated);

        let normed_out = self.group_norm.forward(tensors, &tape.out);
        let mut by_gate = vec![0.0; gated.len()];
        let mut by_norm = by_gated;
        for i in 0..by_gate.len() {
            let (z, share) = (tape.gate[i], sigmoid(tape.gate[i]));
            by_gate[i] = by_norm[i] * normed_out[i] * share * (1.0 + z * (1.0 - share));
            by_norm[i] *= z * share;
        }
        let mut by_out = vec![0.0; gated.len()];
        self.group_norm.backward(tensors, gradients, &tape.out, &by_norm, &mut by_out);
        let [by_omega, by_r, by_k, by_v] =
            self.recur_back(tensors, gradients, rows, (tape, &by_out), from_start);
        if !through {
            return None;
        }

        let mut by_normed = vec![0.0; gated.len()];
        let mut by_differences = vec![0.0; gated.len()];
        let mut by_low = vec![0.0; tape.low.len()];
        let inputs = [&tape.normed[..], &tape.differences, &tape.low];
        let layers = [
            (K, &self.key, by_k),
            (V, &self.value, by_v),
            (R, &self.receptance, by_r),
            (G, &self.gate, by_gate),
        ];
        for (c, linear, by) in layers {
            let input = self.input(tensors, inputs, c);
            let mut by_input = vec![0.0; gated.len()];
            linear.backward(tensors, gradients, [&input, &by], dropout, &mut by_input);
            self.input_back(
                tensors,
                gradients,
                (tape, c),
                &by_input,
                [&mut by_normed, &mut by_differences, &mut by_low],
            );
        }
        let by_input = self.decay_back(tensors, gradients, rows, tape, &by_omega);
        self.input_back(
            tensors,
            gradients,
            (tape, W),
            &by_input,
            [&mut by_normed, &mut by_differences, &mut by_low],
        );

        by_low.iter_mut().zip(&tape.low).for_each(|(by, z)| *by *= 1.0 - z * z);
        let mixed = mix(&tape.normed, &tape.differences, &tensors[self.maa_x]);
        let by_mixed = matmul_back(tensors, gradients, self.mix_down, [&mixed, &by_low], width);
        let by = [&mut by_normed[..], &mut by_differences];
        mix_back(tensors, gradients, self.maa_x, [&by_mixed, &tape.differences], by);
        rows.differences_back(&by_differences, &mut by_normed);
        Some(by_normed)
    }

    /// maa_c + z_c W2_c, [R, D].
    fn shares(&self, tensors: &Tensors, low: &[f32], c: usize) -> Vec<f32> {
        let maa = &tensors[self.maa[c]];
        let (width, all) = (maa.len(), &tensors[self.mix_up]);
        let rank = all.len() / 5 / width;
        let rows = low.len() / (5 * rank);
        let mut out = vec![0.0; rows * width];
        each_row(&mut out, width, |_, out| out.copy_from_slice(maa));
        let up = view(&all[c * rank * width..][..rank * width], rank, width);
        let low = view(low, rows, 5 * rank);
        let low = low.slice(ndarray::s![.., c * rank..(c + 1) * rank]);
        product(low, up, 1.0, view_mut(&mut out, rows, width));
        out
    }

    /// x_c, [R, D].
    fn input(&self, tensors: &Tensors, [normed, differences, low]: [&[f32]; 3], c: usize) -> Vec<f32> {
        let mut out = self.shares(tensors, low, c);
        out.iter_mut().zip(normed.iter().zip(differences)).for_each(|(out, (x, d))| *out = x + d * *out);
        out
    }

    /// Adds what the derivative by x_c means for xx, dx, z, maa_c and W2_c.
    fn input_back(
        &self,
        tensors: &Tensors,
        gradients: &mut Gradients,
        (tape, c): (&TimeTape, usize),
        by_input: &[f32],
        [by_normed, by_differences, by_low]: [&mut [f32]; 3],
    ) {
        let width = tensors[self.maa[c]].len();
        let all = &tensors[self.mix_up];
        let rank = all.len() / 5 / width;
        let rows = by_input.len() / width;
        let shares = self.shares(tensors, &tape.low, c);
        super::linalg::add(by_normed, by_input);
        let mut by_shares = by_input.to_vec();
        for i in 0..by_shares.len() {
            by_differences[i] += by_input[i] * shares[i];
            by_shares[i] *= tape.differences[i];
        }
        let columns = ndarray::s![.., c * rank..(c + 1) * rank];
        let by_shares_view = view(&by_shares, rows, width);
        let up = view(&all[c * rank * width..][..rank * width], rank, width);
        let mut by_low = view_mut(by_low, rows, 5 * rank);
        product(by_shares_view, up.t(), 1.0, by_low.slice_mut(columns));
        if gradients.wants(self.maa[c]) {
            let sums = row_sums(rows, width, |row, sums| {
                super::linalg::add(sums, &by_shares[row * width..(row + 1) * width]);
            });
            gradients.add(self.maa[c], &sums);
        }
        if let Some(by_up) = gradients.of(self.mix_up) {
            let low = view(&tape.low, rows, 5 * rank);
            let by_up = view_mut(&mut by_up[c * rank * width..][..rank * width], rank, width);
            product(low.slice(columns).t(), by_shares_view, 1.0, by_up);
        }
    }

    /// From the derivative by ω to that by x_w.
    fn decay_back(
        &self,
        tensors: &Tensors,
        gradients: &mut Gradients,
        rows: Rows,
        tape: &TimeTape,
        by_omega: &[f32],
    ) -> Vec<f32> {
        let width = rows.width;
        if gradients.wants(self.decay) {
            let sums = row_sums(rows.count(), width, |row, sums| {
                super::linalg::add(sums, &by_omega[row * width..(row + 1) * width]);
            });
            gradients.add(self.decay, &sums);
        }
        let rank = tape.decay_low.len() / rows.count();
        let mut by_low = matmul_back(tensors, gradients, self.decay_up, [&tape.decay_low, by_omega], rank);
        by_low.iter_mut().zip(&tape.decay_low).for_each(|(by, z)| *by *= 1.0 - z * z);
        let input = self.input(tensors, [&tape.normed, &tape.differences, &tape.low], W);
        matmul_back(tensors, gradients, self.decay_down, [&input, &by_low], width)
    }

    /// groupnorm(o) · silu(g), [R, D].
    fn gated(&self, tensors: &Tensors, tape: &TimeTape) -> Vec<f32> {
        let mut out = self.group_norm.forward(tensors, &tape.out);
        out.iter_mut().zip(&tape.gate).for_each(|(out, &g)| *out *= g * sigmoid(g));
        out
    }

    /// The recurrence of all heads; moves `state` on.
    fn recur(&self, tensors: &Tensors, rows: Rows, tape: &TimeTape, state: &mut [f32]) -> Vec<f32> {
        let size = rows.width / self.heads;
        let bonus = &tensors[self.bonus];
        let outs: Vec<Vec<f32>> = (state.par_chunks_mut(size * size).enumerate())
            .map(|(task, state)| {
                let inputs = HeadInputs::gather(tape, rows, (task / self.heads, task % self.heads), size);
                let bonus = &bonus[task % self.heads * size..][..size];
                fast(|| inputs.head(bonus).forward(state))
            })
            .collect();
        let mut out = vec![0.0; rows.count() * rows.width];
        for (task, values) in outs.iter().enumerate() {
            scatter(values, rows, (task / self.heads, task % self.heads), &mut out);
        }
        out
    }

    /// The derivatives by ω, r, k and v, [R, D] each; those by u and, `from_start`, by the initial state are added.
    fn recur_back(
        &self,
        tensors: &Tensors,
        gradients: &mut Gradients,
        rows: Rows,
        (tape, by_out): (&TimeTape, &[f32]),
        from_start: bool,
    ) -> [Vec<f32>; 4] {
        let size = rows.width / self.heads;
        let bonus = &tensors[self.bonus];
        let done: Vec<(Derivatives<f32>, Vec<f32>)> = (tape.state.par_chunks(size * size).enumerate())
            .map(|(task, first)| {
                let place = (task / self.heads, task % self.heads);
                let inputs = HeadInputs::gather(tape, rows, place, size);
                let by_out = gather(by_out, rows, place, size);
                let mut by_state = vec![0.0; size * size];
                let bonus = &bonus[place.1 * size..][..size];
                (fast(|| inputs.head(bonus).backward(first, &by_out, &mut by_state)), by_state)
            })
            .collect();
        let mut all: [Vec<f32>; 4] = std::array::from_fn(|_| vec![0.0; rows.count() * rows.width]);
        for (task, (by, by_state)) in done.iter().enumerate() {
            let place = (task / self.heads, task % self.heads);
            for (all, part) in all.iter_mut().zip([&by.omega, &by.r, &by.k, &by.v]) {
                scatter(part, rows, place, all);
            }
            if let Some(by_bonus) = gradients.of(self.bonus) {
                super::linalg::add(&mut by_bonus[place.1 * size..][..size], &by.bonus);
            }
            if from_start && let Some(total) = gradients.of(self.state) {
                super::linalg::add(&mut total[place.1 * size * size..][..size * size], by_state);
            }
        }
        all
    }
}

/// One head's inputs of one sequence, [T, N] each.
struct HeadInputs([Vec<f32>; 4]);

impl HeadInputs {
    fn gather(tape: &TimeTape, rows: Rows, place: (usize, usize), size: usize) -> Self {
        Self([&tape.omega, &tape.r, &tape.k, &tape.v].map(|all| gather(all, rows, place, size)))
    }

    fn head<'a>(&'a self, bonus: &'a [f32]) -> Head<'a, f32> {
        let [omega, r, k, v] = &self.0;
        Head { omega, r, k, v, bonus }
    }
}

/// A head's columns of a sequence, [T, N].
fn gather(all: &[f32], rows: Rows, (sequence, head): (usize, usize), size: usize) -> Vec<f32> {
    let sequence = &all[sequence * rows.tokens * rows.width..][..rows.tokens * rows.width];
    sequence.chunks_exact(rows.width).flat_map(|row| &row[head * size..(head + 1) * size]).copied().collect()
}

/// The other way round.
fn scatter(values: &[f32], rows: Rows, (sequence, head): (usize, usize), all: &mut [f32]) {
    let size = values.len() / rows.tokens;
    let sequence = &mut all[sequence * rows.tokens * rows.width..][..rows.tokens * rows.width];
    for (row, values) in sequence.chunks_exact_mut(rows.width).zip(values.chunks_exact(size)) {
        row[head * size..(head + 1) * size].copy_from_slice(values);
    }
}

/// x [R, in] · w [in, out].
fn matmul(x: &[f32], w: &[f32], input: usize) -> Vec<f32> {
    let (rows, out) = (x.len() / input, w.len() / input);
    let mut y = vec![0.0; rows * out];
    product(view(x, rows, input), view(w, input, out), 0.0, view_mut(&mut y, rows, out));
    y
}

/// From the derivative by x · w to that by x; that by w is added.
fn matmul_back(
    tensors: &Tensors,
    gradients: &mut Gradients,
    w: Id,
    [x, by_y]: [&[f32]; 2],
    input: usize,
) -> Vec<f32> {
    let (rows, out) = (x.len() / input, tensors[w].len() / input);
    let by_y = view(by_y, rows, out);
    if let Some(by_w) = gradients.of(w) {
        product(view(x, rows, input).t(), by_y, 1.0, view_mut(by_w, input, out));
    }
    let mut by_x = vec![0.0; rows * input];
    product(by_y, view(&tensors[w], input, out).t(), 0.0, view_mut(&mut by_x, rows, input));
    by_x
}
