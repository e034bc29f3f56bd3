//! Random and mutated bytes into everything that reads a peer's: nothing panics, and what is accepted is consistent.
//!
//! Seeded, so that a failure is replayed: `RAG_FUZZ_SEED`, `RAG_FUZZ_ROUNDS`, or `RAG_FUZZ_SECONDS` for a long run:
//!
//! `RAG_FUZZ_SECONDS=600 RAG_FUZZ_SEED=2 cargo test --release -p rag-bus fuzz -- --nocapture`

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::connection::{ConnectionId, Frames, Incoming};
use crate::envelope::{Header, Hello, Kind};
use crate::exchange::{Exchange, Limits};
use crate::fault;
use crate::value::Value;
use crate::wire::{Reply, Request};
use crate::worker::Call;
use crate::zmtp::curve::{Client, Identity, Keys, Peers, Server};
use crate::zmtp::frame::{Decoder, Event, put_header, split_command};
use crate::zmtp::keys::Secret;

const ROUNDS: u64 = 20_000;
const FRAME_BYTES_MAX: usize = 1 << 12;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        (0..self.below(max)).map(|_| self.next() as u8).collect()
    }

    /// A sample as it is, changed here and there, cut, joined with another, or nothing but noise.
    fn mutate(&mut self, samples: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = samples[self.below(samples.len())].clone();
        for _ in 0..self.below(5) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = [0, 0x7f, 0x80, 0xff, 0xdf, 0xc1][self.below(6)],
                2 => bytes.truncate(at),
                3 => bytes.splice(at..at, self.bytes(9)).for_each(drop),
                4 => bytes.extend_from_slice(&samples[self.below(samples.len())]),
                _ => bytes = self.bytes(64),
            }
        }
        bytes
    }
}

fn samples(server: &Secret) -> Vec<Vec<u8>> {
    let request = Request::new("GET_EMBEDDINGS").with("texts", Value::list(["苹果", "b"])).encode();
    let call = Call { operation: "llm.generate".into(), arguments: Value::list([0.5f32]) };
    let nested = (0..40).fold(Value::Nil, |inner, _| Value::Array(vec![inner]));
    let mut samples = vec![
        request,
        Reply::Error("no".into()).encode(),
        call.encode().encode(),
        nested.encode(),
        Value::Bin(vec![7; 300].into()).encode(),
        fault::encode(&rag_core::Error::Cancelled).encode(),
        b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER".to_vec(),
        b"\x04PING\0\x0actx".to_vec(),
        Client::hello(&server.public()).unwrap().1,
    ];
    let hello = Hello { service: "s".into(), capacity: 3, name: "w".into() };
    samples.extend(hello.encode().into_iter().map(|frame| frame.to_vec()));
    samples.extend(vectors());
    for kind in [Kind::Request, Kind::Cancel, Kind::Chunk, Kind::Reply, Kind::Error, Kind::Drain] {
        samples.push(Header { flags: 3, deadline_ms: 9, ..Header::new(kind, 1) }.encode().to_vec());
    }
    samples
}

/// The frames of PROTOCOL.md.
fn vectors() -> impl Iterator<Item = Vec<u8>> {
    let words = include_str!("../PROTOCOL.md").split('`').filter(|word| word.len() > 20);
    words.filter_map(|word| {
        let pairs: Vec<&[u8]> = word.as_bytes().chunks(2).collect();
        let byte = |pair: &&[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        pairs.iter().map(byte).collect()
    })
}

/// Both ends of a sealed connection.
fn sealed(server: &Secret) -> (Keys, Keys) {
    let client = Secret::generate();
    let identity = Identity { secret: server.clone(), peers: Peers::Clients(vec![client.public()]) };
    let (state, hello) = Client::hello(&server.public()).unwrap();
    let (waiting, welcome) = Server::hello(server, &hello).unwrap();
    let (mut ours, initiate) = state.welcome(&client, &welcome, b"").unwrap();
    let (theirs, _, ready) = waiting.initiate(&identity, &initiate, b"").unwrap();
    crate::zmtp::curve::ready(&mut ours, &ready).unwrap();
    (ours, theirs)
}

/// Everything in `bytes`, fed in pieces of these sizes; none when it is malformed.
fn events(bytes: &[u8], mut piece: impl FnMut() -> usize) -> Option<Vec<Event>> {
    let (mut decoder, mut buffer) = (Decoder::new(FRAME_BYTES_MAX), BytesMut::new());
    let (mut events, mut at) = (Vec::new(), 0);
    loop {
        match decoder.next(&mut buffer) {
            Ok(Some(event)) => events.push(event),
            Ok(None) if at == bytes.len() => return Some(events),
            Ok(None) => {
                let end = (at + piece().max(1)).min(bytes.len());
                buffer.extend_from_slice(&bytes[at..end]);
                at = end;
            }
            Err(_) => return None,
        }
    }
}

fn decode(bytes: &[u8]) {
    if let Ok(value) = Value::decode(bytes) {
        let again = value.encode();
        let value = Value::decode(&again).expect("what was written is read");
        assert_eq!(value.encode(), again, "and is written alike");
        let _ = fault::decode(&value);
        let _ = Reply::from_value(value);
    }
    if let Ok(request) = Request::decode(bytes) {
        assert!(Request::decode(&request.encode()).is_ok());
    }
    if let Some(header) = Header::decode(bytes) {
        assert_eq!(Header::decode(&header.encode()), Some(header));
    }
    let _ = (Hello::decode(bytes), split_command(bytes));
}

/// A conversation of noise: whatever comes, each request of a client has at most one end, and no ticket is left.
fn converse(random: &mut Random, samples: &[Vec<u8>]) {
    let limits = Limits {
        service: "s".into(),
        queue_max: 8,
        queue_bytes_max: 1 << 16,
        timeout: Duration::from_secs(1),
        worker_wait: Duration::from_secs(60),
    };
    let start = Instant::now();
    let mut exchange = Exchange::new(limits, start);
    for step in 0..30 {
        let id = ConnectionId(random.below(3) as u64);
        let frames: Frames = (0..random.below(5))
            .map(|_| if random.below(4) == 0 { Bytes::new() } else { random.mutate(samples).into() })
            .collect();
        let worker = ConnectionId(10 + id.0);
        exchange.at(start + Duration::from_millis(step * random.below(80) as u64));
        match random.below(9) {
            0 => exchange.client_closed(id),
            1 => exchange.worker_closed(worker),
            2 => exchange.rep_worker_opened(worker),
            3 => exchange.expire(),
            4 => exchange.client_says(id, Incoming::Refused { frames, reason: "too long".into() }),
            5 | 6 => exchange.client_says(id, Incoming::Message(frames)),
            _ => exchange.worker_says(worker, Incoming::Message(frames)),
        }
        let stats = exchange.stats();
        assert!(stats.open <= 8 && stats.waiting <= stats.open, "{stats:?}");
    }
    exchange.abort();
    assert_eq!(exchange.stats().open, 0);
}

#[test]
fn noise_breaks_nothing() {
    let (seed, seconds) = (number("RAG_FUZZ_SEED", 1), number("RAG_FUZZ_SECONDS", 0));
    let rounds = number("RAG_FUZZ_ROUNDS", if seconds > 0 { u64::MAX } else { ROUNDS });
    println!("RAG_FUZZ_SEED={seed} RAG_FUZZ_ROUNDS={rounds} RAG_FUZZ_SECONDS={seconds}");
    let begun = Instant::now();
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let server = Secret::generate();
    let samples = samples(&server);
    let identity = Identity { secret: server.clone(), peers: Peers::Clients(vec![]) };
    let (mut ours, mut theirs) = sealed(&server);
    let mut done = 0;
    for round in 0..rounds {
        if seconds > 0 && round % 1024 == 0 && begun.elapsed().as_secs() >= seconds {
            break;
        }
        done = round + 1;
        let bytes = random.mutate(&samples);
        decode(&bytes);
        let mut framed = BytesMut::new();
        for _ in 0..random.below(4) {
            let body = random.mutate(&samples);
            put_header(((random.below(4) as u8) * 4) & 4, body.len(), &mut framed);
            framed.extend_from_slice(&body);
        }
        framed.extend_from_slice(&random.bytes(12));
        let whole = events(&framed, || usize::MAX >> 1);
        assert_eq!(events(&framed, || random.below(7)), whole, "pieces change nothing");
        if round % 16 == 0 {
            converse(&mut random, &samples);
        }
        if round % 64 == 0
            && let Ok((state, _)) = Server::hello(&server, &bytes)
        {
            let initiate = random.mutate(&samples);
            assert!(state.initiate(&identity, &initiate, b"").is_err(), "nobody is allowed");
        }
        if round % 16 == 0 {
            // A sealed frame is opened as it was sealed, and never after anything of it was changed.
            let mut frame = ours.sealer.seal(1, &bytes);
            let at = random.below(frame.len());
            frame[at] ^= 1 << random.below(8);
            assert!(theirs.opener.open(&frame).is_err(), "byte {at} was changed");
            frame[at..].fill(0);
            let _ = theirs.opener.open(&frame);
            let frame = ours.sealer.seal(0, &bytes);
            assert_eq!(theirs.opener.open(&frame).unwrap(), (0, bytes));
        }
    }
    println!("{done} rounds in {:.0} s", begun.elapsed().as_secs_f64());
}
