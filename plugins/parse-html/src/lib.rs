//! Component `parse-html`: pages as the library `guest-html` reads them.

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.

    guest_doc::component!(accepts: ["text/html", "application/xhtml+xml"], open: guest_html::open);
}
