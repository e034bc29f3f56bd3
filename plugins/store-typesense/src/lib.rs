//! Component `store-typesense`: vectors in a Typesense server (0.24 and later).

mod adapter;
mod wire;

pub use adapter::Typesense;

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_store::component!(open: super::Typesense::open);
}
