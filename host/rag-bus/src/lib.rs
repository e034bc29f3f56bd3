//! Lets a service live in another process over ZeroMQ, for RWKV-RAG's clients and workers and for our own.
//!
//! From the wire up: `zmtp` speaks ZeroMQ's bytes, `value` MessagePack, `wire` RWKV-RAG's envelope and `envelope` our
//! own (specified in `PROTOCOL.md`). `proxy` stands between clients and workers and `exchange` decides for it;
//! `worker` offers a service, `client` asks one. `commands` answers RWKV-RAG's commands, `calls` and `remote` are the
//! two ends of our own.
//!
//! Safety: peers are other programs. What they send is bounded in bytes, depth and number of values before anything
//! is built from it, and a bad frame is answered, never fatal.

pub mod calls;
mod client;
pub mod commands;
mod connection;
mod endpoint;
pub mod envelope;
pub mod exchange;
mod fault;
#[cfg(test)]
mod fuzz;
pub mod proxy;
pub mod remote;
mod security;
pub mod site;
pub mod value;
pub mod wire;
pub mod worker;
mod zmtp;

pub use client::{Client, ClientSettings, Event as ClientEvent, Repeat};
pub use connection::{ConnectionId, Frames, Incoming};
pub use endpoint::Endpoint;
pub use proxy::{Proxy, ProxySettings};
pub use security::Security;
pub use value::Value;
pub use wire::{Reply, Request, WireError};
pub use zmtp::keys::{Public, Secret};
