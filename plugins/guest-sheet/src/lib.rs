//! Reads xlsx, xls, ods and csv: rows under their header, values of formulas, dates as dates.

pub mod csv;
mod grid;
mod settings;
#[cfg(test)]
mod tests;
pub mod workbook;

pub use settings::{Mode, Settings};
