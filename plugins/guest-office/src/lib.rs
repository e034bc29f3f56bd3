//! Reads docx and pptx: headings by style, lists, tables, notes; slides in their order.

pub mod docx;
mod package;
pub mod pptx;
mod styles;
#[cfg(test)]
mod tests;
