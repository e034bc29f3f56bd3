//! Component `chunk-fixed`: windows of a fixed number of characters.

pub mod windows;

#[cfg(target_family = "wasm")]
mod component;
