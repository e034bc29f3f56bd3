//! Inputs of matrix products: rows of f32, and the same rows quantised to int8 when a matrix wants that.

use std::ops::Range;

use super::maths::vectorised;
use super::matrix::Matrix;
use super::rows::Parts;
use super::simd::Simd;

/// `rows` inputs of `cols` values, for one matrix after another; each wants its own blocks in the quantised copy.
/// Columns are padded with zeros to whole blocks there.
#[derive(Debug, Default, Clone)]
pub struct Activations {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Columns that share a scale; 0 where the next matrix takes f32.
    pub(crate) block: usize,
    pub(crate) values: Vec<f32>,
    /// [rows, blocks · block], −127 to 127.
    pub(crate) levels: Vec<i8>,
    /// [rows, blocks]: value = scale · level.
    pub(crate) scales: Vec<f32>,
    /// [rows, blocks]: sum of a block's levels.
    pub(crate) sums: Vec<i32>,
}

impl Activations {
    /// Space for inputs of so many values; rows come with `resize`.
    pub(crate) fn new(cols: usize) -> Self {
        Self { cols, ..Self::default() }
    }

    /// Sets the number of rows, and the matrix that they are for; what they hold is unspecified until written. Space
    /// once taken is kept.
    pub(crate) fn resize(&mut self, rows: usize, matrix: &Matrix) {
        self.resize_in_blocks(rows, matrix.input_block());
    }

    pub(crate) fn resize_in_blocks(&mut self, rows: usize, block: Option<usize>) {
        self.rows = rows;
        self.block = block.unwrap_or(0);
        let blocks = self.blocks();
        self.values.resize(rows * self.cols, 0.0);
        self.levels.resize(rows * blocks * self.block, 0);
        self.scales.resize(rows * blocks, 0.0);
        self.sums.resize(rows * blocks, 0);
    }

    pub(crate) fn blocks(&self) -> usize {
        if self.block == 0 { 0 } else { self.cols.div_ceil(self.block) }
    }

    /// Access for tasks that each fill their own rows.
    pub(crate) fn parts(&mut self) -> ActivationParts<'_> {
        ActivationParts {
            cols: self.cols,
            block: self.block,
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
    block: usize,
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
        let (cols, block, blocks) = (self.cols, self.block, self.blocks);
        if block == 0 {
            return;
        }
        for row in rows {
            // SAFETY: this row is the caller's alone.
            let (values, levels, scales, sums) = unsafe {
                (
                    self.values.part(row * cols..(row + 1) * cols),
                    self.levels.part(row * blocks * block..(row + 1) * blocks * block),
                    self.scales.part(row * blocks..(row + 1) * blocks),
                    self.sums.part(row * blocks..(row + 1) * blocks),
                )
            };
            quantise_row(simd, block, values, Row { levels, scales, sums });
        }
    }
}

/// A row's quantised copy.
struct Row<'a> {
    levels: &'a mut [i8],
    scales: &'a mut [f32],
    sums: &'a mut [i32],
}

vectorised! {
    /// Writes a row's levels, and each block's scale and sum of levels.
    fn quantise_row(block: usize, values: &[f32], row: Row<'_>) {
        let blocks = row.levels.chunks_exact_mut(block).zip(values.chunks(block));
        for ((levels, values), (scale, sum)) in blocks.zip(row.scales.iter_mut().zip(row.sums)) {
            (*scale, *sum) = quantise_block(values, levels);
        }
    }
}

/// Writes a block's levels; returns its scale and the sum of the levels. The last block may lack values.
#[inline(always)]
fn quantise_block(values: &[f32], levels: &mut [i8]) -> (f32, i32) {
    /// Adding 1.5 · 2²³ rounds to the nearest integer, which is then in the lowest bits: in every instruction set
    /// alike, and without a conversion.
    const ROUND: f32 = 12_582_912.0;
    let (chunks, rest) = values.as_chunks::<16>();
    let mut largest = [0f32; 16];
    for chunk in chunks {
        largest.iter_mut().zip(chunk).for_each(|(largest, value)| *largest = largest.max(value.abs()));
    }
    let largest = largest.iter().chain(rest).fold(0f32, |largest, &value| largest.max(value.abs()));
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let integer = |value: f32| (value * inverse + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
    let mut sums = [0; 16];
    let (level_chunks, level_rest) = levels.as_chunks_mut::<16>();
    for (levels, chunk) in level_chunks.iter_mut().zip(chunks) {
        let integers = chunk.map(integer);
        sums.iter_mut().zip(integers).for_each(|(sum, integer)| *sum += integer);
        *levels = integers.map(|integer| integer as i8);
    }
    let mut sum = sums.iter().sum();
    // What is left of the last block: values, then padding.
    let left = level_chunks.iter_mut().skip(chunks.len()).flatten().chain(level_rest);
    for (level, value) in left.zip(rest.iter().copied().chain(std::iter::repeat(0.0))) {
        let integer = integer(value);
        sum += integer;
        *level = integer as i8;
    }
    (largest / 127.0, sum)
}

#[cfg(test)]
mod tests {
    use super::super::matrix::STEP;
    use super::*;

    #[test]
    fn levels_and_sums_describe_the_values() {
        for (cols, block) in [(40, 32), (150, 64), (300, 128), (31, 32), (256, 128)] {
            let mut activations = Activations::new(cols);
            activations.resize_in_blocks(2, Some(block));
            for (i, value) in activations.values.iter_mut().enumerate() {
                *value = (i as f32 * 0.7).sin() * 3.0;
            }
            activations.levels.fill(99);
            // SAFETY: one task only.
            unsafe { activations.parts().quantise(Simd::detect(), 0..2) };
            let blocks = activations.blocks();
            for (b, levels) in activations.levels.chunks(block).enumerate() {
                let scale = activations.scales[b];
                assert_eq!(levels.iter().map(|&l| i32::from(l)).sum::<i32>(), activations.sums[b]);
                for (c, &level) in levels.iter().enumerate() {
                    let column = b % blocks * block + c;
                    let value = activations.values.get(b / blocks * cols + column);
                    let want = if column < cols { *value.unwrap() } else { 0.0 };
                    assert!((f32::from(level) * scale - want).abs() <= scale * 0.501, "{cols} {block}");
                }
            }
        }
    }

    #[test]
    fn zeros_stay_zero() {
        let mut activations = Activations::new(32);
        activations.resize_in_blocks(1, Some(STEP));
        // SAFETY: one task only.
        unsafe { activations.parts().quantise(Simd::detect(), 0..1) };
        assert_eq!((activations.scales[0], activations.sums[0]), (0.0, 0));
        assert!(activations.levels.iter().all(|&level| level == 0));
    }
}
