//! A layer forwards, with the same equations and names as on the CPU (`cpu/time_mix.rs`, `cpu/channel_mix.rs`).

use rag_core::Result;

use super::buffers::{CHUNK, Carry, Sizes, Tape, Work};
use super::linear::Run;
use super::ops::{Ops, SET, Sum, view};
use super::weights::{Arena, Linear};
use crate::cpu::linear::Dropout;
use crate::cpu::model::Block;
use crate::cpu::norm::Norm;
use crate::cpu::shift::Rows;

/// Places of a layer's large matrices, in the order of `Model::linears`.
pub(super) const RECEPTANCE: usize = 0;
pub(super) const KEY: usize = 1;
pub(super) const VALUE: usize = 2;
pub(super) const GATE: usize = 3;
pub(super) const OUTPUT: usize = 4;
pub(super) const CHANNEL_KEY: usize = 5;
pub(super) const CHANNEL_RECEPTANCE: usize = 6;
pub(super) const CHANNEL_VALUE: usize = 7;
/// Places among the five mixes.
pub(super) const W: usize = 0;
pub(super) const K: usize = 1;
pub(super) const V: usize = 2;
pub(super) const R: usize = 3;
pub(super) const G: usize = 4;

/// Warps of a block of the recurrence, and its shared memory on the way back, as `kernels/wkv.cuh` has them.
const WKV_WARPS: usize = 2;
pub(super) const WKV_SHARED: usize = WKV_WARPS * CHUNK * CHUNK * 4;

/// What a layer's pass has to do with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'a> {
    pub(super) ops: &'a Ops,
    pub(super) arena: &'a Arena,
    pub(super) work: &'a Work,
    pub(super) sizes: &'a Sizes,
    pub(super) block: &'a Block,
    pub(super) linears: &'a [Linear],
    pub(super) rows: Rows,
    pub(super) dropout: Dropout,
    /// The layer's input, f32 [R, D].
    pub(super) x: u64,
    pub(super) tape: &'a Tape,
    pub(super) before: &'a Carry,
}

impl Layer<'_> {
    pub(super) fn run(&self) -> Run<'_> {
        let Self { ops, arena, work, dropout, .. } = *self;
        Run { ops, arena, scratch: &work.linear, rows: self.rows.count(), dropout }
    }

    /// Writes the layer's output, if it is wanted, and moves on what it knows.
    pub(super) fn forward(&self, out: Option<u64>, after: &Carry) -> Result<()> {
        let Self { ops, block, rows, tape, work, .. } = *self;
        self.norm(block.time_norm, self.x, tape.normed.first(), None)?;
        self.low_rank()?;
        self.time_inputs()?;
        self.decay()?;
        for (c, linear, to) in
            [(R, RECEPTANCE, &tape.r), (K, KEY, &tape.k), (V, VALUE, &tape.v), (G, GATE, &tape.gate)]
        {
            self.linears[linear].forward(self.run(), self.input(c), to.first())?;
        }
        self.states(Some(after))?;
        let at = [&tape.rate, &tape.r, &tape.k, &tape.v];
        let [rate, r, k, v] = at.map(super::ops::Buffer::first);
        let bonus = self.arena.exact(block.time_mix.bonus);
        let at = [rate, r, k, v, bonus, work.states.first(), tape.out.first()];
        self.recurrence("recur", 0, &at)?;
        let [gated, mixed] = [&work.rows[0], &work.rows[1]].map(super::ops::Buffer::first);
        self.gated(gated)?;
        self.linears[OUTPUT].forward(self.run(), gated, mixed)?;
        self.norm(block.channel_norm, self.x, tape.normed2.first(), Some((mixed, tape.middle.first())))?;

        self.channel_inputs()?;
        self.linears[CHANNEL_KEY].forward(self.run(), self.input(0), tape.key.first())?;
        let squared = work.hidden[0].first();
        ops.map("square", rows.count() * self.sizes.hidden, &[tape.key.first(), squared], 0, &[])?;
        self.linears[CHANNEL_RECEPTANCE].forward(self.run(), self.input(1), tape.receptance.first())?;
        self.linears[CHANNEL_VALUE].forward(self.run(), squared, tape.value.first())?;
        let n = [rows.width, rows.tokens];
        for (from, to) in [(&tape.normed, &after.time_shift), (&tape.normed2, &after.channel_shift)] {
            ops.rows("last_rows", rows.sequences, &[from.first(), to.first()], &n, &[])?;
        }
        let Some(out) = out else { return Ok(()) };
        let at = [tape.middle.first(), tape.receptance.first(), tape.value.first(), out];
        ops.map("add_gated", self.values(), &at, 0, &[])
    }

    /// R · D.
    pub(super) fn values(&self) -> usize {
        self.rows.count() * self.rows.width
    }

    /// One of the five inputs; the channel mix's two stand in the places of the first.
    pub(super) fn input(&self, c: usize) -> u64 {
        self.work.inputs.at(c * self.values())
    }

    /// A normalisation; `added` is added to x first, and the sum kept.
    fn norm(&self, norm: Norm, x: u64, out: u64, added: Option<(u64, u64)>) -> Result<()> {
        let (y, kept) = added.unwrap_or((0, 0));
        let at = [x, self.arena.exact(norm.weight), self.arena.exact(norm.bias), out, y, kept];
        self.ops.rows("norm", self.rows.count(), &at, &[self.rows.width], &[norm.epsilon])
    }

    /// tanh((xx + dx·maa_x) W1), whose input goes to the second of the rows.
    fn low_rank(&self) -> Result<()> {
        let Self { ops, arena, tape, block, sizes, rows, .. } = *self;
        let mixed = self.mixed_first()?;
        let (d, low) = (rows.width, 5 * sizes.mix);
        let down = view(arena.act(block.time_mix.mix_down), low);
        ops.multiply([view(mixed, d), down, view(tape.low.first(), low)], [rows.count(), d, low], SET)?;
        ops.map("tanh_all", rows.count() * low, &[tape.low.first()], 0, &[])?;
        let (m, all) = (sizes.mix, self.values());
        let up = view(arena.act(block.time_mix.mix_up), d).each(m * d);
        let views = [view(tape.low.first(), low).each(m), up, view(tape.shares.first(), d).each(all)];
        ops.multiply(views, [rows.count(), m, d], Sum { count: 5, ..SET })
    }

    /// xx + dx·maa_x, in the second of the rows.
    pub(super) fn mixed_first(&self) -> Result<u64> {
        let Self { ops, arena, tape, block, before, rows, .. } = *self;
        let mixed = self.work.rows[1].first();
        let at = [tape.normed.first(), before.time_shift.first(), arena.exact(block.time_mix.maa_x), mixed];
        ops.rows("mix", rows.count(), &at, &[rows.width, rows.tokens], &[])?;
        Ok(mixed)
    }

    /// The five inputs of the time mix.
    pub(super) fn time_inputs(&self) -> Result<()> {
        let Self { ops, arena, tape, block, before, rows, work, .. } = *self;
        let [w, k, v, r, g] = block.time_mix.maa.map(|id| arena.exact(id));
        let (normed, before) = (tape.normed.first(), before.time_shift.first());
        let at = [normed, before, tape.shares.first(), w, k, v, r, g, work.inputs.first()];
        ops.rows("lerp", rows.count(), &at, &[rows.width, rows.tokens, rows.count()], &[])
    }

    /// The two inputs of the channel mix.
    pub(super) fn channel_inputs(&self) -> Result<()> {
        let Self { ops, arena, tape, block, before, rows, .. } = *self;
        let [k, r] = [block.channel_mix.maa_k, block.channel_mix.maa_r].map(|id| arena.exact(id));
        let (normed, before) = (tape.normed2.first(), before.channel_shift.first());
        let at = [normed, before, k, self.input(0), r, self.input(1)];
        ops.rows("mix", rows.count(), &at, &[rows.width, rows.tokens], &[])
    }

    /// −log w = e^(w0 + tanh(x_w Wd1) Wd2).
    fn decay(&self) -> Result<()> {
        let Self { ops, arena, tape, block, sizes, rows, .. } = *self;
        let (r, d, low) = (rows.count(), rows.width, sizes.decay);
        let time = &block.time_mix;
        let (down, up) = (view(arena.act(time.decay_down), low), view(arena.act(time.decay_up), d));
        let between = view(tape.decay_low.first(), low);
        ops.multiply([view(self.input(W), d), down, between], [r, d, low], SET)?;
        ops.map("tanh_all", r * low, &[tape.decay_low.first()], 0, &[])?;
        let exact = Sum { exact: true, ..SET };
        ops.multiply([between, up, view(tape.rate.first(), d)], [r, low, d], exact)?;
        ops.map_any("rate", (r * d, 1), &[tape.rate.first(), arena.exact(time.decay)], d, &[])
    }

    /// S before each chunk, and after all of them if that is wanted.
    pub(super) fn states(&self, after: Option<&Carry>) -> Result<()> {
        let Self { tape, work, before, .. } = *self;
        let at = [&tape.rate, &tape.k, &tape.v, &work.states, &work.decays].map(super::ops::Buffer::first);
        self.recurrence("chunk_sums", 0, &at)?;
        let after = after.map_or(0, |after| after.state.first());
        self.scan(&[work.states.first(), work.decays.first(), before.state.first(), after], false)
    }

    pub(super) fn scan(&self, at: &[u64], back: bool) -> Result<()> {
        let heads = self.rows.sequences * self.sizes.heads;
        let n = [0, 0, 0, self.chunks(), 0, usize::from(back)];
        self.ops.shaped("chunk_scan_any", ([heads * 4, 1], 256, 0), at, &n, &[])
    }

    pub(super) fn chunks(&self) -> usize {
        self.rows.tokens.div_ceil(CHUNK)
    }

    /// A kernel of which a warp takes a chunk of a head.
    pub(super) fn recurrence(&self, name: &str, shared: usize, at: &[u64]) -> Result<()> {
        let Rows { sequences, tokens, width } = self.rows;
        let tasks = sequences * self.sizes.heads * self.chunks();
        let n = [width, tokens, self.sizes.heads, self.chunks(), tasks];
        self.ops.typed_shaped(name, ([tasks.div_ceil(WKV_WARPS), 1], WKV_WARPS * 32, shared), at, &n, &[])
    }

    /// groupnorm(o) · silu(g).
    pub(super) fn gated(&self, out: u64) -> Result<()> {
        let Self { ops, arena, tape, block, .. } = *self;
        let norm = block.time_mix.group_norm;
        let [weight, bias] = [norm.weight, norm.bias].map(|id| arena.exact(id));
        let at = [tape.out.first(), tape.gate.first(), weight, bias, out];
        ops.map("gate", self.values(), &at, self.rows.width, &[norm.epsilon])
    }
}
