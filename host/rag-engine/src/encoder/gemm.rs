//! Matrix products for whole batches of rows: u8 activations by i8 weights with exact integer sums, and f32.
//!
//! Integer sums are the same on every instruction set, so an int8 product gives the same bits everywhere. Weights
//! are packed once into panels of 16 columns; `NR` = 32 columns, two panels, make a tile.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod isa;
mod pack;
mod scalar;
#[cfg(test)]
mod tests;

pub use isa::{Isa, Vectorised};
pub use pack::{Rows8, Weights8, WeightsF32};

/// Columns of a panel.
pub(crate) const PANEL: usize = 16;
/// Columns of a tile.
pub(crate) const NR: usize = 32;
/// Rows of the largest tile (two tile registers of AMX).
pub(crate) const MR_MAX: usize = 32;
/// Depth is padded to this many values (one row of an AMX tile register).
pub(crate) const DEPTH_STEP: usize = 64;

/// Integer sums of a tile, row-major; 64-byte rows for the tile registers.
#[repr(C, align(64))]
pub(crate) struct Sums(pub(crate) [[i32; NR]; MR_MAX]);

/// `out[r][c] = Σ a[r][k]·w[c][k] + bias[c]` with the activations and weights that the integers stand for.
///
/// `out` is `[rows, n]` row-major; `bias` has `n` values.
pub fn product8(isa: Isa, a: &Rows8, w: &Weights8, bias: &[f32], out: &mut [f32]) {
    assert_eq!(a.depth(), w.depth());
    assert_eq!(bias.len(), w.columns());
    assert_eq!(out.len(), a.rows() * w.columns());
    match isa {
        // SAFETY: `Isa` values other than `Scalar` exist only where detection found the instructions.
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => unsafe { amx::product8(a, w, bias, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::product8(a, w, bias, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::product8(a, w, bias, out) },
        Isa::Scalar => scalar::product8(a, w, bias, out),
    }
}

/// `out[r][c] = Σ a[r][k]·w[c][k] + bias[c]` in f32; `a` is `[rows, depth]`, `out` `[rows, n]`, both row-major.
pub fn product32(isa: Isa, a: &[f32], w: &WeightsF32, bias: &[f32], out: &mut [f32]) {
    let rows = a.len() / w.depth();
    let columns = w.columns();
    assert_eq!(a.len(), rows * w.depth());
    assert_eq!(bias.len(), columns);
    assert_eq!(out.len(), rows * columns);
    let mut sums = [0.0; TILE32_ROWS * NR];
    for tile in 0..w.tiles() {
        let (first, width) = (tile * NR, NR.min(columns - tile * NR));
        for row in (0..rows).step_by(TILE32_ROWS) {
            let slab =
                Slab { data: &a[row * w.depth()..], stride: w.depth(), rows: TILE32_ROWS.min(rows - row) };
            tile32(isa, &slab, w.depth(), w.tile(tile), &mut Target { data: &mut sums, stride: NR });
            for (r, line) in sums.chunks_exact(NR).enumerate().take(slab.rows) {
                let target = &mut out[(row + r) * columns + first..][..width];
                for ((value, sum), bias) in target.iter_mut().zip(line).zip(&bias[first..first + width]) {
                    *value = sum + bias;
                }
            }
        }
    }
}

/// Rows of the largest tile of the f32 kernel.
pub(crate) const TILE32_ROWS: usize = 8;

/// Up to `TILE32_ROWS` rows, `stride` values apart.
pub(crate) struct Slab<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) rows: usize,
}

/// Where the `NR` sums of each row go, `stride` values apart.
pub(crate) struct Target<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) stride: usize,
}

/// One tile of f32 sums: `panels` is `[2][depth][16]`.
pub(crate) fn tile32(isa: Isa, a: &Slab<'_>, depth: usize, panels: &[f32], out: &mut Target<'_>) {
    assert!((1..=TILE32_ROWS).contains(&a.rows) && panels.len() >= depth * NR && out.stride >= NR);
    assert!(a.data.len() >= (a.rows - 1) * a.stride + depth);
    assert!(out.data.len() >= (a.rows - 1) * out.stride + NR);
    match isa {
        // SAFETY: the instructions were detected; sizes are checked above.
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512 => unsafe { avx512::tile32(a, depth, panels, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::tile32(a, depth, panels, out) },
        Isa::Scalar => scalar::tile32(a, depth, panels, out),
    }
}

/// Turns the integer sums of `count` rows from `row` on, of the tile at `first`, into values of `out`.
#[inline(always)]
pub(crate) fn store(place: Place<'_>, sums: &[[i32; NR]], bias: &[f32], out: &mut [f32]) {
    let Place { a, w, row, count, first } = place;
    let columns = w.columns();
    let width = NR.min(columns - first);
    for (r, sums) in sums.iter().enumerate().take(count) {
        let (scale, zero) = (a.scales[row + r], a.zeros[row + r]);
        let target = &mut out[(row + r) * columns + first..][..width];
        if width == NR {
            let weight_sums = &w.sums[first..first + NR];
            let weight_scales = &w.scales[first..first + NR];
            let bias = &bias[first..first + NR];
            for c in 0..NR {
                target[c] = sums[c].wrapping_sub(zero.wrapping_mul(weight_sums[c])) as f32
                    * (scale * weight_scales[c])
                    + bias[c];
            }
            continue;
        }
        for (c, value) in target.iter_mut().enumerate() {
            let exact = sums[c].wrapping_sub(zero.wrapping_mul(w.sums[first + c]));
            *value = exact as f32 * (scale * w.scales[first + c]) + bias[first + c];
        }
    }
}

/// Which tile of which product.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) a: &'a Rows8,
    pub(crate) w: &'a Weights8,
    pub(crate) row: usize,
    pub(crate) count: usize,
    pub(crate) first: usize,
}
