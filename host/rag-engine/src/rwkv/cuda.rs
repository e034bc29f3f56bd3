//! RWKV-6 and RWKV-7 on an NVIDIA GPU: weights, states, the kernels of a call, the draw of tokens.
//!
//! An `Engine` here does what `rwkv::Engine` does on the CPU, with states that stay on the GPU. Kernels are our own
//! (`kernels/*.cuh`), products of many rows are cuBLAS's. A batch of single tokens is one recording that is replayed.
//! All memory but that of states is taken when a model is loaded.

mod blas;
mod buffers;
mod driver;
mod engine;
mod forward;
mod kernels;
mod measure;
mod params;
mod state;
mod weights;

pub use blas::{Blas, Element, Gemm, Operand};
pub use driver::{Gpu, Kernel, Kernels, Mark, Memory, Shape, count, use_kernels, use_text};
pub use engine::{Engine, Piece};
pub use state::DeviceState;

use crate::rwkv::Formats;

/// How a model is put on a GPU.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Which GPU, from 0.
    pub device: usize,
    /// Sequences that run at once.
    pub sequences: usize,
    /// Formats of matrices that are not packed already; f32 stands for `dense`.
    pub formats: Formats,
    pub dense: Dense,
    pub tuning: Tuning,
}

/// What weights that are not quantised are kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dense {
    Bf16,
    /// For comparisons: everything as exact as on the CPU.
    F32,
}

/// What may be switched to measure what it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Kernels start before those ahead have ended.
    pub overlap: bool,
    /// Bytes of weights that each small kernel fetches to the cache for the products after it.
    pub ahead_bytes: usize,
    /// Batches of single tokens are recorded once and replayed.
    pub recorded: bool,
    /// Up to so many sequences, at most 8, own products are used.
    pub few_max: usize,
    /// Prompts of few sequences are cut into runs of so many tokens, which are worked on side by side; 0: never.
    pub run_tokens: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { overlap: true, ahead_bytes: 2 << 20, recorded: true, few_max: 8, run_tokens: 128 }
    }
}
