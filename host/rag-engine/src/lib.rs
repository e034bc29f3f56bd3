//! Runs RWKV, embedding and rerank models on one device, batching what arrives together.

pub mod checkpoint;
pub mod cpu;
pub mod encoder;
pub mod pth;
pub mod random;
pub mod rwkv6;
pub mod tokenizer;

#[cfg(test)]
mod testing;
