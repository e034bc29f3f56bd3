//! Component `retrieve-hybrid`: vectors and words, joined by score or by rank.

pub mod follow_up;
pub mod fusion;
pub mod options;

#[cfg(target_family = "wasm")]
mod component;
