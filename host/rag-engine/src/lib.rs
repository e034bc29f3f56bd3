//! Runs RWKV, embedding and rerank models on one device, batching what arrives together.

mod beam;
pub mod bench;
pub mod checkpoint;
pub mod cpu;
mod devices;
mod dispatch;
pub mod encoder;
pub mod generate;
pub mod inspect;
mod measure;
mod memory;
pub mod packed;
pub mod profile;
pub mod pth;
pub mod random;
mod runner;
pub mod rwkv;
pub mod sampler;
mod slot;
mod state_cache;
mod states;
mod text_stream;
pub mod tokenizer;
mod within;
mod worker;

pub use beam::BEAMS_MAX;
pub use devices::Device;
pub use generate::{LanguageModel, LanguageModelConfig, Totals};
pub use packed::quantize;
pub use runner::Runner;
pub use state_cache::DiskCache;

/// The instruction sets that the kernels use here, e.g. for a benchmark's report.
pub fn cpu_features() -> String {
    format!("{:?}", cpu::simd::Simd::available()).to_lowercase()
}

/// Bytes of memory that the system, or the control group that this process runs in, has left; none where it does not
/// say.
pub fn memory_available() -> Option<usize> {
    memory::available()
}

#[cfg(test)]
mod testing;
