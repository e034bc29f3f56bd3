//! Component `store-local`: the vectors that the host itself keeps, behind the interface of a vector store.

pub mod batch;

#[cfg(target_family = "wasm")]
mod component;
