//! Where does the subject change? Where the sentences before and after a gap are least alike.

/// Units on each side of a gap that are compared.
const WINDOW: usize = 3;
/// Units between two changes at least.
const APART: usize = 2;
/// Gaps that a percentile can be told from.
const GAPS_MIN: usize = 4;

/// Places before which the subject changes, ascending: gaps whose two sides differ more than `percentile` of 100 gaps
/// do, each the strongest among its neighbours. The sides are the mean vectors of up to [`WINDOW`] units, compared by
/// cosine, as in TextTiling (Hearst 1997) with vectors in place of words.
pub fn changes(vectors: &[Vec<f32>], percentile: u32) -> Vec<usize> {
    let distances: Vec<f32> = (1..vectors.len()).map(|at| distance(vectors, at)).collect();
    if distances.len() < GAPS_MIN {
        return Vec::new();
    }
    let mut sorted = distances.clone();
    sorted.sort_unstable_by(f32::total_cmp);
    let rank = (sorted.len() - 1) * percentile as usize / 100;
    let threshold = sorted.get(rank).copied().unwrap_or(f32::INFINITY);
    let mut changes: Vec<usize> = Vec::new();
    for (gap, distance) in distances.iter().enumerate() {
        let near = gap.saturating_sub(APART - 1)..(gap + APART).min(distances.len());
        let strongest = distances.get(near).unwrap_or_default().iter().all(|other| other <= distance);
        let last = changes.last().copied().unwrap_or(0);
        if *distance > threshold && strongest && gap + 1 >= last + APART {
            changes.push(gap + 1);
        }
    }
    changes
}

/// One less the cosine between the means before and after place `at`.
fn distance(vectors: &[Vec<f32>], at: usize) -> f32 {
    let before = mean(vectors.get(at.saturating_sub(WINDOW)..at).unwrap_or_default());
    let after = mean(vectors.get(at..(at + WINDOW).min(vectors.len())).unwrap_or_default());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let length = (dot(&before, &before) * dot(&after, &after)).sqrt();
    if length > f32::MIN_POSITIVE { 1.0 - dot(&before, &after) / length } else { 0.0 }
}

/// The sum, which has the direction of the mean.
fn mean(vectors: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0; vectors.first().map_or(0, Vec::len)];
    for vector in vectors {
        sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_where_the_sides_differ_most() {
        let about = |subject: usize| (0..3).map(|axis| if axis == subject { 1.0 } else { 0.1 }).collect();
        let vectors: Vec<Vec<f32>> = [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2].map(about).to_vec();
        assert_eq!(changes(&vectors, 75), [5, 9]);
        assert_eq!(changes(&vectors[..4], 75), [0usize; 0]);
        assert_eq!(changes(&vec![vec![1.0, 0.0]; 40], 50), [0usize; 0]);
        assert_eq!(changes(&vec![vec![0.0, 0.0]; 40], 50), [0usize; 0]);
        assert_eq!(changes(&[], 50), [0usize; 0]);
    }
}
