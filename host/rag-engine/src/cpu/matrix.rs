//! Weight matrices in the order in which the kernels read them, in three formats.
//!
//! A matrix [rows, cols] maps a vector of `cols` to one of `rows`. It is cut into *panels* of 16 rows, and a panel,
//! in the quantised formats, into *blocks* of 32 columns. One vector register then holds the same column (f32) or
//! the same four columns (quantised) of 16 rows, an input value is broadcast to all of them, and no sum ever runs
//! across a register. Rows and columns are padded with zeros to whole panels and blocks.
//!
//! | format | one panel's block                                                                     | value           | bits |
//! |--------|---------------------------------------------------------------------------------------|-----------------|------|
//! | f32    | column by column, 16 rows each                                                        | as is           | 32   |
//! | int8   | 8 groups of 4 columns; a group is 16 rows × 4 levels (u8, 128 is zero)                | d · (level−128) | 8.5  |
//! | int4   | 4 pairs of groups: low nibbles are group p, high nibbles group p + 4; a pair as above | d · level + m   | 5    |
//!
//! `d` and `m` are half-precision, one for each row of each block: 16 of them stand together. Quantised files hold
//! exactly these bytes (`packed`).

use crate::pth::{f32_to_half, half_to_f32};

/// Rows of a panel: the lanes of a 512-bit register.
pub const PANEL: usize = 16;
/// Columns that share a scale.
pub const BLOCK: usize = 32;
/// Bytes of a panel's block of levels.
pub(crate) const INT8_BLOCK_BYTES: usize = PANEL * BLOCK;
pub(crate) const INT4_BLOCK_BYTES: usize = PANEL * BLOCK / 2;
/// An int8 level of the value 0: levels are unsigned because the dot-product instruction wants one such operand.
pub(crate) const INT8_ZERO: u8 = 128;

/// How a matrix is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    F32,
    Int8,
    Int4,
}

impl Format {
    /// The name in files, configuration and messages.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::Int8 => "int8",
            Format::Int4 => "int4",
        }
    }

    /// The format of a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Format::F32, Format::Int8, Format::Int4].into_iter().find(|format| format.name() == name)
    }

    /// Bytes in memory of a matrix of this format.
    pub fn bytes(self, rows: usize, cols: usize) -> usize {
        let panels = rows.div_ceil(PANEL);
        match self {
            Format::F32 => panels * PANEL * cols * 4,
            Format::Int8 => panels * cols.div_ceil(BLOCK) * (INT8_BLOCK_BYTES + 2 * PANEL),
            Format::Int4 => panels * cols.div_ceil(BLOCK) * (INT4_BLOCK_BYTES + 4 * PANEL),
        }
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
    /// Half-precision scales, 16 for each block.
    Int8 {
        levels: Vec<u8>,
        scales: Vec<u16>,
    },
    Int4 {
        levels: Vec<u8>,
        scales: Vec<u16>,
        minima: Vec<u16>,
    },
}

impl Matrix {
    /// Packs row-major `values` [rows, cols], on several threads when there is much to convert.
    pub fn pack(values: &[f32], rows: usize, cols: usize, format: Format) -> Self {
        assert_eq!(values.len(), rows * cols, "a matrix of another size");
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let parts = if format == Format::F32 { 1 } else { (values.len() / PACK_WORK_MIN).clamp(1, cores) };
        let panels_each = rows.div_ceil(PANEL).div_ceil(parts).max(1);
        let packed: Vec<Values> = std::thread::scope(|scope| {
            let parts: Vec<_> = (values.chunks((panels_each * PANEL * cols).max(1)))
                .map(|part| scope.spawn(move || pack_rows(part, cols, format)))
                .collect();
            // A panic in a part is passed on.
            parts
                .into_iter()
                .map(|part| part.join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
                .collect()
        });
        let mut all = pack_rows(&[], cols, format);
        packed.into_iter().for_each(|part| all.append(part));
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
        match self.values {
            Values::F32(_) => Format::F32,
            Values::Int8 { .. } => Format::Int8,
            Values::Int4 { .. } => Format::Int4,
        }
    }

    /// Blocks in a row.
    pub(crate) fn blocks(&self) -> usize {
        self.cols.div_ceil(BLOCK)
    }

    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Writes row `row` to `out`, of length `cols`.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "a row outside the matrix");
        let (panel, lane) = (row / PANEL, row % PANEL);
        for (c, out) in out.iter_mut().enumerate() {
            let at = panel * self.blocks() + c / BLOCK;
            let scale = |scales: &[u16]| half_to_f32(scales[at * PANEL + lane]);
            *out = match &self.values {
                Values::F32(values) => values[(panel * self.cols + c) * PANEL + lane],
                Values::Int8 { levels, scales } => {
                    let level = levels[at * INT8_BLOCK_BYTES + int8_place(c % BLOCK, lane)];
                    scale(scales) * (f32::from(level) - f32::from(INT8_ZERO))
                }
                Values::Int4 { levels, scales, minima } => {
                    let (place, shift) = int4_place(c % BLOCK, lane);
                    let level = levels[at * INT4_BLOCK_BYTES + place] >> shift & 15;
                    scale(scales) * f32::from(level) + scale(minima)
                }
            };
        }
    }
}

impl Values {
    /// Adds the panels of another part of the same format.
    fn append(&mut self, other: Values) {
        match (self, other) {
            (Values::F32(all), Values::F32(part)) => all.extend(part),
            (Values::Int8 { levels, scales }, Values::Int8 { levels: l, scales: s }) => {
                levels.extend(l);
                scales.extend(s);
            }
            (Values::Int4 { levels, scales, minima }, Values::Int4 { levels: l, scales: s, minima: m }) => {
                levels.extend(l);
                scales.extend(s);
                minima.extend(m);
            }
            _ => debug_assert!(false, "parts of different formats"),
        }
    }
}

/// Values for which another thread is worth its start.
const PACK_WORK_MIN: usize = 1 << 18;

/// Packs whole panels (the last one may lack rows).
fn pack_rows(values: &[f32], cols: usize, format: Format) -> Values {
    let rows = values.len() / cols.max(1);
    let (panels, blocks) = (rows.div_ceil(PANEL), cols.div_ceil(BLOCK));
    let row = |r: usize| &values[r * cols..(r + 1) * cols];
    match format {
        Format::F32 => {
            let mut out = vec![0.0; panels * PANEL * cols];
            for (r, lane) in (0..rows).map(|r| (r, r % PANEL)) {
                let panel = &mut out[r / PANEL * PANEL * cols..][..PANEL * cols];
                row(r).iter().enumerate().for_each(|(c, &value)| panel[c * PANEL + lane] = value);
            }
            Values::F32(out)
        }
        Format::Int8 => {
            let mut levels = vec![INT8_ZERO; panels * blocks * INT8_BLOCK_BYTES];
            let mut scales = vec![0; panels * blocks * PANEL];
            for r in 0..rows {
                for (b, block) in row(r).chunks(BLOCK).enumerate() {
                    let at = r / PANEL * blocks + b;
                    let out = &mut levels[at * INT8_BLOCK_BYTES..][..INT8_BLOCK_BYTES];
                    scales[at * PANEL + r % PANEL] = quantise_int8(block, r % PANEL, out);
                }
            }
            Values::Int8 { levels, scales }
        }
        Format::Int4 => {
            let mut levels = vec![0; panels * blocks * INT4_BLOCK_BYTES];
            let mut scales = vec![0; panels * blocks * PANEL];
            let mut minima = scales.clone();
            for r in 0..rows {
                for (b, block) in row(r).chunks(BLOCK).enumerate() {
                    let at = r / PANEL * blocks + b;
                    let out = &mut levels[at * INT4_BLOCK_BYTES..][..INT4_BLOCK_BYTES];
                    let lane = at * PANEL + r % PANEL;
                    (scales[lane], minima[lane]) = quantise_int4(block, r % PANEL, out);
                }
            }
            Values::Int4 { levels, scales, minima }
        }
    }
}

/// Where column `c` of a block is among the levels of the block, for one lane.
fn int8_place(c: usize, lane: usize) -> usize {
    c / 4 * 4 * PANEL + lane * 4 + c % 4
}

/// Likewise for int4, and how far its byte is to be shifted down.
fn int4_place(c: usize, lane: usize) -> (usize, u32) {
    let group = c / 4;
    (int8_place(group % 4 * 4 + c % 4, lane), if group < 4 { 0 } else { 4 })
}

/// Writes a block's levels and returns its scale: the largest magnitude gets level ±127.
fn quantise_int8(block: &[f32], lane: usize, out: &mut [u8]) -> u16 {
    let largest = block.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let scale = f32_to_half(largest / 127.0);
    let inverse = inverse(half_to_f32(scale));
    for (c, value) in block.iter().enumerate() {
        let level = round(value * inverse).clamp(-127.0, 127.0);
        out[int8_place(c, lane)] = (level as i32 + i32::from(INT8_ZERO)) as u8;
    }
    scale
}

/// Writes a block's levels and returns its scale and minimum, those of least squared error among some candidates.
fn quantise_int4(block: &[f32], lane: usize, out: &mut [u8]) -> (u16, u16) {
    let low = block.iter().fold(f32::INFINITY, |low, &value| low.min(value));
    let high = block.iter().fold(f32::NEG_INFINITY, |high, &value| high.max(value));
    let mut best = (f32::INFINITY, 0, 0);
    // Cutting a little off both ends costs the extremes and serves the many: up to a tenth at each.
    for shrink in 0..8 {
        let cut = (high - low) * shrink as f32 * 0.0125;
        let scale = (high - low - 2.0 * cut) / 15.0;
        let candidate = refine(block, scale, low + cut);
        if candidate.0 < best.0 {
            best = candidate;
        }
    }
    let (_, scale, minimum) = best;
    let (d, m) = (half_to_f32(scale), half_to_f32(minimum));
    for (c, &value) in block.iter().enumerate() {
        let (place, shift) = int4_place(c, lane);
        out[place] |= (int4_level(value, inverse(d), m) as u8) << shift;
    }
    (scale, minimum)
}

/// Assigns levels by a first scale and minimum, then fits both to the assignment; returns the squared error and the
/// fitted pair.
fn refine(block: &[f32], scale: f32, minimum: f32) -> (f32, u16, u16) {
    let n = block.len() as f32;
    let first = inverse(scale);
    let (mut sum_q, mut sum_qq, mut sum_x, mut sum_qx) = (0.0, 0.0, 0.0, 0.0);
    for &x in block {
        let q = int4_level(x, first, minimum);
        (sum_q, sum_qq, sum_x, sum_qx) = (sum_q + q, sum_qq + q * q, sum_x + x, sum_qx + q * x);
    }
    let spread = n * sum_qq - sum_q * sum_q;
    let d = if spread > 0.0 { (n * sum_qx - sum_q * sum_x) / spread } else { 0.0 };
    let (scale, minimum) = (f32_to_half(d), f32_to_half((sum_x - d * sum_q) / n));
    let (d, m) = (half_to_f32(scale), half_to_f32(minimum));
    let error = block.iter().map(|&x| (d * int4_level(x, inverse(d), m) + m - x).powi(2)).sum();
    (error, scale, minimum)
}

fn int4_level(value: f32, inverse: f32, minimum: f32) -> f32 {
    round((value - minimum) * inverse).clamp(0.0, 15.0)
}

/// To the nearest integer, ties to even, for magnitudes below 2²²; faster than the library's where SSE4.1 is not
/// taken for granted.
fn round(value: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    (value + ROUND) - ROUND
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
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
        for (rows, cols) in [(16, 32), (1, 1), (17, 33), (40, 96), (5, 31)] {
            let values = sample(rows, cols);
            for (format, tolerance) in [(Format::F32, 0.0), (Format::Int8, 0.0062), (Format::Int4, 0.16)] {
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
            for format in [Format::Int8, Format::Int4] {
                let matrix = Matrix::pack(&[value; 32], 1, 32, format);
                let mut out = [0.0; 32];
                matrix.row(0, &mut out);
                assert!(
                    out.iter().all(|x| (x - value).abs() <= value.abs() * 0.01 + 1e-7),
                    "{format:?} {out:?}"
                );
            }
        }
    }

    #[test]
    fn stated_sizes_are_the_real_ones() {
        for (rows, cols) in [(16, 32), (17, 33)] {
            for format in [Format::F32, Format::Int8, Format::Int4] {
                let bytes = match Matrix::pack(&sample(rows, cols), rows, cols, format).values {
                    Values::F32(values) => values.len() * 4,
                    Values::Int8 { levels, scales } => levels.len() + scales.len() * 2,
                    Values::Int4 { levels, scales, minima } => {
                        levels.len() + (scales.len() + minima.len()) * 2
                    }
                };
                assert_eq!(bytes, format.bytes(rows, cols));
            }
        }
    }

    #[test]
    fn formats_have_names() {
        for format in [Format::F32, Format::Int8, Format::Int4] {
            assert_eq!(Format::parse(format.name()), Some(format));
        }
        assert_eq!(Format::parse("int3"), None);
    }
}
