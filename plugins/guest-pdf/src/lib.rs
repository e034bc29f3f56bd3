//! Reads PDF: text in reading order with pages, headings by size, ruled tables, scanned pages through OCR.

mod accents;
mod bitmaps;
mod blocks;
mod collections;
mod document;
mod furniture;
mod glyphs;
mod lines;
mod order;
mod pictures;
mod ruled;
mod settings;
#[cfg(test)]
mod tests;

pub use document::{PDF_BYTES_MAX, open};
pub use settings::Settings;
