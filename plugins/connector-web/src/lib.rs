//! Component `connector-web`: a question for an engine of the web, and what it found.

pub mod baike;
pub mod engine;
pub mod feed;
pub mod text;

#[cfg(target_family = "wasm")]
mod component;
