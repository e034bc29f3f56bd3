//! Component `store-chroma`: vectors in a Chroma server (REST v2, Chroma 0.6 and later).

mod adapter;
mod r#where;
mod wire;

pub use adapter::Chroma;

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_store::component!(open: super::Chroma::open);
}
