//! A collection's vectors in memory, in segments that copies share until one of them changes.
//!
//! Small collections are kept as f32, larger ones as int8 with one scale a row: a quarter of the memory, and a scan
//! that reads an eighth of it. Rows are sorted by their number in SQLite, which only grows.

use std::sync::Arc;

use rag_core::search::Metric;

use super::codes::Codes;

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
    coarse: bool,
    rows: usize,
}

/// Rows of ascending number with their values, row-major. The nearness of a row to a query is the dot product of the
/// values, times the row's `factor`, less the row's `offset`.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) rows: Vec<i64>,
    pub(super) values: Values,
    /// The scale of int8 values; 1 for f32.
    pub(super) factors: Vec<f32>,
    /// Half the squared length for the Euclidean metric, which gives the order of distances; else 0.
    pub(super) offsets: Vec<f32>,
}

/// Of unit length for the cosine metric.
#[derive(Debug, Clone)]
pub(super) enum Values {
    Exact(Vec<f32>),
    Coarse(Codes),
}

impl Snapshot {
    /// For about `rows` rows.
    pub(super) fn new(dim: usize, metric: Metric, rows: usize) -> Self {
        Snapshot { dim, metric, segments: Vec::new(), coarse: rows >= COARSE_ROWS, rows: 0 }
    }

    /// Memory that the vectors take.
    pub(super) fn bytes(&self) -> u64 {
        let values = if self.coarse { Codes::row_bytes(self.dim) } else { self.dim * size_of::<f32>() };
        let per_row = values + size_of::<i64>() + 2 * size_of::<f32>();
        (self.rows * per_row) as u64
    }

    /// Adds a row, or replaces its vector.
    pub(super) fn upsert(&mut self, row: i64, vector: &[f32]) {
        if let Some((segment, at)) = self.find(row) {
            Arc::make_mut(&mut self.segments[segment]).set(at, vector, self.metric);
            return;
        }
        let full = self.segments.last().is_none_or(|last| last.rows.len() >= SEGMENT_ROWS);
        if full {
            self.segments.push(Arc::new(Segment::new(self.coarse, self.dim)));
        }
        if let Some(last) = self.segments.last_mut() {
            Arc::make_mut(last).push(row, vector, self.metric);
            self.rows += 1;
        }
        if !self.coarse && self.rows >= COARSE_ROWS {
            self.coarse = true;
            for segment in &mut self.segments {
                Arc::make_mut(segment).quantise(self.dim);
            }
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

    /// Segment and position of a row.
    fn find(&self, row: i64) -> Option<(usize, usize)> {
        let after =
            self.segments.partition_point(|segment| segment.rows.first().is_some_and(|&first| first <= row));
        let segment = after.checked_sub(1)?;
        let at = self.segments[segment].rows.binary_search(&row).ok()?;
        Some((segment, at))
    }
}

impl Segment {
    fn new(coarse: bool, dim: usize) -> Self {
        let values =
            if coarse { Values::Coarse(Codes::new(dim, SEGMENT_ROWS)) } else { Values::Exact(Vec::new()) };
        Segment { rows: Vec::new(), values, factors: Vec::new(), offsets: Vec::new() }
    }

    fn push(&mut self, row: i64, vector: &[f32], metric: Metric) {
        let (prepared, offset) = prepare(vector, metric);
        self.rows.push(row);
        self.offsets.push(offset);
        match &mut self.values {
            Values::Exact(values) => {
                values.extend_from_slice(&prepared);
                self.factors.push(1.0);
            }
            Values::Coarse(values) => {
                let (scale, codes) = quantise(&prepared);
                values.push(codes);
                self.factors.push(scale);
            }
        }
    }

    fn set(&mut self, at: usize, vector: &[f32], metric: Metric) {
        let dim = vector.len();
        let (prepared, offset) = prepare(vector, metric);
        self.offsets[at] = offset;
        match &mut self.values {
            Values::Exact(values) => values[at * dim..(at + 1) * dim].copy_from_slice(&prepared),
            Values::Coarse(values) => {
                let (scale, codes) = quantise(&prepared);
                self.factors[at] = scale;
                values.set(at, codes);
            }
        }
    }

    fn quantise(&mut self, dim: usize) {
        let Values::Exact(exact) = &self.values else { return };
        let mut coarse = Codes::new(dim, SEGMENT_ROWS);
        for (vector, factor) in exact.chunks_exact(dim).zip(&mut self.factors) {
            let (scale, codes) = quantise(vector);
            *factor = scale;
            coarse.push(codes);
        }
        self.values = Values::Coarse(coarse);
    }

    fn retain(&mut self, dim: usize, keep: impl Fn(i64) -> bool) {
        let kept: Vec<usize> = (0..self.rows.len()).filter(|&at| keep(self.rows[at])).collect();
        self.rows = kept.iter().map(|&at| self.rows[at]).collect();
        self.factors = kept.iter().map(|&at| self.factors[at]).collect();
        self.offsets = kept.iter().map(|&at| self.offsets[at]).collect();
        let range = |at: usize| at * dim..(at + 1) * dim;
        match &mut self.values {
            Values::Exact(values) => {
                *values = kept.iter().flat_map(|&at| &values[range(at)]).copied().collect()
            }
            Values::Coarse(values) => {
                let mut left = Codes::new(dim, SEGMENT_ROWS);
                kept.iter().for_each(|&at| left.push(values.get(at)));
                *values = left;
            }
        }
    }
}

/// A vector as it is kept in memory, and its offset.
pub(super) fn prepare(vector: &[f32], metric: Metric) -> (Vec<f32>, f32) {
    let squared: f64 = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    match metric {
        Metric::Cosine if squared > 0.0 => {
            let length = squared.sqrt();
            (vector.iter().map(|&value| (f64::from(value) / length) as f32).collect(), 0.0)
        }
        Metric::Cosine | Metric::Dot => (vector.to_vec(), 0.0),
        Metric::Euclidean => (vector.to_vec(), (squared / 2.0) as f32),
    }
}

/// The scale and the values in units of it.
pub(super) fn quantise(vector: &[f32]) -> (f32, impl Iterator<Item = i8>) {
    let largest = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = if largest > 0.0 { largest / CODE_MAX } else { 1.0 };
    // Of a subnormal scale the inverse is infinite; the cast saturates then, and 0 × ∞ becomes 0.
    let inverse = scale.recip();
    (scale, vector.iter().map(move |value| (value * inverse + 0.5_f32.copysign(*value)) as i8))
}
