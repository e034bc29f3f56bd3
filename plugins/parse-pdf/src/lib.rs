//! Component `parse-pdf`: PDF as the library `guest-pdf` reads it.

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.

    guest_doc::component!(accepts: ["application/pdf"], open: guest_pdf::open);
}
