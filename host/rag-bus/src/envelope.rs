//! Our own envelope, version 2: a fixed header that proxies read, and a MessagePack body that they do not.
//!
//! `PROTOCOL.md` specifies it, with a test vector for each message; the tests here compare with that file.

use bytes::Bytes;

use crate::value::Value;

/// First bytes of every message; RWKV-RAG's begin with an empty frame instead.
pub const MAGIC: [u8; 4] = *b"RAG2";
/// Bytes of the first frame.
pub const HEADER_BYTES: usize = 24;
/// Version within the magic: later ones may add kinds, flags and body keys, which older ones ignore.
pub const MINOR_VERSION: u8 = 0;

/// The body is a message of RWKV-RAG's protocol, passed on untouched.
pub const FLAG_LEGACY: u8 = 1;
/// The request may be sent to a second worker when the first one dies.
pub const FLAG_REPEATABLE: u8 = 2;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Worker to proxy: I am here, and take this many requests at once.
    Hello = 1,
    /// Client to worker: do this. `id` is the client's own.
    Request = 2,
    /// Client to worker: nobody waits for `id` any more.
    Cancel = 3,
    /// Worker to client: a part of the answer; `sequence` counts from 0.
    Chunk = 4,
    /// Worker to client: how far it is.
    Progress = 5,
    /// Worker to client: the end of the answer.
    Reply = 6,
    /// To the client: why there is no answer, or no more of it.
    Error = 7,
    /// Worker to proxy: send me nothing more; I finish what I have.
    Drain = 8,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Hello,
        Kind::Request,
        Kind::Cancel,
        Kind::Chunk,
        Kind::Progress,
        Kind::Reply,
        Kind::Error,
        Kind::Drain,
    ];

    /// Whether it ends its request.
    pub fn is_last(self) -> bool {
        matches!(self, Kind::Reply | Kind::Error)
    }
}

/// The first frame. All numbers are big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub flags: u8,
    /// Of the request; proxies replace it on the way and put it back.
    pub id: u64,
    /// Milliseconds that are left for the answer; 0 leaves it to the proxy.
    pub deadline_ms: u32,
    /// Of a chunk.
    pub sequence: u32,
}

impl Header {
    pub fn new(kind: Kind, id: u64) -> Self {
        Header { kind, flags: 0, id, deadline_ms: 0, sequence: 0 }
    }

    pub fn legacy(&self) -> bool {
        self.flags & FLAG_LEGACY != 0
    }

    pub fn repeatable(&self) -> bool {
        self.flags & FLAG_REPEATABLE != 0
    }

    pub fn encode(&self) -> Bytes {
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = self.kind as u8;
        out[5] = self.flags;
        out[6] = MINOR_VERSION;
        out[8..16].copy_from_slice(&self.id.to_be_bytes());
        out[16..20].copy_from_slice(&self.deadline_ms.to_be_bytes());
        out[20..].copy_from_slice(&self.sequence.to_be_bytes());
        Bytes::copy_from_slice(&out)
    }

    /// None for a frame that is no header of ours; an unknown kind is none either.
    pub fn decode(frame: &[u8]) -> Option<Header> {
        let frame: &[u8; HEADER_BYTES] = frame.try_into().ok()?;
        let rest = frame.strip_prefix(&MAGIC)?;
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == rest[0])?;
        let number = |range: std::ops::Range<usize>| {
            frame[range].iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte))
        };
        Some(Header {
            kind,
            flags: rest[1],
            id: number(8..16),
            deadline_ms: number(16..20) as u32,
            sequence: number(20..24) as u32,
        })
    }
}

/// Whether a message is meant as ours, well-formed or not.
pub fn is_ours(first_frame: &[u8]) -> bool {
    first_frame.starts_with(&MAGIC)
}

/// A whole message.
pub fn message(header: Header, body: &Value) -> Vec<Bytes> {
    vec![header.encode(), Bytes::from(body.encode())]
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// `llm`, `index` or `tuning`.
    pub service: String,
    /// Requests taken at once.
    pub capacity: u32,
    /// As shown to people.
    pub name: String,
}

impl Hello {
    pub fn encode(&self) -> Vec<Bytes> {
        let body = Value::map([
            ("service", self.service.as_str().into()),
            ("capacity", Value::Int(self.capacity.into())),
            ("name", self.name.as_str().into()),
        ]);
        message(Header::new(Kind::Hello, 0), &body)
    }

    pub fn decode(body: &[u8]) -> Option<Hello> {
        let body = Value::decode(body).ok()?;
        Some(Hello {
            service: body.get("service")?.as_str()?.to_owned(),
            capacity: u32::try_from(body.get("capacity")?.as_int()?).ok().filter(|capacity| *capacity > 0)?,
            name: body.get("name")?.as_str()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_written_and_nothing_else_is_one() {
        for kind in Kind::ALL {
            let header = Header { kind, flags: 3, id: 1 << 40 | 5, deadline_ms: 70_000, sequence: 9 };
            assert_eq!(Header::decode(&header.encode()), Some(header));
        }
        let good = Header::new(Kind::Reply, 1).encode();
        assert_eq!(Header::decode(&good[..23]), None);
        let mut unknown = good.to_vec();
        unknown[4] = 99;
        assert_eq!((Header::decode(&unknown), is_ours(&unknown)), (None, true));
        unknown[0] = b'X';
        assert!(!is_ours(&unknown));
    }

    #[test]
    fn a_workers_greeting_needs_a_capacity() {
        let hello = Hello { service: "llm".into(), capacity: 8, name: "机器-1".into() };
        assert_eq!(Hello::decode(&hello.encode()[1]), Some(hello.clone()));
        let none = Hello { capacity: 0, ..hello };
        assert_eq!(Hello::decode(&none.encode()[1]), None);
        assert_eq!(Hello::decode(b"\xc1"), None);
    }

    /// Header and body of each kind's row in PROTOCOL.md.
    fn vectors() -> Vec<(String, String)> {
        let rows = include_str!("../PROTOCOL.md").lines().filter(|line| line.contains("`52414732"));
        rows.map(|row| {
            let mut code = row.split('`').skip(1).step_by(2).skip_while(|word| !word.starts_with("52414732"));
            (code.next().unwrap().to_owned(), code.next().unwrap_or_default().to_owned())
        })
        .collect()
    }

    #[test]
    fn the_specifications_vectors_are_what_is_written() {
        let at = |kind| Header::new(kind, 7);
        let hello = Hello { service: "llm".into(), capacity: 2, name: "w".into() }.encode();
        let call = Value::map([("op", "llm.info".into()), ("args", Value::Nil)]);
        let request = Header { flags: FLAG_REPEATABLE, deadline_ms: 30_000, ..at(Kind::Request) };
        let chunk = Value::map([("text", "你".into())]);
        let progress = Value::map([("done", Value::Int(1)), ("total", Value::Int(3))]);
        let messages = [
            hello,
            message(request, &call),
            vec![at(Kind::Cancel).encode(), Bytes::new()],
            message(Header { sequence: 1, ..at(Kind::Chunk) }, &chunk),
            message(at(Kind::Progress), &progress),
            message(at(Kind::Reply), &"ok".into()),
            message(at(Kind::Error), &crate::fault::encode(&rag_core::Error::Cancelled)),
            vec![Header::new(Kind::Drain, 0).encode(), Bytes::new()],
        ];
        let hex = |bytes: &Bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let written: Vec<_> = messages.iter().map(|frames| (hex(&frames[0]), hex(&frames[1]))).collect();
        assert_eq!(vectors(), written);
    }
}
