//! How one proxy behaves with 10, 100 and 1 000 workers: the real `Exchange` under a simulated clock.
//!
//! A seeded discrete-event simulation. Requests arrive at random at a share of what the workers can do; a proxy takes
//! a fixed time for each message, one after the other; workers take random times and die now and then. Beside it runs
//! what RWKV-RAG does: a DEALER that gives requests to its workers in turn, whatever they are doing, and knows of no
//! deaths. `SCALING.md` discusses the tables that this prints.
//!
//! `cargo run --release -p rag-bus --example simulate -- [SEED] [MICROSECONDS PER MESSAGE]`

#![expect(clippy::print_stdout, reason = "a table is what it is for")]

mod clock;
mod in_turn;
mod ours;

use clock::Random;
use rag_bus::exchange::Stats;

/// Requests of one run, and those at its beginning that are not counted.
const REQUESTS: u64 = 120_000;
const WARM_UP: u64 = 20_000;
/// A dead worker is back after this long: supervisor, loading of the model.
const REPAIR_S: f64 = 20.0;

/// A kind of service.
struct Load {
    name: &'static str,
    /// Median of one request's time at a worker, and the spread of its logarithm.
    median_s: f64,
    sigma: f64,
    /// Requests that one worker takes at once.
    capacity: u32,
    /// Mean time between two deaths of one worker.
    life_s: f64,
}

const LOADS: [Load; 2] = [
    Load { name: "answers", median_s: 1.5, sigma: 0.8, capacity: 16, life_s: 600.0 },
    Load { name: "searches", median_s: 0.006, sigma: 0.6, capacity: 4, life_s: 600.0 },
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seed = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let message_us: f64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3.3);
    println!("seed {seed}, {message_us} µs a message, {REQUESTS} requests a row");
    println!("service   workers load    asked/s  done/s  proxy   p50 ms    p99 ms   | in turn: p99 ms  lost");
    for load in &LOADS {
        for workers in [10, 100, 1000] {
            for share in [0.5, 0.8, 0.95] {
                let world = World { load, workers, share, message_s: message_us * 1e-6, seed };
                let (ours, theirs) = (ours::run(&world), in_turn::run(&world));
                println!(
                    "{:9} {workers:7} {share:4} {:10.0} {:7.0} {:5.0} % {:8.1} {:9.1}   | {:15.1} {:5}   retried {} lost {} refused {}",
                    load.name,
                    world.rate(),
                    ours.done_per_s,
                    ours.busy * 100.0,
                    ours.percentile(0.5),
                    ours.percentile(0.99),
                    theirs.percentile(0.99),
                    theirs.lost,
                    ours.stats.retried,
                    ours.stats.lost,
                    ours.stats.refused,
                );
                assert_eq!(ours.unanswered, 0, "every request has an answer");
            }
        }
    }
}

struct World<'a> {
    load: &'a Load,
    workers: u64,
    share: f64,
    message_s: f64,
    seed: u64,
}

#[derive(Default)]
struct Report {
    latencies_ms: Vec<f64>,
    done_per_s: f64,
    busy: f64,
    stats: Stats,
    /// Requests of which nobody will ever hear.
    lost: u64,
    unanswered: u64,
}

impl Report {
    fn percentile(&self, share: f64) -> f64 {
        let at = (self.latencies_ms.len() as f64 * share) as usize;
        self.latencies_ms.get(at.min(self.latencies_ms.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

impl World<'_> {
    /// Requests a second that are asked for.
    fn rate(&self) -> f64 {
        let mean_s = self.load.median_s * (self.load.sigma * self.load.sigma / 2.0).exp();
        self.share * self.workers as f64 * f64::from(self.load.capacity) / mean_s
    }

    fn random(&self) -> Random {
        Random::new(self.seed)
    }
}
