//! Runs RWKV, embedding and rerank models on one device, batching what arrives together.

pub mod checkpoint;
pub mod cpu;
pub mod encoder;
pub mod generate;
mod memory;
pub mod pth;
pub mod random;
pub mod rwkv6;
pub mod sampler;
mod state_cache;
mod text_stream;
pub mod tokenizer;
mod worker;

pub use generate::{LanguageModel, LanguageModelConfig, Totals};

#[cfg(test)]
mod testing;
