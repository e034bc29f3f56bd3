//! The kernels for AVX2: 16 rows are two registers of f32, and levels are widened to 16 bits before they are multiplied.

#![expect(clippy::needless_range_loop, reason = "one index runs over several arrays of the same length")]

use std::arch::x86_64::*;

use super::super::matrix::{INT4_BLOCK_BYTES, INT8_BLOCK_BYTES, INT8_ZERO, PANEL};
use super::{Sums, Tile};

#[target_feature(enable = "avx2,fma")]
pub(super) fn f32<const T: usize>(weights: &[f32], tile: Tile<'_>) -> Sums<T> {
    let inputs: [&[f32]; T] = std::array::from_fn(|t| tile.values(t));
    let columns = weights.as_chunks::<PANEL>().0;
    assert!(inputs.iter().all(|input| input.len() == columns.len()), "an input of another length");
    let mut sums = [[_mm256_setzero_ps(); 2]; T];
    for (c, column) in columns.iter().enumerate() {
        // SAFETY: a column is two times 8 f32.
        let halves = unsafe { [_mm256_loadu_ps(column.as_ptr()), _mm256_loadu_ps(column.as_ptr().add(8))] };
        for t in 0..T {
            // SAFETY: every input has as many values as there are columns.
            let input = _mm256_set1_ps(unsafe { *inputs[t].get_unchecked(c) });
            sums[t][0] = _mm256_fmadd_ps(halves[0], input, sums[t][0]);
            sums[t][1] = _mm256_fmadd_ps(halves[1], input, sums[t][1]);
        }
    }
    store(sums)
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn int8<const T: usize>(levels: &[u8], scales: &[u16], tile: Tile<'_>) -> Sums<T> {
    let zero = _mm256_set1_epi16(i16::from(INT8_ZERO));
    let mut sums = [[_mm256_setzero_ps(); 2]; T];
    let blocks = levels.as_chunks::<INT8_BLOCK_BYTES>().0.iter().zip(scales.as_chunks::<PANEL>().0);
    for (b, (levels, scales)) in blocks.enumerate() {
        let scales = halves(scales);
        let mut pairs = [[_mm256_setzero_si256(); 4]; T];
        for (g, group) in levels.as_chunks::<64>().0.iter().enumerate() {
            for (quarter, rows) in group.as_chunks::<16>().0.iter().enumerate() {
                // Four rows by four columns.
                let rows = _mm256_sub_epi16(widen(rows), zero);
                for t in 0..T {
                    let products = _mm256_madd_epi16(rows, four(&tile.levels(t)[b], g));
                    pairs[t][quarter] = _mm256_add_epi32(pairs[t][quarter], products);
                }
            }
        }
        for t in 0..T {
            let scale = _mm256_set1_ps(tile.scales(t)[b]);
            for (half, dots) in dots(pairs[t]).into_iter().enumerate() {
                let scales = _mm256_mul_ps(scales[half], scale);
                sums[t][half] = _mm256_add_ps(sums[t][half], _mm256_mul_ps(_mm256_cvtepi32_ps(dots), scales));
            }
        }
    }
    store(sums)
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn int4<const T: usize>(levels: &[u8], scales: &[u16], minima: &[u16], tile: Tile<'_>) -> Sums<T> {
    let low = _mm_set1_epi8(15);
    let mut sums = [[_mm256_setzero_ps(); 2]; T];
    let halves_of = scales.as_chunks::<PANEL>().0.iter().zip(minima.as_chunks::<PANEL>().0);
    let blocks = levels.as_chunks::<INT4_BLOCK_BYTES>().0.iter().zip(halves_of);
    for (b, (levels, (scales, minima))) in blocks.enumerate() {
        let (scales, minima) = (halves(scales), halves(minima));
        let mut pairs = [[_mm256_setzero_si256(); 4]; T];
        for (p, pair) in levels.as_chunks::<64>().0.iter().enumerate() {
            for (quarter, rows) in pair.as_chunks::<16>().0.iter().enumerate() {
                // SAFETY: 16 bytes.
                let rows = unsafe { _mm_loadu_si128(rows.as_ptr().cast()) };
                let first = _mm256_cvtepu8_epi16(_mm_and_si128(rows, low));
                let second = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16::<4>(rows), low));
                for t in 0..T {
                    let input = &tile.levels(t)[b];
                    let products = _mm256_add_epi32(
                        _mm256_madd_epi16(first, four(input, p)),
                        _mm256_madd_epi16(second, four(input, p + 4)),
                    );
                    pairs[t][quarter] = _mm256_add_epi32(pairs[t][quarter], products);
                }
            }
        }
        for t in 0..T {
            let (scale, sum) = (tile.scales(t)[b], tile.sums(t)[b]);
            let (input_scale, input_sum) = (_mm256_set1_ps(scale), _mm256_set1_ps(sum as f32 * scale));
            for (half, dots) in dots(pairs[t]).into_iter().enumerate() {
                let scales = _mm256_mul_ps(scales[half], input_scale);
                let sum = _mm256_add_ps(sums[t][half], _mm256_mul_ps(_mm256_cvtepi32_ps(dots), scales));
                sums[t][half] = _mm256_add_ps(sum, _mm256_mul_ps(minima[half], input_sum));
            }
        }
    }
    store(sums)
}

/// Sixteen bytes as 16-bit numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn widen(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: 16 bytes.
    _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Group `g` of a block of inputs, as 16-bit numbers, four times.
#[inline]
#[target_feature(enable = "avx2")]
fn four(block: &[i8; 32], g: usize) -> __m256i {
    let group = [block[4 * g], block[4 * g + 1], block[4 * g + 2], block[4 * g + 3]];
    let group = _mm_cvtsi32_si128(i32::from_le_bytes(group.map(|level| level as u8)));
    _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(group))
}

/// Adds the two partial sums of each row; quarters of four rows become halves of eight.
#[inline]
#[target_feature(enable = "avx2")]
fn dots(pairs: [__m256i; 4]) -> [__m256i; 2] {
    // `hadd` leaves rows 0 1 4 5 | 2 3 6 7; the permutation puts them in order.
    let half = |a, b| _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(a, b));
    [half(pairs[0], pairs[1]), half(pairs[2], pairs[3])]
}

/// Sixteen half-precision values as f32.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn halves(values: &[u16; PANEL]) -> [__m256; 2] {
    // SAFETY: two times 8 u16.
    unsafe {
        [
            _mm256_cvtph_ps(_mm_loadu_si128(values.as_ptr().cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(values.as_ptr().add(8).cast())),
        ]
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store<const T: usize>(sums: [[__m256; 2]; T]) -> Sums<T> {
    let mut out = [[0.0; PANEL]; T];
    for (out, [first, second]) in out.iter_mut().zip(sums) {
        // SAFETY: a row of `out` is two times 8 f32.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), first);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), second);
        }
    }
    out
}
