//! Our proxy: the real `Exchange`, one message after the other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rag_bus::envelope::{FLAG_REPEATABLE, Header, Hello, Kind};
use rag_bus::exchange::{Exchange, Limits};
use rag_bus::{ConnectionId, Incoming};

use crate::clock::{Clock, Event, Random};
use crate::{REPAIR_S, REQUESTS, Report, WARM_UP, World};

const CLIENT: ConnectionId = ConnectionId(u64::MAX);

struct Ours<'a> {
    world: &'a World<'a>,
    exchange: Exchange,
    random: Random,
    clock: Clock,
    report: Report,
    /// How often each worker died.
    lives: Vec<u32>,
    /// When the proxy's one thread has time again, and how long it worked.
    free_at: f64,
    busy: f64,
    begun: HashMap<u64, f64>,
    /// Until the last request comes: what follows is the length of the last answers.
    done: u64,
    done_until: Option<(u64, f64)>,
}

pub(crate) fn run(world: &World<'_>) -> Report {
    let start = Instant::now();
    let limits = Limits {
        service: "s".to_owned(),
        queue_max: 1 << 20,
        queue_bytes_max: 1 << 30,
        timeout: Duration::from_secs(290),
        worker_wait: Duration::from_secs(60),
    };
    let mut ours = Ours {
        world,
        exchange: Exchange::new(limits, start),
        random: world.random(),
        clock: Clock::default(),
        report: Report::default(),
        lives: vec![0; world.workers as usize],
        free_at: 0.0,
        busy: 0.0,
        begun: HashMap::new(),
        done: 0,
        done_until: None,
    };
    for worker in 0..world.workers {
        ours.arrive(worker);
    }
    ours.clock.after(0.0, Event::Arrive { request: 0 });
    while let Some(event) = ours.clock.next() {
        ours.exchange.at(start + Duration::from_secs_f64(ours.clock.now));
        ours.exchange.expire();
        ours.take(event);
        ours.deliver();
        if ours.begun.is_empty() && ours.exchange.stats().requests >= REQUESTS {
            break;
        }
    }
    ours.end()
}

impl Ours<'_> {
    /// A worker comes, and will die one day.
    fn arrive(&mut self, worker: u64) {
        self.exchange.worker_says(ConnectionId(worker), hello(self.world.load.capacity));
        self.clock.after(self.random.exponential(self.world.load.life_s), Event::Die { worker });
    }

    /// The proxy takes messages in turn.
    fn through_proxy(&mut self, event: Event) {
        self.free_at = self.free_at.max(self.clock.now) + self.world.message_s;
        self.busy += self.world.message_s;
        self.clock.after(self.free_at - self.clock.now, event);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Arrive { request } => {
                self.begun.insert(request, self.clock.now);
                self.through_proxy(Event::Asked { request });
                if request + 1 < REQUESTS {
                    let gap = self.random.exponential(1.0 / self.world.rate());
                    self.clock.after(gap, Event::Arrive { request: request + 1 });
                } else {
                    self.done_until = Some((self.done, self.clock.now));
                }
            }
            Event::Asked { request } => self.exchange.client_says(CLIENT, ask(request)),
            Event::Finish { worker, life, ticket } if self.lives[worker as usize] == life => {
                self.through_proxy(Event::Answered { worker, life, ticket });
            }
            Event::Answered { worker, life, ticket } if self.lives[worker as usize] == life => {
                self.exchange.worker_says(ConnectionId(worker), reply(ticket));
            }
            Event::Finish { .. } | Event::Answered { .. } => {}
            Event::Die { worker } => {
                self.lives[worker as usize] += 1;
                self.exchange.worker_closed(ConnectionId(worker));
                self.clock.after(REPAIR_S, Event::Return { worker });
            }
            Event::Return { worker } => self.arrive(worker),
        }
    }

    /// What the exchange sends reaches workers, who begin, and the client, who counts.
    fn deliver(&mut self) {
        for (to, frames) in self.exchange.take_output() {
            let Some(header) = frames.first().and_then(|frame| Header::decode(frame)) else { continue };
            if to == CLIENT {
                self.done += 1;
                if let Some(since) = self.begun.remove(&header.id)
                    && header.id >= WARM_UP
                {
                    self.report.latencies_ms.push((self.clock.now - since) * 1e3);
                }
            } else if header.kind == Kind::Request {
                let load = self.world.load;
                let took = self.random.log_normal(load.median_s, load.sigma);
                let (worker, life) = (to.0, self.lives[to.0 as usize]);
                self.clock.after(took, Event::Finish { worker, life, ticket: header.id });
            }
        }
    }

    fn end(mut self) -> Report {
        self.report.stats = self.exchange.stats();
        self.report.unanswered = self.begun.len() as u64;
        self.report.done_per_s = self.done_until.map_or(f64::NAN, |(done, until)| done as f64 / until);
        self.report.busy = self.busy / self.clock.now;
        self.report.latencies_ms.sort_by(f64::total_cmp);
        self.report
    }
}

fn hello(capacity: u32) -> Incoming {
    let hello = Hello { service: "s".to_owned(), capacity, name: "w".to_owned() };
    Incoming::Message(hello.encode())
}

fn ask(request: u64) -> Incoming {
    let header = Header { flags: FLAG_REPEATABLE, ..Header::new(Kind::Request, request) };
    Incoming::Message(vec![header.encode(), Bytes::from_static(b"\xc0")])
}

fn reply(ticket: u64) -> Incoming {
    Incoming::Message(vec![Header::new(Kind::Reply, ticket).encode(), Bytes::from_static(b"\xc0")])
}
