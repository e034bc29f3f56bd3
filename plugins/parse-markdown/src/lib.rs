//! Component `parse-markdown`: the blocks of a Markdown file, each as it stands there.

pub mod document;

mod blocks;
mod front;
mod html;
mod segments;

#[cfg(target_family = "wasm")]
mod component;
#[cfg(test)]
mod tests;
