//! Events in the order of a simulated time, and random numbers that a seed repeats.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    Arrive {
        request: u64,
    },
    /// The proxy has read a request, or a worker's answer.
    Asked {
        request: u64,
    },
    /// A worker's life counts, so that a dead one's answers never arrive.
    Finish {
        worker: u64,
        life: u32,
        ticket: u64,
    },
    Answered {
        worker: u64,
        life: u32,
        ticket: u64,
    },
    Die {
        worker: u64,
    },
    Return {
        worker: u64,
    },
}

/// Events in order of time; of two at once the earlier planned.
#[derive(Default)]
pub(crate) struct Clock {
    pub(crate) now: f64,
    planned: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
}

impl Clock {
    pub(crate) fn after(&mut self, seconds: f64, event: Event) {
        self.planned += 1;
        let nanos = ((self.now + seconds) * 1e9) as u64;
        self.events.push(Reverse((nanos, self.planned, event)));
    }

    pub(crate) fn next(&mut self) -> Option<Event> {
        let Reverse((nanos, _, event)) = self.events.pop()?;
        self.now = nanos as f64 * 1e-9;
        Some(event)
    }
}

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        (bits as f64 + 0.5) / (1_u64 << 53) as f64
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    pub(crate) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        median * (sigma * normal).exp()
    }
}
