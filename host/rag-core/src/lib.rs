//! What a document, a chunk and an answer are, and how the two flows — `ingest` and `ask` — go.
//!
//! Nothing here performs I/O: every effect is a call of a port (`ports`), implemented by the side crates and put
//! together by the `rag` binary. Domain types carry no serialisation; JSON, wire and component types are converted
//! where they enter.

pub mod ahead;
pub mod ask;
pub mod bundle;
mod compare;
pub mod crawl;
mod curate;
pub mod document;
pub mod encoders;
pub mod error;
pub mod evaluate;
pub mod folder_sync;
pub mod generations;
pub mod ingest;
pub mod jobs;
pub mod kb;
pub mod kb_search;
pub mod limits;
pub mod media;
pub mod ports;
pub mod prompt;
pub mod quote;
pub mod rag;
pub mod reading;
pub mod recall;
mod reindex;
pub mod relevance;
pub mod script;
pub mod search;
pub mod section;
pub mod sentence;
pub mod time;
pub mod unpack;

pub use error::{Error, ErrorCode, Result};
pub use rag::Rag;
