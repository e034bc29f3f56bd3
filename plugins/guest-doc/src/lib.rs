//! What parsers of documents share: blocks, errors, reading the file, tables as Markdown, the component's exports.
//!
//! A parser implements [`Document`]; [`Session`] turns it into batches, and [`component!`] into a component.

mod block;
#[cfg(target_family = "wasm")]
mod component;
mod error;
mod file;
mod lines;
mod ocr;
mod session;
pub mod table;
pub mod text;

pub use block::{Area, Block, Kind, Summary};
#[cfg(target_family = "wasm")]
pub use component::{Component, Exports, bindings};
pub use error::{DocError, HostError, Result};
pub use file::{File, FileReader, Memory, read_all};
pub use lines::{FileLines, TextFile, lines};
pub use ocr::{Image, NoOcr, Ocr, OcrLine, join_lines};
pub use session::{Document, Session};

/// Exports a parser as a component: `component!(accepts: ["text/html"], open: html::open);` in a module that only wasm
/// compiles. `open` takes the file, the OCR of the host and the settings as JSON.
#[macro_export]
macro_rules! component {
    (accepts: $accepts:expr, open: $open:path) => {
        struct Parser;

        impl $crate::Exports for Parser {
            const ID: &'static str = env!("CARGO_PKG_NAME");
            const VERSION: &'static str = env!("CARGO_PKG_VERSION");
            const DESCRIPTION: &'static str = env!("CARGO_PKG_DESCRIPTION");
            const ACCEPTS: &'static [&'static str] = &$accepts;

            fn open(
                file: std::rc::Rc<dyn $crate::File>,
                ocr: std::rc::Rc<dyn $crate::Ocr>,
                settings: &str,
            ) -> $crate::Result<Box<dyn $crate::Document>> {
                $open(file, ocr, settings)
            }
        }

        type Exported = $crate::Component<Parser>;
        $crate::bindings::export!(Exported with_types_in $crate::bindings);
    };
}
