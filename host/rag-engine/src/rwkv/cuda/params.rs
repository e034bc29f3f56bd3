//! The structures that kernels take, as `kernels/params.cuh` has them: the same fields in the same order.
//!
//! Addresses are `u64`, those of nothing 0.

/// Weights to fetch to the cache meanwhile.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ahead {
    pub(super) at: u64,
    pub(super) bytes: u64,
    pub(super) blocks: i32,
    pub(super) extra: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Embed {
    pub(super) table: u64,
    pub(super) tokens: u64,
    pub(super) norm: [u64; 2],
    pub(super) x: u64,
    pub(super) width: i32,
    pub(super) epsilon: f32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LnMix {
    pub(super) x: u64,
    pub(super) norm: [u64; 2],
    pub(super) maa: [u64; 2],
    pub(super) states: u64,
    pub(super) starts: u64,
    pub(super) shift: i64,
    pub(super) normed: u64,
    pub(super) out: [u64; 2],
    pub(super) rows: i32,
    pub(super) width: i32,
    pub(super) epsilon: f32,
    pub(super) ahead: Ahead,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lerp {
    pub(super) low: u64,
    pub(super) up: u64,
    pub(super) maa: u64,
    pub(super) normed: u64,
    pub(super) states: u64,
    pub(super) starts: u64,
    pub(super) shift: i64,
    pub(super) out: u64,
    pub(super) rows: i32,
    pub(super) width: i32,
    pub(super) rank: i32,
    pub(super) tanh_low: i32,
    pub(super) ahead: Ahead,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MixRows {
    pub(super) out: u64,
    pub(super) maa: u64,
    pub(super) normed: u64,
    pub(super) states: u64,
    pub(super) starts: u64,
    pub(super) shift: i64,
    pub(super) rows: i32,
    pub(super) width: i32,
}

/// What becomes of a product.
#[derive(Debug, Clone, Copy)]
pub(super) enum Epilogue {
    Store,
    Tanh,
    Relu2,
    Sigmoid,
    Add,
    AddGated,
    AddKept,
}

pub(super) const JOBS_MAX: usize = 7;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GemvJob {
    pub(super) weights: u64,
    pub(super) scales: u64,
    pub(super) minima: u64,
    pub(super) x: u64,
    pub(super) out: u64,
    pub(super) gate: u64,
    pub(super) rows: i32,
    pub(super) block: i32,
    pub(super) epilogue: i32,
    pub(super) dense: i32,
    pub(super) first: i32,
    pub(super) split: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gemv {
    pub(super) jobs: [GemvJob; JOBS_MAX],
    pub(super) job_count: i32,
    pub(super) cols: i32,
    pub(super) batch: i32,
    pub(super) states: u64,
    pub(super) shift: i64,
    pub(super) normed: u64,
    pub(super) ahead: Ahead,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LnMix7 {
    pub(super) x: u64,
    pub(super) norm: [u64; 2],
    pub(super) shares: u64,
    pub(super) states: u64,
    pub(super) starts: u64,
    pub(super) shift: i64,
    pub(super) normed: u64,
    /// r, k, v.
    pub(super) out: [u64; 3],
    /// w, a, g, v.
    pub(super) dense: [u64; 4],
    pub(super) rows: i32,
    pub(super) width: i32,
    pub(super) epsilon: f32,
    pub(super) ahead: Ahead,
}

/// Of the four, in the order w, a, g, v: outputs, or inner values and weights.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wkv7 {
    /// r, k, v.
    pub(super) inputs: [u64; 3],
    pub(super) projected: [u64; 4],
    pub(super) low: [u64; 4],
    pub(super) up: [u64; 4],
    pub(super) base: [u64; 4],
    /// k_k, k_a, r_k.
    pub(super) keys: [u64; 3],
    pub(super) norm: [u64; 2],
    pub(super) first: u64,
    pub(super) normed: u64,
    pub(super) states: u64,
    pub(super) offsets: u64,
    pub(super) shift: i64,
    pub(super) heads_at: i64,
    pub(super) out: u64,
    pub(super) ranks: [i32; 4],
    pub(super) rows: i32,
    pub(super) width: i32,
    pub(super) heads: i32,
    pub(super) is_first: i32,
    pub(super) epsilon: f32,
    pub(super) ahead: Ahead,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WkvStep {
    /// k, v, r, g.
    pub(super) inputs: [u64; 4],
    pub(super) omega: u64,
    pub(super) decay_low: u64,
    pub(super) decay_up: u64,
    pub(super) decay: u64,
    pub(super) bonus: u64,
    pub(super) norm: [u64; 2],
    pub(super) normed: u64,
    pub(super) states: u64,
    pub(super) shift: i64,
    pub(super) heads_at: i64,
    pub(super) out: u64,
    pub(super) rows: i32,
    pub(super) width: i32,
    pub(super) heads: i32,
    pub(super) decay_rank: i32,
    pub(super) epsilon: f32,
    pub(super) ahead: Ahead,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Decays {
    pub(super) values: u64,
    pub(super) decay: u64,
    pub(super) count: i64,
    pub(super) width: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WkvSeq {
    /// k, v, r.
    pub(super) inputs: [u64; 3],
    pub(super) decays: u64,
    pub(super) bonus: u64,
    pub(super) normed: u64,
    pub(super) states: u64,
    pub(super) offsets: u64,
    pub(super) shift: i64,
    pub(super) heads_at: i64,
    pub(super) out: u64,
    pub(super) starts: u64,
    pub(super) totals: u64,
    pub(super) width: i32,
    pub(super) heads: i32,
    pub(super) runs: i32,
    pub(super) run_tokens: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WkvLink {
    pub(super) starts: u64,
    pub(super) totals: u64,
    pub(super) states: u64,
    pub(super) offsets: u64,
    pub(super) heads_at: i64,
    pub(super) sequences: i32,
    pub(super) width: i32,
    pub(super) head: i32,
    pub(super) runs: i32,
    pub(super) run_tokens: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gate {
    pub(super) o: u64,
    pub(super) g: u64,
    pub(super) norm: [u64; 2],
    pub(super) out: u64,
    pub(super) rows: i32,
    pub(super) width: i32,
    pub(super) heads: i32,
    pub(super) epsilon: f32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Combine {
    pub(super) x: u64,
    pub(super) gate: u64,
    pub(super) value: u64,
    pub(super) normed: u64,
    pub(super) states: u64,
    pub(super) ends: u64,
    pub(super) shift: i64,
    pub(super) width: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Map {
    pub(super) input: u64,
    pub(super) out: u64,
    pub(super) count: i64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LastNorm {
    pub(super) x: u64,
    pub(super) wanted: u64,
    pub(super) norm: [u64; 2],
    pub(super) out: u64,
    pub(super) rows: i32,
    pub(super) width: i32,
    pub(super) epsilon: f32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dequantise {
    pub(super) levels: u64,
    pub(super) scales: u64,
    pub(super) minima: u64,
    pub(super) out: u64,
    pub(super) rows: i64,
    pub(super) cols: i32,
    pub(super) block: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Draw {
    pub(super) temperature: f32,
    pub(super) top_p: f32,
    pub(super) top_k: i32,
    pub(super) penalties: i32,
    pub(super) penalties_at: i32,
    pub(super) unit: f32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Penalty {
    pub(super) id: i32,
    pub(super) amount: f32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    pub(super) logits: u64,
    pub(super) draws: u64,
    pub(super) penalties: u64,
    pub(super) banned: u64,
    pub(super) out: u64,
    pub(super) vocabulary: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fill {
    pub(super) out: u64,
    pub(super) count: u64,
    pub(super) seed: u64,
    pub(super) middle: f32,
    pub(super) reach: f32,
}
