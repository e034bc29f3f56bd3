//! Component `parse-book`: the chapters of an EPUB in the order in which they are read.

mod book;
mod package;

pub use book::open;

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.

    guest_doc::component!(accepts: ["application/epub+zip"], open: crate::open);
}
