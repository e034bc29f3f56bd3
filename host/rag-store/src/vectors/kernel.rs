//! Sums of products of codes and a query, by the widest instructions that this processor has.
//!
//! All variants give the same integers. A block holds the signs of 16 rows: a line for each 32 components, of which each
//! quarter has a byte a row with the bits of 8 components. The halves of a row's codes lie in lines of 128 components,
//! byte `j` of a line with component `j` in its lower half and component `64 + j` in its upper one.

#![expect(
    unsafe_code,
    reason = "calls functions compiled for instructions that were looked for, and loads whole registers"
)]

use std::sync::OnceLock;

use super::frame::hadamard;

/// Rows of a block.
pub(super) const BLOCK_ROWS: usize = 16;
/// Bytes of a line.
pub(super) const LINE_BYTES: usize = 64;
/// Components of a row whose halves fill a line.
pub(super) const LINE_HALVES: usize = 128;
/// Components of a block whose signs fill a line.
pub(super) const LINE_SIGNS: usize = 32;
/// Lines of a block whose sums stay below 2¹⁶: each adds eight numbers below 128 to a row.
const LINES_SUMMED: usize = 64;

/// What a processor reads from memory at once.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; LINE_BYTES]);

/// For a line of a block the numbers below 128 that each lower and each upper half of a byte stands for: 16 a quarter.
pub(super) type Tables = [Line; 2];

/// What a first look at rows needs to know of a query.
pub(super) struct FirstLook<'a> {
    /// One for each line of a block.
    pub(super) tables: &'a [Tables],
    /// A product is twice the sum of the tables' numbers less this.
    pub(super) moved: i32,
    /// What one of the product is worth.
    pub(super) unit: f32,
    /// How much larger the product may be than it looks.
    pub(super) reach: f32,
}

/// A set of functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Simd {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Simd {
    /// The best that this processor runs.
    pub(super) fn detect() -> Self {
        static BEST: OnceLock<Simd> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Simd::Portable))
    }

    /// All that this processor runs, slowest first.
    pub(super) fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "others are for x86-64"))]
        let mut sets = vec![Simd::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma");
            if avx2 {
                sets.push(Simd::Avx2);
            }
            if avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vnni") {
                sets.push(Simd::Avx512);
            }
        }
        sets
    }

    /// Appends for each row the most that its score may be: product times factor, less offset.
    pub(super) fn bounds(
        self,
        blocks: &[Line],
        factors: &[f32],
        offsets: &[f32],
        look: &FirstLook<'_>,
        out: &mut Vec<f32>,
    ) {
        debug_assert_eq!(blocks.len(), factors.len().div_ceil(BLOCK_ROWS) * look.tables.len());
        match self {
            Simd::Portable => bounds_any(block_portable, blocks, factors, offsets, look, out),
            // SAFETY: made by `available` only where the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => unsafe { x86::bounds_avx2(blocks, factors, offsets, look, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => unsafe { x86::bounds_avx512(blocks, factors, offsets, look, out) },
        }
    }

    /// The sum of code × query of a row of half codes, from 0 to 15. `query` has 128 values a line.
    pub(super) fn row(self, row: &[Line], query: &[i8]) -> i32 {
        match self {
            Simd::Portable => row_any(row, query),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => unsafe { x86::row_avx2(row, query) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => unsafe { x86::row_avx512(row, query) },
        }
    }

    /// The sum of products of two vectors of equal length.
    pub(super) fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        match self {
            Simd::Portable => dot_any(a, b),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => unsafe { x86::dot_avx2(a, b) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => unsafe { x86::dot_avx512(a, b) },
        }
    }

    /// Hadamard's transform of as many values as a power of two; lengths stay.
    pub(super) fn hadamard(self, values: &mut [f32]) {
        match self {
            Simd::Portable => hadamard(values),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => unsafe { x86::hadamard_avx2(values) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => unsafe { x86::hadamard_avx512(values) },
        }
    }

    /// Has lines brought near that will be read soon.
    pub(super) fn ask_for(self, lines: &[Line]) {
        #[cfg(target_arch = "x86_64")]
        lines.iter().for_each(x86::ask_for);
        #[cfg(not(target_arch = "x86_64"))]
        let _ = lines;
    }
}

#[inline(always)]
fn bounds_any(
    sums: impl Fn(&[Line], &[Tables]) -> [i32; BLOCK_ROWS],
    blocks: &[Line],
    factors: &[f32],
    offsets: &[f32],
    look: &FirstLook<'_>,
    out: &mut Vec<f32>,
) {
    let rows = factors.chunks(BLOCK_ROWS).zip(offsets.chunks(BLOCK_ROWS));
    for (block, (factors, offsets)) in blocks.chunks_exact(look.tables.len()).zip(rows) {
        let sums = sums(block, look.tables);
        let mut bounds = [0.0; BLOCK_ROWS];
        let (all_factors, all_offsets) = (sixteen(factors), sixteen(offsets));
        for lane in 0..BLOCK_ROWS {
            let product = (2 * sums[lane] - look.moved) as f32 * look.unit + look.reach;
            // Huge components may overflow to what is no number; such a row is far.
            bounds[lane] = (product * all_factors[lane] - all_offsets[lane]).max(f32::MIN);
        }
        out.extend_from_slice(&bounds[..factors.len()]);
    }
}

/// With zeros where there are fewer.
#[inline(always)]
fn sixteen(values: &[f32]) -> [f32; BLOCK_ROWS] {
    values
        .first_chunk()
        .copied()
        .unwrap_or_else(|| std::array::from_fn(|at| values.get(at).map_or(0.0, |v| *v)))
}

fn block_portable(block: &[Line], tables: &[Tables]) -> [i32; BLOCK_ROWS] {
    let mut sums = [0_i32; BLOCK_ROWS];
    for (line, [lower, upper]) in block.iter().zip(tables) {
        for quarter in 0..4 {
            for (sum, byte) in sums.iter_mut().zip(&line.0[16 * quarter..]) {
                let (low, high) = (usize::from(byte & 15), usize::from(byte >> 4));
                *sum += i32::from(lower.0[16 * quarter + low]) + i32::from(upper.0[16 * quarter + high]);
            }
        }
    }
    sums
}

/// Plain loops, which the compiler turns into what the caller's instructions allow.
#[inline(always)]
fn row_any(row: &[Line], query: &[i8]) -> i32 {
    let mut sum = 0;
    for (line, query) in row.iter().zip(query.as_chunks::<LINE_HALVES>().0) {
        for at in 0..LINE_BYTES {
            sum += i32::from(line.0[at] & 15) * i32::from(query[at])
                + i32::from(line.0[at] >> 4) * i32::from(query[LINE_BYTES + at]);
        }
    }
    sum
}

/// Components summed side by side.
const LANES: usize = 32;

#[inline(always)]
fn dot_any(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The same for AVX2 and AVX-512.

    use std::arch::x86_64::{
        __m128i, __m256i, __m512i, _MM_HINT_T0, _mm_add_epi16, _mm_prefetch, _mm_unpackhi_epi16,
        _mm_unpacklo_epi16, _mm256_add_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256,
        _mm256_castsi256_si128, _mm256_cvtepu16_epi32, _mm256_extracti128_si256, _mm256_load_si256,
        _mm256_loadu_si256, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_setzero_si256, _mm256_shuffle_epi8,
        _mm256_srli_epi16, _mm256_storeu_si256, _mm512_add_epi8, _mm512_add_epi16, _mm512_add_epi32,
        _mm512_and_si512, _mm512_castsi512_si256, _mm512_dpbusd_epi32, _mm512_extracti64x4_epi64,
        _mm512_load_si512, _mm512_loadu_si512, _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_set1_epi16,
        _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi16,
    };

    use super::hadamard;
    use super::{
        BLOCK_ROWS, FirstLook, LINE_BYTES, LINE_HALVES, LINES_SUMMED, Line, Tables, bounds_any, dot_any,
        row_any,
    };

    /// How far ahead of the signs in use memory is asked for: a scan waits for memory and little else.
    const AHEAD_LINES: usize = 64;

    pub(super) fn ask_for(line: &Line) {
        // SAFETY: every x86-64 has the instruction.
        unsafe { ask(line) }
    }

    #[inline]
    #[target_feature(enable = "sse")]
    fn ask(line: *const Line) {
        // It faults nowhere, whatever lies there.
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) fn bounds_avx512(
        blocks: &[Line],
        factors: &[f32],
        offsets: &[f32],
        look: &FirstLook<'_>,
        out: &mut Vec<f32>,
    ) {
        bounds_any(|block, tables| block_avx512(block, tables), blocks, factors, offsets, look, out);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn bounds_avx2(
        blocks: &[Line],
        factors: &[f32],
        offsets: &[f32],
        look: &FirstLook<'_>,
        out: &mut Vec<f32>,
    ) {
        bounds_any(|block, tables| block_avx2(block, tables), blocks, factors, offsets, look, out);
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn block_avx512(block: &[Line], tables: &[Tables]) -> [i32; BLOCK_ROWS] {
        let (half, even) = (_mm512_set1_epi8(15), _mm512_set1_epi16(255));
        let mut sums = [0; BLOCK_ROWS];
        for (lines, tables) in block.chunks(LINES_SUMMED).zip(tables.chunks(LINES_SUMMED)) {
            let (mut evens, mut odds) = (_mm512_setzero_si512(), _mm512_setzero_si512());
            for (line, [lower, upper]) in lines.iter().zip(tables) {
                ask(std::ptr::from_ref(line).wrapping_add(AHEAD_LINES));
                // SAFETY: a line is the 64 bytes of a register, and lies as one has to.
                let (codes, lower, upper): (__m512i, __m512i, __m512i) = unsafe {
                    (
                        _mm512_load_si512(line.0.as_ptr().cast()),
                        _mm512_load_si512(lower.0.as_ptr().cast()),
                        _mm512_load_si512(upper.0.as_ptr().cast()),
                    )
                };
                let numbers = _mm512_add_epi8(
                    _mm512_shuffle_epi8(lower, _mm512_and_si512(codes, half)),
                    _mm512_shuffle_epi8(upper, _mm512_and_si512(_mm512_srli_epi16::<4>(codes), half)),
                );
                evens = _mm512_add_epi16(evens, _mm512_and_si512(numbers, even));
                odds = _mm512_add_epi16(odds, _mm512_srli_epi16::<8>(numbers));
            }
            let halves = |sums: __m512i| {
                _mm256_add_epi16(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64::<1>(sums))
            };
            add(&mut sums, halves(evens), halves(odds));
        }
        sums
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn block_avx2(block: &[Line], tables: &[Tables]) -> [i32; BLOCK_ROWS] {
        let (half, even) = (_mm256_set1_epi8(15), _mm256_set1_epi16(255));
        let mut sums = [0; BLOCK_ROWS];
        for (lines, tables) in block.chunks(LINES_SUMMED).zip(tables.chunks(LINES_SUMMED)) {
            let (mut evens, mut odds) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            for (line, [lower, upper]) in lines.iter().zip(tables) {
                ask(std::ptr::from_ref(line).wrapping_add(AHEAD_LINES));
                let parts = line.0.as_chunks::<32>().0.iter();
                let tables = lower.0.as_chunks::<32>().0.iter().zip(upper.0.as_chunks::<32>().0);
                for (codes, (lower, upper)) in parts.zip(tables) {
                    // SAFETY: each is the 32 bytes of a register, and lies as one has to.
                    let (codes, lower, upper): (__m256i, __m256i, __m256i) = unsafe {
                        (
                            _mm256_load_si256(codes.as_ptr().cast()),
                            _mm256_load_si256(lower.as_ptr().cast()),
                            _mm256_load_si256(upper.as_ptr().cast()),
                        )
                    };
                    let numbers = _mm256_add_epi8(
                        _mm256_shuffle_epi8(lower, _mm256_and_si256(codes, half)),
                        _mm256_shuffle_epi8(upper, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), half)),
                    );
                    evens = _mm256_add_epi16(evens, _mm256_and_si256(numbers, even));
                    odds = _mm256_add_epi16(odds, _mm256_srli_epi16::<8>(numbers));
                }
            }
            add(&mut sums, evens, odds);
        }
        sums
    }

    /// Adds what the quarters have for each row; those of even and of odd number lie apart.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(sums: &mut [i32; BLOCK_ROWS], evens: __m256i, odds: __m256i) {
        let fold = |sums: __m256i| -> __m128i {
            _mm_add_epi16(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums))
        };
        let (evens, odds) = (fold(evens), fold(odds));
        let parts = [_mm_unpacklo_epi16(evens, odds), _mm_unpackhi_epi16(evens, odds)];
        for (sums, part) in sums.as_chunks_mut::<8>().0.iter_mut().zip(parts) {
            let to = sums.as_mut_ptr().cast::<__m256i>();
            // SAFETY: 8 numbers are the 32 bytes of one register.
            unsafe {
                let before = _mm256_loadu_si256(to);
                _mm256_storeu_si256(to, _mm256_add_epi32(before, _mm256_cvtepu16_epi32(part)));
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) fn row_avx512(row: &[Line], query: &[i8]) -> i32 {
        let half = _mm512_set1_epi8(15);
        let (mut first, mut second) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for (line, query) in row.iter().zip(query.as_chunks::<LINE_HALVES>().0) {
            // SAFETY: a line is the 64 bytes of a register, and 128 values are those of two.
            let (codes, lower, upper): (__m512i, __m512i, __m512i) = unsafe {
                (
                    _mm512_load_si512(line.0.as_ptr().cast()),
                    _mm512_loadu_si512(query.as_ptr().cast()),
                    _mm512_loadu_si512(query.as_ptr().add(LINE_BYTES).cast()),
                )
            };
            first = _mm512_dpbusd_epi32(first, _mm512_and_si512(codes, half), lower);
            let codes = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), half);
            second = _mm512_dpbusd_epi32(second, codes, upper);
        }
        _mm512_reduce_add_epi32(_mm512_add_epi32(first, second))
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn row_avx2(row: &[Line], query: &[i8]) -> i32 {
        row_any(row, query)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) fn dot_avx512(a: &[f32], b: &[f32]) -> f32 {
        dot_any(a, b)
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn dot_avx2(a: &[f32], b: &[f32]) -> f32 {
        dot_any(a, b)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) fn hadamard_avx512(values: &mut [f32]) {
        hadamard(values);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn hadamard_avx2(values: &mut [f32]) {
        hadamard(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize, number: impl Fn(usize) -> u8) -> Vec<Line> {
        (0..count).map(|line| Line(std::array::from_fn(|at| number(line * LINE_BYTES + at)))).collect()
    }

    fn noise(at: usize) -> u8 {
        ((at * 2_654_435_761) >> 7) as u8
    }

    #[test]
    fn every_set_gives_the_same_sums() {
        for count in [1, 2, 3, 8, 128] {
            let row = lines(count, noise);
            let dim = count * LINE_HALVES;
            for query in [
                (0..dim).map(|at| (at * 91 % 255) as u8 as i8).collect::<Vec<i8>>(),
                vec![-128; dim],
                vec![127; dim],
            ] {
                let code = |at: usize| {
                    let byte = row[at / LINE_HALVES].0[at % LINE_BYTES];
                    i32::from(if at % LINE_HALVES < LINE_BYTES { byte & 15 } else { byte >> 4 })
                };
                let expected: i32 = (0..dim).map(|at| code(at) * i32::from(query[at])).sum();
                for simd in Simd::available() {
                    assert_eq!(simd.row(&row, &query), expected, "{simd:?} {dim}");
                }
            }
        }
    }

    #[test]
    fn every_set_gives_the_same_bounds() {
        // Up to the most components that a vector has, with the largest numbers.
        for (count, rows, largest) in [(1_usize, 1_usize, 127), (3, 16, 100), (12, 37, 127), (512, 20, 127)] {
            let blocks = lines(rows.div_ceil(BLOCK_ROWS) * count, noise);
            let number = |at: usize| {
                if largest == 127 && !at.is_multiple_of(3) { 127 } else { noise(at) % (largest + 1) }
            };
            let tables: Vec<Tables> = lines(2 * count, number).as_chunks::<2>().0.to_vec();
            let factors: Vec<f32> = (0..rows).map(|at| at as f32).collect();
            let offsets: Vec<f32> = (0..rows).map(|at| (at * 3 % 7) as f32).collect();
            let look = FirstLook { tables: &tables, moved: 777, unit: 0.5, reach: 2.0 };
            let expected: Vec<f32> = (0..rows)
                .map(|row| {
                    let block = &blocks[row / BLOCK_ROWS * count..][..count];
                    let sum = block_portable(block, &tables)[row % BLOCK_ROWS];
                    ((2 * sum - 777) as f32 * 0.5 + 2.0) * factors[row] - offsets[row]
                })
                .collect();
            for simd in Simd::available() {
                let mut bounds = Vec::new();
                simd.bounds(&blocks, &factors, &offsets, &look, &mut bounds);
                for (bound, expected) in bounds.iter().zip(&expected) {
                    assert!((bound - expected).abs() <= expected.abs() * 1e-6, "{simd:?} {bound} {expected}");
                }
                assert_eq!(bounds.len(), rows, "{simd:?}");
            }
        }
    }

    #[test]
    fn products_agree_with_their_definition_at_every_length() {
        for length in 0..100_usize {
            let a: Vec<f32> = (0..length).map(|at| (at as f32 * 0.7).sin()).collect();
            let b: Vec<f32> = (0..length).map(|at| (at as f32 * 1.3).cos()).collect();
            let plain: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            for simd in Simd::available() {
                assert!((f64::from(simd.dot(&a, &b)) - plain).abs() < 1e-5, "{simd:?} {length}");
            }
        }
    }
}
