//! Component `store-hora`: the host's rows, searched through a graph of the crate hora.

mod adapter;
mod graph;
#[cfg(target_family = "wasm")]
mod hnsw;

pub use adapter::Hora;
pub use graph::{Approximate, Graph};

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    use guest_store::Result;
    use guest_store::index::Index;

    fn open(settings: &str, index: Box<dyn Index>) -> Result<super::Hora> {
        super::Hora::open(settings, index, super::hnsw::empty)
    }

    guest_store::component!(open: open);
}
