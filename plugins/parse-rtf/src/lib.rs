//! Component `parse-rtf`: the text of RTF with its headings, lists, tables and footnotes.

mod charset;
mod document;
mod paragraphs;
mod tokens;

pub use document::open;

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.

    guest_doc::component!(accepts: ["application/rtf"], open: crate::open);
}
