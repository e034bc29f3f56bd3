//! Runs matrix products and elementwise functions on the processor: threads, instruction sets, weight formats.

pub mod activations;
#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
mod kernel;
pub mod maths;
pub mod matrix;
pub mod pool;
pub mod product;
mod rows;
pub mod simd;

pub(crate) use rows::Parts;
