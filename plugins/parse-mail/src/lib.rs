//! Component `parse-mail`: a mail's subject, people, text and what is forwarded with it.

mod mail;

pub use mail::open;

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.

    guest_doc::component!(accepts: ["message/rfc822"], open: crate::open);
}
