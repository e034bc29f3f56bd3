//! Products on AVX2: widened to i16 for `vpmaddwd`, since `vpmaddubsw` would saturate on u8 by i8; FMA for f32.

use std::arch::x86_64::*;

use super::{NR, PANEL, Place, Rows8, Slab, Target, Weights8, store};

/// Rows of the largest int8 tile: 3 rows by 16 columns take 12 of 16 registers.
const MR: usize = 3;

/// # Safety
/// The machine has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn product8(a: &Rows8, w: &Weights8, bias: &[f32], out: &mut [f32]) {
    for tile in 0..w.tiles() {
        let (left, right) = w.tile(tile).split_at(PANEL * a.stride());
        let mut row = 0;
        while row < a.rows() {
            let values = &a.bytes()[row * a.stride()..];
            let mut sums = [[0i32; NR]; MR];
            let count = if a.rows() - row >= MR {
                sum_rows::<MR>(values, a.stride(), left, &mut sums, 0);
                sum_rows::<MR>(values, a.stride(), right, &mut sums, PANEL)
            } else {
                sum_rows::<1>(values, a.stride(), left, &mut sums, 0);
                sum_rows::<1>(values, a.stride(), right, &mut sums, PANEL)
            };
            store(Place { a, w, row, count, first: tile * NR }, &sums, bias, out);
            row += count;
        }
    }
}

/// Integer sums of `ROWS` rows by one panel, from column `first` of `sums` on; returns `ROWS`.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_rows<const ROWS: usize>(
    values: &[u8],
    stride: usize,
    panel: &[u8],
    sums: &mut [[i32; NR]; MR],
    first: usize,
) -> usize {
    assert!(
        values.len() >= ROWS * stride && panel.len() == PANEL * stride && ROWS <= MR && first + PANEL <= NR
    );
    // Four columns a register, two partial sums a column.
    let mut lanes = [[_mm256_setzero_si256(); 4]; ROWS];
    for four in (0..stride).step_by(4) {
        let mut fours = [_mm256_setzero_si256(); ROWS];
        for (r, wide) in fours.iter_mut().enumerate() {
            // SAFETY: row `r` has `stride` bytes (asserted above).
            let value = unsafe { values.as_ptr().add(r * stride + four).cast::<i32>().read_unaligned() };
            *wide = _mm256_cvtepu8_epi16(_mm_set1_epi32(value));
        }
        for quarter in 0..4 {
            // SAFETY: the panel holds 64 bytes for every four of `stride`; this reads 16 of them.
            let weights = unsafe { _mm_loadu_si128(panel.as_ptr().add(four * PANEL + quarter * 16).cast()) };
            let weights = _mm256_cvtepi8_epi16(weights);
            for (lanes, wide) in lanes.iter_mut().zip(&fours) {
                lanes[quarter] = _mm256_add_epi32(lanes[quarter], _mm256_madd_epi16(weights, *wide));
            }
        }
    }
    for (sums, lanes) in sums.iter_mut().zip(&lanes) {
        for (quarter, lane) in lanes.iter().enumerate() {
            let mut partial = [0i32; 8];
            // SAFETY: eight i32 are one register.
            unsafe { _mm256_storeu_si256(partial.as_mut_ptr().cast(), *lane) };
            for column in 0..4 {
                sums[first + quarter * 4 + column] = partial[column * 2] + partial[column * 2 + 1];
            }
        }
    }
    ROWS
}

/// # Safety
/// The machine has AVX2 and FMA; sizes as `super::tile32` checks them.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn tile32(a: &Slab<'_>, depth: usize, panels: &[f32], out: &mut Target<'_>) {
    let mut row = 0;
    while row < a.rows {
        let (values, sums) = (&a.data[row * a.stride..], &mut out.data[row * out.stride..]);
        row += match a.rows - row {
            3.. => tile32_rows::<3>(
                values,
                a.stride,
                depth,
                panels,
                &mut Target { data: sums, stride: out.stride },
            ),
            _ => tile32_rows::<1>(
                values,
                a.stride,
                depth,
                panels,
                &mut Target { data: sums, stride: out.stride },
            ),
        };
    }
}

/// Sums of `ROWS` rows; returns `ROWS`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn tile32_rows<const ROWS: usize>(
    values: &[f32],
    stride: usize,
    depth: usize,
    panels: &[f32],
    out: &mut Target<'_>,
) -> usize {
    assert!(panels.len() >= depth * NR && values.len() >= (ROWS - 1) * stride + depth);
    assert!(out.data.len() >= (ROWS - 1) * out.stride + NR);
    let mut lanes = [[_mm256_setzero_ps(); 4]; ROWS];
    for k in 0..depth {
        for quarter in 0..4 {
            let at = (quarter / 2 * depth + k) * PANEL + quarter % 2 * 8;
            // SAFETY: each panel holds 16 values for each of `depth` (asserted above).
            let weights = unsafe { _mm256_loadu_ps(panels.as_ptr().add(at)) };
            for (r, lanes) in lanes.iter_mut().enumerate() {
                // SAFETY: row `r` has `depth` values (asserted above).
                let value = _mm256_set1_ps(unsafe { *values.get_unchecked(r * stride + k) });
                lanes[quarter] = _mm256_fmadd_ps(value, weights, lanes[quarter]);
            }
        }
    }
    for (r, lanes) in lanes.iter().enumerate() {
        for (quarter, lane) in lanes.iter().enumerate() {
            // SAFETY: row `r` of the target has 32 values, four registers (asserted above).
            unsafe { _mm256_storeu_ps(out.data.as_mut_ptr().add(r * out.stride + quarter * 8), *lane) };
        }
    }
    ROWS
}
