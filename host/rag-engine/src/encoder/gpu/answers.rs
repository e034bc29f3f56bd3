//! What becomes of the last layer's rows: vectors of texts and of their tokens, weights of tokens, scores.

use rag_core::{Error, Result};

use super::forward::{Control, Forward, List, Product, ROW_THREADS};
use super::params::{Directions, Gather, Pool, Score, WeighTokens};
use super::{Answer, Text, Wish};
use crate::encoder::loaded::Pooling;
use crate::encoder::token_vectors::TokenVectors;
use crate::rwkv::cuda::Element;

/// Of all tokens whose vectors are wanted.
struct Tokens {
    levels: Vec<i8>,
    scales: Vec<f32>,
    weights: Option<Vec<f32>>,
}

impl Forward {
    /// Appends the answers to what was asked of the pass's texts.
    pub(super) fn answer(
        &self,
        texts: &[Text<'_>],
        control: &Control,
        answers: &mut Vec<Answer>,
    ) -> Result<()> {
        let any = |wish: Wish| texts.iter().any(|text| text.wish == wish);
        let vectors = if any(Wish::Vector) { self.vectors(control)? } else { Vec::new() };
        let scores = if any(Wish::Score) { self.scores(control)? } else { Vec::new() };
        let mut tokens = self.tokens(control)?;
        let (width, token_width) = (self.sizes.width, self.sizes.token_width);
        for (index, text) in texts.iter().enumerate() {
            answers.push(match &text.wish {
                Wish::Vector => Answer::Vector(vectors[index * width..][..width].to_vec()),
                Wish::Score => Answer::Score(scores[index]),
                Wish::Tokens(range) => {
                    let count = range.len();
                    let after = tokens.levels.split_off(count * token_width);
                    let levels = std::mem::replace(&mut tokens.levels, after);
                    let after = tokens.scales.split_off(count);
                    let scales = std::mem::replace(&mut tokens.scales, after);
                    let weights = tokens.weights.as_mut().map(|weights| {
                        let after = weights.split_off(count);
                        std::mem::replace(weights, after)
                    });
                    Answer::Tokens { vectors: TokenVectors::kept(token_width, levels, scales), weights }
                }
            });
        }
        Ok(())
    }

    /// Vectors of all texts, `[texts, width]`.
    fn vectors(&self, control: &Control) -> Result<Vec<f32>> {
        self.pool(control, self.pooling == Pooling::First)?;
        let mut vectors = vec![0.0; control.texts * self.sizes.width];
        self.buffers.pooled.read(0, &mut vectors)?;
        Ok(vectors)
    }

    fn pool(&self, control: &Control, first_only: bool) -> Result<()> {
        let width = self.sizes.width;
        let params = Pool {
            x: self.buffers.x.at(0),
            starts: self.list(control, List::Starts),
            out: self.buffers.pooled.at(0),
            width: width as i32,
            first_only: i32::from(first_only),
        };
        self.launch(self.kernels.pool, [control.texts, width.div_ceil(ROW_THREADS)], ROW_THREADS, &params)
    }

    /// Scores of all texts.
    fn scores(&self, control: &Control) -> Result<Vec<f32>> {
        let Some([dense, out]) = &self.weights.score_head else {
            return Err(Error::internal("an encoder without a head for scores was asked for them"));
        };
        let (width, b) = (self.sizes.width, &self.buffers);
        self.pool(control, true)?;
        self.product(&Product {
            x: b.pooled.at(0),
            weights: &dense.matrix,
            out: b.score_inner.at(0),
            size: [control.texts, width, dense.columns],
            add: false,
            element: Element::F32,
            out_element: Element::F32,
        })?;
        let params = Score {
            inner: b.score_inner.at(0),
            inner_bias: dense.bias.at(0),
            weight: out.matrix.at(0),
            bias: out.bias.at(0),
            out: b.scores.at(0),
            count: control.texts as i32,
            columns: dense.columns as i32,
        };
        self.by_rows(self.kernels.score, control.texts, &params)?;
        let mut scores = vec![0.0; control.texts];
        b.scores.read(0, &mut scores)?;
        Ok(scores)
    }

    /// Of the tokens that texts wanted, one text's behind the other's.
    fn tokens(&self, control: &Control) -> Result<Tokens> {
        let (count, columns, b) = (control.own, self.sizes.token_width, &self.buffers);
        let mut tokens = Tokens {
            levels: vec![0; count * columns],
            scales: vec![0.0; count],
            weights: self.weights.lexical_head.as_ref().map(|_| vec![0.0; count]),
        };
        if count == 0 {
            return Ok(tokens);
        }
        let own = self.list(control, List::Own);
        let (x, rows, bias) = match &self.weights.token_head {
            None => (b.x.at(0), own, 0),
            Some(head) => {
                self.map_tokens(control)?;
                (b.mapped.at(0), 0, head.bias.at(0))
            }
        };
        let params = Directions {
            x,
            rows,
            bias,
            levels: b.levels.at(0),
            scales: b.scales.at(0),
            count: count as i32,
            width: columns as i32,
        };
        self.by_rows(self.kernels.directions, count, &params)?;
        if let (Some(head), Some(weights)) = (&self.weights.lexical_head, &mut tokens.weights) {
            let params = WeighTokens {
                x: b.x.at(0),
                rows: own,
                weight: head.matrix.at(0),
                bias: head.bias.at(0),
                out: b.token_weights.at(0),
                count: count as i32,
                width: self.sizes.width as i32,
            };
            self.by_rows(self.kernels.weigh_tokens, count, &params)?;
            b.token_weights.read(0, weights)?;
        }
        b.levels.read(0, &mut tokens.levels)?;
        b.scales.read(0, &mut tokens.scales)?;
        Ok(tokens)
    }

    /// The multi-vector head over the tokens wanted, to `buffers.mapped`; its bias follows later.
    fn map_tokens(&self, control: &Control) -> Result<()> {
        let Some(head) = &self.weights.token_head else { return Ok(()) };
        let (width, b) = (self.sizes.width, &self.buffers);
        let params = Gather {
            x: b.x.at(0),
            rows: self.list(control, List::Own),
            out: b.qkv.at(0),
            width: width as i32,
        };
        self.launch(self.kernels.gather, [control.own, 1], ROW_THREADS, &params)?;
        self.product(&Product {
            x: b.qkv.at(0),
            weights: &head.matrix,
            out: b.mapped.at(0),
            size: [control.own, width, head.columns],
            add: false,
            element: self.element,
            out_element: Element::F32,
        })
    }
}
