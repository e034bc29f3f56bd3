//! ZMTP 3.1, the bytes that ZeroMQ sockets exchange: greeting, handshake (NULL or CURVE), frames, heartbeats.
//!
//! Our own reader because the bounds must hold below the message: an announced length reserves nothing, a peer that
//! has not shown who it is costs a few kilobytes on the stack, and each worker's connection is known by itself.

pub(crate) mod curve;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod keys;

/// Why a connection ended or never began. All of these are the peer's doing or the network's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ZmtpError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the peer does not speak ZMTP 3")]
    NotZmtp,
    #[error("the peer's security mechanism is '{theirs}', ours is '{ours}'")]
    Mechanism { ours: &'static str, theirs: String },
    #[error("the handshake broke off: {0}")]
    Handshake(&'static str),
    #[error("the peer's key is not among the allowed ones")]
    NotAllowed,
    #[error("the peer refused: {0}")]
    Refused(String),
    #[error("a frame could not be authenticated")]
    Forged,
    #[error("a malformed frame")]
    Malformed,
    #[error("nothing heard in time")]
    Silent,
}
