//! Weight matrices in the order in which the kernels read them, in four formats.
//!
//! A matrix [rows, cols] maps a vector of `cols` to one of `rows`. It is cut into *panels* of 16 rows, and a panel,
//! in the quantised formats, into *steps* of 32 columns. One vector register then holds the same column (f32) or
//! the same four columns (quantised) of 16 rows, an input value is broadcast to all of them, and no sum ever runs
//! across a register. Some steps make a *block*, whose columns share a scale. Rows and columns are padded with zeros
//! to whole panels and blocks.
//!
//! | format | one panel's step                                                                      | value             | block | bits |
//! |--------|---------------------------------------------------------------------------------------|-------------------|-------|------|
//! | f32    | column by column, 16 rows each                                                        | as is             |       | 32   |
//! | int8   | 8 groups of 4 columns; a group is 16 rows × 4 levels (u8, 128 is zero)                | d · (level−128)   | 128   | 8.1  |
//! | int4   | 4 pairs of groups: low nibbles are group p, high nibbles group p + 4; a pair as above | d · level + m     | 64    | 4.5  |
//! | nf4    | as int4; a nibble names one of the 16 levels of `NF4` (u8, 128 is zero)               | d · (NF4[…]−128)  | 64    | 4.25 |
//!
//! `d` and `m` are half-precision, one for each row of each block: 16 of them stand together. A matrix whose columns
//! are no multiple of the block has a smaller one (64 or 32). Quantised files hold exactly these bytes (`packed`).

#[cfg(any(test, feature = "cuda"))]
mod by_rows;
mod inputs;
mod quantise;

use crate::pth::half_to_f32;
#[cfg(feature = "cuda")]
pub(crate) use by_rows::ByRows;
pub(crate) use inputs::Inputs;
use quantise::pack_rows;

/// Rows of a panel: the lanes of a 512-bit register.
pub const PANEL: usize = 16;
/// Columns that the innermost loop takes at once; a block is one, two or four of them.
pub const STEP: usize = 32;
/// Bytes of a panel's step of levels.
pub(crate) const INT8_STEP_BYTES: usize = PANEL * STEP;
pub(crate) const NIBBLE_STEP_BYTES: usize = PANEL * STEP / 2;
/// A level of the value 0 (int8, nf4): levels are unsigned because the dot-product instruction wants one such operand.
pub(crate) const LEVEL_ZERO: u8 = 128;
/// The normal-float levels times 127, rounded and shifted by `LEVEL_ZERO`: at most .4 % of the largest value away from
/// the published ones, and integers, so that products with nf4 weights are integer products like the others.
pub(crate) const NF4: [u8; 16] = [1, 40, 61, 78, 92, 105, 116, 128, 138, 148, 159, 171, 184, 199, 220, 255];

/// How a matrix is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    F32,
    Int8,
    Int4,
    Nf4,
}

impl Format {
    pub const ALL: [Format; 4] = [Format::F32, Format::Int8, Format::Int4, Format::Nf4];

    /// The name in files, configuration and messages.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::Int8 => "int8",
            Format::Int4 => "int4",
            Format::Nf4 => "nf4",
        }
    }

    /// The format of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Columns that share a scale in a matrix of so many.
    pub fn block(self, cols: usize) -> usize {
        let sizes: &[usize] = if self == Format::Int8 { &[128, 64] } else { &[64] };
        sizes.iter().copied().find(|&size| cols.is_multiple_of(size)).unwrap_or(STEP)
    }

    /// Bytes in memory of a matrix of this format.
    pub fn bytes(self, rows: usize, cols: usize) -> usize {
        self.bytes_in_blocks(rows, cols, self.block(cols))
    }

    pub(crate) fn bytes_in_blocks(self, rows: usize, cols: usize, block: usize) -> usize {
        let panels = rows.div_ceil(PANEL);
        let blocks = panels * cols.div_ceil(block);
        match self {
            Format::F32 => panels * PANEL * cols * 4,
            Format::Int4 => blocks * (self.block_bytes(block) + 4 * PANEL),
            Format::Int8 | Format::Nf4 => blocks * (self.block_bytes(block) + 2 * PANEL),
        }
    }

    /// Bytes of a panel's block of levels.
    pub(crate) fn block_bytes(self, block: usize) -> usize {
        let step = if self == Format::Int8 { INT8_STEP_BYTES } else { NIBBLE_STEP_BYTES };
        block / STEP * step
    }
}

/// A weight matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) values: Values,
}

/// The elements, panel by panel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    F32(Vec<f32>),
    Quantised(Quantised),
}

/// Levels, and half-precision scales: 16 for each block; minima likewise, for int4 only.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Quantised {
    /// Any but f32.
    pub(crate) format: Format,
    /// Columns of a block: a multiple of `STEP`.
    pub(crate) block: usize,
    pub(crate) levels: Vec<u8>,
    pub(crate) scales: Vec<u16>,
    pub(crate) minima: Vec<u16>,
}

impl Matrix {
    /// Packs row-major `values` [rows, cols], on several threads when there is much to convert.
    pub fn pack(values: &[f32], rows: usize, cols: usize, format: Format) -> Self {
        Self::pack_for(values, [rows, cols], format, None)
    }

    /// `pack`, with fewer errors in what the matrix makes of inputs of which something is known (nf4 only).
    pub(crate) fn pack_for(
        values: &[f32],
        [rows, cols]: [usize; 2],
        format: Format,
        inputs: Option<&Inputs>,
    ) -> Self {
        let block = format.block(cols);
        assert!(inputs.is_none_or(|inputs| inputs.mean.len() == cols), "inputs of another matrix");
        assert_eq!(values.len(), rows * cols, "a matrix of another size");
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let parts = if format == Format::F32 { 1 } else { (values.len() / PACK_WORK_MIN).clamp(1, cores) };
        let panels_each = rows.div_ceil(PANEL).div_ceil(parts).max(1);
        let packed: Vec<Values> = std::thread::scope(|scope| {
            let parts: Vec<_> = (values.chunks((panels_each * PANEL * cols).max(1)))
                .map(|part| scope.spawn(move || pack_rows(part, cols, format, block, inputs)))
                .collect();
            // A panic in a part is passed on.
            parts
                .into_iter()
                .map(|part| part.join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
                .collect()
        });
        let mut packed = packed.into_iter();
        let mut all = packed.next().unwrap_or_else(|| pack_rows(&[], cols, format, block, inputs));
        packed.for_each(|part| all.append(part));
        Self { rows, cols, values: all }
    }

    /// Length of an output.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Length of an input.
    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn format(&self) -> Format {
        match &self.values {
            Values::F32(_) => Format::F32,
            Values::Quantised(quantised) => quantised.format,
        }
    }

    /// Columns whose inputs share a scale when they are quantised for this matrix; none when it takes them as f32.
    pub(crate) fn input_block(&self) -> Option<usize> {
        match &self.values {
            Values::F32(_) => None,
            Values::Quantised(quantised) => Some(quantised.block),
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let block = self.input_block().unwrap_or(STEP);
        self.format().bytes_in_blocks(self.rows, self.cols, block)
    }

    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Writes row `row` to `out`, of length `cols`.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "a row outside the matrix");
        let (panel, lane) = (row / PANEL, row % PANEL);
        let quantised = match &self.values {
            Values::F32(values) => {
                let values = &values[panel * self.cols * PANEL..][..self.cols * PANEL];
                let column = |c: usize| values[c * PANEL + lane];
                return out.iter_mut().enumerate().for_each(|(c, out)| *out = column(c));
            }
            Values::Quantised(quantised) => quantised,
        };
        let Quantised { format, block, levels, scales, minima } = quantised;
        let bytes = format.block_bytes(*block);
        for (b, out) in out.chunks_mut(*block).enumerate() {
            let at = panel * self.cols.div_ceil(*block) + b;
            let half = |halves: &[u16]| halves.get(at * PANEL + lane).map_or(0.0, |&half| half_to_f32(half));
            let (scale, minimum) = (half(scales), half(minima));
            let levels = &levels[at * bytes..(at + 1) * bytes];
            for (c, out) in out.iter_mut().enumerate() {
                let level = match format {
                    Format::Int8 => levels[int8_place(c, lane)],
                    _ => {
                        let (place, shift) = nibble_place(c, lane);
                        levels[place] >> shift & 15
                    }
                };
                *out = match format {
                    Format::Int4 => scale * f32::from(level) + minimum,
                    Format::Nf4 => scale * (f32::from(NF4[usize::from(level)]) - f32::from(LEVEL_ZERO)),
                    _ => scale * (f32::from(level) - f32::from(LEVEL_ZERO)),
                };
            }
        }
    }
}

impl Values {
    /// Adds the panels of another part of the same format.
    fn append(&mut self, other: Values) {
        match (self, other) {
            (Values::F32(all), Values::F32(part)) => all.extend(part),
            (Values::Quantised(all), Values::Quantised(part)) => {
                all.levels.extend(part.levels);
                all.scales.extend(part.scales);
                all.minima.extend(part.minima);
            }
            _ => debug_assert!(false, "parts of different formats"),
        }
    }
}

/// Values for which another thread is worth its start.
const PACK_WORK_MIN: usize = 1 << 18;

/// Where column `c` of a block is among the levels of the block, for one lane.
fn int8_place(c: usize, lane: usize) -> usize {
    c / STEP * INT8_STEP_BYTES + c % STEP / 4 * 4 * PANEL + lane * 4 + c % 4
}

/// Likewise for nibbles, and how far their byte is to be shifted down.
fn nibble_place(c: usize, lane: usize) -> (usize, u32) {
    let group = c % STEP / 4;
    let place = c / STEP * NIBBLE_STEP_BYTES + group % 4 * 4 * PANEL + lane * 4 + c % 4;
    (place, if group < 4 { 0 } else { 4 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn sample(rows: usize, cols: usize) -> Vec<f32> {
        let mut random = Random::seeded((rows * 1000 + cols) as u64);
        (0..rows * cols).map(|_| (random.unit() + random.unit() + random.unit() - 1.5) as f32).collect()
    }

    #[test]
    fn rows_come_back_within_half_a_level() {
        for (rows, cols) in [(16, 32), (1, 1), (17, 33), (40, 96), (5, 31), (18, 64), (33, 256)] {
            let values = sample(rows, cols);
            for (format, tolerance) in
                [(Format::F32, 0.0), (Format::Int8, 0.0062), (Format::Int4, 0.16), (Format::Nf4, 0.24)]
            {
                let matrix = Matrix::pack(&values, rows, cols, format);
                assert_eq!((matrix.rows(), matrix.cols(), matrix.format()), (rows, cols, format));
                let mut out = vec![0.0; cols];
                for r in 0..rows {
                    matrix.row(r, &mut out);
                    for (got, want) in out.iter().zip(&values[r * cols..]) {
                        assert!((got - want).abs() <= tolerance, "{format:?} {got} {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn constant_and_huge_blocks_stay_finite() {
        for value in [0.0, 1.0, -3.5, 60000.0, 1e-9] {
            for format in [Format::Int8, Format::Int4, Format::Nf4] {
                let matrix = Matrix::pack(&[value; 64], 1, 64, format);
                let mut out = [0.0; 64];
                matrix.row(0, &mut out);
                assert!(
                    out.iter().all(|x| (x - value).abs() <= value.abs() * 0.01 + 1e-7),
                    "{format:?} {out:?}"
                );
            }
        }
    }

    #[test]
    fn blocks_are_as_long_as_the_columns_allow() {
        for (cols, int8, int4) in [(2048, 128, 64), (1344, 64, 64), (96, 32, 32), (31, 32, 32)] {
            assert_eq!((Format::Int8.block(cols), Format::Nf4.block(cols)), (int8, int4), "{cols}");
        }
    }

    #[test]
    fn stated_sizes_are_the_real_ones() {
        for (rows, cols) in [(16, 32), (17, 33), (20, 256)] {
            for format in Format::ALL {
                let matrix = Matrix::pack(&sample(rows, cols), rows, cols, format);
                let bytes = match &matrix.values {
                    Values::F32(values) => values.len() * 4,
                    Values::Quantised(q) => q.levels.len() + (q.scales.len() + q.minima.len()) * 2,
                };
                assert_eq!((bytes, bytes), (format.bytes(rows, cols), matrix.bytes()));
            }
        }
    }

    #[test]
    fn formats_have_names() {
        for format in Format::ALL {
            assert_eq!(Format::parse(format.name()), Some(format));
        }
        assert_eq!(Format::parse("int3"), None);
    }
}
