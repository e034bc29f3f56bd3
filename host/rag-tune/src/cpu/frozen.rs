//! Weight matrices that are not trained, in f32, bf16, int8 or nf4; turned into f32 a panel at a time when used.
//!
//! int8 and nf4 share one f32 scale among 64 values that lie behind each other. An nf4 byte holds the earlier of two
//! values in its high half, as bitsandbytes has it.

use std::borrow::Cow;

use ndarray::{ArrayView2, s};
use rayon::prelude::*;

use super::linalg::{fast, product, view, view_mut};

/// Values that share a scale.
const BLOCK: usize = 64;
/// Values that are in f32 at once, about: they stay in the cache.
const PANEL_VALUES: usize = 1 << 20;
/// The levels of nf4.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_04,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// How matrices that are not trained are held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    F32,
    Bf16,
    Int8,
    Nf4,
}

impl Precision {
    pub const ALL: [Precision; 4] = [Precision::F32, Precision::Bf16, Precision::Int8, Precision::Nf4];

    /// The name in files, configuration and messages.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
            Precision::Nf4 => "nf4",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Precision::ALL.into_iter().find(|precision| precision.name() == name)
    }

    /// Bytes in memory of so many values.
    pub(crate) fn bytes(self, values: usize) -> usize {
        match self {
            Precision::F32 => values * 4,
            Precision::Bf16 => values * 2,
            Precision::Int8 => values + values.div_ceil(BLOCK) * 4,
            Precision::Nf4 => values.div_ceil(2) + values.div_ceil(BLOCK) * 4,
        }
    }

    /// Of tables and heads, which never get fewer bits than bf16 has.
    pub(crate) fn of_tables(self) -> Self {
        if self == Precision::F32 { Precision::F32 } else { Precision::Bf16 }
    }

    /// What is left of values after a way through this precision.
    pub fn round(self, values: &[f32]) -> Vec<f32> {
        Frozen::pack(values, 1, values.len(), self).dense().into_owned()
    }
}

/// A matrix [rows, cols].
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    rows: usize,
    cols: usize,
    values: Values,
}

/// As they are packed.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
    Int8 { levels: Vec<i8>, scales: Vec<f32> },
    Nf4 { pairs: Vec<u8>, scales: Vec<f32> },
}

impl Frozen {
    /// Converts row-major `values` [rows, cols].
    pub(crate) fn pack(values: &[f32], rows: usize, cols: usize, precision: Precision) -> Self {
        assert_eq!(values.len(), rows * cols, "a matrix of another size");
        let scales = || values.par_chunks(BLOCK).map(largest).collect::<Vec<f32>>();
        let inverse = |scale: f32| if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let values = match precision {
            Precision::F32 => Values::F32(values.to_vec()),
            Precision::Bf16 => Values::Bf16(values.par_iter().map(|&value| to_bf16(value)).collect()),
            Precision::Int8 => {
                let scales: Vec<f32> = scales().iter().map(|scale| scale / 127.0).collect();
                let level = |(i, value): (usize, &f32)| (value * inverse(scales[i / BLOCK])).round() as i8;
                let levels = values.par_iter().enumerate().map(level).collect();
                Values::Int8 { levels, scales }
            }
            Precision::Nf4 => {
                let scales = scales();
                let level = |i: usize| {
                    let value = values.get(i).copied().unwrap_or(0.0);
                    nearest(value * scales.get(i / BLOCK).map_or(0.0, |&scale| inverse(scale)))
                };
                let pair = |i: usize| level(2 * i) << 4 | level(2 * i + 1);
                let pairs = (0..values.len().div_ceil(2)).into_par_iter().map(pair).collect();
                Values::Nf4 { pairs, scales }
            }
        };
        Self { rows, cols, values }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// Gives back the memory; what is left has no values any more.
    #[cfg(feature = "cuda")]
    pub(crate) fn release(&mut self) {
        self.values = Values::F32(Vec::new());
    }

    /// Replaces the values, keeping the precision.
    pub(crate) fn replace(&mut self, values: &[f32]) {
        let precision = match &self.values {
            Values::F32(_) => Precision::F32,
            Values::Bf16(_) => Precision::Bf16,
            Values::Int8 { .. } => Precision::Int8,
            Values::Nf4 { .. } => Precision::Nf4,
        };
        *self = Self::pack(values, self.rows, self.cols, precision);
    }

    /// self ← self − b [rows, r] · a [r, cols].
    pub(crate) fn subtract(&mut self, b: &[f32], a: &[f32]) {
        let rank = a.len() / self.cols.max(1);
        let negative: Vec<f32> = b.iter().map(|value| -value).collect();
        let mut dense = self.dense().into_owned();
        let a = view(a, rank, self.cols);
        product(view(&negative, self.rows, rank), a, 1.0, view_mut(&mut dense, self.rows, self.cols));
        self.replace(&dense);
    }

    /// All values in f32, row-major.
    pub(crate) fn dense(&self) -> Cow<'_, [f32]> {
        self.part(0, self.rows * self.cols)
    }

    /// One row.
    pub(crate) fn row(&self, row: usize) -> Cow<'_, [f32]> {
        self.part(row * self.cols, self.cols)
    }

    /// out [n, rows] ← x [n, cols] · selfᵀ.
    pub(crate) fn apply(&self, x: &[f32], out: &mut [f32]) {
        let n = x.len() / self.cols;
        let (x, mut out) = (view(x, n, self.cols), view_mut(out, n, self.rows));
        self.panels(|first, panel| {
            product(x, panel.t(), 0.0, out.slice_mut(s![.., first..first + panel.nrows()]));
        });
    }

    /// dx [n, cols] ← dx + dy [n, rows] · self.
    pub(crate) fn apply_back(&self, dy: &[f32], dx: &mut [f32]) {
        let n = dy.len() / self.rows;
        let (dy, mut dx) = (view(dy, n, self.rows), view_mut(dx, n, self.cols));
        self.panels(|first, panel| {
            let dy = dy.slice(s![.., first..first + panel.nrows()]);
            product(dy, panel, 1.0, dx.view_mut());
        });
    }

    /// Hands out groups of rows in f32, each with the number of its first.
    fn panels(&self, mut work: impl FnMut(usize, ArrayView2<'_, f32>)) {
        let each = if matches!(self.values, Values::F32(_)) {
            self.rows
        } else {
            (PANEL_VALUES / self.cols.max(1)).clamp(1, self.rows.max(1))
        };
        for first in (0..self.rows).step_by(each.max(1)) {
            let rows = each.min(self.rows - first);
            work(first, view(&self.part(first * self.cols, rows * self.cols), rows, self.cols));
        }
    }

    fn part(&self, start: usize, len: usize) -> Cow<'_, [f32]> {
        let range = start..start + len;
        match &self.values {
            Values::F32(values) => Cow::Borrowed(&values[range]),
            Values::Bf16(values) => fast(|| values[range].iter().map(|&bits| from_bf16(bits)).collect()),
            Values::Int8 { levels, scales } => fast(|| {
                let value = |i: usize| f32::from(levels[i]) * scales[i / BLOCK];
                range.map(value).collect()
            }),
            Values::Nf4 { pairs, scales } => fast(|| {
                let value = |i: usize| {
                    let level = pairs[i / 2] >> (4 * (1 - i % 2)) & 15;
                    NF4[level as usize] * scales[i / BLOCK]
                };
                range.map(value).collect()
            }),
        }
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

/// The level next to a value.
fn nearest(value: f32) -> u8 {
    let above = NF4.partition_point(|&level| level < value).min(15);
    let below = above.saturating_sub(1);
    (if value - NF4[below] < NF4[above] - value { below } else { above }) as u8
}

/// To nearest, ties to even.
pub(crate) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

pub(crate) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 0.37).sin() * 0.3).collect()
    }

    #[test]
    fn precisions_keep_what_they_promise() {
        let values = sample(40 * 48);
        for (precision, error) in [
            (Precision::F32, 0.0),
            (Precision::Bf16, 1e-3),
            (Precision::Int8, 1.3e-3),
            (Precision::Nf4, 0.05),
        ] {
            let frozen = Frozen::pack(&values, 40, 48, precision);
            let dense = frozen.dense().into_owned();
            assert!(dense.iter().zip(&values).all(|(a, b)| (a - b).abs() <= error), "{precision:?}");
            assert_eq!(frozen.row(7).as_ref(), &dense[7 * 48..8 * 48]);
            // What a precision holds, it holds again.
            assert_eq!(Frozen::pack(&dense, 40, 48, precision).dense().len(), dense.len());
            let used = match &frozen.values {
                Values::F32(values) => values.len() * 4,
                Values::Bf16(values) => values.len() * 2,
                Values::Int8 { levels, scales } => levels.len() + scales.len() * 4,
                Values::Nf4 { pairs, scales } => pairs.len() + scales.len() * 4,
            };
            assert_eq!(used, precision.bytes(values.len()));
        }
    }

    /// bitsandbytes' order: of two values the first stands in the high half.
    #[test]
    fn nf4_has_the_published_levels_and_order() {
        let mut values = vec![0.0; 64];
        values[0] = 2.0;
        values[1] = -2.0 * 0.696_192_8;
        let frozen = Frozen::pack(&values, 1, 64, Precision::Nf4);
        let Values::Nf4 { pairs, scales } = &frozen.values else { unreachable!("packed as nf4") };
        assert_eq!((pairs[0], pairs[1], scales[0]), (0xf1, 0x77, 2.0));
    }

    #[test]
    fn products_use_what_the_matrix_stands_for() {
        let (rows, cols, n) = (70, 33, 5);
        let values = sample(rows * cols);
        let x = sample(n * cols);
        for precision in Precision::ALL {
            let frozen = Frozen::pack(&values, rows, cols, precision);
            let dense = Frozen::pack(&frozen.dense(), rows, cols, Precision::F32);
            let (mut a, mut b) = (vec![0.0; n * rows], vec![0.0; n * rows]);
            frozen.apply(&x, &mut a);
            dense.apply(&x, &mut b);
            assert_eq!(a, b, "{precision:?}");
            let (mut da, mut db) = (vec![1.0; n * cols], vec![1.0; n * cols]);
            frozen.apply_back(&a, &mut da);
            dense.apply_back(&b, &mut db);
            assert_eq!(da, db, "{precision:?}");
        }
    }

    #[test]
    fn bf16_rounds_to_even() {
        for (value, bits) in [(1.0, 0x3f80), (257.0 / 256.0, 0x3f80), (259.0 / 256.0, 0x3f82), (-0.0, 0x8000)]
        {
            assert_eq!(to_bf16(value), bits, "{value}");
        }
        assert!(from_bf16(to_bf16(f32::NAN)).is_nan());
        assert_eq!(from_bf16(to_bf16(f32::INFINITY)), f32::INFINITY);
    }
}
