//! An encoder in memory, whatever its files were: the shipped one, or a folder as the usual hub lays it out.

use std::path::Path;
use std::sync::Arc;

use rag_core::{Error, Result};

use super::gemm::{Isa, Rows8};
use super::model::{Linear, Model};
use super::tokenizer::Tokenizer;
use super::{hub, weights};

/// How the layers' products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 8-bit weights, activations quantised row by row: four bytes less a weight, several times faster.
    Int8,
    /// The reference.
    F32,
}

/// What the files hold.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) model: Model,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// First 12 digits of the data's SHA-256.
    pub(crate) hash: String,
    pub(crate) name: String,
    pub(crate) prefix_query: String,
    pub(crate) prefix_passage: String,
    pub(crate) pooling: Pooling,
    /// Maps a token's vector to the one that MaxSim compares (bge-m3's multi-vector head).
    pub(crate) token_head: Option<Linear>,
    /// Weighs a token from its vector (bge-m3's sparse head): `width` to 1.
    pub(crate) lexical_head: Option<Linear>,
    /// Scores a question and a passage read together.
    pub(crate) score_head: Option<ScoreHead>,
}

/// How a text's token vectors become its vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    Mean,
    /// That of the first special token.
    First,
}

/// `out · tanh(dense · x + b) + c` of the first token's vector `x`.
#[derive(Debug)]
pub(crate) struct ScoreHead {
    /// `width` to `width`.
    pub(crate) dense: Linear,
    /// `width` to 1.
    pub(crate) out: Linear,
}

impl Loaded {
    /// Tokens of one window, without special tokens.
    pub(crate) fn window(&self) -> usize {
        self.model.positions() - 2
    }
}

impl ScoreHead {
    /// The score's logistic function, 0 to 1, from the first token's vector, `[width]`.
    pub(crate) fn score(&self, isa: Isa, first: &[f32]) -> f32 {
        let mut rows = Rows8::default();
        let mut inner = vec![0.0; self.dense.columns()];
        self.dense.apply(isa, first, &mut rows, &mut inner);
        inner.iter_mut().for_each(|value| *value = value.tanh());
        let mut logit = [0.0];
        self.out.apply(isa, &inner, &mut rows, &mut logit);
        1.0 / (1.0 + (-logit[0]).exp())
    }
}

/// Reads a file of the shipped encoder's format, or a folder of the hub's, into memory in the given precision.
///
/// # Errors
/// `Unavailable` when there is no such file, `Model` when it is cut short, damaged or of a kind that is not read.
pub(crate) fn load(path: &Path, precision: Precision) -> Result<Loaded> {
    let fail = |message: String| Error::Model { path: path.display().to_string(), message };
    if path.is_dir() {
        return hub::load(path, precision).map_err(fail);
    }
    weights::parse(&read(path)?, precision).map_err(fail)
}

/// What `Embed::identity` says of the model once it is loaded. Reads the weights through.
///
/// # Errors
/// As `load`, but little of what the files hold is looked at.
pub(crate) fn identity(path: &Path) -> Result<String> {
    let fail = |message: String| Error::Model { path: path.display().to_string(), message };
    if path.is_dir() {
        return hub::identity(path).map_err(fail);
    }
    weights::identity(&read(path)?).map_err(fail)
}

/// Only the vocabulary, for programs that count tokens of a model that runs elsewhere.
///
/// # Errors
/// As `load`.
pub(crate) fn load_tokenizer(path: &Path) -> Result<Arc<Tokenizer>> {
    let fail = |message: String| Error::Model { path: path.display().to_string(), message };
    if path.is_dir() {
        return Tokenizer::hub(&path.join(hub::TOKENIZER)).map(Arc::new).map_err(fail);
    }
    weights::parse(&read(path)?, Precision::Int8).map(|loaded| loaded.tokenizer).map_err(fail)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs_err::read(path).map_err(|error| Error::Unavailable {
        message: format!("the embedding model cannot be read: {error}"),
    })
}
