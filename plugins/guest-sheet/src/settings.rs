//! What may be set for sheets.

use guest_doc::{DocError, Result};

/// What a block of a sheet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Markdown tables of many rows, each under the header.
    Table,
    /// One row, each value after its column's name.
    Row,
    /// One cell after its column's name.
    Cell,
}

/// How a sheet is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub mode: Mode,
}

impl Settings {
    /// From JSON; the error names the key and what it may be.
    pub fn parse(json: &str) -> Result<Self> {
        let modes = [("table", Mode::Table), ("row", Mode::Row), ("cell", Mode::Cell)];
        let read = || guest_settings::Settings::parse(json, &["mode"])?.choice("mode", &modes, Mode::Table);
        Ok(Settings { mode: read().map_err(DocError::Invalid)? })
    }
}
