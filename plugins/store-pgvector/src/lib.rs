//! Component `store-pgvector`: vectors in PostgreSQL with the extension pgvector (0.5 and later).

mod adapter;
mod condition;

pub use adapter::PgVector;

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_store::component!(open: super::PgVector::open);
}
