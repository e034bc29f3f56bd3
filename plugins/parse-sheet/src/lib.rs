//! Component `parse-sheet`: workbooks and csv as the library `guest-sheet` reads them.

use std::rc::Rc;

use guest_doc::{Document, File, Ocr, Result};

/// Media types of xlsx, xls, ods and csv.
pub const ACCEPTS: [&str; 5] = [
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.ms-excel.sheet.macroenabled.12",
    "application/vnd.ms-excel",
    "application/vnd.oasis.opendocument.spreadsheet",
    "text/csv",
];

/// Opens a workbook or csv by its media type.
pub fn open(file: Rc<dyn File>, ocr: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    if file.media_type() == "text/csv" {
        guest_sheet::csv::open(file, ocr, settings)
    } else {
        guest_sheet::workbook::open(file, ocr, settings)
    }
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.

    guest_doc::component!(accepts: super::ACCEPTS, open: super::open);
}
