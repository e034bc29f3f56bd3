//! Which rows of a collection may be among the nearest to a query: a scan over all of them, or over those allowed.
//!
//! Of int8 codes a first look reads the signs only: they tell about where a row's score lies, and how far off that can
//! be. A row that can't be among the `k` best by this is out; of the others the high halves of the codes are read, and
//! of those that these leave the low ones. What is left at the end the caller scores exactly.

use std::cmp::Ordering;

use rag_core::search::Metric;

use super::codes::{CodedQuery, Codes, SignQuery};
use super::frame::Frame;
use super::kernel::{BLOCK_ROWS, FirstLook, Simd};
use super::snapshot::{Segment, Snapshot, Values, prepare, quantise, quantise_to};

/// How many times its standard deviation the error of a row's signs may be. Of the rows at the very edge one in 160 has a
/// larger one, of the ten nearest of random vectors one in 1 000 to 10 000 (measured), of those of texts fewer.
const SIGNS_OFF: f32 = 2.5;
/// The same for the high halves of codes without the low ones.
const HALVES_OFF: f32 = 4.0;
/// The same for whole codes, of the row's rounding and of the query's.
const CODES_OFF: f32 = 5.0;
/// The standard deviation of what rounding to whole numbers takes away: the root of a twelfth.
const ROUNDED: f32 = 0.288_675_13;
/// Rows at least, the best at first look, of which the `k`th best gives the bar for the others; or so many times `k`.
const TRIED_MIN: usize = 160;
const TRIED_TIMES: usize = 4;
/// Rows between the one in use and the one that memory is asked for.
const AHEAD: usize = 16;
/// A filter that lets through less than one row in so many saves the first look.
const SPARSE: usize = 16;
/// Candidates at most, when many rows are equally near.
const CANDIDATES_MAX: usize = 8_192;

/// The rows nearest to a query by the values in memory.
pub(super) struct Candidates;

impl Candidates {
    /// At least `k` rows where there are so many, and every row that is as near as the `k`th.
    pub(super) fn find(snapshot: &Snapshot, query: &[f32], k: usize, allowed: Option<&[i64]>) -> Vec<i64> {
        if let Some(allowed) = allowed.filter(|allowed| allowed.len() <= 2 * k.max(AHEAD)) {
            return allowed.to_vec();
        }
        let query = prepare(query, snapshot.metric);
        let nearest = match &snapshot.frame {
            Some(frame) => coarse(snapshot, &Query::new(query, frame), k, allowed),
            None => exact(snapshot, &query, k, allowed),
        };
        nearest.rows()
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

/// The `k` nearest so far, and all that may be as near.
struct Nearest {
    k: usize,
    /// The `k` best of the least that rows' scores may be, best first.
    least: Vec<f32>,
    /// What can't reach this is not among the nearest.
    bar: f32,
    /// The most that its score may be, and the row.
    found: Vec<(f32, i64)>,
}

impl Nearest {
    fn new(k: usize, bar: f32) -> Self {
        Nearest { k, least: Vec::with_capacity(k + 1), bar, found: Vec::new() }
    }

    /// A row whose score is off by `margin` at most.
    fn offer(&mut self, row: i64, score: f32, margin: f32) {
        // Huge components may overflow to what is no number; such a row is far.
        let score = score.max(f32::MIN);
        let most = (score + margin).max(score);
        if most < self.bar {
            return;
        }
        self.found.push((most, row));
        if self.found.len() >= 2 * CANDIDATES_MAX {
            self.shorten();
        }
        let least = score - margin;
        if self.least.len() < self.k || self.least.last().is_some_and(|last| *last < least) {
            let at = self.least.partition_point(|other| *other >= least);
            self.least.insert(at, least);
            self.least.truncate(self.k);
            if let Some(kth) = self.least.get(self.k - 1) {
                self.bar = self.bar.max(*kth);
            }
        }
    }

    /// Of equals the lower rows stay.
    fn shorten(&mut self) {
        self.found.retain(|(most, _)| *most >= self.bar);
        self.found.sort_unstable_by(best_first);
        self.found.truncate(CANDIDATES_MAX.max(self.k));
    }

    fn rows(mut self) -> Vec<i64> {
        self.shorten();
        self.found.into_iter().map(|(_, row)| row).collect()
    }
}

fn best_first(a: &(f32, i64), b: &(f32, i64)) -> Ordering {
    b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1))
}

/// By f32 values.
fn exact(snapshot: &Snapshot, query: &[f32], k: usize, allowed: Option<&[i64]>) -> Nearest {
    let simd = Simd::detect();
    let mut nearest = Nearest::new(k, f32::MIN);
    // Sums in 32 lanes: each adds so many products, then the lanes are added.
    let rounding = f32::EPSILON * (query.len() as f32 / 32.0 + 32.0);
    let length = simd.dot(query, query).sqrt();
    for segment in &snapshot.segments {
        let Values::Exact(values) = &segment.values else { continue };
        let mut offer = |at: usize| {
            let product = simd.dot(query, &values[at * query.len()..(at + 1) * query.len()]);
            let margin = rounding * (length * segment.factors[at] + segment.offsets[at].abs());
            nearest.offer(segment.rows[at], product - segment.offsets[at], margin);
        };
        match allowed {
            Some(allowed) => places(segment, allowed).iter().for_each(|&at| offer(at as usize)),
            None => (0..segment.rows.len()).for_each(offer),
        }
    }
    nearest
}

/// A query as codes are searched.
struct Query {
    simd: Simd,
    dim: f32,
    length: f32,
    codes: CodedQuery,
    scale: f32,
    signs: SignQuery,
    unit: f32,
}

impl Query {
    fn new(mut values: Vec<f32>, frame: &Frame) -> Self {
        let simd = Simd::detect();
        frame.see(simd, &mut values);
        let (scale, codes) = quantise(&values);
        let codes = CodedQuery::new(codes);
        let (unit, signs) = quantise_to(SignQuery::VALUE_MAX, &values);
        let signs = SignQuery::new(signs);
        Query {
            simd,
            dim: values.len() as f32,
            length: simd.dot(&values, &values).sqrt(),
            codes,
            scale,
            signs,
            unit,
        }
    }

    /// The most that the score of each row may be, segment by segment. Those that are not allowed have none.
    fn first_look(&self, snapshot: &Snapshot, allowed: Option<&[i64]>) -> Vec<f32> {
        let mut bounds = Vec::with_capacity(snapshot.rows());
        for segment in &snapshot.segments {
            let Some(allowed) = allowed else {
                self.bounds(segment, &mut bounds);
                continue;
            };
            let places = places(segment, allowed);
            let mut all = Vec::new();
            if places.len() >= segment.rows.len() / SPARSE {
                self.bounds(segment, &mut all);
            }
            let start = bounds.len();
            bounds.resize(start + segment.rows.len(), f32::NEG_INFINITY);
            for at in places {
                bounds[start + at as usize] = all.get(at as usize).map_or(f32::MAX, |bound| *bound);
            }
        }
        bounds
    }

    fn bounds(&self, segment: &Segment, bounds: &mut Vec<f32>) {
        let Values::Coarse(codes) = &segment.values else { return };
        // What lies across a row's signs meets the query by chance; all of it at most. So does the query's rounding.
        let across = (SIGNS_OFF / (self.dim - 1.0).sqrt()).min(1.0) * segment.spread * self.length;
        let rounded = (SIGNS_OFF * ROUNDED * self.dim.sqrt()).min(self.dim / 2.0) * self.unit;
        let look = FirstLook {
            tables: &self.signs.tables,
            moved: self.signs.moved,
            unit: self.unit,
            reach: across + rounded,
        };
        self.simd.bounds(codes.signs(), &segment.factors, &segment.offsets, &look, bounds);
    }

    /// Reads the halves of a row's codes, the second one if it matters.
    fn look_again(&self, segment: &Segment, codes: &Codes, at: usize, nearest: &mut Nearest) {
        let (scale, offset) = (segment.scales[at], segment.offsets[at]);
        let worth = scale * self.scale;
        let row_length = segment.factors[at] * self.dim.sqrt();
        let margin = CODES_OFF * ROUNDED * (scale * self.length + self.scale * row_length)
            + 4.0 * f32::EPSILON * (offset.abs() + row_length * self.length);
        let high = codes.high(self.simd, at, &self.codes);
        let about = self.codes.about(high) as f32 * worth - offset;
        if about + margin + HALVES_OFF * 16.0 * ROUNDED * scale * self.length < nearest.bar {
            return;
        }
        let product = codes.product(self.simd, at, high, &self.codes);
        nearest.offer(segment.rows[at], product as f32 * worth - offset, margin);
    }
}

/// By int8 values.
fn coarse(snapshot: &Snapshot, query: &Query, k: usize, allowed: Option<&[i64]>) -> Nearest {
    let bounds = query.first_look(snapshot, allowed);
    let mut tried = Tried::new(TRIED_MIN.max(TRIED_TIMES * k));
    let mut some = Vec::new();
    for (segment, codes, bounds) in parts(snapshot, &bounds) {
        reaching(bounds, tried.worst, &mut some);
        some.iter().for_each(|&at| tried.offer((bounds[at], segment, codes, at)));
    }
    let mut bar = Nearest::new(k, f32::MIN);
    tried
        .finish()
        .into_iter()
        .for_each(|(_, segment, codes, at)| query.look_again(segment, codes, at, &mut bar));
    let mut nearest = Nearest::new(k, bar.bar);
    for (segment, codes, bounds) in parts(snapshot, &bounds) {
        reaching(bounds, nearest.bar, &mut some);
        for (number, &at) in some.iter().enumerate() {
            if let Some(&ahead) = some.get(number + AHEAD) {
                codes.ask_for(query.simd, ahead);
            }
            query.look_again(segment, codes, at, &mut nearest);
        }
    }
    nearest
}

/// The segments with their codes and their part of what there is of each row.
fn parts<'a>(
    snapshot: &'a Snapshot,
    mut bounds: &'a [f32],
) -> impl Iterator<Item = (&'a Segment, &'a Codes, &'a [f32])> {
    snapshot.segments.iter().filter_map(move |segment| {
        let Values::Coarse(codes) = &segment.values else { return None };
        let own;
        (own, bounds) = bounds.split_at(segment.rows.len());
        Some((&**segment, codes, own))
    })
}

/// Where bounds reach the bar: most do not, and this is told for many at once.
fn reaching(bounds: &[f32], bar: f32, found: &mut Vec<usize>) {
    found.clear();
    let (blocks, rest) = bounds.as_chunks::<BLOCK_ROWS>();
    for (number, block) in blocks.iter().enumerate() {
        if block.iter().fold(false, |any, bound| any | (*bound >= bar)) {
            // Which ones do is as good as chance: nothing here waits for it.
            let (mut places, mut count) = ([0; BLOCK_ROWS], 0);
            for (at, bound) in block.iter().enumerate() {
                places[count % BLOCK_ROWS] = number * BLOCK_ROWS + at;
                count += usize::from(*bound >= bar);
            }
            found.extend_from_slice(&places[..count]);
        }
    }
    let start = bounds.len() - rest.len();
    found.extend(rest.iter().zip(start..).filter(|(bound, _)| **bound >= bar).map(|(_, at)| at));
}

/// A row with the most that its score may be.
type Try<'a> = (f32, &'a Segment, &'a Codes, usize);

/// The `wanted` best at first look: the list grows to twice as many, then the worse half goes.
struct Tried<'a> {
    wanted: usize,
    kept: Vec<Try<'a>>,
    worst: f32,
}

impl<'a> Tried<'a> {
    fn new(wanted: usize) -> Self {
        Tried { wanted, kept: Vec::with_capacity(2 * wanted), worst: f32::MIN }
    }

    fn offer(&mut self, row: Try<'a>) {
        if row.0 < self.worst {
            return;
        }
        self.kept.push(row);
        if self.kept.len() == 2 * self.wanted {
            self.halve();
        }
    }

    fn halve(&mut self) {
        if self.kept.len() > self.wanted {
            let (_, last, _) = self.kept.select_nth_unstable_by(self.wanted - 1, |a, b| b.0.total_cmp(&a.0));
            self.worst = last.0;
            self.kept.truncate(self.wanted);
        }
    }

    fn finish(mut self) -> Vec<Try<'a>> {
        self.halve();
        self.kept
    }
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
