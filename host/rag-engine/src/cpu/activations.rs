//! Inputs of matrix products: rows of f32, and the same rows quantised to int8 when a matrix wants that.

use std::ops::Range;

use super::maths::vectorised;
use super::matrix::BLOCK;
use super::rows::Parts;
use super::simd::Simd;

/// `rows` inputs of `cols` values. Columns are padded with zeros to whole blocks in the quantised copy.
#[derive(Debug, Default, Clone)]
pub struct Activations {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) values: Vec<f32>,
    /// [rows, blocks · 32], −127 to 127.
    pub(crate) levels: Vec<i8>,
    /// [rows, blocks]: value = scale · level.
    pub(crate) scales: Vec<f32>,
    /// [rows, blocks]: sum of a block's levels.
    pub(crate) sums: Vec<i32>,
}

impl Activations {
    /// Space for up to `rows` inputs; reused afterwards without allocation.
    pub(crate) fn new(rows: usize, cols: usize) -> Self {
        let mut activations = Self { cols, ..Self::default() };
        activations.resize(rows);
        activations
    }

    /// Sets the number of rows; what they hold is unspecified until written.
    pub(crate) fn resize(&mut self, rows: usize) {
        let blocks = self.blocks();
        self.rows = rows;
        self.values.resize(rows * self.cols, 0.0);
        self.levels.resize(rows * blocks * BLOCK, 0);
        self.scales.resize(rows * blocks, 0.0);
        self.sums.resize(rows * blocks, 0);
    }

    pub(crate) fn blocks(&self) -> usize {
        self.cols.div_ceil(BLOCK)
    }

    /// Access for tasks that each fill their own rows.
    pub(crate) fn parts(&mut self) -> ActivationParts<'_> {
        ActivationParts {
            cols: self.cols,
            blocks: self.blocks(),
            values: Parts::new(&mut self.values),
            levels: Parts::new(&mut self.levels),
            scales: Parts::new(&mut self.scales),
            sums: Parts::new(&mut self.sums),
        }
    }
}

/// `Activations` lent to several tasks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ActivationParts<'a> {
    cols: usize,
    blocks: usize,
    values: Parts<'a, f32>,
    levels: Parts<'a, i8>,
    scales: Parts<'a, f32>,
    sums: Parts<'a, i32>,
}

impl<'a> ActivationParts<'a> {
    /// # Safety
    /// No other task may use these rows meanwhile.
    pub(crate) unsafe fn values(self, rows: Range<usize>) -> &'a mut [f32] {
        // SAFETY: rows of different tasks are disjoint by the caller's promise.
        unsafe { self.values.part(rows.start * self.cols..rows.end * self.cols) }
    }

    /// Quantises these rows.
    ///
    /// # Safety
    /// As `values`; a slice obtained from it for these rows must be out of use.
    pub(crate) unsafe fn quantise(self, simd: Simd, rows: Range<usize>) {
        let (cols, blocks) = (self.cols, self.blocks);
        for row in rows {
            // SAFETY: this row is the caller's alone.
            let (values, levels, scales, sums) = unsafe {
                (
                    self.values.part(row * cols..(row + 1) * cols),
                    self.levels.part(row * blocks * BLOCK..(row + 1) * blocks * BLOCK),
                    self.scales.part(row * blocks..(row + 1) * blocks),
                    self.sums.part(row * blocks..(row + 1) * blocks),
                )
            };
            quantise_row(simd, values, levels, scales, sums);
        }
    }
}

vectorised! {
    /// Writes a row's levels, and each block's scale and sum of levels.
    fn quantise_row(values: &[f32], levels: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
        let (blocks, rest) = values.as_chunks::<BLOCK>();
        let (level_blocks, _) = levels.as_chunks_mut::<BLOCK>();
        for (b, levels) in level_blocks.iter_mut().enumerate() {
            let mut padded = [0.0; BLOCK];
            let values = blocks.get(b).unwrap_or_else(|| {
                padded[..rest.len()].copy_from_slice(rest);
                &padded
            });
            (scales[b], sums[b]) = quantise_block(values, levels);
        }
    }
}

/// Writes a block's levels; returns its scale and the sum of the levels.
#[inline(always)]
fn quantise_block(values: &[f32; BLOCK], levels: &mut [i8; BLOCK]) -> (f32, i32) {
    /// Adding 1.5 · 2²³ rounds to the nearest integer, which is then in the lowest bits: in every instruction set
    /// alike, and without a conversion.
    const ROUND: f32 = 12_582_912.0;
    let mut largest = [0f32; 16];
    for half in values.as_chunks::<16>().0 {
        largest.iter_mut().zip(half).for_each(|(largest, value)| *largest = largest.max(value.abs()));
    }
    let largest = largest.iter().fold(0f32, |largest, &value| largest.max(value));
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let integers = values.map(|value| (value * inverse + ROUND).to_bits() as i32 - ROUND.to_bits() as i32);
    *levels = integers.map(|integer| integer as i8);
    (largest / 127.0, integers.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_sums_describe_the_values() {
        let mut activations = Activations::new(2, 40);
        for (i, value) in activations.values.iter_mut().enumerate() {
            *value = (i as f32 * 0.7).sin() * 3.0;
        }
        // SAFETY: one task only.
        unsafe { activations.parts().quantise(Simd::detect(), 0..2) };
        for row in 0..2 {
            for b in 0..2 {
                let levels = &activations.levels[(row * 2 + b) * BLOCK..][..BLOCK];
                let scale = activations.scales[row * 2 + b];
                assert_eq!(levels.iter().map(|&l| i32::from(l)).sum::<i32>(), activations.sums[row * 2 + b]);
                for (c, &level) in levels.iter().enumerate() {
                    let column = b * BLOCK + c;
                    let want = if column < 40 { activations.values[row * 40 + column] } else { 0.0 };
                    assert!((f32::from(level) * scale - want).abs() <= scale * 0.501);
                }
            }
        }
    }

    #[test]
    fn zeros_stay_zero() {
        let mut activations = Activations::new(1, 32);
        // SAFETY: one task only.
        unsafe { activations.parts().quantise(Simd::detect(), 0..1) };
        assert_eq!((activations.scales[0], activations.sums[0]), (0.0, 0));
        assert!(activations.levels.iter().all(|&level| level == 0));
    }
}
