//! Host functions, as `wit/deps/ragkit-host` documents them.

mod base;
mod kb;
mod models;
mod outside;
pub(crate) mod wasi_http;

use crate::bindings::ragkit::types::types as wit;
use crate::state::{State, refusal};

impl wit::Host for State {}

/// Too much in one call.
fn too_many(what: &str, limit: usize) -> wit::Error {
    refusal(wit::ErrorCode::Quota, &format!("{what}: at most {limit} in one call"))
}

/// The knowledge base has no such part.
fn absent(what: &str) -> wit::Error {
    refusal(wit::ErrorCode::Unavailable, &format!("this knowledge base has no {what}"))
}

/// The arguments can never work.
fn invalid(message: &str) -> wit::Error {
    refusal(wit::ErrorCode::InvalidInput, message)
}
