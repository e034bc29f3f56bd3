//! Products on AVX-512: `vpdpbusd` for int8 (12 rows by 32 columns in 24 registers), FMA for f32 (8 by 32).

use std::arch::x86_64::*;

use super::{NR, PANEL, Place, Rows8, Slab, Target, Weights8, store};

/// Rows of the largest int8 tile.
const MR: usize = 12;

/// # Safety
/// The machine has AVX-512 F, BW, VL, DQ and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn product8(a: &Rows8, w: &Weights8, bias: &[f32], out: &mut [f32]) {
    for tile in 0..w.tiles() {
        let panels = w.tile(tile);
        let mut row = 0;
        while row < a.rows() {
            let values = &a.bytes()[row * a.stride()..];
            let mut sums = [[0i32; NR]; MR];
            let count = match a.rows() - row {
                12.. => sum_rows::<12>(values, a.stride(), panels, &mut sums),
                6..12 => sum_rows::<6>(values, a.stride(), panels, &mut sums),
                3..6 => sum_rows::<3>(values, a.stride(), panels, &mut sums),
                _ => sum_rows::<1>(values, a.stride(), panels, &mut sums),
            };
            store(Place { a, w, row, count, first: tile * NR }, &sums, bias, out);
            row += count;
        }
    }
}

/// Integer sums of `ROWS` rows; returns `ROWS`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn sum_rows<const ROWS: usize>(
    values: &[u8],
    stride: usize,
    panels: &[u8],
    sums: &mut [[i32; NR]; MR],
) -> usize {
    assert!(values.len() >= ROWS * stride && panels.len() == NR * stride && ROWS <= MR);
    let (left, right) = panels.split_at(PANEL * stride);
    let mut lanes = [[_mm512_setzero_si512(); 2]; ROWS];
    for four in (0..stride).step_by(4) {
        // SAFETY: `four + 4 <= stride` (a multiple of 64), and the panels hold 16 bytes for each of `stride`.
        let pair = unsafe {
            [
                _mm512_loadu_si512(left.as_ptr().add(four * PANEL).cast()),
                _mm512_loadu_si512(right.as_ptr().add(four * PANEL).cast()),
            ]
        };
        for (r, lanes) in lanes.iter_mut().enumerate() {
            // SAFETY: row `r` has `stride` bytes (asserted above).
            let value = unsafe { values.as_ptr().add(r * stride + four).cast::<i32>().read_unaligned() };
            let value = _mm512_set1_epi32(value);
            lanes[0] = _mm512_dpbusd_epi32(lanes[0], value, pair[0]);
            lanes[1] = _mm512_dpbusd_epi32(lanes[1], value, pair[1]);
        }
    }
    for (sums, lanes) in sums.iter_mut().zip(&lanes) {
        // SAFETY: a row of sums is 32 i32, two registers.
        unsafe {
            _mm512_storeu_si512(sums.as_mut_ptr().cast(), lanes[0]);
            _mm512_storeu_si512(sums.as_mut_ptr().add(PANEL).cast(), lanes[1]);
        }
    }
    ROWS
}

/// # Safety
/// The machine has AVX-512 F; sizes as `super::tile32` checks them.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn tile32(a: &Slab<'_>, depth: usize, panels: &[f32], out: &mut Target<'_>) {
    let mut row = 0;
    while row < a.rows {
        let (values, sums) = (&a.data[row * a.stride..], &mut out.data[row * out.stride..]);
        row += match a.rows - row {
            8.. => tile32_rows::<8>(
                values,
                a.stride,
                depth,
                panels,
                &mut Target { data: sums, stride: out.stride },
            ),
            4..8 => tile32_rows::<4>(
                values,
                a.stride,
                depth,
                panels,
                &mut Target { data: sums, stride: out.stride },
            ),
            2..4 => tile32_rows::<2>(
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
#[target_feature(enable = "avx512f")]
fn tile32_rows<const ROWS: usize>(
    values: &[f32],
    stride: usize,
    depth: usize,
    panels: &[f32],
    out: &mut Target<'_>,
) -> usize {
    assert!(panels.len() >= depth * NR && values.len() >= (ROWS - 1) * stride + depth);
    assert!(out.data.len() >= (ROWS - 1) * out.stride + NR);
    let mut lanes = [[_mm512_setzero_ps(); 2]; ROWS];
    for k in 0..depth {
        // SAFETY: each panel holds 16 values for each of `depth` (asserted above).
        let pair = unsafe {
            [
                _mm512_loadu_ps(panels.as_ptr().add(k * PANEL)),
                _mm512_loadu_ps(panels.as_ptr().add((depth + k) * PANEL)),
            ]
        };
        for (r, lanes) in lanes.iter_mut().enumerate() {
            // SAFETY: row `r` has `depth` values (asserted above).
            let value = _mm512_set1_ps(unsafe { *values.get_unchecked(r * stride + k) });
            lanes[0] = _mm512_fmadd_ps(value, pair[0], lanes[0]);
            lanes[1] = _mm512_fmadd_ps(value, pair[1], lanes[1]);
        }
    }
    for (r, lanes) in lanes.iter().enumerate() {
        // SAFETY: row `r` of the target has 32 values, two registers (asserted above).
        unsafe {
            _mm512_storeu_ps(out.data.as_mut_ptr().add(r * out.stride), lanes[0]);
            _mm512_storeu_ps(out.data.as_mut_ptr().add(r * out.stride + PANEL), lanes[1]);
        }
    }
    ROWS
}
