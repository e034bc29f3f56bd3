//! Component `chunk-lines`: one chunk a line.

pub mod lines;

#[cfg(target_family = "wasm")]
mod component;
