//! Which worker gets which request, and which answer belongs to whom: the proxy's decisions, without I/O.
//!
//! Every request has a ticket from its arrival to its one answer. The least loaded worker gets it; requests wait in a
//! bounded queue while all are full; a worker that dies gives its requests back, and those that are safe to repeat
//! are sent once more. RWKV-RAG's own REP workers and ours serve side by side.

mod answers;
mod limits;
mod pool;
mod repeat;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rag_core::Error;

use crate::connection::{ConnectionId, Frames, Incoming};
use crate::envelope::{FLAG_LEGACY, Header, Hello, Kind, is_ours};
use crate::fault;
use crate::value::Value;
use crate::wire::Reply;
use answers::{Address, addressed, error_message, refusal, stopping};
pub use limits::{Limits, Stats};
use pool::Pool;
use repeat::is_repeatable;

/// Frames before the empty one: how many proxies a request may have passed.
const ENVELOPE_FRAMES_MAX: usize = 8;
/// The longest time that a client of ours may ask for: a stream of events lasts longer than an answer.
const DEADLINE_MAX: Duration = Duration::from_secs(3600);
/// Times a request is given to a worker.
const TRIES_MAX: u8 = 2;
/// Requests that are under way and the workers that serve them.
#[derive(Debug)]
pub struct Exchange {
    limits: Limits,
    next_ticket: u64,
    open: HashMap<u64, Open>,
    bytes: usize,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Oldest first; may name closed ones. The second queue holds what only our own workers understand.
    waiting: VecDeque<u64>,
    waiting_ours: VecDeque<u64>,
    clients: HashMap<ConnectionId, Client>,
    pool: Pool,
    out: Vec<(ConnectionId, Frames)>,
    stats: Stats,
    stopping: bool,
    /// Since when there is no worker at all, as `expire` saw it.
    workerless: Option<Instant>,
    now: Instant,
}

#[derive(Debug)]
struct Open {
    client: ConnectionId,
    address: Address,
    flags: u8,
    body: Bytes,
    arrived: Instant,
    deadline: Instant,
    /// When the client itself stops waiting: what counts once a part of the answer was there.
    until: Instant,
    worker: Option<ConnectionId>,
    tries: u8,
    /// A part of the answer has gone out: a second worker would begin it anew.
    begun: bool,
}

#[derive(Debug, Default)]
struct Client {
    tickets: HashSet<u64>,
    ids: HashMap<u64, u64>,
}

impl Exchange {
    /// `now` is the caller's clock, so that a simulation can use its own.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Exchange {
            now,
            limits,
            next_ticket: 0,
            open: HashMap::new(),
            bytes: 0,
            deadlines: BTreeSet::new(),
            waiting: VecDeque::new(),
            waiting_ours: VecDeque::new(),
            clients: HashMap::new(),
            pool: Pool::default(),
            out: Vec::new(),
            stats: Stats::default(),
            stopping: false,
            workerless: None,
        }
    }

    /// Moves the clock; call it before the calls that something happened at `now`.
    pub fn at(&mut self, now: Instant) {
        self.now = now;
    }

    /// Messages to send, in order.
    pub fn take_output(&mut self) -> Vec<(ConnectionId, Frames)> {
        std::mem::take(&mut self.out)
    }

    pub fn stats(&self) -> Stats {
        let waiting = self.open.values().filter(|open| open.worker.is_none()).count();
        Stats { open: self.open.len(), waiting, workers: self.pool.len(), ..self.stats }
    }

    /// Takes what a client sent.
    pub fn client_says(&mut self, client: ConnectionId, incoming: Incoming) {
        match incoming {
            Incoming::Message(frames) => match frames.first() {
                Some(first) if is_ours(first) => self.ours(client, &frames),
                _ => self.legacy(client, frames),
            },
            Incoming::Refused { frames, reason } => self.refused(client, frames, reason),
        }
    }

    /// The answers of a client that left have nowhere to go.
    pub fn client_closed(&mut self, client: ConnectionId) {
        let Some(left) = self.clients.remove(&client) else { return };
        for ticket in left.tickets {
            self.abandon(ticket);
        }
        self.dispatch();
    }

    /// A REP worker is ready as soon as it is there; ours introduce themselves first.
    pub fn rep_worker_opened(&mut self, worker: ConnectionId) {
        self.pool.insert(worker, false, 1);
        self.dispatch();
    }

    /// Takes what a worker sent; what makes no sense is dropped.
    pub fn worker_says(&mut self, worker: ConnectionId, incoming: Incoming) {
        let Incoming::Message(frames) = incoming else { return };
        match &frames[..] {
            [ticket, empty, body] if empty.is_empty() && ticket.len() == 8 => {
                let ticket = ticket.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
                if self.pool.release(worker, ticket) {
                    self.answer(ticket, body.clone());
                }
            }
            [header, body] => match Header::decode(header) {
                Some(header) => self.our_worker_says(worker, header, body),
                None => self.stats.malformed += 1,
            },
            _ => self.stats.malformed += 1,
        }
        self.dispatch();
    }

    /// Gives a dead worker's requests to another where that is safe.
    pub fn worker_closed(&mut self, worker: ConnectionId) {
        for ticket in self.pool.remove(worker) {
            let Some(open) = self.open.get_mut(&ticket) else { continue };
            open.worker = None;
            if open.tries < TRIES_MAX && !open.begun && is_repeatable(open.flags, &open.body) {
                self.stats.retried += 1;
                let queue = if open.for_ours_only() { &mut self.waiting_ours } else { &mut self.waiting };
                queue.push_front(ticket);
            } else {
                self.stats.lost += 1;
                let message = "the worker ended in the middle of the request; try again".to_owned();
                self.fail(ticket, &Error::Unavailable { message });
            }
        }
        self.dispatch();
    }

    /// When `expire` should be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Answers what has waited too long.
    pub fn expire(&mut self) {
        self.refuse_without_workers();
        while let Some(&(deadline, ticket)) = self.deadlines.first() {
            if deadline > self.now {
                break;
            }
            self.stats.timed_out += 1;
            let waiting = self.open.get(&ticket).is_none_or(|open| open.worker.is_none());
            let what = if waiting { "waiting for a free worker" } else { "the worker's answer" };
            let limit_ms = self.limits.timeout.as_millis() as u64;
            let error = Error::Timeout { what: what.to_owned(), limit_ms, setting: "bus.request_timeout_ms" };
            self.cancel_at_worker(ticket);
            self.fail(ticket, &error);
        }
        self.dispatch();
    }

    /// Nobody is kept waiting for a service that nobody started.
    fn refuse_without_workers(&mut self) {
        if self.pool.len() > 0 {
            self.workerless = None;
            return;
        }
        let since = *self.workerless.get_or_insert(self.now);
        // One that is late has as long for a request that has just come.
        let (open, now, wait) = (&self.open, self.now, self.limits.worker_wait);
        let over = |ticket: &u64| {
            let from = open.get(ticket).map_or(since, |open| open.arrived.max(since));
            now.saturating_duration_since(from) >= wait
        };
        let queues = [&mut self.waiting, &mut self.waiting_ours];
        let waiting: Vec<u64> = queues.into_iter().flat_map(|queue| take_if(queue, over)).collect();
        if waiting.is_empty() {
            return;
        }
        let service = &self.limits.service;
        let message = format!(
            "no worker of '{service}' is connected: start one with `rwkv-rag serve --role {service}`"
        );
        for ticket in waiting {
            self.stats.refused += u64::from(self.open.contains_key(&ticket));
            self.fail(ticket, &Error::Unavailable { message: message.clone() });
        }
    }

    /// Refuses what comes from now on; what is under way goes on.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Gives up everything.
    pub fn abort(&mut self) {
        let mut tickets: Vec<u64> = self.open.keys().copied().collect();
        tickets.sort_unstable();
        for ticket in tickets {
            self.cancel_at_worker(ticket);
            self.fail(ticket, &stopping());
        }
    }

    fn legacy(&mut self, client: ConnectionId, mut frames: Frames) {
        let envelope = frames.iter().position(Bytes::is_empty);
        let Some(envelope) = envelope.filter(|frames| *frames <= ENVELOPE_FRAMES_MAX) else {
            // Not a REQ socket; there is no address but the connection itself.
            return self.refused(client, Vec::new(), "the message has no empty frame before its body".into());
        };
        let body = frames.split_off(envelope + 1);
        let [body] = &body[..] else {
            return self.refused(client, frames, "a message has exactly one body frame".into());
        };
        let address = Address::Legacy(frames);
        self.admit(client, address, FLAG_LEGACY, body.clone(), None);
    }

    fn ours(&mut self, client: ConnectionId, frames: &[Bytes]) {
        let Some(header) = frames.first().and_then(|frame| Header::decode(frame)) else {
            self.stats.malformed += 1;
            let error = Error::invalid("a message of version 2 begins with a header of 24 bytes");
            return self.out.push((client, error_message(0, &error)));
        };
        match (header.kind, frames) {
            (Kind::Request, [_, body]) => {
                let known = self.clients.get(&client).is_some_and(|known| known.ids.contains_key(&header.id));
                if known {
                    let error = Error::invalid(format!("request {} is under way already", header.id));
                    return self.out.push((client, error_message(header.id, &error)));
                }
                let asked = Duration::from_millis(header.deadline_ms.into());
                let time = (header.deadline_ms > 0).then(|| asked.min(DEADLINE_MAX));
                self.admit(client, Address::Ours(header.id), header.flags, body.clone(), time);
            }
            (Kind::Cancel, _) => {
                let ticket = self.clients.get(&client).and_then(|known| known.ids.get(&header.id)).copied();
                if let Some(ticket) = ticket {
                    self.cancel_at_worker(ticket);
                    self.fail(ticket, &Error::Cancelled);
                    self.dispatch();
                }
            }
            _ => {
                self.stats.malformed += 1;
                let error = Error::invalid("a client sends REQUEST with one body, or CANCEL");
                self.out.push((client, error_message(header.id, &error)));
            }
        }
    }

    fn admit(
        &mut self,
        client: ConnectionId,
        address: Address,
        flags: u8,
        body: Bytes,
        time: Option<Duration>,
    ) {
        let error = if self.stopping {
            Some(stopping())
        } else if self.open.len() >= self.limits.queue_max
            || self.bytes + body.len() > self.limits.queue_bytes_max
        {
            Some(Error::Busy { what: "the service", limit: self.limits.queue_max })
        } else {
            None
        };
        if let Some(error) = error {
            self.stats.refused += 1;
            return self.out.push((client, refusal(address, flags, &error)));
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.stats.requests += 1;
        self.bytes += body.len();
        let until = self.now + time.unwrap_or(self.limits.timeout);
        let deadline = until.min(self.now + self.limits.timeout);
        let known = self.clients.entry(client).or_default();
        known.tickets.insert(ticket);
        if let Address::Ours(id) = address {
            known.ids.insert(id, ticket);
        }
        let open = Open {
            client,
            address,
            flags,
            body,
            arrived: self.now,
            deadline,
            until,
            worker: None,
            tries: 0,
            begun: false,
        };
        let queue = if open.for_ours_only() { &mut self.waiting_ours } else { &mut self.waiting };
        queue.push_back(ticket);
        self.open.insert(ticket, open);
        self.deadlines.insert((deadline, ticket));
        self.dispatch();
    }

    /// Gives waiting requests to workers with room, least loaded first.
    fn dispatch(&mut self) {
        for ours_only in [true, false] {
            loop {
                let queue = if ours_only { &mut self.waiting_ours } else { &mut self.waiting };
                let Some(&ticket) = queue.front() else { break };
                if !self.open.contains_key(&ticket) {
                    queue.pop_front();
                    continue;
                }
                let Some((worker, speaks_ours)) = self.pool.least_loaded(ours_only) else { break };
                queue.pop_front();
                let Some(open) = self.open.get_mut(&ticket) else { continue };
                open.worker = Some(worker);
                open.tries += 1;
                let frames = if speaks_ours {
                    let left = open.until.saturating_duration_since(self.now).as_millis();
                    let header = Header {
                        flags: open.flags,
                        deadline_ms: u32::try_from(left).unwrap_or(u32::MAX).max(1),
                        ..Header::new(Kind::Request, ticket)
                    };
                    vec![header.encode(), open.body.clone()]
                } else {
                    vec![Bytes::copy_from_slice(&ticket.to_be_bytes()), Bytes::new(), open.body.clone()]
                };
                self.pool.assign(worker, ticket);
                self.out.push((worker, frames));
            }
        }
    }

    fn our_worker_says(&mut self, worker: ConnectionId, header: Header, body: &Bytes) {
        match header.kind {
            Kind::Hello => match Hello::decode(body) {
                Some(hello) if hello.service == self.limits.service => {
                    self.pool.insert(worker, true, hello.capacity);
                }
                hello => {
                    let found = hello.map_or_else(|| "unreadable".to_owned(), |hello| hello.service);
                    let wanted = &self.limits.service;
                    let error = Error::invalid(format!("this proxy serves '{wanted}', the worker '{found}'"));
                    self.out.push((worker, error_message(0, &error)));
                }
            },
            Kind::Drain => self.pool.drain(worker),
            Kind::Chunk | Kind::Progress => {
                let Some(open) = self.open.get_mut(&header.id).filter(|open| open.worker == Some(worker))
                else {
                    return;
                };
                if let Address::Ours(id) = open.address {
                    if !open.begun {
                        open.begun = true;
                        self.deadlines.remove(&(open.deadline, header.id));
                        open.deadline = open.until;
                        self.deadlines.insert((open.deadline, header.id));
                    }
                    self.out.push((open.client, vec![Header { id, ..header }.encode(), body.clone()]));
                }
            }
            Kind::Reply | Kind::Error => {
                if self.pool.release(worker, header.id) {
                    self.answer_ours(header, body);
                }
            }
            Kind::Request | Kind::Cancel => self.stats.malformed += 1,
        }
    }

    /// A REP worker's answer.
    fn answer(&mut self, ticket: u64, body: Bytes) {
        let Some(open) = self.close(ticket) else { return };
        self.stats.answered += 1;
        let frames = match open.address {
            Address::Legacy(address) => addressed(address, body),
            Address::Ours(id) => {
                vec![Header { flags: FLAG_LEGACY, ..Header::new(Kind::Reply, id) }.encode(), body]
            }
        };
        self.out.push((open.client, frames));
    }

    fn answer_ours(&mut self, header: Header, body: &Bytes) {
        let Some(open) = self.close(header.id) else { return };
        self.stats.answered += 1;
        let frames = match open.address {
            Address::Ours(id) => vec![Header { id, ..header }.encode(), body.clone()],
            Address::Legacy(address) if header.kind == Kind::Error => {
                let error = Value::decode(body).map_or_else(Error::from, |body| fault::decode(&body));
                addressed(address, Reply::Error(error.to_string()).encode().into())
            }
            Address::Legacy(address) => addressed(address, body.clone()),
        };
        self.out.push((open.client, frames));
    }

    /// One error in place of an answer.
    fn fail(&mut self, ticket: u64, error: &Error) {
        if let Some(open) = self.close(ticket) {
            self.out.push((open.client, refusal(open.address, open.flags, error)));
        }
    }

    fn refused(&mut self, client: ConnectionId, mut frames: Frames, reason: String) {
        self.stats.malformed += 1;
        let error = Error::InvalidInput { message: reason };
        if let Some(header) = frames.first().filter(|first| is_ours(first)) {
            let id = Header::decode(header).map_or(0, |header| header.id);
            return self.out.push((client, error_message(id, &error)));
        }
        if frames.last().is_none_or(|last| !last.is_empty()) {
            frames.push(Bytes::new());
        }
        self.out.push((client, refusal(Address::Legacy(frames), FLAG_LEGACY, &error)));
    }

    /// Nobody waits any more. A REP worker keeps the ticket until it answers: it can do nothing else meanwhile.
    fn abandon(&mut self, ticket: u64) {
        self.cancel_at_worker(ticket);
        self.close(ticket);
    }

    fn cancel_at_worker(&mut self, ticket: u64) {
        let Some(worker) = self.open.get(&ticket).and_then(|open| open.worker) else { return };
        if self.pool.speaks_ours(worker) {
            self.pool.release(worker, ticket);
            self.out.push((worker, vec![Header::new(Kind::Cancel, ticket).encode(), Bytes::new()]));
        }
    }

    fn close(&mut self, ticket: u64) -> Option<Open> {
        let open = self.open.remove(&ticket)?;
        self.bytes -= open.body.len();
        self.deadlines.remove(&(open.deadline, ticket));
        if let Some(client) = self.clients.get_mut(&open.client) {
            client.tickets.remove(&ticket);
            if let Address::Ours(id) = open.address {
                client.ids.remove(&id);
            }
        }
        Some(open)
    }
}

fn take_if(queue: &mut VecDeque<u64>, taken: impl Fn(&u64) -> bool) -> Vec<u64> {
    let (gone, kept): (Vec<u64>, Vec<u64>) = std::mem::take(queue).into_iter().partition(taken);
    *queue = kept.into();
    gone
}

impl Open {
    fn for_ours_only(&self) -> bool {
        self.flags & FLAG_LEGACY == 0
    }
}

#[cfg(test)]
mod tests;
