//! The kernels for AVX2: 16 rows are two registers of f32, and levels are widened to 16 bits before they are multiplied.

use std::arch::x86_64::*;

use super::super::matrix::{Format, NF4, PANEL};
use super::super::product::InputBlock;
use super::{Panel, Sums, Tile};

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

/// # Safety
/// `panel.check` passed for these inputs.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn quantised<const T: usize>(panel: Panel<'_>, tile: Tile<'_>) -> Sums<T> {
    let mut sums = [[_mm256_setzero_ps(); 2]; T];
    let blocks = panel.levels.chunks_exact(panel.format.block_bytes(panel.block));
    for (b, levels) in blocks.enumerate() {
        let mut pairs = [[_mm256_setzero_si256(); 4]; T];
        let inputs: [InputBlock<'_>; T] = std::array::from_fn(|t| tile.block(t, b));
        match panel.format {
            Format::Int8 | Format::F32 => add_int8(levels, &inputs, &mut pairs),
            Format::Int4 | Format::Nf4 => add_nibbles(levels, panel.format, &inputs, &mut pairs),
        }
        let scales = halves(&panel.scales[b]);
        for t in 0..T {
            let InputBlock { scale, sum, .. } = inputs[t];
            let zero = _mm256_set1_epi32(-panel.zero() * sum);
            let input_scale = _mm256_set1_ps(scale);
            for (half, dots) in dots(pairs[t]).into_iter().enumerate() {
                let values = _mm256_cvtepi32_ps(_mm256_add_epi32(dots, zero));
                let scaled = _mm256_mul_ps(values, _mm256_mul_ps(scales[half], input_scale));
                sums[t][half] = _mm256_add_ps(sums[t][half], scaled);
            }
            if let Some(minima) = panel.minima.get(b) {
                let input_sum = _mm256_set1_ps(sum as f32 * scale);
                for (sum, minima) in sums[t].iter_mut().zip(halves(minima)) {
                    *sum = _mm256_add_ps(*sum, _mm256_mul_ps(minima, input_sum));
                }
            }
        }
    }
    store(sums)
}

/// Partial sums of each input: four rows a register, two sums a row.
type Pairs<const T: usize> = [[__m256i; 4]; T];

/// Adds a block's products.
#[inline]
#[target_feature(enable = "avx2")]
fn add_int8<const T: usize>(levels: &[u8], inputs: &[InputBlock<'_>; T], pairs: &mut Pairs<T>) {
    for (g, group) in levels.as_chunks::<64>().0.iter().enumerate() {
        for (quarter, rows) in group.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: 16 bytes: four rows by four columns.
            let rows = _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(rows.as_ptr().cast()) });
            for t in 0..T {
                let products = _mm256_madd_epi16(rows, four(inputs[t].levels, g));
                pairs[t][quarter] = _mm256_add_epi32(pairs[t][quarter], products);
            }
        }
    }
}

/// Adds a block's products.
#[inline]
#[target_feature(enable = "avx2")]
fn add_nibbles<const T: usize>(
    levels: &[u8],
    format: Format,
    inputs: &[InputBlock<'_>; T],
    pairs: &mut Pairs<T>,
) {
    let low = _mm_set1_epi8(15);
    // SAFETY: the table has 16 bytes.
    let table = unsafe { _mm_loadu_si128(NF4.as_ptr().cast()) };
    for (p, pair) in levels.as_chunks::<64>().0.iter().enumerate() {
        // Four pairs of groups make a step of eight groups.
        let group = p / 4 * 8 + p % 4;
        for (quarter, rows) in pair.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: 16 bytes.
            let rows = unsafe { _mm_loadu_si128(rows.as_ptr().cast()) };
            let mut nibbles = [_mm_and_si128(rows, low), _mm_and_si128(_mm_srli_epi16::<4>(rows), low)];
            if format == Format::Nf4 {
                nibbles = [_mm_shuffle_epi8(table, nibbles[0]), _mm_shuffle_epi8(table, nibbles[1])];
            }
            let [first, second] = [_mm256_cvtepu8_epi16(nibbles[0]), _mm256_cvtepu8_epi16(nibbles[1])];
            for t in 0..T {
                let products = _mm256_add_epi32(
                    _mm256_madd_epi16(first, four(inputs[t].levels, group)),
                    _mm256_madd_epi16(second, four(inputs[t].levels, group + 4)),
                );
                pairs[t][quarter] = _mm256_add_epi32(pairs[t][quarter], products);
            }
        }
    }
}

/// Group `g` of a block of inputs, as 16-bit numbers, four times.
#[inline]
#[target_feature(enable = "avx2")]
fn four(block: &[i8], g: usize) -> __m256i {
    let groups = block.as_chunks::<4>().0;
    let group = _mm_cvtsi32_si128(i32::from_le_bytes(groups[g].map(|level| level as u8)));
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
