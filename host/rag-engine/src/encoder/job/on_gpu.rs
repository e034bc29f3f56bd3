//! What a call asks of a GPU for each of its windows, and how the answers become its outputs.

use super::{Output, Running, Wanted, Window};
use crate::encoder::gpu::{Answer, Text, Wish};
use crate::encoder::lexical::Lexical;
use crate::encoder::loaded::Loaded;

impl Running {
    /// A window as the GPU takes it.
    pub(in super::super) fn asked<'a>(&self, window: &'a Window) -> Text<'a> {
        let wish = match self.wanted {
            Wanted::Vectors { .. } => Wish::Vector,
            Wanted::Tokens { .. } => Wish::Tokens(window.own()),
            Wanted::Scores { .. } => Wish::Score,
        };
        Text { ids: &window.ids, second: window.second, wish }
    }
}

/// What to keep of the answer for a window.
pub(in super::super) fn output(window: &Window, answer: Answer, model: &Loaded) -> Output {
    match answer {
        Answer::Vector(vector) => Output::Vector(vector),
        Answer::Score(score) => Output::Score(score),
        Answer::Tokens { vectors, weights } => {
            let ids = &window.ids[window.own()];
            let weigh = |weights| Lexical::weighed(ids, weights, model.tokenizer.specials());
            Output::Tokens(vectors.with(weights.map(weigh).unwrap_or_default()))
        }
    }
}
