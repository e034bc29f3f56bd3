//! Component `store-elastic`: vectors in Elasticsearch (8.12 and later) or OpenSearch (2.13 and later).

mod adapter;
mod flavor;

pub use adapter::Elastic;

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_store::component!(open: super::Elastic::open);
}
