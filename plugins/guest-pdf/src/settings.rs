//! What may be set for PDF.

use guest_doc::{DocError, Result};

/// How a PDF is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether running titles and page numbers stay in the text.
    pub page_headers: bool,
    /// Whether pages without text are recognised.
    pub ocr: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { page_headers: false, ocr: true }
    }
}

impl Settings {
    /// From JSON; the error names the key and what it may be.
    pub fn parse(json: &str) -> Result<Self> {
        let default = Settings::default();
        let read = || {
            let given = guest_settings::Settings::parse(json, &["page_headers", "ocr"])?;
            Ok(Settings {
                page_headers: given.flag("page_headers", default.page_headers)?,
                ocr: given.flag("ocr", default.ocr)?,
            })
        };
        read().map_err(DocError::Invalid)
    }
}
