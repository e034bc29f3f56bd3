//! Turns texts into training data: what RWKV's trainers read, checked before anything is trained on it.
//!
//! Scope today: data sets (`dataset`). Training a state or an adapter is not part of this crate yet.

pub mod dataset;

pub use dataset::{DatasetError, Settings, Summary, make_data};
