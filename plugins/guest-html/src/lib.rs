//! Reads HTML: main content as headings, paragraphs, lists, tables, code; charset sniffed.

mod blocks;
mod cells;
mod charset;
mod document;
mod main_content;
#[cfg(test)]
mod tests;
mod tree;
mod xhtml;

pub use charset::decode;
pub use document::{HTML_BYTES_MAX, Page, open, page};
pub use xhtml::from_xhtml;
