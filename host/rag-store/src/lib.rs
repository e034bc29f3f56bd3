//! Remembers knowledge bases, documents, vectors, jobs and keys in one SQLite file, and originals in a folder beside it.
//!
//! One thread owns the write connection, a few own read connections, a few work on the files of originals; callers
//! await their answer, so no caller's thread ever waits for the disk. A call dropped before its turn never runs; one
//! dropped later runs to the end of its transaction. Start reading at `store.rs`, then `catalog.rs`.

pub mod bench;
mod blobs;
mod catalog;
mod connection;
mod fault;
mod filter;
mod folder;
mod key_value;
mod keys;
mod migrate;
mod server_files;
mod settings;
mod store;
#[cfg(test)]
mod testing;
mod users;
mod vectors;
mod words;

pub use settings::{settings_from_json, settings_to_json};
pub use store::{Store, StoreConfig};
