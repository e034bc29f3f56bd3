//! Component `parse-text`: paragraphs of plain text, each with its bytes in the file.

pub mod paragraphs;

#[cfg(target_family = "wasm")]
mod component;
