//! A DEALER's turns, as RWKV-RAG's proxy has them: each worker has a queue of its own, whatever it is doing, and a dead
//! one's requests are gone.

use std::collections::{HashMap, VecDeque};

use crate::clock::{Clock, Event, Random};
use crate::{REPAIR_S, REQUESTS, Report, WARM_UP, World};

#[derive(Default)]
struct Worker {
    lives: u32,
    dead: bool,
    queue: VecDeque<u64>,
    running: u32,
}

struct Turns<'a> {
    world: &'a World<'a>,
    random: Random,
    clock: Clock,
    report: Report,
    workers: Vec<Worker>,
    begun: HashMap<u64, f64>,
    turn: usize,
    free_at: f64,
    arrived: u64,
}

pub(crate) fn run(world: &World<'_>) -> Report {
    let mut turns = Turns {
        world,
        random: world.random(),
        clock: Clock::default(),
        report: Report::default(),
        workers: (0..world.workers).map(|_| Worker::default()).collect(),
        begun: HashMap::new(),
        turn: 0,
        free_at: 0.0,
        arrived: 0,
    };
    for worker in 0..world.workers {
        turns.clock.after(turns.random.exponential(world.load.life_s), Event::Die { worker });
    }
    turns.clock.after(0.0, Event::Arrive { request: 0 });
    while let Some(event) = turns.clock.next() {
        if let Some(at) = turns.take(event) {
            turns.begin(at);
        }
        if turns.arrived == REQUESTS && turns.idle() {
            break;
        }
    }
    turns.report.lost = turns.begun.len() as u64;
    turns.report.latencies_ms.sort_by(f64::total_cmp);
    turns.report
}

impl Turns<'_> {
    fn idle(&self) -> bool {
        let idle = |worker: &Worker| worker.running == 0 && worker.queue.is_empty();
        self.free_at <= self.clock.now && self.workers.iter().all(idle)
    }

    fn through_proxy(&mut self, event: Event) {
        self.free_at = self.free_at.max(self.clock.now) + self.world.message_s;
        self.clock.after(self.free_at - self.clock.now, event);
    }

    /// The worker that may begin something now.
    fn take(&mut self, event: Event) -> Option<usize> {
        match event {
            Event::Arrive { request } => {
                self.arrived += 1;
                self.begun.insert(request, self.clock.now);
                self.through_proxy(Event::Asked { request });
                if request + 1 < REQUESTS {
                    let gap = self.random.exponential(1.0 / self.world.rate());
                    self.clock.after(gap, Event::Arrive { request: request + 1 });
                }
                None
            }
            Event::Asked { request } => {
                let count = self.workers.len();
                let at =
                    (0..count).map(|step| (self.turn + step) % count).find(|at| !self.workers[*at].dead)?;
                self.turn = at + 1;
                self.workers[at].queue.push_back(request);
                Some(at)
            }
            Event::Finish { worker, life, ticket } => {
                let at = worker as usize;
                if self.workers[at].lives != life {
                    return None;
                }
                self.workers[at].running -= 1;
                self.through_proxy(Event::Answered { worker, life, ticket });
                Some(at)
            }
            // What left a worker arrives, whatever becomes of the worker.
            Event::Answered { ticket, .. } => {
                if let Some(since) = self.begun.remove(&ticket)
                    && ticket >= WARM_UP
                {
                    self.report.latencies_ms.push((self.clock.now - since) * 1e3);
                }
                None
            }
            Event::Die { worker } => {
                let dead = &mut self.workers[worker as usize];
                *dead = Worker { lives: dead.lives + 1, dead: true, ..Worker::default() };
                self.clock.after(REPAIR_S, Event::Return { worker });
                None
            }
            Event::Return { worker } => {
                self.workers[worker as usize].dead = false;
                self.clock.after(self.random.exponential(self.world.load.life_s), Event::Die { worker });
                None
            }
        }
    }

    /// As many of its queue as a worker takes at once.
    fn begin(&mut self, at: usize) {
        let load = self.world.load;
        let worker = &mut self.workers[at];
        while worker.running < load.capacity {
            let Some(ticket) = worker.queue.pop_front() else { break };
            worker.running += 1;
            let took = self.random.log_normal(load.median_s, load.sigma);
            self.clock.after(took, Event::Finish { worker: at as u64, life: worker.lives, ticket });
        }
    }
}
