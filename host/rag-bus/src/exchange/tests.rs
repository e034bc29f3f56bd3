//! Decisions without sockets: who gets what, and what everybody is told when something breaks.

use super::*;
use crate::envelope::FLAG_REPEATABLE;
use crate::wire::Request;

const A: ConnectionId = ConnectionId(1);
const B: ConnectionId = ConnectionId(2);
const W: ConnectionId = ConnectionId(11);
const X: ConnectionId = ConnectionId(12);

fn exchange(queue_max: usize) -> (Exchange, Instant) {
    let limits = Limits {
        service: "llm".to_owned(),
        queue_max,
        queue_bytes_max: 1000,
        timeout: Duration::from_millis(500),
        worker_wait: Duration::from_secs(60),
    };
    let now = Instant::now();
    (Exchange::new(limits, now), now)
}

fn frames(parts: &[&[u8]]) -> Incoming {
    Incoming::Message(parts.iter().map(|part| Bytes::copy_from_slice(part)).collect())
}

/// A message of RWKV-RAG's.
fn command(name: &str) -> Vec<u8> {
    Request::new(name).encode()
}

/// A request of ours, safe to repeat.
fn ours(id: u64) -> Incoming {
    let header = Header { flags: FLAG_REPEATABLE, ..Header::new(Kind::Request, id) };
    Incoming::Message(vec![header.encode(), Bytes::from_static(b"\xc0")])
}

fn hello(exchange: &mut Exchange, worker: ConnectionId, capacity: u32) {
    let hello = Hello { service: "llm".into(), capacity, name: "w".into() };
    exchange.worker_says(worker, Incoming::Message(hello.encode()));
}

/// The only message that is to be sent.
fn one(exchange: &mut Exchange) -> (ConnectionId, Frames) {
    let mut out = exchange.take_output();
    assert_eq!(out.len(), 1, "{out:?}");
    out.remove(0)
}

fn header(frames: &Frames) -> Header {
    Header::decode(&frames[0]).unwrap()
}

fn legacy_error(frames: &Frames) -> String {
    match Reply::decode(frames.last().unwrap()).unwrap() {
        Reply::Error(reason) => reason,
        Reply::Value(value) => panic!("no error: {value:?}"),
    }
}

fn our_error(frames: &Frames) -> Error {
    assert_eq!(header(frames).kind, Kind::Error);
    fault::decode(&Value::decode(&frames[1]).unwrap())
}

#[test]
fn a_rep_workers_reply_finds_its_client_in_any_order() {
    let (mut exchange, _) = exchange(10);
    exchange.rep_worker_opened(W);
    exchange.rep_worker_opened(X);
    exchange.client_says(A, frames(&[b"", b"one"]));
    exchange.client_says(B, frames(&[b"hop", b"", b"two"]));
    let sent = exchange.take_output();
    assert_eq!((sent[0].0, sent[1].0), (W, X));
    assert_eq!((&sent[0].1[1..], &sent[1].1[2]), (&[Bytes::new(), "one".into()][..], &Bytes::from("two")));
    let reply = |ticket: &Bytes, body: &[u8]| {
        Incoming::Message(vec![ticket.clone(), Bytes::new(), Bytes::copy_from_slice(body)])
    };
    exchange.worker_says(X, reply(&sent[1].1[0], b"2"));
    assert_eq!(one(&mut exchange), (B, vec!["hop".into(), Bytes::new(), "2".into()]));
    exchange.worker_says(X, reply(&sent[0].1[0], b"forged"));
    assert_eq!(exchange.take_output(), [], "a worker answers only what it was given");
    exchange.worker_says(W, reply(&sent[0].1[0], b"1"));
    assert_eq!(one(&mut exchange), (A, vec![Bytes::new(), "1".into()]));
    exchange.worker_says(W, reply(&sent[0].1[0], b"again"));
    assert_eq!(exchange.take_output(), []);
    assert_eq!(exchange.stats(), Stats { requests: 2, answered: 2, workers: 2, ..Stats::default() });
}

#[test]
fn our_envelope_passes_with_the_clients_own_number() {
    let (mut exchange, _) = exchange(10);
    hello(&mut exchange, W, 4);
    exchange.client_says(A, ours(77));
    let (worker, request) = one(&mut exchange);
    assert_eq!((worker, header(&request).kind, header(&request).deadline_ms), (W, Kind::Request, 500));
    let ticket = header(&request).id;
    let from_worker = |kind, sequence| {
        let header = Header { sequence, ..Header::new(kind, ticket) };
        Incoming::Message(vec![header.encode(), Bytes::from_static(b"\xc0")])
    };
    for (kind, sequence) in [(Kind::Chunk, 0), (Kind::Progress, 0), (Kind::Chunk, 1), (Kind::Reply, 0)] {
        exchange.worker_says(W, from_worker(kind, sequence));
        let (client, frames) = one(&mut exchange);
        assert_eq!((client, header(&frames)), (A, Header { sequence, ..Header::new(kind, 77) }));
    }
    exchange.worker_says(W, from_worker(Kind::Chunk, 2));
    assert_eq!(exchange.take_output(), []);
}

#[test]
fn a_legacy_client_is_served_by_a_worker_of_ours_and_the_other_way_round() {
    let (mut exchange, _) = exchange(10);
    hello(&mut exchange, W, 1);
    exchange.client_says(A, frames(&[b"", b"body"]));
    let (_, request) = one(&mut exchange);
    assert!(header(&request).legacy());
    let reply = Header { flags: FLAG_LEGACY, ..Header::new(Kind::Reply, header(&request).id) };
    exchange.worker_says(W, Incoming::Message(vec![reply.encode(), "answer".into()]));
    assert_eq!(one(&mut exchange), (A, vec![Bytes::new(), "answer".into()]));

    exchange.rep_worker_opened(X);
    hello(&mut exchange, W, 1);
    exchange.client_says(A, ours(1));
    assert_eq!(one(&mut exchange).0, W, "only our workers understand our calls");
    let legacy = Header { flags: FLAG_LEGACY, ..Header::new(Kind::Request, 2) };
    exchange.client_says(A, Incoming::Message(vec![legacy.encode(), "body".into()]));
    let (worker, request) = one(&mut exchange);
    assert_eq!((worker, request.len()), (X, 3));
    exchange.worker_says(X, Incoming::Message(vec![request[0].clone(), Bytes::new(), "answer".into()]));
    let (_, frames) = one(&mut exchange);
    assert_eq!((header(&frames).id, header(&frames).legacy(), &frames[1]), (2, true, &"answer".into()));
}

#[test]
fn a_dead_workers_requests_go_to_another_once_when_safe() {
    let (mut exchange, _) = exchange(10);
    exchange.rep_worker_opened(W);
    exchange.client_says(A, frames(&[b"", &command("GET_EMBEDDINGS")]));
    exchange.take_output();
    exchange.worker_closed(W);
    assert_eq!(exchange.take_output(), []);
    exchange.rep_worker_opened(X);
    assert_eq!(one(&mut exchange).0, X);
    exchange.worker_closed(X);
    assert!(legacy_error(&one(&mut exchange).1).contains("the worker ended"));

    exchange.rep_worker_opened(W);
    exchange.client_says(A, frames(&[b"", &command("DELETE_COLLECTION")]));
    exchange.take_output();
    exchange.worker_closed(W);
    assert!(legacy_error(&one(&mut exchange).1).contains("the worker ended"), "not safe to repeat");
    let stats = exchange.stats();
    assert_eq!((stats.retried, stats.lost, stats.open), (1, 2, 0));
}

#[test]
fn an_answer_that_began_is_not_begun_anew() {
    let (mut exchange, _) = exchange(10);
    hello(&mut exchange, W, 1);
    exchange.client_says(A, ours(5));
    let ticket = header(&one(&mut exchange).1).id;
    let chunk = Header::new(Kind::Chunk, ticket).encode();
    exchange.worker_says(W, Incoming::Message(vec![chunk, Bytes::from_static(b"\xc0")]));
    exchange.take_output();
    exchange.worker_closed(W);
    assert!(matches!(our_error(&one(&mut exchange).1), Error::Unavailable { .. }));
}

#[test]
fn a_full_queue_refuses_and_an_answer_makes_room() {
    let (mut exchange, _) = exchange(1);
    exchange.client_says(A, frames(&[b"", b"x"]));
    exchange.client_says(B, frames(&[b"", b"y"]));
    let (client, refusal) = one(&mut exchange);
    assert_eq!(client, B);
    assert!(legacy_error(&refusal).contains("queue of 1 is full"));
    exchange.client_says(B, ours(3));
    assert!(matches!(our_error(&one(&mut exchange).1), Error::Busy { limit: 1, .. }));
    exchange.client_closed(A);
    exchange.client_says(B, frames(&[b"", &[1; 1001]]));
    assert!(legacy_error(&one(&mut exchange).1).contains("full"), "bytes are bounded too");
    assert_eq!(exchange.stats().open, 0);
}

#[test]
fn what_waits_too_long_is_answered_and_cancelled_at_the_worker() {
    let (mut exchange, now) = exchange(10);
    hello(&mut exchange, W, 1);
    exchange.client_says(A, ours(1));
    exchange.client_says(B, frames(&[b"", b"waits"]));
    exchange.take_output();
    assert_eq!(exchange.next_deadline(), Some(now + Duration::from_millis(500)));
    exchange.at(now + Duration::from_millis(500));
    exchange.expire();
    let out = exchange.take_output();
    let kinds: Vec<_> = out.iter().map(|(to, _)| *to).collect();
    assert_eq!(kinds, [W, A, B]);
    assert_eq!(header(&out[0].1).kind, Kind::Cancel);
    assert!(matches!(our_error(&out[1].1), Error::Timeout { limit_ms: 500, .. }));
    assert!(legacy_error(&out[2].1).contains("waiting for a free worker"));
    assert_eq!((exchange.stats().timed_out, exchange.next_deadline()), (2, None));
}

#[test]
fn a_shorter_deadline_holds_and_a_cancelled_request_frees_its_worker() {
    let (mut exchange, now) = exchange(10);
    hello(&mut exchange, W, 1);
    let soon = Header { deadline_ms: 100, ..Header::new(Kind::Request, 1) };
    exchange.client_says(A, Incoming::Message(vec![soon.encode(), Bytes::new()]));
    assert_eq!(exchange.next_deadline(), Some(now + Duration::from_millis(100)));
    exchange.client_says(B, ours(2));
    exchange.take_output();
    let cancel = Header::new(Kind::Cancel, 1).encode();
    exchange.client_says(A, Incoming::Message(vec![cancel, Bytes::new()]));
    let out = exchange.take_output();
    assert_eq!(header(&out[0].1).kind, Kind::Cancel);
    assert!(matches!(our_error(&out[1].1), Error::Cancelled));
    assert_eq!((out[2].0, header(&out[2].1).kind), (W, Kind::Request), "the waiting one is next");
}

#[test]
fn clients_that_leave_take_their_requests_along() {
    let (mut exchange, _) = exchange(10);
    hello(&mut exchange, W, 1);
    exchange.rep_worker_opened(X);
    exchange.client_says(A, ours(1));
    exchange.client_says(A, frames(&[b"", b"slow"]));
    let ticket = exchange.take_output()[1].1[0].clone();
    exchange.client_closed(A);
    let (worker, cancel) = one(&mut exchange);
    assert_eq!((worker, header(&cancel).kind), (W, Kind::Cancel));
    exchange.client_says(B, frames(&[b"", b"next"]));
    assert_eq!(one(&mut exchange).0, W, "the REP worker is still at the abandoned request");
    exchange.worker_says(X, Incoming::Message(vec![ticket, Bytes::new(), "late".into()]));
    assert_eq!(exchange.take_output(), []);
    exchange.client_says(B, frames(&[b"", b"next"]));
    assert_eq!(one(&mut exchange).0, X);
}

#[test]
fn nonsense_is_answered_where_there_is_an_address() {
    let (mut exchange, _) = exchange(10);
    let mut check = |incoming: Incoming, expected: &str| {
        exchange.client_says(A, incoming);
        let (_, answer) = one(&mut exchange);
        let shown = if is_ours(&answer[0]) { our_error(&answer).to_string() } else { legacy_error(&answer) };
        assert!(shown.contains(expected), "{shown}");
    };
    check(frames(&[b"A"]), "no empty frame");
    check(frames(&[b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"", b"x"]), "no empty frame");
    check(frames(&[b""]), "exactly one body");
    check(frames(&[b"", b"x", b"y"]), "exactly one body");
    check(frames(&[b"RAG2"]), "header of 24 bytes");
    check(Incoming::Message(vec![Header::new(Kind::Reply, 1).encode(), Bytes::new()]), "REQUEST");
    let told = |frames| Incoming::Refused { frames, reason: "too long".into() };
    check(told(vec![Bytes::new()]), "too long");
    check(told(vec![]), "too long");
    check(told(vec![Header::new(Kind::Request, 4).encode()]), "too long");
    assert_eq!(exchange.stats().malformed, 9);
}

#[test]
fn a_workers_nonsense_is_ignored_and_a_stranger_refused() {
    let (mut exchange, _) = exchange(10);
    for bad in [frames(&[]), frames(&[b"short", b"", b"x"]), frames(&[b"x", b"y"])] {
        exchange.worker_says(W, bad);
        assert_eq!(exchange.take_output(), []);
    }
    let stranger = Hello { service: "index".into(), capacity: 1, name: "w".into() };
    exchange.worker_says(W, Incoming::Message(stranger.encode()));
    assert!(our_error(&one(&mut exchange).1).to_string().contains("serves 'llm', the worker 'index'"));
    assert_eq!(exchange.stats().workers, 0);
}

#[test]
fn one_number_is_one_request() {
    let (mut exchange, _) = exchange(10);
    exchange.client_says(A, ours(1));
    exchange.client_says(B, ours(1));
    assert_eq!(exchange.take_output(), []);
    exchange.client_says(A, ours(1));
    assert!(our_error(&one(&mut exchange).1).to_string().contains("under way already"));
}

#[test]
fn stopping_refuses_the_new_and_aborting_answers_the_rest() {
    let (mut exchange, _) = exchange(10);
    hello(&mut exchange, W, 1);
    exchange.client_says(A, ours(1));
    exchange.take_output();
    exchange.stop();
    exchange.client_says(B, frames(&[b"", b"x"]));
    assert_eq!(legacy_error(&one(&mut exchange).1), "the service is stopping");
    exchange.abort();
    let out = exchange.take_output();
    assert_eq!((header(&out[0].1).kind, out[1].0), (Kind::Cancel, A));
    assert_eq!(exchange.stats().open, 0);
}

#[test]
fn a_draining_worker_ends_what_it_has_and_gets_no_more() {
    let (mut exchange, _) = exchange(10);
    hello(&mut exchange, W, 2);
    exchange.client_says(A, ours(1));
    let ticket = header(&one(&mut exchange).1).id;
    let drain = Header::new(Kind::Drain, 0).encode();
    exchange.worker_says(W, Incoming::Message(vec![drain, Bytes::new()]));
    exchange.client_says(A, ours(2));
    assert_eq!(exchange.take_output(), []);
    let reply = Header::new(Kind::Reply, ticket).encode();
    exchange.worker_says(W, Incoming::Message(vec![reply, Bytes::from_static(b"\xc0")]));
    assert_eq!(header(&one(&mut exchange).1).id, 1);
    hello(&mut exchange, X, 1);
    assert_eq!(one(&mut exchange).0, X);
}

#[test]
fn a_service_without_any_worker_says_so_and_waits_for_one_that_is_late() {
    let (mut exchange, now) = exchange(10);
    exchange.limits.worker_wait = Duration::from_millis(100);
    exchange.expire();
    exchange.client_says(A, ours(1));
    exchange.client_says(B, frames(&[b"", &command("GET_EMBEDDINGS")]));
    exchange.at(now + Duration::from_millis(99));
    exchange.expire();
    assert_eq!(exchange.take_output(), []);
    exchange.at(now + Duration::from_millis(100));
    exchange.expire();
    let out = exchange.take_output();
    assert_eq!((out.len(), exchange.stats().open, exchange.stats().refused), (2, 0, 2));
    assert!(legacy_error(&out[0].1).contains("--role llm"), "{out:?}");
    assert!(matches!(our_error(&out[1].1), Error::Unavailable { .. }));
    exchange.client_says(A, ours(3));
    exchange.expire();
    hello(&mut exchange, W, 1);
    assert_eq!(one(&mut exchange).0, W, "one that comes now still gets what has just come");
    exchange.worker_closed(W);
    exchange.client_closed(A);
    exchange.take_output();
    hello(&mut exchange, W, 1);
    exchange.expire();
    exchange.client_says(A, ours(2));
    assert_eq!(one(&mut exchange).0, W);
    exchange.worker_closed(W);
    exchange.at(now + Duration::from_millis(150));
    exchange.expire();
    assert_eq!((exchange.take_output().len(), exchange.stats().waiting), (0, 1), "a new one may be coming");
}

#[test]
fn a_stream_that_has_begun_lasts_as_long_as_its_client_asked() {
    let (mut exchange, now) = exchange(10);
    hello(&mut exchange, W, 1);
    let long = Header { deadline_ms: 60_000, ..Header::new(Kind::Request, 1) };
    exchange.client_says(A, Incoming::Message(vec![long.encode(), Bytes::new()]));
    let (_, request) = one(&mut exchange);
    assert_eq!(header(&request).deadline_ms, 60_000);
    assert_eq!(exchange.next_deadline(), Some(now + Duration::from_millis(500)), "until the first part");
    let chunk = Header::new(Kind::Chunk, header(&request).id);
    exchange.worker_says(W, Incoming::Message(vec![chunk.encode(), Bytes::from_static(b"\xc0")]));
    assert_eq!(exchange.next_deadline(), Some(now + Duration::from_secs(60)));
}
