//! The same levels and scales in the order that a GPU reads: row by row.
//!
//! - int8: one signed byte a column.
//! - nf4: 8 columns in 4 bytes, the lowest nibble first; a nibble names a level of `NF4`.
//! - int4: 8 columns in 4 bytes, columns 0 to 3 in their low nibbles and 4 to 7 in their high ones.
//! - Scales and minima: one for each block of each row, row by row.

use super::{Format, LEVEL_ZERO, Matrix, PANEL, Values, int8_place, nibble_place};

/// A quantised matrix row by row.
#[derive(Debug, PartialEq)]
pub(crate) struct ByRows {
    pub(crate) format: Format,
    /// Columns that share a scale.
    pub(crate) block: usize,
    pub(crate) levels: Vec<u8>,
    pub(crate) scales: Vec<u16>,
    /// Of int4 only.
    pub(crate) minima: Vec<u16>,
}

impl Matrix {
    /// None for a matrix that is not quantised, or whose last block is not whole.
    pub(crate) fn by_rows(&self) -> Option<ByRows> {
        let Values::Quantised(quantised) = &self.values else { return None };
        let (format, block) = (quantised.format, quantised.block);
        if !self.cols.is_multiple_of(block) {
            return None;
        }
        let blocks = self.cols / block;
        let row_bytes = if format == Format::Int8 { self.cols } else { self.cols / 2 };
        let mut levels = vec![0; self.rows * row_bytes];
        let mut scales = vec![0; self.rows * blocks];
        let mut minima = vec![0; if format == Format::Int4 { scales.len() } else { 0 }];
        let bytes = format.block_bytes(block);
        for row in 0..self.rows {
            let (panel, lane) = (row / PANEL, row % PANEL);
            let out = &mut levels[row * row_bytes..(row + 1) * row_bytes];
            for b in 0..blocks {
                let at = panel * blocks + b;
                scales[row * blocks + b] = quantised.scales[at * PANEL + lane];
                if format == Format::Int4 {
                    minima[row * blocks + b] = quantised.minima[at * PANEL + lane];
                }
                let from = &quantised.levels[at * bytes..(at + 1) * bytes];
                for c in 0..block {
                    put(format, out, b * block + c, level(format, from, c, lane));
                }
            }
        }
        Some(ByRows { format, block, levels, scales, minima })
    }
}

/// A column's level as it is stored in panels.
#[inline(always)]
fn level(format: Format, block: &[u8], column: usize, lane: usize) -> u8 {
    if format == Format::Int8 {
        return block[int8_place(column, lane)];
    }
    let (place, shift) = nibble_place(column, lane);
    block[place] >> shift & 15
}

#[inline(always)]
fn put(format: Format, row: &mut [u8], column: usize, level: u8) {
    let (word, within) = (column / 8 * 4, column % 8);
    match format {
        Format::Int8 | Format::F32 => row[column] = level.wrapping_sub(LEVEL_ZERO),
        Format::Nf4 => row[word + within / 2] |= level << (within % 2 * 4),
        Format::Int4 => row[word + within % 4] |= level << (within / 4 * 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::matrix::NF4;
    use crate::pth::half_to_f32;
    use crate::random::Random;

    #[test]
    fn rows_say_what_panels_say() {
        let (rows, cols) = (19, 192);
        let mut random = Random::seeded(5);
        let values: Vec<f32> = (0..rows * cols).map(|_| random.unit() as f32 - 0.5).collect();
        for format in [Format::Int8, Format::Int4, Format::Nf4] {
            let matrix = Matrix::pack(&values, rows, cols, format);
            let ByRows { block, levels, scales, minima, .. } = matrix.by_rows().unwrap();
            let mut want = vec![0.0; cols];
            for row in 0..rows {
                matrix.row(row, &mut want);
                for (column, want) in want.iter().enumerate() {
                    let half = (row * cols + column) / block;
                    let at = row * cols + column;
                    let byte = |place: usize, high: bool| levels[place] >> if high { 4 } else { 0 } & 15;
                    let (word, within) = (at / 8 * 4, at % 8);
                    let scale = half_to_f32(scales[half]);
                    let got = match format {
                        Format::Int8 | Format::F32 => scale * f32::from(levels[at] as i8),
                        Format::Int4 => {
                            scale * f32::from(byte(word + within % 4, within >= 4))
                                + half_to_f32(minima[half])
                        }
                        Format::Nf4 => {
                            let name = byte(word + within / 2, within % 2 == 1);
                            scale * (f32::from(NF4[usize::from(name)]) - f32::from(LEVEL_ZERO))
                        }
                    };
                    assert!(
                        (got - want).abs() <= want.abs() * 1e-6,
                        "{format:?} {row} {column}: {got} for {want}"
                    );
                }
            }
        }
        assert_eq!(Matrix::pack(&values, rows, cols, Format::F32).by_rows(), None);
    }
}
