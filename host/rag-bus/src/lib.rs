//! Lets a service live in another process over ZeroMQ, in the words that RWKV-RAG's clients and workers speak.
//!
//! Scope today: the wire format (`value`, `wire`) and the proxy between clients and workers (`proxy`, its decisions in
//! `exchange`). The services themselves (a port behind a socket) are not part of this crate yet.
//!
//! Safety: peers are other programs. What they send is bounded in bytes, depth and number of values before anything
//! is built from it, and a bad frame is answered, never fatal. One bound is missing below us: `zeromq` 0.7 reserves
//! memory for whatever frame length a peer announces, so sockets stay on loopback unless a person says otherwise.

pub mod exchange;
pub mod proxy;
pub mod value;
pub mod wire;

pub use proxy::{Proxy, ProxySettings};
pub use value::Value;
pub use wire::{Reply, Request, WireError};
