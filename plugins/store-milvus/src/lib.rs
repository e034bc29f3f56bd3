//! Component `store-milvus`: vectors in a Milvus server (REST v2, or the v1 of Milvus 2.3).

mod adapter;
mod rest;
mod wire;

pub use adapter::Milvus;

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_store::component!(open: super::Milvus::open);
}
