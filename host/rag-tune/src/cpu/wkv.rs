//! RWKV-6's recurrence of one head over T tokens, forwards and backwards.
//!
//! With S [key N][value N], w = exp(−exp(ω)):
//!
//! ```text
//! o_j = Σ_i r_i (S_ij + u_i k_i v_j);   S_ij ← w_i S_ij + k_i v_j
//! ```
//!
//! Backwards, with δ = ∂L/∂o, G = ∂L/∂S after the token and b = δ·v:
//!
//! ```text
//! dr = S δ + u⊙k b        dk = G v + u⊙r b        dv = Gᵀ k + (Σ r u k) δ        du += r⊙k b
//! dω = −exp(ω) ⊙ w ⊙ rowsum(G ⊙ S)                 G ← diag(w) G + r δᵀ
//! ```
//!
//! States inside the sequence are computed again from those kept every `KEPT_EVERY` tokens.

use rag_engine::cpu::maths;

/// Tokens between two states that are kept.
const KEPT_EVERY: usize = 16;
/// Partial sums of a row.
const LANES: usize = 16;

/// A number type: f32 to train, f64 to check.
pub(crate) trait Real:
    Copy
    + Default
    + std::ops::Add<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
{
    fn exp(self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn exp(self) -> Self {
        maths::exp(self)
    }
}

impl Real for f64 {
    fn exp(self) -> Self {
        f64::exp(self)
    }
}

/// One head's inputs, [T, N] each; `bonus` is [N].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a, R> {
    pub(crate) omega: &'a [R],
    pub(crate) r: &'a [R],
    pub(crate) k: &'a [R],
    pub(crate) v: &'a [R],
    pub(crate) bonus: &'a [R],
}

/// Derivatives by a head's inputs, [T, N] each; `bonus` is [N].
#[derive(Debug, Clone)]
pub(crate) struct Derivatives<R> {
    pub(crate) omega: Vec<R>,
    pub(crate) r: Vec<R>,
    pub(crate) k: Vec<R>,
    pub(crate) v: Vec<R>,
    pub(crate) bonus: Vec<R>,
}

impl<'a, R: Real> Head<'a, R> {
    fn size(&self) -> usize {
        self.bonus.len()
    }

    /// Moves `state` [N, N] on by all tokens; returns the outputs, [T, N].
    #[inline(always)]
    pub(crate) fn forward(&self, state: &mut [R]) -> Vec<R> {
        let size = self.size();
        let mut out = vec![R::default(); self.r.len()];
        for (t, out) in out.chunks_exact_mut(size).enumerate() {
            let Token { omega, r, k, v } = self.token(t);
            let bonus = self.bonus_sum(r, k);
            out.iter_mut().zip(v).for_each(|(out, &v)| *out = bonus * v);
            for (i, row) in state.chunks_exact_mut(size).enumerate() {
                let (r, k, w) = (r[i], k[i], decay(omega[i]));
                for ((out, s), &v) in out.iter_mut().zip(row).zip(v) {
                    *out += r * *s;
                    *s = w * *s + k * v;
                }
            }
        }
        out
    }

    /// From ∂L/∂outputs [T, N] and, in `by_state` [N, N], ∂L/∂(last state): the derivatives by the inputs; `by_state`
    /// becomes that by the first state. `first` is the state before the first token.
    #[inline(always)]
    pub(crate) fn backward(&self, first: &[R], by_out: &[R], by_state: &mut [R]) -> Derivatives<R> {
        let size = self.size();
        let tokens = self.r.len() / size;
        let zero = || vec![R::default(); tokens * size];
        let mut d =
            Derivatives { omega: zero(), r: zero(), k: zero(), v: zero(), bonus: vec![R::default(); size] };
        let kept = self.kept(first);
        let mut states = vec![R::default(); KEPT_EVERY * size * size];
        for (group, start) in kept.chunks_exact(size * size).enumerate().rev() {
            let range = group * KEPT_EVERY..tokens.min((group + 1) * KEPT_EVERY);
            states[..size * size].copy_from_slice(start);
            for t in range.start..range.end - 1 {
                let (before, after) = states.split_at_mut((t + 1 - range.start) * size * size);
                let before = &before[before.len() - size * size..];
                after[..size * size].copy_from_slice(before);
                self.update(t, &mut after[..size * size]);
            }
            for t in range.clone().rev() {
                let state = &states[(t - range.start) * size * size..][..size * size];
                self.token_back(t, state, &by_out[t * size..][..size], by_state, &mut d);
            }
        }
        d
    }

    #[inline(always)]
    fn token_back(&self, t: usize, state: &[R], by_out: &[R], by_state: &mut [R], d: &mut Derivatives<R>) {
        let size = self.size();
        let Token { omega, r, k, v } = self.token(t);
        let at = t * size..(t + 1) * size;
        let [d_omega, d_r, d_k, d_v] =
            [&mut d.omega, &mut d.r, &mut d.k, &mut d.v].map(|all| &mut all[at.clone()]);
        let b = dot(by_out, v);
        let bonus = self.bonus_sum(r, k);
        d_v.iter_mut().zip(by_out).for_each(|(d_v, &by_out)| *d_v = bonus * by_out);
        let rows = state.chunks_exact(size).zip(by_state.chunks_exact_mut(size));
        for (i, (state, by_state)) in rows.enumerate() {
            let (u, growth) = (self.bonus[i], omega[i].exp());
            let w = (-growth).exp();
            d_r[i] = dot(state, by_out) + u * k[i] * b;
            d_k[i] = dot(by_state, v) + u * r[i] * b;
            d.bonus[i] += r[i] * k[i] * b;
            d_omega[i] = -(growth * w * dot(by_state, state));
            for ((d_v, by_state), &by_out) in d_v.iter_mut().zip(by_state).zip(by_out) {
                *d_v += *by_state * k[i];
                *by_state = w * *by_state + r[i] * by_out;
            }
        }
    }

    /// The states before tokens 0, `KEPT_EVERY`, 2 · `KEPT_EVERY`, …
    #[inline(always)]
    fn kept(&self, first: &[R]) -> Vec<R> {
        let size = self.size();
        let tokens = self.r.len() / size;
        let mut state = first.to_vec();
        let mut kept = Vec::with_capacity(tokens.div_ceil(KEPT_EVERY) * size * size);
        for t in 0..tokens {
            if t % KEPT_EVERY == 0 {
                kept.extend_from_slice(&state);
            }
            self.update(t, &mut state);
        }
        kept
    }

    /// Moves a state on by one token.
    #[inline(always)]
    fn update(&self, t: usize, state: &mut [R]) {
        let Token { omega, k, v, .. } = self.token(t);
        for (i, row) in state.chunks_exact_mut(v.len()).enumerate() {
            let (k, w) = (k[i], decay(omega[i]));
            row.iter_mut().zip(v).for_each(|(s, &v)| *s = w * *s + k * v);
        }
    }

    #[inline(always)]
    fn bonus_sum(&self, r: &[R], k: &[R]) -> R {
        let mut sum = R::default();
        for ((&r, &u), &k) in r.iter().zip(self.bonus).zip(k) {
            sum += r * u * k;
        }
        sum
    }

    #[inline(always)]
    fn token(&self, t: usize) -> Token<'a, R> {
        let at = t * self.size()..(t + 1) * self.size();
        Token {
            omega: &self.omega[at.clone()],
            r: &self.r[at.clone()],
            k: &self.k[at.clone()],
            v: &self.v[at],
        }
    }
}

/// One token's inputs, [N] each.
struct Token<'a, R> {
    omega: &'a [R],
    r: &'a [R],
    k: &'a [R],
    v: &'a [R],
}

#[inline(always)]
fn decay<R: Real>(omega: R) -> R {
    (-omega.exp()).exp()
}

/// Σ a·b in a fixed order of lanes.
#[inline(always)]
fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    let mut lanes = [R::default(); LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += a * b;
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            let other = lanes[i + width];
            lanes[i] += other;
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests;
