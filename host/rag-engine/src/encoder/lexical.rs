//! Weights of a text's tokens, learned instead of counted (bge-m3's sparse head), and how well two texts share them.
//!
//! A token weighs `max(0, w · x + b)` of its last hidden vector `x`; one that comes more than once weighs as much as at
//! its heaviest. Special and unknown tokens have no weight. (Chen et al. 2024, arXiv:2402.03216, part 3.1.)

use super::gemm::{Isa, Rows8};
use super::model::Linear;
use super::tokenizer::Specials;

/// The weights of one text, ascending by token; none weighs 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lexical {
    /// Ids of the vocabulary with their weights.
    weights: Vec<(u32, f32)>,
}

impl Lexical {
    /// Weighs tokens `ids` from their vectors `[ids, width]`.
    pub(super) fn of(ids: &[u32], vectors: &[f32], head: &Linear, isa: Isa, specials: &Specials) -> Self {
        if ids.is_empty() {
            return Lexical::default();
        }
        let mut weights = vec![0.0; ids.len()];
        head.apply(isa, vectors, &mut Rows8::default(), &mut weights);
        Self::weighed(ids, weights, specials)
    }

    /// Takes what the head gave for each of the tokens `ids`.
    pub(super) fn weighed(ids: &[u32], weights: Vec<f32>, specials: &Specials) -> Self {
        let known = |id: u32| {
            id != specials.begin
                && id != specials.end
                && !specials.middle.contains(&id)
                && specials.unknown != Some(id)
        };
        let heavy = ids.iter().copied().zip(weights).filter(|(id, weight)| known(*id) && *weight > 0.0);
        let mut lexical = Lexical { weights: heavy.collect() };
        lexical.tidy();
        lexical
    }

    /// Adds those of a text's next window.
    pub(super) fn append(&mut self, mut more: Lexical) {
        self.weights.append(&mut more.weights);
        self.tidy();
    }

    fn tidy(&mut self) {
        // The heaviest of a token comes first, and is kept.
        self.weights.sort_by(|(a, heavy), (b, other)| a.cmp(b).then(other.total_cmp(heavy)));
        self.weights.dedup_by_key(|(id, _)| *id);
    }

    /// Tokens with their weights, ascending by token.
    pub fn weights(&self) -> &[(u32, f32)] {
        &self.weights
    }

    /// Sum over the tokens that both have of the product of their weights; 0 or more.
    pub fn score(&self, other: &Lexical) -> f32 {
        let (mut left, mut right) = (self.weights.as_slice(), other.weights.as_slice());
        let mut sum = 0.0;
        while let ([(a, weight), rest @ ..], [(b, weight_of_b), rest_of_b @ ..]) = (left, right) {
            if a == b {
                sum += weight * weight_of_b;
            }
            if a <= b {
                left = rest;
            }
            if b <= a {
                right = rest_of_b;
            }
        }
        sum
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.weights.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lexical(weights: &[(u32, f32)]) -> Lexical {
        let mut all = Lexical { weights: weights.to_vec() };
        all.tidy();
        all
    }

    #[test]
    fn the_heaviest_place_of_a_token_counts() {
        let mut first = lexical(&[(7, 0.5), (3, 0.25), (7, 0.75)]);
        assert_eq!(first.weights(), [(3, 0.25), (7, 0.75)]);
        first.append(lexical(&[(7, 0.6), (3, 2.0), (9, 1.0)]));
        assert_eq!(first.weights(), [(3, 2.0), (7, 0.75), (9, 1.0)]);
        assert_eq!(first.bytes(), 24);
    }

    #[test]
    fn only_what_both_have_counts() {
        let (a, b) = (lexical(&[(1, 2.0), (4, 1.0), (8, 0.5)]), lexical(&[(2, 9.0), (4, 3.0), (8, 2.0)]));
        assert_eq!((a.score(&b), b.score(&a)), (4.0, 4.0));
        assert_eq!((a.score(&Lexical::default()), Lexical::default().score(&a)), (0.0, 0.0));
    }
}
