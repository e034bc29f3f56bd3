//! Component `parse-code`: the items of source code with their lines as they are.

mod items;
mod languages;

pub use items::open;

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.

    guest_doc::component!(accepts: ["text/x-source"], open: crate::open);
}
