//! Which rows of a collection may be among the nearest to a query: a scan over all of them, or over those allowed.
//!
//! The loops have no branches and a fixed stride, so that the compiler turns them into vector instructions.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use rag_core::search::Metric;

use super::snapshot::{Segment, Snapshot, Values, prepare, quantise};

/// Candidates beyond `k` when the scan is exact: only rounding can misplace them.
const MARGIN_EXACT: usize = 16;
/// Candidates at least when the scan is over int8 values.
const CANDIDATES_COARSE: usize = 100;
/// Candidates at most, when many rows are equally near.
const CANDIDATES_MAX: usize = 8_192;

/// The rows nearest to a query by the values in memory.
pub(super) struct Candidates;

impl Candidates {
    /// At least `k` rows where there are so many, and every row that is as near as the `k`th.
    pub(super) fn find(snapshot: &Snapshot, query: &[f32], k: usize, allowed: Option<&[i64]>) -> Vec<i64> {
        let (query, _) = prepare(query, snapshot.metric);
        let query = Query::new(query);
        let coarse = snapshot.segments.iter().any(|segment| matches!(segment.values, Values::Coarse(_)));
        let mut wanted = if coarse { CANDIDATES_COARSE.max(2 * k) } else { k + MARGIN_EXACT };
        if let Some(allowed) = allowed.filter(|allowed| allowed.len() <= wanted) {
            return allowed.to_vec();
        }
        loop {
            let found = best(snapshot, &query, wanted, allowed);
            let cut_among_equals = found.len() == wanted
                && found.last().map(|last| last.score) == found.get(k - 1).map(|kth| kth.score);
            if !cut_among_equals || wanted >= CANDIDATES_MAX {
                return found.into_iter().map(|near| near.row).collect();
            }
            wanted = (wanted * 8).min(CANDIDATES_MAX);
        }
    }
}

/// The score that callers see: exact but for the rounding of its result to f32.
pub(crate) fn exact_score(metric: Metric, query: &[f32], vector: &[f32]) -> f32 {
    let pairs = || query.iter().zip(vector).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let score = match metric {
        Metric::Dot => pairs().map(|(a, b)| a * b).sum(),
        Metric::Euclidean => -pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
        Metric::Cosine => {
            let (mut dot, mut query_squared, mut vector_squared) = (0.0, 0.0, 0.0);
            for (a, b) in pairs() {
                dot += a * b;
                query_squared += a * a;
                vector_squared += b * b;
            }
            let lengths: f64 = f64::sqrt(query_squared) * f64::sqrt(vector_squared);
            // A vector without length has no direction: it is as near to one as to the opposite.
            if lengths > 0.0 { (dot / lengths).clamp(-1.0, 1.0) } else { 0.0 }
        }
    };
    score.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

/// A query in both forms.
struct Query {
    exact: Vec<f32>,
    codes: Vec<i8>,
    scale: f32,
}

impl Query {
    fn new(exact: Vec<f32>) -> Self {
        let (scale, codes) = quantise(&exact);
        let codes = codes.collect();
        Query { exact, codes, scale }
    }

    fn score(&self, segment: &Segment, at: usize) -> f32 {
        let dim = self.exact.len();
        let dot = match &segment.values {
            Values::Exact(values) => dot_f32(&self.exact, &values[at * dim..(at + 1) * dim]),
            Values::Coarse(values) => {
                dot_i8(&self.codes, &values[at * dim..(at + 1) * dim]) as f32 * self.scale
            }
        };
        dot * segment.factors[at] - segment.offsets[at]
    }
}

/// A row with its score; greater is nearer, and of equals the lower row.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Near {
    score: f32,
    row: i64,
}

impl Eq for Near {}
impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.row.cmp(&self.row))
    }
}

/// The `wanted` nearest, best first.
fn best(snapshot: &Snapshot, query: &Query, wanted: usize, allowed: Option<&[i64]>) -> Vec<Near> {
    let mut heap: BinaryHeap<Reverse<Near>> = BinaryHeap::with_capacity(wanted + 1);
    let mut worst = f32::NEG_INFINITY;
    let mut offer = |score: f32, row: i64| {
        // Huge components may overflow to what is no number; such a row is far.
        let near = Near { score: if score.is_nan() { f32::MIN } else { score }, row };
        // Rows come in ascending order, so of equals the first ones stay.
        if heap.len() >= wanted {
            if near.score <= worst {
                return;
            }
            heap.pop();
        }
        heap.push(Reverse(near));
        if heap.len() >= wanted {
            worst = heap.peek().map_or(worst, |Reverse(near)| near.score);
        }
    };
    for segment in &snapshot.segments {
        match allowed {
            None => (0..segment.rows.len()).for_each(|at| offer(query.score(segment, at), segment.rows[at])),
            Some(allowed) => {
                each_allowed(segment, allowed, |at| offer(query.score(segment, at), segment.rows[at]))
            }
        }
    }
    let mut found: Vec<Near> = heap.into_iter().map(|Reverse(near)| near).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

/// Positions in a segment of the rows allowed; both are sorted.
fn each_allowed(segment: &Segment, allowed: &[i64], mut found: impl FnMut(usize)) {
    let (Some(first), Some(last)) = (segment.rows.first(), segment.rows.last()) else { return };
    let start = allowed.partition_point(|row| row < first);
    let mut at = 0;
    for row in allowed[start..].iter().take_while(|row| *row <= last) {
        while segment.rows.get(at).is_some_and(|held| held < row) {
            at += 1;
        }
        if segment.rows.get(at) == Some(row) {
            found(at);
        }
    }
}

/// Components summed side by side.
const LANES: usize = 16;

fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Exact: 16 384 products of at most 127 × 127 stay within i32.
fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_agree_with_their_definition_at_every_length() {
        for length in 0..100_usize {
            let a: Vec<f32> = (0..length).map(|at| (at as f32 * 0.7).sin()).collect();
            let b: Vec<f32> = (0..length).map(|at| (at as f32 * 1.3).cos()).collect();
            let plain: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(dot_f32(&a, &b)) - plain).abs() < 1e-5, "{length}");
            let a: Vec<i8> = (0..length).map(|at| (at * 37 % 255) as u8 as i8).collect();
            let b: Vec<i8> = (0..length).map(|at| (at * 91 % 255) as u8 as i8).collect();
            let plain: i32 = a.iter().zip(&b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
            assert_eq!(dot_i8(&a, &b), plain, "{length}");
        }
        assert_eq!(dot_i8(&[-127; 16_384], &[127; 16_384]), -127 * 127 * 16_384);
    }

    #[test]
    fn scores_are_those_of_the_metrics() {
        let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{a} {b}");
        close(exact_score(Metric::Cosine, &[3.0, 4.0], &[6.0, 8.0]), 1.0);
        close(exact_score(Metric::Cosine, &[1.0, 0.0], &[-2.0, 0.0]), -1.0);
        close(exact_score(Metric::Cosine, &[1.0, 0.0], &[0.0, 0.0]), 0.0);
        close(exact_score(Metric::Dot, &[1.0, 2.0], &[3.0, 4.0]), 11.0);
        close(exact_score(Metric::Euclidean, &[0.0, 0.0], &[3.0, 4.0]), -5.0);
        assert_eq!(exact_score(Metric::Dot, &[f32::MAX, f32::MAX], &[f32::MAX, f32::MAX]), f32::MAX);
        close(exact_score(Metric::Cosine, &[f32::MAX, f32::MAX], &[f32::MAX, f32::MAX]), 1.0);
    }
}
