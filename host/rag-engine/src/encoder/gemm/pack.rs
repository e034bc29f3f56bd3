//! How activations and weights lie in memory for the kernels.

use super::{DEPTH_STEP, Isa, MR_MAX, NR, PANEL, Vectorised};

/// Bytes on a 64-byte boundary, zeroed.
#[derive(Debug, Clone, Default)]
struct Aligned {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Aligned {
    fn zeroed(bytes: usize) -> Self {
        Aligned { lines: vec![Line([0; 64]); bytes.div_ceil(64)] }
    }

    /// Grows to at least `bytes`; new bytes are zero.
    fn reserve(&mut self, bytes: usize) {
        if self.lines.len() * 64 < bytes {
            self.lines.resize(bytes.div_ceil(64), Line([0; 64]));
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: `Line` is 64 plain bytes without padding, so the lines are one run of initialised bytes.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * 64) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; any byte pattern is a valid `Line`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * 64) }
    }
}

/// Activations quantised row by row: `value = (byte - zero) · scale`, with the row's range stretched over 0..=255.
///
/// A buffer to use again and again. Room for the rows of a whole tile is kept after the last row.
#[derive(Debug, Clone, Default)]
pub struct Rows8 {
    rows: usize,
    depth: usize,
    stride: usize,
    data: Aligned,
    pub(crate) scales: Vec<f32>,
    pub(crate) zeros: Vec<i32>,
}

impl Rows8 {
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Bytes from one row to the next, a multiple of `DEPTH_STEP`.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Bytes of all rows, and of the spare rows that follow them.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.data.bytes()
    }

    /// Replaces the content by `values`, `[rows, depth]` row-major and finite.
    pub fn quantise(&mut self, isa: Isa, values: &[f32], depth: usize) {
        assert!(depth > 0 && values.len().is_multiple_of(depth));
        let rows = values.len() / depth;
        self.rows = rows;
        self.depth = depth;
        self.stride = depth.next_multiple_of(DEPTH_STEP);
        self.data.reserve(rows.next_multiple_of(MR_MAX) * self.stride);
        self.scales.resize(rows, 0.0);
        self.zeros.resize(rows, 0);
        isa.run(Quantise {
            values,
            depth,
            stride: self.stride,
            data: self.data.bytes_mut(),
            scales: &mut self.scales,
            zeros: &mut self.zeros,
        });
    }
}

struct Quantise<'a> {
    values: &'a [f32],
    depth: usize,
    stride: usize,
    data: &'a mut [u8],
    scales: &'a mut [f32],
    zeros: &'a mut [i32],
}

/// Adding it to a small f32 rounds to the nearest integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
/// Values handled side by side.
const LANES: usize = 16;

impl Vectorised for Quantise<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (r, values) in self.values.chunks_exact(self.depth).enumerate() {
            let (low, high) = range(values);
            let scale = (high - low).max(f32::MIN_POSITIVE * 256.0) / 255.0;
            let zero = (-low / scale).round();
            let steps =
                Steps { inverse: 1.0 / scale, floor: -zero, ceiling: 255.0 - zero, shift: ROUND + zero };
            let target = &mut self.data[r * self.stride..][..self.depth];
            target.iter_mut().zip(values).for_each(|(byte, value)| *byte = steps.of(*value));
            self.scales[r] = scale;
            self.zeros[r] = zero as i32;
        }
    }
}

/// How a row's values become bytes.
struct Steps {
    inverse: f32,
    floor: f32,
    ceiling: f32,
    shift: f32,
}

impl Steps {
    #[inline(always)]
    fn of(&self, value: f32) -> u8 {
        let steps = value * self.inverse;
        let steps = if steps > self.floor { steps } else { self.floor };
        let steps = if steps < self.ceiling { steps } else { self.ceiling };
        (steps + self.shift).to_bits() as u8
    }
}

/// Smallest and largest value, zero included. One after the other: together the compiler makes them slow.
#[inline(always)]
fn range(values: &[f32]) -> (f32, f32) {
    let low = extreme(values, |best, value| if value < best { value } else { best });
    let high = extreme(values, |best, value| if value > best { value } else { best });
    (low, high)
}

/// Folds zero and the values with `better`, in lanes.
#[inline(always)]
fn extreme(values: &[f32], better: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = better(lanes[lane], chunk[lane]);
        }
    }
    lanes.iter().chain(rest).fold(0f32, |best, value| better(best, *value))
}

/// Weights `[n, depth]` as i8 with one scale a row: `[tile][panel 2][depth / 4][16 columns][4]`.
#[derive(Debug, Clone)]
pub struct Weights8 {
    columns: usize,
    depth: usize,
    stride: usize,
    data: Aligned,
    /// One a column of the product, padded to whole tiles.
    pub(crate) scales: Vec<f32>,
    /// Sum of a column's integers.
    pub(crate) sums: Vec<i32>,
}

impl Weights8 {
    /// Quantises `rows` of `depth` weights each; each becomes one column of the product.
    pub fn pack<'a>(depth: usize, rows: impl ExactSizeIterator<Item = &'a [f32]>) -> Self {
        let columns = rows.len();
        let stride = depth.next_multiple_of(DEPTH_STEP);
        let padded = columns.next_multiple_of(NR);
        let mut data = Aligned::zeroed(padded * stride);
        let (mut scales, mut sums) = (vec![0.0; padded], vec![0; padded]);
        let bytes = data.bytes_mut();
        for (c, row) in rows.enumerate() {
            assert_eq!(row.len(), depth);
            let (low, high) = range(row);
            let scale = high.max(-low).max(f32::MIN_POSITIVE * 256.0) / 127.0;
            let inverse = 1.0 / scale;
            let panel = &mut bytes[c / PANEL * PANEL * stride..][..PANEL * stride];
            for (fours, weights) in panel.chunks_exact_mut(4 * PANEL).zip(row.chunks(4)) {
                for (byte, weight) in fours[c % PANEL * 4..].iter_mut().zip(weights) {
                    // At most ±127, since the scale is the largest weight's.
                    let whole = (weight * inverse + ROUND).to_bits() as i8;
                    *byte = whole as u8;
                    sums[c] += i32::from(whole);
                }
            }
            scales[c] = scale;
        }
        Weights8 { columns, depth, stride, data, scales, sums }
    }

    /// Columns of the product.
    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Bytes held.
    pub fn bytes_held(&self) -> usize {
        self.data.bytes().len() + self.scales.len() * 8
    }

    pub(crate) fn tiles(&self) -> usize {
        self.columns.div_ceil(NR)
    }

    /// The two panels of a tile, each `PANEL * stride` bytes.
    pub(crate) fn tile(&self, tile: usize) -> &[u8] {
        &self.data.bytes()[tile * NR * self.stride..][..NR * self.stride]
    }
}

/// Weights `[n, depth]` in f32: `[tile][panel 2][depth][16 columns]`.
#[derive(Debug, Clone)]
pub struct WeightsF32 {
    columns: usize,
    depth: usize,
    data: Vec<f32>,
}

impl WeightsF32 {
    /// Packs `rows` of `depth` weights each; each becomes one column of the product.
    pub fn pack<'a>(depth: usize, rows: impl ExactSizeIterator<Item = &'a [f32]>) -> Self {
        let columns = rows.len();
        let mut data = vec![0.0; columns.next_multiple_of(NR) * depth];
        for (c, row) in rows.enumerate() {
            assert_eq!(row.len(), depth);
            let panel = &mut data[c / PANEL * PANEL * depth..][..PANEL * depth];
            for (k, weight) in row.iter().enumerate() {
                panel[k * PANEL + c % PANEL] = *weight;
            }
        }
        WeightsF32 { columns, depth, data }
    }

    /// Columns of the product.
    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Bytes held.
    pub fn bytes_held(&self) -> usize {
        self.data.len() * 4
    }

    pub(crate) fn tiles(&self) -> usize {
        self.columns.div_ceil(NR)
    }

    pub(crate) fn tile(&self, tile: usize) -> &[f32] {
        &self.data[tile * NR * self.depth..][..NR * self.depth]
    }

    /// As it was packed, `[n, depth]`.
    pub fn unpack(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.columns * self.depth];
        for (c, row) in values.chunks_exact_mut(self.depth).enumerate() {
            let panel = &self.data[c / PANEL * PANEL * self.depth..][..PANEL * self.depth];
            let own = panel[c % PANEL..].iter().step_by(PANEL);
            row.iter_mut().zip(own).for_each(|(value, packed)| *value = *packed);
        }
        values
    }
}
