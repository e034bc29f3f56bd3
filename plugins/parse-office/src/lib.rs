//! Component `parse-office`: docx and pptx as the library `guest-office` reads them.

use std::rc::Rc;

use guest_doc::{Document, File, Ocr, Result};

/// Media types of docx, pptx and of their forms with macros, which are never run.
pub const ACCEPTS: [&str; 4] = [
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "application/vnd.ms-word.document.macroenabled.12",
    "application/vnd.ms-powerpoint.presentation.macroenabled.12",
];

/// Opens a docx or pptx by its media type.
pub fn open(file: Rc<dyn File>, ocr: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    let media_type = file.media_type();
    if media_type.contains("presentation") {
        guest_office::pptx::open(file, ocr, settings)
    } else {
        guest_office::docx::open(file, ocr, settings)
    }
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.

    guest_doc::component!(accepts: super::ACCEPTS, open: super::open);
}
