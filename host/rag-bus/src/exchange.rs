//! Which worker's reply belongs to which client, and which requests are refused: the proxy's decisions, without I/O.
//!
//! A client's frames are `[identity, …envelope, empty, body]`. The worker gets `[ticket, empty, body]` instead: its
//! REP socket returns the ticket untouched, and a reply that comes after its request was given up is recognised and
//! dropped, where a plain forwarder would hand it to the client as the answer to its next question.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::value::FRAME_BYTES_MAX;
use crate::wire::Reply;

/// Frames of one message.
pub type Frames = Vec<Bytes>;

/// Frames before the empty one: how many proxies a request may have passed.
const ENVELOPE_FRAMES_MAX: usize = 8;

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send to a worker; `ticket` names it in the calls that follow.
    Forward { ticket: u64, frames: Frames },
    /// Send back to the client.
    Answer(Frames),
    /// Nobody to answer to.
    Drop,
}

/// Requests that are under way, at most `queue_max`.
#[derive(Debug)]
pub struct Exchange {
    queue_max: usize,
    timeout: Duration,
    next_ticket: u64,
    open: HashMap<u64, Open>,
    /// Every ticket in the order of its deadline; may name some that are closed.
    deadlines: VecDeque<(Instant, u64)>,
    /// Requests that no worker has taken yet, oldest first; may name some that are closed.
    waiting: VecDeque<(u64, Frames)>,
}

#[derive(Debug)]
struct Open {
    /// Identity, envelope and the empty frame.
    address: Frames,
}

impl Exchange {
    pub fn new(queue_max: usize, timeout: Duration) -> Self {
        Exchange {
            queue_max,
            timeout,
            next_ticket: 0,
            open: HashMap::new(),
            deadlines: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Takes a message from a client.
    pub fn request(&mut self, now: Instant, mut frames: Frames) -> Decision {
        let envelope = frames.iter().skip(1).position(Bytes::is_empty);
        let Some(envelope) = envelope.filter(|frames| *frames <= ENVELOPE_FRAMES_MAX) else {
            // Not a REQ socket; the identity alone says where it came from.
            return match frames.into_iter().next() {
                Some(identity) => refuse(vec![identity], "the message has no empty frame before its body"),
                None => Decision::Drop,
            };
        };
        let body = frames.split_off(envelope + 2);
        let address = frames;
        let [body] = &body[..] else {
            return refuse(address, "a message has exactly one body frame");
        };
        if body.len() > FRAME_BYTES_MAX {
            return refuse(
                address,
                &format!("the body has {} bytes, more than {FRAME_BYTES_MAX}", body.len()),
            );
        }
        if self.open.len() >= self.queue_max {
            let limit = self.queue_max;
            return refuse(
                address,
                &format!("the service is busy: its queue of {limit} is full; try again shortly"),
            );
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.open.insert(ticket, Open { address });
        self.deadlines.push_back((now + self.timeout, ticket));
        let ticket_frame = Bytes::copy_from_slice(&ticket.to_be_bytes());
        Decision::Forward { ticket, frames: vec![ticket_frame, Bytes::new(), body.clone()] }
    }

    /// Takes a message from a worker; the frames for the client, or nothing when nobody waits for it any more.
    pub fn reply(&mut self, frames: &[Bytes]) -> Option<Frames> {
        let [ticket, empty, body] = frames else { return None };
        let ticket = u64::from_be_bytes(ticket.as_ref().try_into().ok()?);
        if !empty.is_empty() {
            return None;
        }
        let open = self.open.remove(&ticket)?;
        Some(addressed(open.address, body.clone()))
    }

    /// Keeps a request that no worker was there to take.
    pub fn wait(&mut self, ticket: u64, frames: Frames) {
        self.waiting.push_back((ticket, frames));
    }

    /// The oldest request that waits for a worker, if any still does.
    pub fn next_waiting(&mut self) -> Option<(u64, Frames)> {
        while let Some((ticket, frames)) = self.waiting.pop_front() {
            if self.open.contains_key(&ticket) {
                return Some((ticket, frames));
            }
        }
        None
    }

    /// When `expire` should be called next.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        while let Some((deadline, ticket)) = self.deadlines.front().copied() {
            if self.open.contains_key(&ticket) {
                return Some(deadline);
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// Gives up what has waited too long; the frames for their clients.
    pub fn expire(&mut self, now: Instant) -> Vec<Frames> {
        let mut answers = Vec::new();
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            let Some((_, ticket)) = self.deadlines.pop_front() else { break };
            let millis = self.timeout.as_millis();
            answers.extend(self.close(ticket, &format!("no worker answered within {millis} ms")));
        }
        self.waiting.retain(|(ticket, _)| self.open.contains_key(ticket));
        answers
    }

    /// Gives up everything; the frames for the clients.
    pub fn stop(&mut self) -> Vec<Frames> {
        let mut tickets: Vec<u64> = self.open.keys().copied().collect();
        tickets.sort_unstable();
        tickets.into_iter().filter_map(|ticket| self.close(ticket, "the service is stopping")).collect()
    }

    /// Requests under way, waiting ones included.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    fn close(&mut self, ticket: u64, reason: &str) -> Option<Frames> {
        let open = self.open.remove(&ticket)?;
        Some(addressed(open.address, error(reason)))
    }
}

fn refuse(address: Frames, reason: &str) -> Decision {
    Decision::Answer(addressed(address, error(reason)))
}

fn addressed(mut address: Frames, body: Bytes) -> Frames {
    address.push(body);
    address
}

fn error(reason: &str) -> Bytes {
    Reply::Error(reason.to_owned()).encode().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(parts: &[&[u8]]) -> Frames {
        parts.iter().map(|part| Bytes::copy_from_slice(part)).collect()
    }

    fn exchange(queue_max: usize) -> (Exchange, Instant) {
        (Exchange::new(queue_max, Duration::from_millis(500)), Instant::now())
    }

    fn forwarded(decision: Decision) -> (u64, Frames) {
        match decision {
            Decision::Forward { ticket, frames } => (ticket, frames),
            other => panic!("not forwarded: {other:?}"),
        }
    }

    fn reason(frames: &Frames) -> String {
        match Reply::decode(frames.last().unwrap()).unwrap() {
            Reply::Error(reason) => reason,
            Reply::Value(value) => panic!("no error: {value:?}"),
        }
    }

    #[test]
    fn a_reply_finds_its_client_in_any_order() {
        let (mut exchange, now) = exchange(10);
        let (_, first) = forwarded(exchange.request(now, frames(&[b"A", b"", b"one"])));
        let (_, second) = forwarded(exchange.request(now, frames(&[b"B", b"hop", b"", b"two"])));
        assert_eq!(first[1..], frames(&[b"", b"one"]));
        let reply = |request: &Frames, body: &'static [u8]| {
            vec![request[0].clone(), Bytes::new(), Bytes::from_static(body)]
        };
        assert_eq!(exchange.reply(&reply(&second, b"2")), Some(frames(&[b"B", b"hop", b"", b"2"])));
        assert_eq!(exchange.reply(&reply(&first, b"1")), Some(frames(&[b"A", b"", b"1"])));
        assert_eq!(exchange.reply(&reply(&first, b"again")), None, "one reply a request");
        assert_eq!(exchange.open(), 0);
    }

    #[test]
    fn a_full_queue_refuses_and_a_reply_makes_room() {
        let (mut exchange, now) = exchange(1);
        let (_, request) = forwarded(exchange.request(now, frames(&[b"A", b"", b"x"])));
        let Decision::Answer(refusal) = exchange.request(now, frames(&[b"B", b"", b"y"])) else {
            panic!("taken beyond the limit");
        };
        assert_eq!(refusal[..2], frames(&[b"B", b""]));
        assert!(reason(&refusal).contains("queue of 1 is full"));
        exchange.reply(&[request[0].clone(), Bytes::new(), Bytes::new()]).unwrap();
        forwarded(exchange.request(now, frames(&[b"B", b"", b"y"])));
    }

    #[test]
    fn what_waits_too_long_is_answered_and_its_late_reply_dropped() {
        let (mut exchange, now) = exchange(10);
        let (_, old) = forwarded(exchange.request(now, frames(&[b"A", b"", b"x"])));
        let later = now + Duration::from_millis(400);
        let (ticket, young) = forwarded(exchange.request(later, frames(&[b"B", b"", b"y"])));
        exchange.wait(ticket, young);
        assert_eq!(exchange.next_deadline(), Some(now + Duration::from_millis(500)));
        let answers = exchange.expire(now + Duration::from_millis(500));
        assert_eq!(answers.len(), 1);
        assert_eq!(reason(&answers[0]), "no worker answered within 500 ms");
        assert_eq!(exchange.reply(&[old[0].clone(), Bytes::new(), Bytes::new()]), None);
        assert_eq!(exchange.next_waiting().map(|(ticket, _)| ticket), Some(ticket));
    }

    #[test]
    fn a_given_up_request_is_not_sent_to_a_worker_that_comes_late() {
        let (mut exchange, now) = exchange(10);
        let (ticket, request) = forwarded(exchange.request(now, frames(&[b"A", b"", b"x"])));
        exchange.wait(ticket, request);
        exchange.expire(now + Duration::from_secs(1));
        assert_eq!((exchange.next_waiting(), exchange.next_deadline()), (None, None));
    }

    #[test]
    fn malformed_messages_get_an_answer_where_there_is_an_address() {
        let (mut exchange, now) = exchange(10);
        assert_eq!(exchange.request(now, vec![]), Decision::Drop);
        let mut check = |parts: &[&[u8]], expected: &str| match exchange.request(now, frames(parts)) {
            Decision::Answer(answer) => {
                assert_eq!(answer[0], "A");
                assert!(reason(&answer).contains(expected), "{}", reason(&answer));
            }
            other => panic!("{other:?}"),
        };
        check(&[b"A"], "no empty frame");
        check(&[b"A", b"x", b"y"], "no empty frame");
        check(&[b"A", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"", b"x"], "no empty frame");
        check(&[b"A", b""], "exactly one body");
        check(&[b"A", b"", b"x", b"y"], "exactly one body");
        assert_eq!(exchange.open(), 0);
    }

    #[test]
    fn a_workers_nonsense_is_ignored() {
        let (mut exchange, now) = exchange(10);
        let (_, request) = forwarded(exchange.request(now, frames(&[b"A", b"", b"x"])));
        let ticket: &[u8] = &request[0];
        let nonsense: [&[&[u8]]; 4] =
            [&[], &[b"short", b"", b"x"], &[b"12345678", b"", b"x"], &[ticket, b"full", b"x"]];
        for parts in nonsense {
            assert_eq!(exchange.reply(&frames(parts)), None);
        }
        assert_eq!(exchange.open(), 1);
    }

    #[test]
    fn stopping_answers_everybody() {
        let (mut exchange, now) = exchange(10);
        for client in [b"A", b"B"] {
            forwarded(exchange.request(now, frames(&[client, b"", b"x"])));
        }
        let answers = exchange.stop();
        assert_eq!(answers.iter().map(|answer| answer[0].clone()).collect::<Vec<_>>(), ["A", "B"]);
        assert!(answers.iter().all(|answer| reason(answer) == "the service is stopping"));
        assert_eq!(exchange.open(), 0);
    }
}
