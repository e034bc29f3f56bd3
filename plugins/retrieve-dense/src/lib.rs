//! Component `retrieve-dense`: RWKV-RAG's way, the nearest chunks and the best of them first.

pub mod ranking;

#[cfg(target_family = "wasm")]
mod component;
