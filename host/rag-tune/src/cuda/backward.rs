//! A layer backwards: from the derivative by its output to that by its input, in place; gradients are added.

use rag_core::Result;

use super::buffers::STRIPS;
use super::forward::{
    CHANNEL_KEY, CHANNEL_RECEPTANCE, CHANNEL_VALUE, G, GATE, K, KEY, Layer, OUTPUT, R, RECEPTANCE, V, VALUE,
    W, WKV_SHARED,
};
use super::ops::{Buffer, GRADIENT, SET, Sum, view};
use crate::cpu::norm::Norm;
use crate::cpu::tensors::Id;

/// Columns of a block of `strip_sums`, and its threads.
const STRIP_COLUMNS: usize = 512;
const STRIP_THREADS: usize = 64;

/// What a layer's way back is to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Back {
    /// Whether the rows begin at the sequences' start, and so at the initial state.
    pub(super) from_start: bool,
    /// Whether anything below wants the derivative by the input.
    pub(super) through: bool,
    /// Whether the states before the chunks are those of this layer's way forward.
    pub(super) states_there: bool,
}

impl Layer<'_> {
    pub(super) fn backward(&self, back: Back) -> Result<()> {
        let by_x = self.channel_back()?;
        let by_gate = self.output_back(by_x)?;
        self.recur_back(back)?;
        if back.through { self.inputs_back(by_gate) } else { Ok(()) }
    }

    /// The channel mix; returns a copy of the derivative by its input in the activations' type.
    fn channel_back(&self) -> Result<u64> {
        let Self { ops, arena, work, tape, block, rows, before, .. } = *self;
        let mix = &block.channel_mix;
        let [by_r, by_v, by_xk, by_xr] = work.rows.each_ref().map(Buffer::first);
        let (by_x, hidden) = (work.by_x.first(), rows.count() * self.sizes.hidden);
        let at = [by_x, tape.receptance.first(), tape.value.first(), by_r, by_v];
        ops.map("gated_back", self.values(), &at, 0, &[])?;
        let [squared, by_key] = work.hidden.each_ref().map(Buffer::first);
        let value = &self.linears[CHANNEL_VALUE];
        if value.reads_input() {
            ops.map("square", hidden, &[tape.key.first(), squared], 0, &[])?;
        }
        value.backward(self.run(), squared, by_v, by_key)?;
        ops.map("square_back", hidden, &[by_key, tape.key.first()], 0, &[])?;
        if self.linears[CHANNEL_KEY].reads_input() {
            self.channel_inputs()?;
        }
        self.linears[CHANNEL_KEY].backward(self.run(), self.input(0), by_key, by_xk)?;
        self.linears[CHANNEL_RECEPTANCE].backward(self.run(), self.input(1), by_r, by_xr)?;
        for (id, by) in [(mix.maa_k, by_xk), (mix.maa_r, by_xr)] {
            self.difference_sums(id, by, [tape.normed2.first(), before.channel_shift.first()])?;
        }
        let [share_k, share_r] = [mix.maa_k, mix.maa_r].map(|id| arena.exact(id));
        let copy = by_v;
        self.norm_back(
            "channel",
            &[by_xk, by_xr, share_k, share_r],
            block.channel_norm,
            tape.middle.first(),
            copy,
        )?;
        Ok(copy)
    }

    /// The output's matrix and the gate: the derivatives by g, which is returned, and by the recurrence's output, which
    /// goes to the first of the rows.
    fn output_back(&self, by_out: u64) -> Result<u64> {
        let Self { ops, arena, work, tape, block, .. } = *self;
        let norm = block.time_mix.group_norm;
        let [by_o, _, by_gated, gated] = work.rows.each_ref().map(Buffer::first);
        if self.linears[OUTPUT].reads_input() {
            self.gated(gated)?;
        }
        self.linears[OUTPUT].backward(self.run(), gated, by_out, by_gated)?;
        if let Some(by_weight) = arena.gradient(norm.weight) {
            let at = [by_gated, work.strips.first(), tape.out.first(), tape.gate.first()];
            self.strips("heads", &at, norm.epsilon)?;
            self.add_strips([by_weight, arena.gradient(norm.bias).unwrap_or(0)])?;
        }
        let by_gate = work.by_recurrence[4].first();
        let [weight, bias] = [norm.weight, norm.bias].map(|id| arena.exact(id));
        let at = [tape.out.first(), tape.gate.first(), weight, bias, by_gated, by_gate, by_o];
        ops.map("gate_back", self.values(), &at, self.rows.width, &[norm.epsilon])?;
        Ok(by_gate)
    }

    /// The recurrence: derivatives by r, k, v and ω, and gradients of the initial state and of u.
    fn recur_back(&self, back: Back) -> Result<()> {
        let Self { ops, arena, work, tape, block, rows, sizes, .. } = *self;
        let time = &block.time_mix;
        if !back.states_there {
            self.states(None)?;
        }
        let by_o = work.rows[0].first();
        let [rate, r, k, v] = [&tape.rate, &tape.r, &tape.k, &tape.v].map(Buffer::first);
        let (after, decays) = (work.by_states.first(), work.decays.first());
        self.recurrence("chunk_sums_back", 0, &[rate, r, by_o, after, decays])?;
        let state = arena.gradient(time.state).filter(|_| back.from_start);
        let by_state = state.map_or(0, |_| work.by_state.first());
        self.scan(&[after, decays, 0, by_state], true)?;
        let size = sizes.state() / sizes.heads;
        if let Some(gradient) = state {
            let n = [size, sizes.heads, 1, rows.sequences];
            let shape = ([sizes.heads, size / 64], 64, 0);
            ops.shaped("sum_heads_any", shape, &[gradient, by_state], &n, &[])?;
        }
        if !back.through {
            return Ok(());
        }
        let [by_r, by_k, by_v, by_omega, _] = work.by_recurrence.each_ref().map(Buffer::first);
        let (bonus, by_bonus) = (arena.exact(time.bonus), work.by_bonus.first());
        let before = work.states.first();
        let at = [rate, r, k, v, by_o, bonus, before, after, by_r, by_k, by_v, by_omega, by_bonus];
        self.recurrence("recur_back", WKV_SHARED, &at)?;
        if let Some(gradient) = arena.gradient(time.bonus) {
            let n = [64, sizes.heads, self.chunks(), rows.sequences];
            ops.shaped("sum_heads_any", ([sizes.heads, 1], 64, 0), &[gradient, by_bonus], &n, &[])?;
        }
        Ok(())
    }

    /// From the derivatives by r, k, v, g and ω to that by the layer's input.
    fn inputs_back(&self, by_gate: u64) -> Result<()> {
        let Self { ops, arena, work, tape, block, rows, before, .. } = *self;
        let time = &block.time_mix;
        let [by_r, by_k, by_v, _, _] = work.by_recurrence.each_ref().map(Buffer::first);
        let all = self.values();
        let by_input = |c: usize| work.by_inputs.at(c * all);
        if self.linears[KEY].reads_input() || arena.gradient(time.decay_down).is_some() {
            self.time_inputs()?;
        }
        for (c, linear, by) in [(K, KEY, by_k), (V, VALUE, by_v), (R, RECEPTANCE, by_r), (G, GATE, by_gate)] {
            self.linears[linear].backward(self.run(), self.input(c), by, by_input(c))?;
        }
        self.decay_back(by_input(W))?;

        let [w, k, v, r, g] = time.maa.map(|id| arena.exact(id));
        let [sum, by_difference] = work.sums.each_ref().map(Buffer::first);
        let shift = [tape.normed.first(), before.time_shift.first()];
        let shares = tape.shares.first();
        let at = [shift[0], shift[1], shares, w, k, v, r, g, by_input(0), sum, by_difference];
        ops.rows("lerp_back", rows.count(), &at, &[rows.width, rows.tokens, rows.count()], &[])?;
        for (c, &id) in time.maa.iter().enumerate() {
            self.plain_sums(id, tape.shares.at(c * all))?;
        }
        let by_mixed = self.low_rank_back()?;
        self.difference_sums(time.maa_x, by_mixed, shift)?;
        let at = [sum, by_difference, by_mixed, arena.exact(time.maa_x)];
        self.norm_back("time", &at, block.time_norm, self.x, 0)
    }

    /// From the derivative by ω to that by x_w.
    fn decay_back(&self, by_input: u64) -> Result<()> {
        let Self { ops, arena, work, tape, block, rows, sizes, .. } = *self;
        let time = &block.time_mix;
        let (count, d, low) = (rows.count(), rows.width, sizes.decay);
        let by_omega = work.by_recurrence[3].first();
        self.plain_sums(time.decay, by_omega)?;
        let by_omega = view(by_omega, d);
        let (between, by_low) = (view(tape.decay_low.first(), low), view(work.by_decay_low.first(), low));
        if let Some(by_up) = arena.gradient(time.decay_up) {
            ops.multiply([between.turned(), by_omega, view(by_up, d)], [low, count, d], GRADIENT)?;
        }
        let up = view(arena.act(time.decay_up), d).turned();
        ops.multiply([by_omega, up, by_low], [count, d, low], SET)?;
        ops.map("tanh_back", count * low, &[work.by_decay_low.first(), tape.decay_low.first()], 0, &[])?;
        if let Some(by_down) = arena.gradient(time.decay_down) {
            let views = [view(self.input(W), d).turned(), by_low, view(by_down, low)];
            ops.multiply(views, [d, count, low], GRADIENT)?;
        }
        let down = view(arena.act(time.decay_down), low).turned();
        ops.multiply([by_low, down, view(by_input, d)], [count, low, d], SET)
    }

    /// From the derivatives by the five z W2, in the place of the shares, to that by xx + dx·maa_x.
    fn low_rank_back(&self) -> Result<u64> {
        let Self { ops, arena, work, tape, block, rows, sizes, .. } = *self;
        let time = &block.time_mix;
        let (count, d, m) = (rows.count(), rows.width, sizes.mix);
        let all = self.values();
        let by_shares = view(tape.shares.first(), d).each(all);
        let low = view(tape.low.first(), 5 * m).each(m);
        if let Some(by_up) = arena.gradient(time.mix_up) {
            let views = [low.turned(), by_shares, view(by_up, d).each(m * d)];
            ops.multiply(views, [m, count, d], Sum { count: 5, ..GRADIENT })?;
        }
        let up = view(arena.act(time.mix_up), d).each(m * d).turned();
        let by_low = view(work.by_low.first(), 5 * m);
        ops.multiply([by_shares, up, by_low.each(m)], [count, d, m], Sum { count: 5, ..SET })?;
        ops.map("tanh_back", count * 5 * m, &[work.by_low.first(), tape.low.first()], 0, &[])?;
        if let Some(by_down) = arena.gradient(time.mix_down) {
            let mixed = self.mixed_first()?;
            let views = [view(mixed, d).turned(), by_low, view(by_down, 5 * m)];
            ops.multiply(views, [d, count, 5 * m], GRADIENT)?;
        }
        let by_mixed = work.rows[0].first();
        let down = view(arena.act(time.mix_down), 5 * m).turned();
        ops.multiply([by_low, down, view(by_mixed, d)], [count, 5 * m, d], SET)?;
        Ok(by_mixed)
    }

    /// Through a normalisation, adding to the residual stream's derivative, of which a `copy` may be wanted.
    fn norm_back(&self, kind: &str, sources: &[u64; 4], norm: Norm, x: u64, copy: u64) -> Result<()> {
        let Self { ops, arena, work, rows, .. } = *self;
        let by_weight = arena.gradient(norm.weight);
        let by_normed = by_weight.map_or(0, |_| work.by_recurrence[0].first());
        let mut at = [0; 13];
        at[..4].copy_from_slice(sources);
        at[8..].copy_from_slice(&[x, arena.exact(norm.weight), work.by_x.first(), copy, by_normed]);
        let n = [rows.width, rows.tokens, 0];
        ops.rows(&format!("norm_back_{kind}"), rows.count(), &at, &n, &[norm.epsilon])?;
        let Some(by_weight) = by_weight else { return Ok(()) };
        self.normed_sums([by_weight, arena.gradient(norm.bias).unwrap_or(0)], by_normed, x, norm.epsilon)
    }

    /// Gradients of a normalisation's weight and bias.
    fn normed_sums(&self, gradients: [u64; 2], by: u64, x: u64, epsilon: f32) -> Result<()> {
        let Self { ops, work, rows, .. } = *self;
        let moments = work.moments.first();
        ops.exact_rows("row_stats_any", rows.count(), &[x, moments], &[rows.width], &[epsilon])?;
        self.strips("normed", &[by, work.strips.first(), x, moments], epsilon)?;
        self.add_strips(gradients)
    }

    /// Adds Σ by over all rows to a tensor's gradient, if it is trained.
    fn plain_sums(&self, id: Id, by: u64) -> Result<()> {
        let Some(gradient) = self.arena.gradient(id) else { return Ok(()) };
        self.strips("", &[by, self.work.strips.first()], 0.0)?;
        self.add_strips([gradient, 0])
    }

    /// The same of by · (previous − xx).
    fn difference_sums(&self, id: Id, by: u64, [normed, before]: [u64; 2]) -> Result<()> {
        let Some(gradient) = self.arena.gradient(id) else { return Ok(()) };
        self.strips("differences", &[by, self.work.strips.first(), normed, before], 0.0)?;
        self.add_strips([gradient, 0])
    }

    fn strips(&self, kind: &str, at: &[u64], epsilon: f32) -> Result<()> {
        let rows = self.rows;
        let name = if kind.is_empty() { "strip_sums".to_owned() } else { format!("strip_sums_{kind}") };
        let shape = ([rows.width.div_ceil(STRIP_COLUMNS), STRIPS], STRIP_THREADS, 0);
        self.ops.typed_shaped(&name, shape, at, &[rows.width, rows.tokens, rows.count()], &[epsilon])
    }

    fn add_strips(&self, [first, second]: [u64; 2]) -> Result<()> {
        let width = self.rows.width;
        let at = [self.work.strips.first(), first, second];
        self.ops.shaped("add_strips_any", ([width.div_ceil(256), 1], 256, 0), &at, &[width], &[])
    }
}
