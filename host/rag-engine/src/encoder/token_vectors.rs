//! Vectors of a text's tokens in 8 bits, and the MaxSim score of two texts.

use super::gemm::{Isa, Vectorised};
use super::lexical::Lexical;
use super::maths::sum;

/// Directions of tokens: each vector is of unit length, kept as i8 times a scale.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct TokenVectors {
    width: usize,
    /// `[tokens, width]`.
    data: Vec<i8>,
    /// One a token.
    scales: Vec<f32>,
    /// Of the same tokens; empty where the encoder has no lexical head.
    lexical: Lexical,
}

impl TokenVectors {
    /// Takes vectors `[tokens, width]` of any length.
    pub(super) fn of(vectors: &[f32], width: usize) -> Self {
        let mut result = TokenVectors { width, ..Self::default() };
        result.data.reserve_exact(vectors.len());
        for vector in vectors.chunks_exact(width) {
            let length = sum(vector, |v| v * v).sqrt();
            let largest = vector.iter().fold(f32::MIN_POSITIVE, |a, b| a.max(b.abs()));
            let steps = 127.0 / largest;
            result.data.extend(vector.iter().map(|v| (v * steps).round() as i8));
            result.scales.push(1.0 / (steps * length.max(f32::MIN_POSITIVE)));
        }
        result
    }

    /// Takes directions as they are kept: levels `[tokens, width]` and a scale a token.
    #[cfg(feature = "cuda")]
    pub(super) fn kept(width: usize, data: Vec<i8>, scales: Vec<f32>) -> Self {
        TokenVectors { width, data, scales, lexical: Lexical::default() }
    }

    /// Back to vectors of unit length, `[tokens, width]`.
    #[cfg(feature = "cuda")]
    pub(super) fn vectors(&self) -> Vec<f32> {
        let rows = self.data.chunks_exact(self.width).zip(&self.scales);
        rows.flat_map(|(row, scale)| row.iter().map(move |level| f32::from(*level) * scale)).collect()
    }

    /// The same with the tokens' weights.
    pub(super) fn with(self, lexical: Lexical) -> Self {
        TokenVectors { lexical, ..self }
    }

    pub(super) fn lexical(&self) -> &Lexical {
        &self.lexical
    }

    /// Adds the tokens of a text's next window.
    pub(super) fn append(&mut self, mut more: TokenVectors) {
        self.lexical.append(more.lexical);
        self.width = more.width;
        self.data.append(&mut more.data);
        self.scales.append(&mut more.scales);
    }

    pub(super) fn tokens(&self) -> usize {
        self.scales.len()
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.scales.len() * 4 + self.lexical.bytes()
    }

    /// Mean over the tokens of `self`, a question, of the best cosine with a token of `passage`, from -1 to 1; -1
    /// when either has no tokens.
    pub(super) fn max_sim(&self, passage: &TokenVectors, isa: Isa) -> f32 {
        if self.tokens() == 0 || passage.tokens() == 0 {
            return -1.0;
        }
        isa.run(BestCosines { question: self, passage }) / self.tokens() as f32
    }
}

/// Sum over question tokens of the best cosine.
struct BestCosines<'a> {
    question: &'a TokenVectors,
    passage: &'a TokenVectors,
}

impl Vectorised for BestCosines<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        let width = self.question.width;
        let mut total = 0.0;
        for (question, scale) in self.question.data.chunks_exact(width).zip(&self.question.scales) {
            let mut best = -1.0f32;
            for (passage, passage_scale) in self.passage.data.chunks_exact(width).zip(&self.passage.scales) {
                best = best.max(dot(question, passage) as f32 * (scale * passage_scale));
            }
            total += best;
        }
        total
    }
}

#[inline(always)]
fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).fold(0i32, |sum, (a, b)| sum.wrapping_add(i32::from(*a).wrapping_mul(i32::from(*b))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(seed: u32, tokens: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..tokens * 64).map(|_| next() * 3.0).collect()
    }

    /// The definition, in f64.
    fn exact(question: &[f32], passage: &[f32]) -> f64 {
        let cosine = |a: &[f32], b: &[f32]| {
            let dot = |a: &[f32], b: &[f32]| {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
            };
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let best = |q: &[f32]| passage.chunks(64).map(|p| cosine(q, p)).fold(-1.0, f64::max);
        question.chunks(64).map(best).sum::<f64>() / (question.len() / 64) as f64
    }

    #[test]
    fn eight_bits_score_as_the_definition_does() {
        let (q, p) = (vectors(1, 7), vectors(2, 33));
        let (question, passage) = (TokenVectors::of(&q, 64), TokenVectors::of(&p, 64));
        for isa in Isa::available() {
            assert!((f64::from(question.max_sim(&passage, isa)) - exact(&q, &p)).abs() < 0.005, "{isa:?}");
            assert!((question.max_sim(&question, isa) - 1.0).abs() < 0.01, "{isa:?}");
        }
    }

    #[test]
    fn windows_add_up_and_no_tokens_score_lowest() {
        let (a, b) = (vectors(3, 4), vectors(4, 5));
        let mut joined = TokenVectors::default();
        joined.append(TokenVectors::of(&a, 64));
        joined.append(TokenVectors::of(&b, 64));
        assert_eq!(joined, TokenVectors::of(&[a, b].concat(), 64));
        assert_eq!(joined.bytes(), 9 * 68);
        assert_eq!(joined.max_sim(&TokenVectors::default(), Isa::Scalar), -1.0);
        assert_eq!(TokenVectors::default().max_sim(&joined, Isa::Scalar), -1.0);
    }
}
