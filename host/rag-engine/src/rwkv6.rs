//! RWKV-6 ("x060", Finch): sizes, weights, the two mixes of a layer, the model, and the state of a sequence.
//!
//! A layer holds a *time mix*, which carries what was read before in a matrix per head, and a *channel mix*. Nothing
//! else looks back: a sequence's whole past is its `State`, of fixed size.

mod channel_mix;
pub mod config;
pub mod model;
pub mod state;
mod time_mix;
pub mod weights;

pub use config::Config;
pub use model::{Engine, Logits, Model, Piece};
pub use state::State;
pub use weights::Weights;
