//! Component `chunk-sentence`: whole sentences, below their headings, up to a size.

pub mod document;
pub mod options;
pub mod split;

mod atoms;
mod context;
mod cut;
mod pack;
mod sentences;

#[cfg(target_family = "wasm")]
mod component;
#[cfg(test)]
mod properties;
