//! In which order do chunks come when each is to add something to those before it?

use guest_retrieve::fusion::Fused;

/// Chunks that are reordered; those below keep their order.
pub const POOL_MAX: usize = 200;
/// Step between the scores of chunks below the pool.
const BELOW: f32 = 1e-3;

/// Reorders the first `vectors.len()` of `hits` by maximal marginal relevance: again and again the chunk with the
/// highest `relevance` × its score less the rest × its likeness to the most alike of those taken. Scores and likenesses
/// are put between 0 and 1 within the pool first, since what embedding models give lies close together. Scores become
/// the values by which the chunks were taken, which never rise.
pub fn diverse(hits: &mut Vec<Fused>, vectors: &[Vec<f32>], relevance: f32) {
    let below = hits.split_off(vectors.len().min(hits.len()));
    let scores = scaled(hits.iter().map(|hit| hit.score).collect());
    let count = hits.len();
    let mut likeness: Vec<f32> = Vec::with_capacity(count * count);
    for one in vectors.iter().take(count) {
        likeness.extend(vectors.iter().take(count).map(|other| cosine(one, other)));
    }
    let likeness = scaled(likeness);
    let mut left: Vec<(usize, Fused)> = hits.drain(..).enumerate().collect();
    let mut closest = vec![0.0f32; count];
    let value = |at: usize, closest: &[f32]| {
        let (score, likeness) = (scores.get(at).unwrap_or(&0.0), closest.get(at).unwrap_or(&0.0));
        relevance * score - (1.0 - relevance) * likeness
    };
    while !left.is_empty() {
        let mut best = 0;
        for (place, (at, _)) in left.iter().enumerate() {
            // The first of equals: the more relevant one.
            if left.get(best).is_some_and(|(leader, _)| value(*at, &closest) > value(*leader, &closest)) {
                best = place;
            }
        }
        let (taken, mut hit) = left.remove(best);
        hit.score = value(taken, &closest);
        hits.push(hit);
        for (at, closest) in closest.iter_mut().enumerate() {
            *closest = closest.max(likeness.get(taken * count + at).copied().unwrap_or(0.0));
        }
    }
    let mut floor = hits.last().map_or(0.0, |hit| hit.score);
    for mut hit in below {
        floor -= BELOW;
        hit.score = floor;
        hits.push(hit);
    }
}

/// Between 0 for the lowest and 1 for the highest; all 0 when they are the same.
fn scaled(mut values: Vec<f32>) -> Vec<f32> {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let usable = (high - low).is_finite() && high - low > f32::EPSILON;
    for value in &mut values {
        *value = if usable { (*value - low) / (high - low) } else { 0.0 };
    }
    values
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let length = (dot(a, a) * dot(b, b)).sqrt();
    if length > f32::MIN_POSITIVE { dot(a, b) / length } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hits(scores: &[f32]) -> Vec<Fused> {
        let hit = |(at, score): (usize, &f32)| Fused { chunk: at.to_string(), score: *score, places: vec![] };
        scores.iter().enumerate().map(hit).collect()
    }

    proptest! {
        #[test]
        fn nothing_is_lost_scores_fall_and_the_best_stays_first(
            rows in prop::collection::vec((-3.0f32..3.0, -1.0f32..1.0, -1.0f32..1.0), 0..30),
            below in 0usize..5, relevance in 0.0f32..=1.0,
        ) {
            let mut scores: Vec<f32> = rows.iter().map(|row| row.0).collect();
            scores.sort_by(|a, b| b.total_cmp(a));
            let vectors: Vec<Vec<f32>> = rows.iter().skip(below).map(|row| vec![row.1, row.2]).collect();
            let before = hits(&scores);
            let mut after = before.clone();
            diverse(&mut after, &vectors, relevance);
            prop_assert!(after.windows(2).all(|pair| pair[0].score >= pair[1].score));
            prop_assert!(after.iter().all(|hit| hit.score.is_finite()));
            let mut ids: Vec<_> = after.iter().map(|hit| hit.chunk.parse::<usize>().unwrap()).collect();
            if relevance > 0.0 && !vectors.is_empty() {
                prop_assert_eq!(ids[0], 0);
            }
            prop_assert!(ids.iter().skip(vectors.len()).is_sorted());
            ids.sort_unstable();
            prop_assert_eq!(ids, (0..before.len()).collect::<Vec<_>>());
        }
    }
}
