//! The kernels for AVX-512 with VNNI: a register holds 16 rows, one instruction multiplies four columns of each.

#![expect(clippy::needless_range_loop, reason = "one index runs over several arrays of the same length")]

use std::arch::x86_64::*;

use super::super::matrix::{BLOCK, INT4_BLOCK_BYTES, INT8_BLOCK_BYTES, INT8_ZERO, PANEL};
use super::{Sums, Tile};

#[target_feature(enable = "avx512f")]
pub(super) fn f32<const T: usize>(weights: &[f32], tile: Tile<'_>) -> Sums<T> {
    let cols = weights.len() / PANEL;
    assert!(
        tile.input.cols == cols && tile.input.values.len() >= (tile.row + T) * cols,
        "inputs of another length"
    );
    // SAFETY: the first of T rows that lie within the values: checked above.
    let inputs = unsafe { tile.input.values.as_ptr().add(tile.row * cols) };
    let mut sums = [_mm512_setzero_ps(); T];
    for c in 0..cols {
        // SAFETY: a column is 16 f32.
        let column = unsafe { _mm512_loadu_ps(weights.as_ptr().add(c * PANEL)) };
        for t in 0..T {
            // SAFETY: value c of row t.
            let input = _mm512_set1_ps(unsafe { *inputs.add(t * cols + c) });
            sums[t] = _mm512_fmadd_ps(column, input, sums[t]);
        }
    }
    store(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn int8<const T: usize>(levels: &[u8], scales: &[u16], tile: Tile<'_>) -> Sums<T> {
    let inputs = Inputs::of::<T>(tile);
    let levels = levels.as_chunks::<INT8_BLOCK_BYTES>().0;
    let scales = scales.as_chunks::<PANEL>().0;
    assert!(levels.len() == inputs.blocks && scales.len() == inputs.blocks, "inputs of another length");
    let mut sums = [_mm512_setzero_ps(); T];
    for b in 0..levels.len() {
        let mut groups = [_mm512_setzero_si512(); 8];
        for g in 0..8 {
            // SAFETY: a block is 8 groups of 64 bytes.
            groups[g] = unsafe { _mm512_loadu_si512(levels[b].as_ptr().add(g * 64).cast()) };
        }
        let scales = halves(&scales[b]);
        for t in 0..T {
            // SAFETY: row t < T and block b < blocks.
            let (input, scale, sum) = unsafe { inputs.block(t, b) };
            let mut dots = _mm512_set1_epi32(-i32::from(INT8_ZERO) * sum);
            for g in 0..8 {
                // SAFETY: a block of inputs is 8 groups of 4 bytes.
                let group = unsafe { input.add(g).read_unaligned() };
                dots = _mm512_dpbusd_epi32(dots, groups[g], _mm512_set1_epi32(group));
            }
            let scales = _mm512_mul_ps(scales, _mm512_set1_ps(scale));
            sums[t] = _mm512_add_ps(sums[t], _mm512_mul_ps(_mm512_cvtepi32_ps(dots), scales));
        }
    }
    store(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn int4<const T: usize>(levels: &[u8], scales: &[u16], minima: &[u16], tile: Tile<'_>) -> Sums<T> {
    let inputs = Inputs::of::<T>(tile);
    let levels = levels.as_chunks::<INT4_BLOCK_BYTES>().0;
    let (scales, minima) = (scales.as_chunks::<PANEL>().0, minima.as_chunks::<PANEL>().0);
    let blocks = [levels.len(), scales.len(), minima.len()];
    assert!(blocks == [inputs.blocks; 3], "inputs of another length");
    let low = _mm512_set1_epi8(15);
    let mut sums = [_mm512_setzero_ps(); T];
    for b in 0..levels.len() {
        let mut groups = [_mm512_setzero_si512(); 8];
        for p in 0..4 {
            // SAFETY: a block is 4 pairs of groups of 64 bytes.
            let pair = unsafe { _mm512_loadu_si512(levels[b].as_ptr().add(p * 64).cast()) };
            groups[p] = _mm512_and_si512(pair, low);
            groups[p + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(pair), low);
        }
        let (scales, minima) = (halves(&scales[b]), halves(&minima[b]));
        for t in 0..T {
            // SAFETY: row t < T and block b < blocks.
            let (input, scale, sum) = unsafe { inputs.block(t, b) };
            let mut dots = _mm512_setzero_si512();
            for g in 0..8 {
                // SAFETY: a block of inputs is 8 groups of 4 bytes.
                let group = unsafe { input.add(g).read_unaligned() };
                dots = _mm512_dpbusd_epi32(dots, groups[g], _mm512_set1_epi32(group));
            }
            let scales = _mm512_mul_ps(scales, _mm512_set1_ps(scale));
            let minimum = _mm512_mul_ps(minima, _mm512_set1_ps(sum as f32 * scale));
            sums[t] = _mm512_add_ps(sums[t], _mm512_mul_ps(_mm512_cvtepi32_ps(dots), scales));
            sums[t] = _mm512_add_ps(sums[t], minimum);
        }
    }
    store(sums)
}

/// The quantised inputs of a tile.
#[derive(Clone, Copy)]
struct Inputs {
    blocks: usize,
    /// Of the tile's first row.
    levels: *const i8,
    scales: *const f32,
    sums: *const i32,
}

impl Inputs {
    #[inline(always)]
    fn of<const T: usize>(tile: Tile<'_>) -> Self {
        let (input, row, blocks) = (tile.input, tile.row, tile.input.blocks());
        let enough = (row + T) * blocks;
        assert!(
            input.levels.len() >= enough * BLOCK
                && input.scales.len() >= enough
                && input.sums.len() >= enough
        );
        // SAFETY: the first of T rows that lie within each of the three: checked above.
        unsafe {
            Self {
                blocks,
                levels: input.levels.as_ptr().add(row * blocks * BLOCK),
                scales: input.scales.as_ptr().add(row * blocks),
                sums: input.sums.as_ptr().add(row * blocks),
            }
        }
    }

    /// Block `b` of row `t`: eight groups of four levels, the scale, the sum of levels.
    ///
    /// # Safety
    /// `t` is less than the `T` that `of` checked, `b` less than `blocks`.
    #[inline(always)]
    unsafe fn block(self, t: usize, b: usize) -> (*const i32, f32, i32) {
        let at = t * self.blocks + b;
        // SAFETY: within the rows that `of` checked.
        unsafe { (self.levels.add(at * BLOCK).cast(), *self.scales.add(at), *self.sums.add(at)) }
    }
}

/// Sixteen half-precision values as f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(values: &[u16; PANEL]) -> __m512 {
    // SAFETY: 16 u16 are 32 bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(values.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store<const T: usize>(sums: [__m512; T]) -> Sums<T> {
    let mut out = [[0.0; PANEL]; T];
    for (out, sum) in out.iter_mut().zip(sums) {
        // SAFETY: a row of `out` is 16 f32.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
    }
    out
}
