//! Which rows of a collection may be among the nearest to a query: a scan over all of them, or over those allowed.
//!
//! Of int8 codes a first look reads the high halves only; the best of it get their whole products, and the best of these
//! are the candidates, which the caller scores exactly.

use std::cmp::Ordering;

use rag_core::search::Metric;

use super::codes::CodedQuery;
use super::kernel::{BLOCK_ROWS, Simd};
use super::snapshot::{Segment, Snapshot, Values, prepare, quantise};

/// Candidates beyond `k` when the scan is exact: only rounding can misplace them.
const MARGIN_EXACT: usize = 16;
/// Candidates at least when the scan is over int8 values.
const CANDIDATES_COARSE: usize = 32;
/// Rows that the first look lets through, for each candidate.
const FIRST_LOOK: usize = 16;
/// Candidates at most, when many rows are equally near.
const CANDIDATES_MAX: usize = 8_192;

/// The rows nearest to a query by the values in memory.
pub(super) struct Candidates;

impl Candidates {
    /// At least `k` rows where there are so many, and every row that is as near as the `k`th.
    pub(super) fn find(snapshot: &Snapshot, query: &[f32], k: usize, allowed: Option<&[i64]>) -> Vec<i64> {
        let (query, _) = prepare(query, snapshot.metric);
        let query = Query::new(query, Simd::detect());
        let coarse = snapshot.segments.iter().any(|segment| matches!(segment.values, Values::Coarse(_)));
        let mut wanted = if coarse { CANDIDATES_COARSE.max(2 * k) } else { k + MARGIN_EXACT };
        if let Some(allowed) = allowed.filter(|allowed| allowed.len() <= wanted) {
            return allowed.to_vec();
        }
        loop {
            let first = if coarse { wanted * FIRST_LOOK } else { wanted };
            let mut found = best(snapshot, &query, first, allowed);
            if coarse {
                found.iter_mut().for_each(|near| near.look_again(snapshot, &query));
                found.sort_unstable_by(Near::best_first);
                found.truncate(wanted);
            }
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
    simd: Simd,
    exact: Vec<f32>,
    codes: CodedQuery,
    scale: f32,
}

impl Query {
    fn new(exact: Vec<f32>, simd: Simd) -> Self {
        let (scale, codes) = quantise(&exact);
        let codes = CodedQuery::new(codes);
        Query { simd, exact, codes, scale }
    }

    fn score(&self, segment: &Segment, at: usize, product: f32) -> f32 {
        // Huge components may overflow to what is no number; such a row is far.
        (product * segment.factors[at] - segment.offsets[at]).max(f32::MIN)
    }
}

impl Query {
    /// Whether any row of a block may be better than `worst`: most blocks hold none, and this is told 16 rows at once.
    fn any_above(&self, segment: &Segment, start: usize, sums: &[i32; BLOCK_ROWS], worst: f32) -> bool {
        let factors = segment.factors[start..].first_chunk::<BLOCK_ROWS>();
        let offsets = segment.offsets[start..].first_chunk::<BLOCK_ROWS>();
        let (Some(factors), Some(offsets)) = (factors, offsets) else { return true };
        let mut above = false;
        for lane in 0..BLOCK_ROWS {
            let product = self.codes.about(sums[lane]) as f32 * self.scale;
            above |= (product * factors[lane] - offsets[lane]).max(f32::MIN) > worst;
        }
        above
    }
}

/// A row with its score and where it stands.
#[derive(Debug, Clone, Copy)]
struct Near {
    score: f32,
    row: i64,
    segment: u32,
    at: u32,
    /// The sum over the high halves of its codes.
    high: i32,
}

impl Near {
    /// Of equals the lower row first.
    fn best_first(a: &Near, b: &Near) -> Ordering {
        b.score.total_cmp(&a.score).then_with(|| a.row.cmp(&b.row))
    }

    /// The score by the whole codes.
    fn look_again(&mut self, snapshot: &Snapshot, query: &Query) {
        let (segment, at) = (&snapshot.segments[self.segment as usize], self.at as usize);
        if let Values::Coarse(codes) = &segment.values {
            let product = codes.product(query.simd, at, self.high, &query.codes);
            self.score = query.score(segment, at, product as f32 * query.scale);
        }
    }
}

/// The `wanted` best of what is offered: the list grows to twice as many, then the worse half goes.
struct Selection {
    wanted: usize,
    kept: Vec<Near>,
    /// What is not better is not among the best.
    worst: f32,
}

impl Selection {
    fn new(wanted: usize) -> Self {
        Selection { wanted, kept: Vec::with_capacity(2 * wanted), worst: f32::NEG_INFINITY }
    }

    /// Rows come in ascending order, so of equals the first ones stay.
    fn offer(&mut self, near: Near) {
        self.kept.push(near);
        if self.kept.len() == 2 * self.wanted {
            self.halve();
        }
    }

    fn halve(&mut self) {
        if self.kept.len() > self.wanted {
            let (_, last, _) = self.kept.select_nth_unstable_by(self.wanted - 1, Near::best_first);
            self.worst = last.score;
            self.kept.truncate(self.wanted);
        }
    }

    fn finish(mut self) -> Vec<Near> {
        self.halve();
        self.kept.sort_unstable_by(Near::best_first);
        self.kept
    }
}

/// The `wanted` nearest by a first look, best first.
fn best(snapshot: &Snapshot, query: &Query, wanted: usize, allowed: Option<&[i64]>) -> Vec<Near> {
    let mut selection = Selection::new(wanted.max(1));
    for (number, segment) in (0_u32..).zip(&snapshot.segments) {
        let places = allowed.map(|allowed| places(segment, allowed));
        if places.as_ref().is_some_and(Vec::is_empty) {
            continue;
        }
        match &segment.values {
            Values::Exact(values) => {
                let dim = query.exact.len();
                let mut offer = |at: usize| {
                    let product = query.simd.dot(&query.exact, &values[at * dim..(at + 1) * dim]);
                    let score = query.score(segment, at, product);
                    if score > selection.worst {
                        selection.offer(Near {
                            score,
                            row: segment.rows[at],
                            segment: number,
                            at: at as u32,
                            high: 0,
                        });
                    }
                };
                match &places {
                    Some(places) => places.iter().for_each(|&at| offer(at as usize)),
                    None => (0..segment.rows.len()).for_each(offer),
                }
            }
            Values::Coarse(codes) => {
                let offer = |selection: &mut Selection, at: usize, high: i32| {
                    let score = query.score(segment, at, query.codes.about(high) as f32 * query.scale);
                    if score > selection.worst {
                        selection.offer(Near {
                            score,
                            row: segment.rows[at],
                            segment: number,
                            at: at as u32,
                            high,
                        });
                    }
                };
                let block = |number: usize| codes.block(query.simd, number, &query.codes);
                match &places {
                    Some(places) => {
                        for within in places.chunk_by(|a, b| a / BLOCK_ROWS as u32 == b / BLOCK_ROWS as u32) {
                            let sums = block(within[0] as usize / BLOCK_ROWS);
                            within.iter().for_each(|&at| {
                                offer(&mut selection, at as usize, sums[at as usize % BLOCK_ROWS])
                            });
                        }
                    }
                    None => {
                        for number in 0..codes.rows().div_ceil(BLOCK_ROWS) {
                            let start = number * BLOCK_ROWS;
                            let sums = block(number);
                            if query.any_above(segment, start, &sums, selection.worst) {
                                let rows = start..codes.rows().min(start + BLOCK_ROWS);
                                rows.zip(sums).for_each(|(at, high)| offer(&mut selection, at, high));
                            }
                        }
                    }
                }
            }
        }
    }
    selection.finish()
}

/// Positions in a segment of the rows allowed, ascending; both are sorted.
fn places(segment: &Segment, allowed: &[i64]) -> Vec<u32> {
    let (Some(first), Some(last)) = (segment.rows.first(), segment.rows.last()) else { return Vec::new() };
    let start = allowed.partition_point(|row| row < first);
    let mut found = Vec::new();
    let mut at = 0;
    for row in allowed[start..].iter().take_while(|row| *row <= last) {
        while segment.rows.get(at).is_some_and(|held| held < row) {
            at += 1;
        }
        if segment.rows.get(at) == Some(row) {
            found.push(at as u32);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

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
