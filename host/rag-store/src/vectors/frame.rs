//! Where are rows seen from, so that their signs say the most? From their mean, along directions turned at random.
//!
//! Texts of one collection have much in common: without the mean what is left are the differences that a search is about.
//! Turned, a vector has its length in all components alike, however it was laid out before, and errors of rounding
//! behave like chance. Both leave the order of dot products as it was, but for a number that a row keeps.

use super::kernel::Simd;

/// Turns of each vector; two reach every component, more leave no pattern.
const TURNS: usize = 4;

/// The same for all rows of a collection and for questions to it.
#[derive(Debug)]
pub(super) struct Frame {
    centre: Vec<f32>,
    /// For each turn a sign for each component.
    signs: [Vec<f32>; TURNS],
}

impl Frame {
    /// Around the mean of some rows: others may follow, it only has to be about right.
    pub(super) fn around<'a>(dim: usize, rows: impl Iterator<Item = &'a [f32]>) -> Self {
        let mut sums = vec![0.0_f64; dim];
        let mut count = 0.0;
        for row in rows {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
            count += 1.0;
        }
        let centre = sums.into_iter().map(|sum| (sum / f64::max(count, 1.0)) as f32).collect();
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        let mut sign = || {
            // Xorshift: any fixed sequence without a pattern serves.
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            if bits >> 63 == 0 { 1.0 } else { -1.0 }
        };
        let signs = std::array::from_fn(|_| (0..dim).map(|_| sign()).collect());
        Frame { centre, signs }
    }

    /// Seen from here; tells the dot product of what came with the centre.
    pub(super) fn see(&self, simd: Simd, vector: &mut [f32]) -> f32 {
        let mut along = 0.0;
        for (value, centre) in vector.iter_mut().zip(&self.centre) {
            along += f64::from(*value) * f64::from(*centre);
            *value -= centre;
        }
        // A transform of the largest power of two, by turns from the front and to the end.
        let Some(size) = vector.len().checked_ilog2().map(|log| 1 << log) else { return along as f32 };
        for (turn, signs) in self.signs.iter().enumerate() {
            vector.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign);
            let from = if turn % 2 == 0 { 0 } else { vector.len() - size };
            simd.hadamard(&mut vector[from..from + size]);
        }
        along as f32
    }
}

/// Hadamard's transform of as many values as a power of two; lengths stay. Compiled for each set of instructions there is.
#[inline(always)]
pub(super) fn hadamard(values: &mut [f32]) {
    let scale = (values.len() as f32).sqrt().recip();
    let (eights, rest) = values.as_chunks_mut::<8>();
    for eight in eights {
        for (bit, mask) in [(0, 1), (1, 2), (2, 4)] {
            let before = *eight;
            for (at, value) in eight.iter_mut().enumerate() {
                let sign = if at >> bit & 1 == 1 { -1.0 } else { 1.0 };
                *value = before[at ^ mask] + sign * before[at];
            }
        }
    }
    let mut half = if rest.is_empty() { 8 } else { 1 };
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (first, second) = pair.split_at_mut(half);
            for (a, b) in first.iter_mut().zip(second) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    values.iter_mut().for_each(|value| *value *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_differences_stay_and_lengths_spread() {
        for dim in [1, 2, 3, 16, 100, 384, 768] {
            let row = |at: usize| (0..dim).map(move |i| ((at * 31 + i * 17) as f32).sin() + 0.5);
            let rows: Vec<Vec<f32>> = (0..20).map(|at| row(at).collect()).collect();
            let frame = Frame::around(dim, rows.iter().map(Vec::as_slice));
            let product = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            for simd in Simd::available() {
                let (mut a, mut b) = (rows[3].clone(), rows[4].clone());
                let (a_along, b_along) = (frame.see(simd, &mut a), frame.see(simd, &mut b));
                let whole = product(&a, &b) + f64::from(a_along) + f64::from(b_along)
                    - product(&frame.centre, &frame.centre);
                assert!((whole - product(&rows[3], &rows[4])).abs() < 1e-3, "{dim} {simd:?}");
            }
            let mut spike = frame.centre.clone();
            spike[dim / 2] += 1.0;
            frame.see(Simd::detect(), &mut spike);
            let largest = spike.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            assert!(f64::from(largest) < 8.0 / (dim as f64).sqrt(), "{dim} {largest}");
        }
    }

    #[test]
    fn hadamards_transform_is_that_of_its_matrix() {
        for log in 0..9 {
            let size = 1 << log;
            let values: Vec<f32> = (0..size).map(|at| (at as f32 * 0.7).sin()).collect();
            for simd in Simd::available() {
                let mut turned = values.clone();
                simd.hadamard(&mut turned);
                for (at, turned) in turned.iter().enumerate() {
                    let sign =
                        |other: usize| if (at & other).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
                    let plain: f64 = (0..size).map(|other| sign(other) * f64::from(values[other])).sum();
                    let plain = plain / f64::from(size as u32).sqrt();
                    assert!((f64::from(*turned) - plain).abs() < 1e-5, "{simd:?} {size} {at}");
                }
            }
        }
    }
}
