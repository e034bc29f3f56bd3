//! What a document, a chunk and an answer are, and how the two flows — `ingest` and `ask` — go.
//!
//! Nothing here performs I/O: every effect is a call of a port (`ports`), implemented by the side crates and put
//! together by the `rag` binary. Domain types carry no serialisation; JSON, wire and component types are converted
//! where they enter.

pub mod document;
pub mod error;
pub mod kb;
pub mod limits;
pub mod ports;
pub mod search;

pub use error::{Error, ErrorCode, Result};
