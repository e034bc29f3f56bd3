//! Component `parse-image`: a picture's text, as the host recognises it.

mod picture;

pub use picture::open;

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.

    guest_doc::component!(
        accepts: ["image/png", "image/jpeg", "image/tiff", "image/webp"],
        open: crate::open
    );
}
