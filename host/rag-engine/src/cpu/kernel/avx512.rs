//! The kernels for AVX-512 with VNNI: a register holds 16 rows, one instruction multiplies four columns of each.

#![expect(clippy::needless_range_loop, reason = "one index runs over several arrays of the same length")]

use std::arch::x86_64::*;

use super::super::matrix::{INT4_BLOCK_BYTES, INT8_BLOCK_BYTES, INT8_ZERO, PANEL};
use super::{Sums, Tile};

#[target_feature(enable = "avx512f")]
pub(super) fn f32<const T: usize>(weights: &[f32], tile: Tile<'_>) -> Sums<T> {
    let inputs: [&[f32]; T] = std::array::from_fn(|t| tile.values(t));
    let columns = weights.as_chunks::<PANEL>().0;
    assert!(inputs.iter().all(|input| input.len() == columns.len()), "an input of another length");
    let mut sums = [_mm512_setzero_ps(); T];
    for (c, column) in columns.iter().enumerate() {
        // SAFETY: a column is 16 f32.
        let column = unsafe { _mm512_loadu_ps(column.as_ptr()) };
        for t in 0..T {
            // SAFETY: every input has as many values as there are columns.
            let input = _mm512_set1_ps(unsafe { *inputs[t].get_unchecked(c) });
            sums[t] = _mm512_fmadd_ps(column, input, sums[t]);
        }
    }
    store(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn int8<const T: usize>(levels: &[u8], scales: &[u16], tile: Tile<'_>) -> Sums<T> {
    let inputs = Inputs::<T>::of(tile);
    let mut sums = [_mm512_setzero_ps(); T];
    let blocks = levels.as_chunks::<INT8_BLOCK_BYTES>().0.iter().zip(scales.as_chunks::<PANEL>().0);
    assert!(levels.len() <= inputs.blocks * INT8_BLOCK_BYTES, "more blocks than inputs");
    for (b, (levels, scales)) in blocks.enumerate() {
        // SAFETY: a block is 8 groups of 64 bytes.
        let groups: [__m512i; 8] =
            std::array::from_fn(|g| unsafe { _mm512_loadu_si512(levels.as_ptr().add(g * 64).cast()) });
        let scales = halves(scales);
        for t in 0..T {
            // SAFETY: block b is within the inputs: checked above.
            let (input, scale, sum) = unsafe { inputs.block(t, b) };
            let mut dots = _mm512_set1_epi32(-i32::from(INT8_ZERO) * sum);
            for g in 0..8 {
                dots = _mm512_dpbusd_epi32(dots, groups[g], _mm512_set1_epi32(input[g]));
            }
            let scales = _mm512_mul_ps(scales, _mm512_set1_ps(scale));
            sums[t] = _mm512_add_ps(sums[t], _mm512_mul_ps(_mm512_cvtepi32_ps(dots), scales));
        }
    }
    store(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn int4<const T: usize>(levels: &[u8], scales: &[u16], minima: &[u16], tile: Tile<'_>) -> Sums<T> {
    let inputs = Inputs::<T>::of(tile);
    let low = _mm512_set1_epi8(15);
    let mut sums = [_mm512_setzero_ps(); T];
    let blocks = levels.as_chunks::<INT4_BLOCK_BYTES>().0.iter();
    let halves_of = scales.as_chunks::<PANEL>().0.iter().zip(minima.as_chunks::<PANEL>().0);
    assert!(levels.len() <= inputs.blocks * INT4_BLOCK_BYTES, "more blocks than inputs");
    for (b, (levels, (scales, minima))) in blocks.zip(halves_of).enumerate() {
        let mut groups = [_mm512_setzero_si512(); 8];
        for p in 0..4 {
            // SAFETY: a block is 4 pairs of groups of 64 bytes.
            let pair = unsafe { _mm512_loadu_si512(levels.as_ptr().add(p * 64).cast()) };
            groups[p] = _mm512_and_si512(pair, low);
            groups[p + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(pair), low);
        }
        let (scales, minima) = (halves(scales), halves(minima));
        for t in 0..T {
            // SAFETY: block b is within the inputs: checked above.
            let (input, scale, sum) = unsafe { inputs.block(t, b) };
            let mut dots = _mm512_setzero_si512();
            for g in 0..8 {
                dots = _mm512_dpbusd_epi32(dots, groups[g], _mm512_set1_epi32(input[g]));
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
struct Inputs<'a, const T: usize> {
    blocks: usize,
    levels: [&'a [[i8; 32]]; T],
    scales: [&'a [f32]; T],
    sums: [&'a [i32]; T],
}

impl<'a, const T: usize> Inputs<'a, T> {
    fn of(tile: Tile<'a>) -> Self {
        Self {
            blocks: tile.input.blocks(),
            levels: std::array::from_fn(|t| tile.levels(t)),
            scales: std::array::from_fn(|t| tile.scales(t)),
            sums: std::array::from_fn(|t| tile.sums(t)),
        }
    }

    /// Block `b` of input `t`: eight groups of four levels, the scale, the sum of levels.
    ///
    /// # Safety
    /// `b` is less than `blocks`.
    #[inline(always)]
    unsafe fn block(&self, t: usize, b: usize) -> ([i32; 8], f32, i32) {
        // SAFETY: all three have `blocks` items.
        unsafe {
            let levels: *const [i8; 32] = self.levels[t].get_unchecked(b);
            // Four i8 are read as the i32 that the broadcast wants; any bytes make an i32.
            let groups = levels.cast::<[i32; 8]>().read_unaligned();
            (groups, *self.scales[t].get_unchecked(b), *self.sums[t].get_unchecked(b))
        }
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
