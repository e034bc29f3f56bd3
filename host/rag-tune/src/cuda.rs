//! The trainer on an NVIDIA GPU: the CPU's equations with kernels of our own (`kernels/`) and cuBLAS's products.
//!
//! Activations are bf16, or f32 for a base in f32; the residual stream, states, sums, gradients and moments are f32.
//! All memory is taken when a training is opened. Sums have a fixed order: the same training gives the same bits.

mod backward;
mod buffers;
mod forward;
mod head;
mod linear;
mod ops;
mod trainer;
mod weights;

use rag_core::Result;
use rag_core::ports::TuneSettings;

use crate::cpu::frozen::Precision;
use crate::cpu::model::{Model, Pass};
use crate::device::Device;

/// Bytes of a GPU's memory that are free; opening it takes some first.
pub(crate) fn free_bytes(index: usize) -> Result<u64> {
    ops::free_bytes(index)
}

/// Takes a model over to a GPU.
pub(crate) fn open(
    index: usize,
    model: Model,
    settings: &TuneSettings,
    pass: Pass,
    precision: Precision,
) -> Result<Box<dyn Device>> {
    Ok(Box::new(trainer::Trainer::open(index, model, settings, pass, precision)?))
}
