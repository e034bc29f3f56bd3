//! How do two ranked lists become one?

use std::collections::BTreeMap;

use crate::options::{Fusion, Normalise};

/// What one arm found, best first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arm {
    /// Name as it appears in evidence and trace.
    pub name: &'static str,
    /// Chunk and raw score.
    pub hits: Vec<(String, f32)>,
    /// Score of a chunk that the arm did not find: its lowest score, or lower when the list is complete.
    pub floor: f32,
    pub weight: f32,
}

/// A chunk's place in one arm.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub arm: &'static str,
    /// From 1.
    pub rank: u32,
    pub score: f32,
}

/// A chunk with its joint score and what each arm that found it thought.
#[derive(Debug, Clone, PartialEq)]
pub struct Fused {
    pub chunk: String,
    pub score: f32,
    pub places: Vec<Place>,
}

impl Arm {
    /// Sorts by score, drops repeats and what is not a number. `lowest` is what the arm would give a chunk that does
    /// not match at all, if it has such a score; it is the floor when fewer hits came than were asked for.
    pub fn new(
        name: &'static str,
        hits: Vec<(String, f32)>,
        weight: f32,
        asked: usize,
        lowest: Option<f32>,
    ) -> Self {
        let complete = hits.len() < asked;
        let mut hits = hits;
        hits.retain(|(_, score)| score.is_finite());
        hits.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let mut seen = std::collections::BTreeSet::new();
        hits.retain(|(chunk, _)| seen.insert(chunk.clone()));
        let last = hits.last().map_or(0.0, |(_, score)| *score);
        let floor = lowest.filter(|_| complete).map_or(last, |lowest| lowest.min(last));
        Arm { name, hits, floor, weight }
    }
}

/// The union of both arms, best first, ties by id, at most `k`.
pub fn fuse(arms: &[Arm], fusion: Fusion, k: usize) -> Vec<Fused> {
    let mut union: BTreeMap<&str, Vec<Place>> = BTreeMap::new();
    for arm in arms {
        for (rank, (chunk, score)) in (1..).zip(&arm.hits) {
            union.entry(chunk).or_default().push(Place { arm: arm.name, rank, score: *score });
        }
    }
    let mut scores = vec![0.0f32; union.len()];
    for arm in arms.iter().filter(|arm| !arm.hits.is_empty()) {
        let place = |places: &Vec<Place>| places.iter().find(|place| place.arm == arm.name).cloned();
        let parts: Vec<f32> = match fusion {
            Fusion::Rank { constant } => {
                let part =
                    |places| place(places).map_or(0.0, |place| 1.0 / (constant as f32 + place.rank as f32));
                union.values().map(part).collect()
            }
            Fusion::Score(normalise) => {
                let raw = union.values().map(|places| place(places).map_or(arm.floor, |place| place.score));
                normalised(raw.collect(), normalise)
            }
        };
        for (score, part) in scores.iter_mut().zip(parts) {
            *score += arm.weight * part;
        }
    }
    let mut fused: Vec<Fused> = union
        .into_iter()
        .zip(scores)
        .map(|((chunk, places), score)| Fused { chunk: chunk.to_owned(), score, places })
        .collect();
    fused.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.chunk.cmp(&b.chunk)));
    fused.truncate(k);
    fused
}

/// All zero when every score is the same: then the arm has no opinion.
fn normalised(mut scores: Vec<f32>, how: Normalise) -> Vec<f32> {
    let count = scores.len().max(1) as f32;
    let (shift, scale) = match how {
        Normalise::ZScore => {
            let mean = scores.iter().sum::<f32>() / count;
            let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f32>() / count;
            (mean, variance.sqrt())
        }
        Normalise::MinMax => {
            let low = scores.iter().copied().fold(f32::INFINITY, f32::min);
            let high = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            (low, high - low)
        }
    };
    let usable = scale.is_finite() && scale > f32::EPSILON;
    for score in &mut scores {
        *score = if usable { (*score - shift) / scale } else { 0.0 };
    }
    scores
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const Z: Fusion = Fusion::Score(Normalise::ZScore);
    const MIN_MAX: Fusion = Fusion::Score(Normalise::MinMax);
    const RANK: Fusion = Fusion::Rank { constant: 60 };

    fn arms(dense: &[(&str, f32)], lexical: &[(&str, f32)]) -> [Arm; 2] {
        let owned =
            |hits: &[(&str, f32)]| hits.iter().map(|(chunk, score)| ((*chunk).to_owned(), *score)).collect();
        [
            Arm::new("dense", owned(dense), 0.5, 10, None),
            Arm::new("lexical", owned(lexical), 0.5, 10, Some(0.0)),
        ]
    }

    fn order(arms: &[Arm], fusion: Fusion) -> Vec<String> {
        fuse(arms, fusion, 10).into_iter().map(|fused| fused.chunk).collect()
    }

    #[test]
    fn a_chunk_that_both_arms_like_wins() {
        let arms = arms(&[("a", 0.90), ("b", 0.89), ("c", 0.80)], &[("d", 9.0), ("b", 8.5), ("c", 1.0)]);
        for fusion in [Z, MIN_MAX, RANK] {
            assert_eq!(order(&arms, fusion)[0], "b", "{fusion:?}");
        }
    }

    #[test]
    fn a_single_match_by_words_counts() {
        let dense: Vec<(String, f32)> = (0..10).map(|n| (format!("d{n}"), 0.85 - n as f32 * 0.001)).collect();
        let lexical = vec![("d7".to_owned(), 3.0)];
        let arms =
            [Arm::new("dense", dense, 0.5, 10, None), Arm::new("lexical", lexical, 0.5, 10, Some(0.0))];
        assert_eq!(order(&arms, Z)[0], "d7");
        assert_eq!(order(&arms, MIN_MAX)[0], "d7");
    }

    #[test]
    fn places_keep_rank_and_raw_score_of_each_arm() {
        let fused = fuse(&arms(&[("a", 0.9), ("b", 0.8)], &[("b", 7.0)]), RANK, 10);
        let b = fused.iter().find(|fused| fused.chunk == "b").unwrap();
        assert_eq!(
            b.places,
            [Place { arm: "dense", rank: 2, score: 0.8 }, Place { arm: "lexical", rank: 1, score: 7.0 },]
        );
        assert!((b.score - 0.5 * (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-7);
    }

    #[test]
    fn one_arm_or_none_is_enough() {
        for fusion in [Z, MIN_MAX, RANK] {
            assert_eq!(order(&arms(&[("a", 0.9), ("b", 0.8)], &[]), fusion), ["a", "b"]);
            assert_eq!(order(&arms(&[], &[("x", 2.0), ("y", 1.0)]), fusion), ["x", "y"]);
            assert_eq!(order(&arms(&[], &[]), fusion), [""; 0]);
        }
    }

    #[test]
    fn not_numbers_and_repeats_are_dropped() {
        let arms = arms(&[("a", f32::NAN), ("b", 0.8), ("b", 0.7), ("c", f32::INFINITY)], &[]);
        assert_eq!(order(&arms, Z), ["b"]);
    }

    proptest! {
        #[test]
        fn results_are_finite_sorted_distinct_and_known(
            dense in prop::collection::vec(("[a-f]", -1.0f32..1.0), 0..12),
            lexical in prop::collection::vec(("[a-f]", 0.0f32..50.0), 0..12),
            k in 1usize..9,
        ) {
            for fusion in [Z, MIN_MAX, RANK] {
                let arms = [
                    Arm::new("dense", dense.clone(), 0.6, 12, None),
                    Arm::new("lexical", lexical.clone(), 0.4, 12, Some(0.0)),
                ];
                let fused = fuse(&arms, fusion, k);
                prop_assert!(fused.len() <= k);
                prop_assert!(fused.iter().all(|hit| hit.score.is_finite() && !hit.places.is_empty()));
                prop_assert!(fused.windows(2).all(|pair| pair[0].score >= pair[1].score));
                let mut ids: Vec<_> = fused.iter().map(|hit| hit.chunk.clone()).collect();
                ids.sort();
                ids.dedup();
                prop_assert_eq!(ids.len(), fused.len());
                prop_assert!(ids.iter().all(|id| dense.iter().chain(&lexical).any(|(known, _)| known == id)));
            }
        }
    }
}
