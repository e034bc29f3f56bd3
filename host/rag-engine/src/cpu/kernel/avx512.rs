//! The kernels for AVX-512 with VNNI: a register holds 16 rows, one instruction multiplies four columns of each.

#![expect(clippy::needless_range_loop, reason = "one index runs over several arrays of the same length")]

use std::arch::x86_64::*;

use super::super::matrix::{Format, INT8_STEP_BYTES, NF4, NIBBLE_STEP_BYTES, PANEL, STEP};
use super::{Panel, Sums, Tile};

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

/// # Safety
/// `panel.check` passed for these inputs.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn quantised<const T: usize>(panel: Panel<'_>, tile: Tile<'_>) -> Sums<T> {
    match panel.format {
        // SAFETY: passed on.
        Format::Int4 => unsafe { blocks::<T, Int4>(panel, tile) },
        // SAFETY: passed on.
        Format::Nf4 => unsafe { blocks::<T, Nf4>(panel, tile) },
        // SAFETY: passed on.
        Format::Int8 | Format::F32 => unsafe { blocks::<T, Int8>(panel, tile) },
    }
}

/// How a step's levels become eight registers, one for each group of four columns.
trait Levels {
    /// Bytes of a step.
    const BYTES: usize;

    /// # Safety
    /// `BYTES` bytes are readable; the processor has AVX-512 F and BW.
    unsafe fn groups(levels: *const u8) -> [__m512i; 8];
}

struct Int8;
struct Int4;
struct Nf4;

impl Levels for Int8 {
    const BYTES: usize = INT8_STEP_BYTES;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn groups(levels: *const u8) -> [__m512i; 8] {
        let mut groups = [_mm512_setzero_si512(); 8];
        for g in 0..8 {
            // SAFETY: 8 groups of 64 bytes, as promised.
            groups[g] = unsafe { _mm512_loadu_si512(levels.add(g * 64).cast()) };
        }
        groups
    }
}

impl Levels for Int4 {
    const BYTES: usize = NIBBLE_STEP_BYTES;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn groups(levels: *const u8) -> [__m512i; 8] {
        let low = _mm512_set1_epi8(15);
        let mut groups = [_mm512_setzero_si512(); 8];
        for p in 0..4 {
            // SAFETY: 4 pairs of groups of 64 bytes, as promised.
            let pair = unsafe { _mm512_loadu_si512(levels.add(p * 64).cast()) };
            groups[p] = _mm512_and_si512(pair, low);
            groups[p + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(pair), low);
        }
        groups
    }
}

impl Levels for Nf4 {
    const BYTES: usize = NIBBLE_STEP_BYTES;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn groups(levels: *const u8) -> [__m512i; 8] {
        // SAFETY: the table has 16 bytes; the rest as promised.
        let (table, mut groups) =
            unsafe { (_mm512_broadcast_i32x4(_mm_loadu_si128(NF4.as_ptr().cast())), Int4::groups(levels)) };
        for g in 0..8 {
            groups[g] = _mm512_shuffle_epi8(table, groups[g]);
        }
        groups
    }
}

/// # Safety
/// `panel.check` passed for these inputs; the processor has AVX-512 F, BW and VNNI.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn blocks<const T: usize, L: Levels>(panel: Panel<'_>, tile: Tile<'_>) -> Sums<T> {
    let (count, steps) = (panel.scales.len(), panel.block / STEP);
    let row_levels = count * panel.block;
    let input = tile.input;
    // SAFETY: the first of T rows that lie within each of the three: checked.
    let (inputs, input_scales, input_sums) = unsafe {
        (
            input.levels.as_ptr().add(tile.row * row_levels),
            input.scales.as_ptr().add(tile.row * count),
            input.sums.as_ptr().add(tile.row * count),
        )
    };
    let zero = -panel.zero();
    let mut levels = panel.levels.as_ptr();
    let mut sums = [_mm512_setzero_ps(); T];
    for b in 0..count {
        let mut dots = [_mm512_setzero_si512(); T];
        for step in 0..steps {
            // SAFETY: a panel has `count · steps` steps of `BYTES` bytes.
            let groups = unsafe { L::groups(levels) };
            for t in 0..T {
                // SAFETY: a step of inputs is 8 groups of 4 bytes.
                let group = unsafe { inputs.add(t * row_levels + b * panel.block + step * STEP) };
                for g in 0..8 {
                    // SAFETY: as above.
                    let group = unsafe { group.cast::<i32>().add(g).read_unaligned() };
                    dots[t] = _mm512_dpbusd_epi32(dots[t], groups[g], _mm512_set1_epi32(group));
                }
            }
            // SAFETY: at most one past the panel's end.
            levels = unsafe { levels.add(L::BYTES) };
        }
        let scales = halves(&panel.scales[b]);
        for t in 0..T {
            // SAFETY: row t < T and block b < count.
            let (scale, sum) = unsafe { (*input_scales.add(t * count + b), *input_sums.add(t * count + b)) };
            let dots = _mm512_add_epi32(dots[t], _mm512_set1_epi32(zero * sum));
            let scales = _mm512_mul_ps(scales, _mm512_set1_ps(scale));
            sums[t] = _mm512_add_ps(sums[t], _mm512_mul_ps(_mm512_cvtepi32_ps(dots), scales));
            if panel.format == Format::Int4 {
                let minima = halves(&panel.minima[b]);
                let minimum = _mm512_mul_ps(minima, _mm512_set1_ps(sum as f32 * scale));
                sums[t] = _mm512_add_ps(sums[t], minimum);
            }
        }
    }
    store(sums)
}

/// Writes a panel's levels as bytes, [cols, padded][16 rows][4]: what AMX reads.
///
/// # Safety
/// `bytes` has room for 16 bytes a padded column of the panel; its format is a nibble one, its levels whole.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn unpack(panel: Panel<'_>, bytes: &mut [u8]) {
    let steps = panel.levels.len() / NIBBLE_STEP_BYTES;
    assert!(bytes.len() >= steps * INT8_STEP_BYTES, "no room for a panel");
    for step in 0..steps {
        // SAFETY: the panel has so many steps; the instructions are those of this function.
        let groups = unsafe {
            let levels = panel.levels.as_ptr().add(step * NIBBLE_STEP_BYTES);
            if panel.format == Format::Nf4 { Nf4::groups(levels) } else { Int4::groups(levels) }
        };
        for (g, group) in groups.into_iter().enumerate() {
            // SAFETY: within `bytes`: checked above.
            unsafe {
                _mm512_storeu_si512(bytes.as_mut_ptr().add(step * INT8_STEP_BYTES + g * 64).cast(), group);
            }
        }
    }
}

/// Sixteen half-precision values as f32.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn halves(values: &[u16; PANEL]) -> __m512 {
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
