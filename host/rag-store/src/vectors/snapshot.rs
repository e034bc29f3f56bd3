//! A collection's vectors in memory, in segments that copies share until one of them changes.
//!
//! Small collections are kept as f32, larger ones as int8 with one scale a row: a quarter of the memory, of which a scan
//! reads an eighth. Rows are sorted by their number in SQLite, which only grows.

use std::sync::Arc;

use rag_core::search::Metric;

use super::codes::Codes;
use super::frame::Frame;
use super::kernel::Simd;

/// From this many rows on a collection is kept as int8.
pub(super) const COARSE_ROWS: usize = 8_192;
/// Rows of a segment: what a change copies at most while a search still reads it.
const SEGMENT_ROWS: usize = 2_048;
/// Largest int8 value used; symmetric, so that no product overflows.
const CODE_MAX: f32 = 127.0;

/// One state of a collection; cloning it copies no vectors.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(super) dim: usize,
    pub(super) metric: Metric,
    pub(super) segments: Vec<Arc<Segment>>,
    /// What int8 values are seen from; `None` while there are none.
    pub(super) frame: Option<Arc<Frame>>,
    rows: usize,
}

/// Rows of ascending number with their values, row-major. The nearness of a row to a query is the dot product of the
/// values, times the row's `scale`, less the row's `offset`.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) rows: Vec<i64>,
    pub(super) values: Values,
    /// What one of int8 values is worth; 1 for f32.
    pub(super) scales: Vec<f32>,
    /// For the Euclidean metric half the squared length, which gives the order of distances. Else what the product with the
    /// frame's centre takes away, or 0 without a frame.
    pub(super) offsets: Vec<f32>,
    /// What one of the product with the row's signs is worth; the length for f32.
    pub(super) factors: Vec<f32>,
    /// The most that a row lies off its signs, in units of its factor.
    pub(super) spread: f32,
}

/// Of unit length for the cosine metric.
#[derive(Debug, Clone)]
pub(super) enum Values {
    Exact(Vec<f32>),
    Coarse(Codes),
}

impl Snapshot {
    pub(super) fn new(dim: usize, metric: Metric) -> Self {
        Snapshot { dim, metric, segments: Vec::new(), frame: None, rows: 0 }
    }

    /// To be filled with many rows of which these are some.
    pub(super) fn coarse(dim: usize, metric: Metric, some: &[Vec<f32>]) -> Self {
        let some: Vec<Vec<f32>> = some.iter().map(|vector| prepare(vector, metric)).collect();
        let frame = Arc::new(Frame::around(dim, some.iter().map(Vec::as_slice)));
        Snapshot { frame: Some(frame), ..Self::new(dim, metric) }
    }

    /// Memory that the vectors take.
    pub(super) fn bytes(&self) -> u64 {
        let values =
            if self.frame.is_some() { Codes::row_bytes(self.dim) } else { self.dim * size_of::<f32>() };
        let per_row = values + size_of::<i64>() + 3 * size_of::<f32>();
        (self.rows * per_row) as u64
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a row, or replaces its vector.
    pub(super) fn upsert(&mut self, row: i64, vector: &[f32]) {
        let seen = Seen::new(prepare(vector, self.metric), self.metric, self.frame.as_deref());
        if let Some((segment, at)) = self.find(row) {
            Arc::make_mut(&mut self.segments[segment]).set(at, &seen);
            return;
        }
        let full = self.segments.last().is_none_or(|last| last.rows.len() >= SEGMENT_ROWS);
        if full {
            self.segments.push(Arc::new(Segment::new(self.frame.is_some(), self.dim)));
        }
        if let Some(last) = self.segments.last_mut() {
            Arc::make_mut(last).push(row, seen);
            self.rows += 1;
        }
        if self.frame.is_none() && self.rows >= COARSE_ROWS {
            self.quantise();
        }
    }

    /// Rows that are not there are left out.
    pub(super) fn delete(&mut self, rows: &[i64]) {
        let mut sorted = rows.to_vec();
        sorted.sort_unstable();
        let dim = self.dim;
        for segment in &mut self.segments {
            if segment.rows.iter().any(|row| sorted.binary_search(row).is_ok()) {
                Arc::make_mut(segment).retain(dim, |row| sorted.binary_search(&row).is_err());
            }
        }
        self.segments.retain(|segment| !segment.rows.is_empty());
        self.rows = self.segments.iter().map(|segment| segment.rows.len()).sum();
    }

    /// From f32 to int8.
    fn quantise(&mut self) {
        let exact = self.segments.iter().filter_map(|segment| match &segment.values {
            Values::Exact(values) => Some(values.chunks_exact(self.dim)),
            Values::Coarse(_) => None,
        });
        let frame = Arc::new(Frame::around(self.dim, exact.flatten()));
        for segment in &mut self.segments {
            let mut coarse = Segment::new(true, self.dim);
            if let Values::Exact(values) = &segment.values {
                for (row, vector) in segment.rows.iter().zip(values.chunks_exact(self.dim)) {
                    coarse.push(*row, Seen::new(vector.to_vec(), self.metric, Some(&frame)));
                }
            }
            *segment = Arc::new(coarse);
        }
        self.frame = Some(frame);
    }

    /// Segment and position of a row.
    fn find(&self, row: i64) -> Option<(usize, usize)> {
        let after =
            self.segments.partition_point(|segment| segment.rows.first().is_some_and(|&first| first <= row));
        let segment = after.checked_sub(1)?;
        let at = self.segments[segment].rows.binary_search(&row).ok()?;
        Some((segment, at))
    }
}

/// What a segment keeps of one row.
struct Seen {
    values: Vec<f32>,
    /// Of `values`, where they are kept as int8.
    codes: Vec<i8>,
    scale: f32,
    offset: f32,
    factor: f32,
    spread: f32,
}

impl Seen {
    fn new(mut values: Vec<f32>, metric: Metric, frame: Option<&Frame>) -> Self {
        let along = frame.map_or(0.0, |frame| frame.see(Simd::detect(), &mut values));
        let squared: f64 = values.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        let offset = if metric == Metric::Euclidean { (squared / 2.0) as f32 } else { -along };
        if frame.is_none() {
            let factor = squared.sqrt() as f32;
            return Seen { values, codes: Vec::new(), scale: 1.0, offset, factor, spread: 0.0 };
        }
        let (scale, codes) = quantise(&values);
        let codes: Vec<i8> = codes.collect();
        let signed = codes.iter().zip(&values).map(|(code, value)| if *code < 0 { -value } else { *value });
        let sum: f64 = signed.map(f64::from).sum();
        let (mut factor, mut spread) = (0.0, 0.0);
        if sum > 0.0 {
            // The multiple of its signs whose product with the row is that of the row with itself.
            factor = (squared / sum) as f32;
            spread = (values.len() as f64 - sum * sum / squared).max(0.0).sqrt() as f32;
        }
        Seen { values, codes, scale, offset, factor, spread }
    }
}

impl Segment {
    fn new(coarse: bool, dim: usize) -> Self {
        let values =
            if coarse { Values::Coarse(Codes::new(dim, SEGMENT_ROWS)) } else { Values::Exact(Vec::new()) };
        let numbers = || Vec::with_capacity(SEGMENT_ROWS);
        Segment {
            rows: Vec::with_capacity(SEGMENT_ROWS),
            values,
            scales: numbers(),
            offsets: numbers(),
            factors: numbers(),
            spread: 0.0,
        }
    }

    fn push(&mut self, row: i64, seen: Seen) {
        self.rows.push(row);
        self.scales.push(seen.scale);
        self.offsets.push(seen.offset);
        self.factors.push(seen.factor);
        self.spread = self.spread.max(seen.spread);
        match &mut self.values {
            Values::Exact(values) => values.extend(seen.values),
            Values::Coarse(values) => values.push(&seen.codes),
        }
    }

    fn set(&mut self, at: usize, seen: &Seen) {
        self.scales[at] = seen.scale;
        self.offsets[at] = seen.offset;
        self.factors[at] = seen.factor;
        self.spread = self.spread.max(seen.spread);
        let dim = seen.values.len();
        match &mut self.values {
            Values::Exact(values) => values[at * dim..(at + 1) * dim].copy_from_slice(&seen.values),
            Values::Coarse(values) => values.set(at, &seen.codes),
        }
    }

    fn retain(&mut self, dim: usize, keep: impl Fn(i64) -> bool) {
        let kept: Vec<usize> = (0..self.rows.len()).filter(|&at| keep(self.rows[at])).collect();
        self.rows = kept.iter().map(|&at| self.rows[at]).collect();
        for numbers in [&mut self.scales, &mut self.offsets, &mut self.factors] {
            *numbers = kept.iter().map(|&at| numbers[at]).collect();
        }
        let range = |at: usize| at * dim..(at + 1) * dim;
        match &mut self.values {
            Values::Exact(values) => {
                *values = kept.iter().flat_map(|&at| &values[range(at)]).copied().collect()
            }
            Values::Coarse(values) => {
                let mut left = Codes::new(dim, SEGMENT_ROWS);
                kept.iter().for_each(|&at| left.push(&values.get(at)));
                *values = left;
            }
        }
    }
}

/// A vector as its products are taken: of unit length for the cosine metric.
pub(super) fn prepare(vector: &[f32], metric: Metric) -> Vec<f32> {
    let squared: f64 = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    if metric != Metric::Cosine || squared == 0.0 {
        return vector.to_vec();
    }
    let length = squared.sqrt();
    vector.iter().map(|&value| (f64::from(value) / length) as f32).collect()
}

/// The scale and the values in units of it, of which the largest is `most`.
pub(super) fn quantise_to(most: f32, vector: &[f32]) -> (f32, impl Iterator<Item = i8>) {
    let largest = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = if largest > 0.0 { largest / most } else { 1.0 };
    // Of a subnormal scale the inverse is infinite; the cast saturates then, and 0 × ∞ becomes 0.
    let inverse = scale.recip();
    let limit = most as i8;
    (
        scale,
        vector
            .iter()
            .map(move |value| ((value * inverse + 0.5_f32.copysign(*value)) as i8).clamp(-limit, limit)),
    )
}

pub(super) fn quantise(vector: &[f32]) -> (f32, impl Iterator<Item = i8>) {
    quantise_to(CODE_MAX, vector)
}
