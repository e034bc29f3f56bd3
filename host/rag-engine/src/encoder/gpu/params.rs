//! The structures that kernels take, as `kernels/encoder.cuh` and `attention.cuh` have them.

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Norm {
    pub(super) weight: u64,
    pub(super) bias: u64,
    pub(super) x: u64,
    /// 0 for none.
    pub(super) copy: u64,
    pub(super) rows: i32,
    pub(super) width: i32,
    pub(super) eps: f32,
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct EmbedRows {
    pub(super) norm: Norm,
    pub(super) words: u64,
    pub(super) positions: u64,
    /// 0 for none.
    pub(super) second: u64,
    pub(super) ids: u64,
    pub(super) places: u64,
    pub(super) kinds: u64,
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct AddNorm {
    pub(super) norm: Norm,
    pub(super) added: u64,
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct Gelu {
    pub(super) values: u64,
    pub(super) bias: u64,
    pub(super) count: i64,
    pub(super) columns: i32,
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct Attention {
    pub(super) qkv: u64,
    pub(super) bias: u64,
    pub(super) context: u64,
    pub(super) starts: u64,
    pub(super) tiles: u64,
    pub(super) width: i32,
    pub(super) heads: i32,
    pub(super) scale: f32,
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct Pool {
    pub(super) x: u64,
    pub(super) starts: u64,
    pub(super) out: u64,
    pub(super) width: i32,
    pub(super) first_only: i32,
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct Gather {
    pub(super) x: u64,
    pub(super) rows: u64,
    pub(super) out: u64,
    pub(super) width: i32,
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct Directions {
    pub(super) x: u64,
    /// 0 for all.
    pub(super) rows: u64,
    /// 0 for none.
    pub(super) bias: u64,
    pub(super) levels: u64,
    pub(super) scales: u64,
    pub(super) count: i32,
    pub(super) width: i32,
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct WeighTokens {
    pub(super) x: u64,
    pub(super) rows: u64,
    pub(super) weight: u64,
    pub(super) bias: u64,
    pub(super) out: u64,
    pub(super) count: i32,
    pub(super) width: i32,
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct Score {
    pub(super) inner: u64,
    pub(super) inner_bias: u64,
    pub(super) weight: u64,
    pub(super) bias: u64,
    pub(super) out: u64,
    pub(super) count: i32,
    pub(super) columns: i32,
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct Narrow {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) count: i64,
}
