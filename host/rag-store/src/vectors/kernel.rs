//! Sums of products of codes and a query, by the widest instructions that this processor has.
//!
//! All variants give the same integers. A block holds the high halves of 16 rows' codes: for each group of 8 components
//! 64 bytes, 4 a row, of which byte `j` has component `j` of the group in its lower half and `4 + j` in its upper one.

#![expect(
    unsafe_code,
    reason = "calls functions compiled for instructions that were looked for, and loads whole registers"
)]

use std::sync::OnceLock;

/// Rows of a block.
pub(super) const BLOCK_ROWS: usize = 16;
/// Components that codes are padded to a multiple of: two groups.
pub(super) const STEP: usize = 16;
/// Bytes of a group in a block.
const GROUP_BYTES: usize = 64;

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

    /// For each row of a block the sum of code × query; codes are 0 to 15. `query` has 8 values a group.
    pub(super) fn block(self, block: &[u8], query: &[i8]) -> [i32; BLOCK_ROWS] {
        debug_assert_eq!(block.len(), query.len() / 8 * GROUP_BYTES);
        match self {
            Simd::Portable => block_portable(block, query),
            // SAFETY: made by `available` only where the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => unsafe { x86::block_avx2(block, query) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => unsafe { x86::block_avx512(block, query) },
        }
    }

    /// The sum of code × query of one row, whose byte `j` has component `j` in its lower half, and component
    /// `row.len() + j` in its upper one.
    pub(super) fn row(self, row: &[u8], query: &[i8]) -> i32 {
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
}

fn block_portable(block: &[u8], query: &[i8]) -> [i32; BLOCK_ROWS] {
    let mut sums = [0_i32; BLOCK_ROWS];
    for (group, query) in block.as_chunks::<GROUP_BYTES>().0.iter().zip(query.as_chunks::<8>().0) {
        for (sum, codes) in sums.iter_mut().zip(group.as_chunks::<4>().0) {
            for (at, code) in codes.iter().enumerate() {
                *sum += i32::from(code & 15) * i32::from(query[at])
                    + i32::from(code >> 4) * i32::from(query[4 + at]);
            }
        }
    }
    sums
}

/// Plain loops, which the compiler turns into what the caller's instructions allow.
#[inline(always)]
fn row_any(row: &[u8], query: &[i8]) -> i32 {
    let (lower, upper) = query.split_at(row.len().min(query.len()));
    let mut sum = 0;
    for ((code, lower), upper) in row.iter().zip(lower).zip(upper) {
        sum += i32::from(code & 15) * i32::from(*lower) + i32::from(code >> 4) * i32::from(*upper);
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
        __m256i, __m512i, _MM_HINT_T0, _mm_prefetch, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256,
        _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16,
        _mm256_set1_epi32, _mm256_setzero_si256, _mm256_srli_epi16, _mm256_storeu_si256, _mm512_add_epi32,
        _mm512_and_si512, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi8, _mm512_set1_epi32,
        _mm512_setzero_si512, _mm512_srli_epi16, _mm512_storeu_si512,
    };

    use super::{BLOCK_ROWS, GROUP_BYTES, dot_any, row_any};

    /// How far ahead of the codes in use memory is asked for: a scan waits for memory and little else.
    const AHEAD_BYTES: usize = 4096;

    #[inline]
    #[target_feature(enable = "sse")]
    fn ahead(group: &[u8; GROUP_BYTES]) {
        // It faults nowhere, whatever lies there.
        _mm_prefetch::<_MM_HINT_T0>(group.as_ptr().wrapping_add(AHEAD_BYTES).cast());
    }

    /// Four bytes of a query, for every row.
    #[target_feature(enable = "avx512f")]
    fn four(query: &[i8; 16], at: usize) -> __m512i {
        _mm512_set1_epi32(bytes(query, at))
    }

    fn bytes(query: &[i8], at: usize) -> i32 {
        let four = [query[at], query[at + 1], query[at + 2], query[at + 3]];
        i32::from_le_bytes(four.map(i8::cast_unsigned))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) fn block_avx512(block: &[u8], query: &[i8]) -> [i32; BLOCK_ROWS] {
        let half = _mm512_set1_epi8(15);
        let zero = _mm512_setzero_si512();
        let (mut first, mut second, mut third, mut fourth) = (zero, zero, zero, zero);
        let (pairs, _) = block.as_chunks::<{ 2 * GROUP_BYTES }>();
        for (pair, query) in pairs.iter().zip(query.as_chunks::<16>().0) {
            pair.as_chunks::<GROUP_BYTES>().0.iter().for_each(|group| ahead(group));
            // SAFETY: a pair of groups has the 64 bytes of two registers.
            let (one, other): (__m512i, __m512i) = unsafe {
                (
                    _mm512_loadu_si512(pair.as_ptr().cast()),
                    _mm512_loadu_si512(pair.as_ptr().add(GROUP_BYTES).cast()),
                )
            };
            let upper = |codes| _mm512_and_si512(_mm512_srli_epi16::<4>(codes), half);
            first = _mm512_dpbusd_epi32(first, _mm512_and_si512(one, half), four(query, 0));
            second = _mm512_dpbusd_epi32(second, upper(one), four(query, 4));
            third = _mm512_dpbusd_epi32(third, _mm512_and_si512(other, half), four(query, 8));
            fourth = _mm512_dpbusd_epi32(fourth, upper(other), four(query, 12));
        }
        let sum = _mm512_add_epi32(_mm512_add_epi32(first, second), _mm512_add_epi32(third, fourth));
        let mut out = [0; BLOCK_ROWS];
        // SAFETY: 16 numbers are the 64 bytes of one register.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sum) };
        out
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn block_avx2(block: &[u8], query: &[i8]) -> [i32; BLOCK_ROWS] {
        let (half, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        let mut sums = [_mm256_setzero_si256(); 2];
        let (groups, _) = block.as_chunks::<GROUP_BYTES>();
        // Four groups are 8 sums of two products of at most 15 × 128: they stay below 2¹⁵.
        for (groups, queries) in groups.chunks(4).zip(query.as_chunks::<8>().0.chunks(4)) {
            let mut small = [_mm256_setzero_si256(); 2];
            for (group, query) in groups.iter().zip(queries) {
                ahead(group);
                let (first, second) =
                    (_mm256_set1_epi32(bytes(query, 0)), _mm256_set1_epi32(bytes(query, 4)));
                for (small, rows) in small.iter_mut().zip(group.as_chunks::<32>().0) {
                    // SAFETY: 8 rows have the 32 bytes of one register.
                    let codes: __m256i = unsafe { _mm256_loadu_si256(rows.as_ptr().cast()) };
                    let lower = _mm256_and_si256(codes, half);
                    let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), half);
                    let products = _mm256_add_epi16(
                        _mm256_maddubs_epi16(lower, first),
                        _mm256_maddubs_epi16(upper, second),
                    );
                    *small = _mm256_add_epi16(*small, products);
                }
            }
            for (sum, small) in sums.iter_mut().zip(small) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(small, ones));
            }
        }
        let mut out = [0; BLOCK_ROWS];
        for (out, sum) in out.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
            // SAFETY: 8 numbers are the 32 bytes of one register.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sum) };
        }
        out
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) fn row_avx512(row: &[u8], query: &[i8]) -> i32 {
        row_any(row, query)
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn row_avx2(row: &[u8], query: &[i8]) -> i32 {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_gives_the_same_sums() {
        for steps in [1, 2, 3, 24, 64] {
            let dim = steps * STEP;
            let block: Vec<u8> = (0..dim * 8).map(|at| ((at * 2_654_435_761) >> 7) as u8).collect();
            let row = &block[..dim / 2];
            for query in [
                (0..dim).map(|at| (at * 91 % 255) as u8 as i8).collect::<Vec<i8>>(),
                vec![-128; dim],
                vec![127; dim],
            ] {
                let plain = |at: usize, row: usize| {
                    let byte = block[at / 8 * GROUP_BYTES + row * 4 + at % 4];
                    i32::from(if at % 8 < 4 { byte & 15 } else { byte >> 4 })
                };
                let expected: Vec<i32> = (0..BLOCK_ROWS)
                    .map(|row| (0..dim).map(|at| plain(at, row) * i32::from(query[at])).sum())
                    .collect();
                let code =
                    |at: usize| i32::from(if at < dim / 2 { row[at] & 15 } else { row[at - dim / 2] >> 4 });
                let expected_row: i32 = (0..dim).map(|at| code(at) * i32::from(query[at])).sum();
                for simd in Simd::available() {
                    assert_eq!(simd.block(&block, &query).as_slice(), expected, "{simd:?} {dim}");
                    assert_eq!(simd.row(row, &query), expected_row, "{simd:?} {dim}");
                }
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
