//! An encoder on an NVIDIA GPU: what `model` computes, with kernels of our own (`kernels/encoder.cu`) and cuBLAS's products.
//!
//! Products are of halves with sums in f32; the residual stream, norms, softmax and the heads of scores and weights are
//! f32. The tokens of a batch's texts stand behind each other without padding. All memory is taken when a model is
//! loaded.

mod answers;
mod forward;
mod params;
mod sizes;
pub mod trial;
mod weights;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rag_core::{Error, Result};

pub(super) use forward::Forward;
pub(super) use sizes::Sizes;

use super::hub;
use super::loaded::{self, Loaded, Pooling, Precision, ScoreHead};
use super::model::{Linear, Model};
use super::token_vectors::TokenVectors;
use crate::memory;
use crate::rwkv::cuda::{Element, Gpu, Kernels};

const KERNELS: Kernels = Kernels {
    machine_code: include_bytes!(concat!(env!("OUT_DIR"), "/encoder.cubin")),
    text: include_bytes!(concat!(env!("OUT_DIR"), "/encoder.ptx")),
};

/// Ids of one text, special tokens included, and what is wanted of it.
#[derive(Debug, Clone)]
pub(super) struct Text<'a> {
    /// At least one, at most the model's positions.
    pub(super) ids: &'a [u32],
    /// Where the second of two texts starts; `ids.len()` for a text alone.
    pub(super) second: usize,
    pub(super) wish: Wish,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Vector,
    Score,
    /// Vectors of these tokens, and their weights where the model has a head for them.
    Tokens(Range<usize>),
}

/// What a text's wish gave.
#[derive(Debug)]
pub(super) enum Answer {
    /// Not normalised.
    Vector(Vec<f32>),
    /// 0 to 1.
    Score(f32),
    Tokens {
        vectors: TokenVectors,
        weights: Option<Vec<f32>>,
    },
}

/// The parts of a model that a GPU takes over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) model: &'a Model,
    pub(super) pooling: Pooling,
    pub(super) token_head: Option<&'a Linear>,
    pub(super) lexical_head: Option<&'a Linear>,
    pub(super) score_head: Option<&'a ScoreHead>,
}

impl<'a> Parts<'a> {
    fn of(loaded: &'a Loaded) -> Self {
        Parts {
            model: &loaded.model,
            pooling: loaded.pooling,
            token_head: loaded.token_head.as_ref(),
            lexical_head: loaded.lexical_head.as_ref(),
            score_head: loaded.score_head.as_ref(),
        }
    }
}

/// Which GPU, and how it computes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    /// From 0.
    pub(super) device: usize,
    pub(super) precision: Precision,
    /// Tokens of a batch.
    pub(super) batch_tokens_max: usize,
}

impl Options {
    /// The reference's products are f32.
    fn element(&self) -> Element {
        if self.precision == Precision::F32 { Element::F32 } else { Element::F16 }
    }
}

/// Reads a model onto a GPU. What is left of it beside is its vocabulary, sizes and settings.
///
/// # Errors
/// As `Encoder::load`; `Unavailable` when it fits into neither memory, before it is read.
pub(super) fn load(path: &Path, options: &Options) -> Result<(Loaded, Forward)> {
    let gpu = Gpu::open_with(options.device, KERNELS)?;
    if path.is_dir() {
        let fail = |message: String| Error::Model { path: path.display().to_string(), message };
        let sizes = hub::sizes(path).map_err(fail)?;
        sizes.require(&gpu, options)?;
        memory::require(path, sizes.host_bytes())?;
    }
    let mut loaded = loaded::load(path, Precision::F32)?;
    let forward = open(&gpu, Parts::of(&loaded), options)?;
    // Their copy is on the GPU.
    loaded.model.layers = Vec::new();
    Ok((loaded, forward))
}

/// Takes over a model that is read already.
pub(super) fn open(gpu: &Arc<Gpu>, parts: Parts<'_>, options: &Options) -> Result<Forward> {
    let sizes = Sizes::of(&parts)?;
    let rows = sizes.require(gpu, options)?;
    Forward::new(gpu, parts, sizes, options.element(), rows)
}
