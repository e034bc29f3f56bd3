//! Cuts text into an encoder's tokens, and says which special tokens frame a sequence.

mod hub;
mod trie;
pub(crate) mod unigram;

use std::path::Path;

use unigram::Unigram;

/// A vocabulary ready for use. Ids are rows of the encoder's word table.
#[derive(Debug)]
pub struct Tokenizer {
    pieces: Pieces,
    specials: Specials,
}

#[derive(Debug)]
enum Pieces {
    /// The shipped vocabulary, pruned.
    Unigram(Unigram),
    /// Any vocabulary in the hub's `tokenizer.json`.
    Hub(Box<tokenizers::Tokenizer>),
}

/// The tokens around texts: `begin A end`, or `begin A middle B end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Specials {
    pub(crate) begin: u32,
    pub(crate) end: u32,
    pub(crate) middle: Vec<u32>,
    /// Stands for what the vocabulary has no piece for.
    pub(crate) unknown: Option<u32>,
}

impl Tokenizer {
    /// The shipped vocabulary.
    pub(crate) fn unigram(pieces: Unigram) -> Self {
        let (begin, end) = (unigram::BEGIN, unigram::END);
        let specials = Specials { begin, end, middle: vec![end, end], unknown: Some(unigram::UNKNOWN) };
        Tokenizer { pieces: Pieces::Unigram(pieces), specials }
    }

    /// The vocabulary of a `tokenizer.json`.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    pub(crate) fn hub(path: &Path) -> Result<Self, String> {
        let (pieces, specials) = hub::read(path)?;
        Ok(Tokenizer { pieces: Pieces::Hub(Box::new(pieces)), specials })
    }

    pub(crate) fn specials(&self) -> &Specials {
        &self.specials
    }

    /// One more than the largest id.
    pub(crate) fn rows(&self) -> usize {
        match &self.pieces {
            Pieces::Unigram(pieces) => pieces.rows(),
            Pieces::Hub(pieces) => {
                pieces.get_vocab(true).values().max().map_or(0, |largest| *largest as usize + 1)
            }
        }
    }

    /// Ids of a text's pieces, without special tokens.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match &self.pieces {
            Pieces::Unigram(pieces) => pieces.encode(text),
            Pieces::Hub(pieces) => hub::encode(pieces, text),
        }
    }
}
