//! Answers that the proxy gives in a worker's place, in the envelope of whoever asked.

use bytes::Bytes;
use rag_core::Error;

use crate::connection::Frames;
use crate::envelope::{FLAG_LEGACY, Header, Kind};
use crate::fault;
use crate::wire::Reply;

/// How the client is answered.
#[derive(Debug)]
pub(super) enum Address {
    /// Envelope and the empty frame.
    Legacy(Frames),
    /// The client's own number.
    Ours(u64),
}

pub(super) fn stopping() -> Error {
    Error::Unavailable { message: "the service is stopping".to_owned() }
}

pub(super) fn refusal(address: Address, flags: u8, error: &Error) -> Frames {
    match address {
        Address::Ours(id) if flags & FLAG_LEGACY == 0 => error_message(id, error),
        Address::Ours(id) => {
            let body = Reply::Error(error.to_string()).encode().into();
            vec![Header { flags: FLAG_LEGACY, ..Header::new(Kind::Reply, id) }.encode(), body]
        }
        Address::Legacy(address) => addressed(address, Reply::Error(error.to_string()).encode().into()),
    }
}

pub(super) fn error_message(id: u64, error: &Error) -> Frames {
    vec![Header::new(Kind::Error, id).encode(), fault::encode(error).encode().into()]
}

pub(super) fn addressed(mut address: Frames, body: Bytes) -> Frames {
    address.push(body);
    address
}
