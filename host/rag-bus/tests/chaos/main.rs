//! Workers and the proxy killed, stopped and restarted at random under 32 clients: every request gets an answer, none a
//! wrong one, and memory does not grow.
//!
//! What happens, and after how many answers, follows from a seed that is printed. The suite runs a short version; a
//! long one, printing where it stands once a minute:
//!
//! `RAG_CHAOS_SECONDS=1200 RAG_CHAOS_SEED=7 cargo test --release -p rag-bus --test chaos -- --nocapture`

#![expect(clippy::unwrap_used, reason = "a test may panic: it then says where")]

mod clients;
mod random;
mod role;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clients::{Counts, Settings};
use random::Random;
use role::Role;

const CLIENTS: usize = 32;
const WORKERS: usize = 4;
/// Acts of the short version.
const ACTS: u64 = 24;
/// What the process of the clients may grow by after a tenth of the run, in KiB.
const GROWTH_MAX_KIB: u64 = 32 << 10;
/// What a proxy or worker may take at all.
const ROLE_MAX_KIB: u64 = 96 << 10;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The process that the other test starts as a proxy or worker; nothing when nobody started it as one.
#[test]
fn role() {
    role::run();
}

/// Proxy and workers of one run.
struct Stage<'a> {
    dir: &'a Path,
    proxy: Role,
    workers: Vec<Role>,
    /// The largest memory seen of any of them, in KiB.
    memory_kib: u64,
}

impl Stage<'_> {
    fn look(&mut self) {
        let roles = std::iter::once(&self.proxy).chain(&self.workers);
        let most = roles.filter_map(Role::memory_kib).max().unwrap_or(0);
        self.memory_kib = self.memory_kib.max(most);
    }

    /// One thing goes wrong.
    fn act(&mut self, random: &mut Random) -> String {
        self.look();
        let at = random.below(WORKERS as u64) as usize;
        let dir = self.dir;
        match random.below(10) {
            0..4 => {
                self.workers[at].kill();
                self.workers[at] = Role::worker(dir, at);
                format!("worker {at} killed and started")
            }
            4 | 5 => {
                self.proxy.kill();
                self.proxy = Role::proxy(dir);
                "the proxy killed and started".to_owned()
            }
            6 => {
                self.workers[at].end();
                self.workers[at] = Role::worker(dir, at);
                format!("worker {at} told to end, and started")
            }
            7 => {
                self.proxy.end();
                self.proxy = Role::proxy(dir);
                "the proxy told to end, and started".to_owned()
            }
            8 => {
                // It says nothing any more and its connection stays: only missing heartbeats tell.
                self.workers[at].freeze();
                let frozen = std::mem::replace(&mut self.workers[at], Role::worker(dir, at));
                self.workers.push(frozen);
                format!("worker {at} frozen, another one in its place")
            }
            _ => {
                // What was frozen comes back to life for a moment, then dies.
                self.workers.drain(WORKERS..).for_each(Role::thaw_and_kill);
                for (at, worker) in self.workers.iter_mut().enumerate() {
                    worker.kill();
                    *worker = Role::worker(dir, at);
                }
                "all workers killed and started".to_owned()
            }
        }
    }
}

fn own_memory_kib() -> u64 {
    role::memory_kib(std::process::id()).unwrap_or(0)
}

#[test]
fn every_request_has_an_answer_whoever_dies() {
    let (seed, seconds) = (number("RAG_CHAOS_SEED", 1), number("RAG_CHAOS_SECONDS", 0));
    println!("RAG_CHAOS_SEED={seed} RAG_CHAOS_SECONDS={seconds}");
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let proxy = Role::proxy(dir.path());
    let workers = (0..WORKERS).map(|at| Role::worker(dir.path(), at)).collect();
    let mut stage = Stage { dir: dir.path(), proxy, workers, memory_kib: 0 };
    let counts = Arc::new(Counts::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let settings = Settings { dir: dir.path().to_owned(), seed, counts: counts.clone() };
    let clients: Vec<_> =
        (0..CLIENTS as u64).map(|number| runtime.spawn(clients::ask(settings.clone(), number))).collect();

    let (begun, time) = (Instant::now(), Duration::from_secs(seconds));
    let (mut acts, mut told, mut memory_kib) = (0, 0, None);
    loop {
        // So many answers, values or errors, until the next act. Requests end by themselves, so there always are.
        let until = counts.ended.load(Ordering::SeqCst) + 100 + random.below(900);
        while counts.ended.load(Ordering::SeqCst) < until {
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let act = stage.act(&mut random);
        acts += 1;
        if seconds == 0 {
            println!("after {until} answers: {act}");
        }
        let share = match seconds {
            0 => acts as f64 / ACTS as f64,
            _ => begun.elapsed().as_secs_f64() / time.as_secs_f64(),
        };
        if share >= 0.1 && memory_kib.is_none() {
            memory_kib = Some(own_memory_kib());
        }
        let minute = begun.elapsed().as_secs() / 60;
        if minute > told || share >= 1.0 {
            told = minute;
            let roles = stage.memory_kib;
            println!("{minute} min, {acts} acts, {counts}; KiB: clients {}, roles {roles}", own_memory_kib());
        }
        if share >= 1.0 {
            break;
        }
    }
    counts.stop.store(true, Ordering::SeqCst);
    runtime.block_on(async {
        for client in clients {
            client.await.unwrap();
        }
        // Whatever happened, everybody is served again.
        clients::all_well(&settings, CLIENTS as u64).await;
    });
    stage.look();
    let own = own_memory_kib();
    assert_eq!(counts.wrong.load(Ordering::SeqCst), 0, "{counts}");
    assert_eq!(counts.unanswered.load(Ordering::SeqCst), 0, "{counts}");
    assert!(counts.values.load(Ordering::SeqCst) > 0, "{counts}");
    assert!(own < memory_kib.unwrap_or(own) + GROWTH_MAX_KIB, "{memory_kib:?} KiB became {own}");
    assert!(stage.memory_kib < ROLE_MAX_KIB, "a role took {} KiB", stage.memory_kib);
}
