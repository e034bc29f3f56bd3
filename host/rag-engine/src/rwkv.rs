//! RWKV-6 ("x060", Finch) and RWKV-7 ("x070", Goose): sizes, weights, the two mixes of a layer, the model, adapters,
//! and the state of a sequence.
//!
//! A layer holds a *time mix*, which carries what was read before in a matrix per head, and a *channel mix*. Nothing
//! else looks back: a sequence's whole past is its `State`, of fixed size.

pub mod adapter;
mod channel_mix;
pub mod config;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod engine;
pub(crate) mod inputs;
mod linear;
pub mod model;
pub mod random_model;
mod recurrence;
pub mod state;
mod time_mix;
mod time_mix7;
pub mod weights;

pub use adapter::AdapterScale;
pub use config::{Config, Version};
pub use engine::{AdapterId, Engine, Logits, Piece};
pub use model::Model;
pub use random_model::RandomModel;
pub use state::State;
pub use weights::{Formats, Weights};
