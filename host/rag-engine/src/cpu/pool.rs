//! Splits short pieces of work over a few threads that stay awake between them.
//!
//! One token of a small model passes through some hundred parallel steps of 10 to 100 µs: threads that sleep between
//! steps would cost more than they give. Helpers therefore spin for a while before they sleep, and tasks are claimed
//! one by one, so that a helper which the system has put aside delays nobody: the caller takes the tasks itself.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rag_core::{Error, Result};

/// About 30 µs: longer than the serial work between two steps of one token, too short to matter when idle.
const SPINS_BEFORE_SLEEP: u32 = 1500;
/// After this many spins the caller lets others run while it waits for a helper's last task.
const SPINS_BEFORE_YIELD: u32 = 200;
/// A job's number of tasks fits the ticket.
const TASKS_MAX: usize = (1 << TASK_BITS) - 1;
const TASK_BITS: u32 = 20;

type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// A fixed set of threads, the caller's included.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Generation, number of tasks and next task of the current job in one word, so that a task is claimed by one
    /// compare-and-swap that succeeds only while its job runs.
    ticket: AtomicU64,
    /// The current job. Written by the caller before it publishes a ticket, read after a claim.
    task: UnsafeCell<Option<&'static Task<'static>>>,
    done: AtomicUsize,
    /// Whether a caller is inside `run`.
    busy: AtomicBool,
    asleep: Box<[AtomicBool]>,
    stop: AtomicBool,
    failed: AtomicBool,
}

// SAFETY: `task` is the only part that is not `Sync`. It is written only by the one caller that holds `busy`, while
// every task of the previous job is done and so nobody may claim; it is read only after a successful claim, and the
// job that was claimed stays in place until that claimed task is counted in `done`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the reference inside is to a `Sync` closure.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Pool {
    /// `threads` in all; 1 (or 0) starts none beside the caller's.
    pub fn new(threads: usize) -> Result<Self> {
        let helpers = threads.saturating_sub(1);
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            task: UnsafeCell::new(None),
            done: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            asleep: (0..helpers).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let mut pool = Self { shared: shared.clone(), helpers: Vec::new() };
        for index in 0..helpers {
            let shared = shared.clone();
            let helper = std::thread::Builder::new()
                .name(format!("rag-engine-{index}"))
                .spawn(move || shared.help(index))
                .map_err(|e| Error::Unavailable { message: format!("cannot start a thread: {e}") })?;
            pool.helpers.push(helper);
        }
        Ok(pool)
    }

    /// Threads that work on a job, the caller's included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `task(0)` … `task(tasks - 1)`, each once, in any order, and returns when all have returned. A call from
    /// within a task, or while another thread uses the pool, runs on the calling thread alone.
    pub fn run(&self, tasks: usize, task: &Task<'_>) {
        let shared = &*self.shared;
        let alone = self.helpers.is_empty() || tasks <= 1 || tasks > TASKS_MAX;
        if alone || shared.busy.swap(true, Ordering::Acquire) {
            return (0..tasks).for_each(task);
        }
        // SAFETY: the lifetime is extended to be stored; it is used only for claimed tasks of this job, and this
        // function does not return, nor unwind (`perform` catches), before every claimed task is done.
        let task = unsafe { std::mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        // SAFETY: `busy` makes this the only writer, and no ticket is open: see `Sync for Shared`.
        unsafe { *shared.task.get() = Some(task) };
        shared.done.store(0, Ordering::Relaxed);
        let generation = (shared.ticket.load(Ordering::Relaxed) >> (2 * TASK_BITS)) + 1;
        shared.ticket.store(generation << (2 * TASK_BITS) | (tasks as u64) << TASK_BITS, Ordering::SeqCst);
        for (helper, asleep) in self.helpers.iter().zip(&shared.asleep) {
            if asleep.load(Ordering::SeqCst) {
                helper.thread().unpark();
            }
        }
        while shared.perform() {}
        let mut spins = 0;
        while shared.done.load(Ordering::Acquire) < tasks {
            spins += 1;
            if spins < SPINS_BEFORE_YIELD { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let failed = shared.failed.swap(false, Ordering::Relaxed);
        shared.busy.store(false, Ordering::Release);
        if failed {
            resume_unwind(Box::new("a task of the thread pool panicked"));
        }
    }

    /// Splits `0..len` into ranges of at least `grain` and calls `task` on each, as `run`.
    pub fn split(&self, len: usize, grain: usize, task: impl Fn(Range<usize>) + Sync) {
        // A few ranges a thread, so that one that is late does not hold the rest.
        let ranges = (len / grain.max(1)).clamp(1, 4 * self.threads());
        self.run(ranges, &|i| task(len * i / ranges..len * (i + 1) / ranges));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper catches what its tasks throw; there is nothing to learn from its end.
            let _ = helper.join();
        }
    }
}

impl Shared {
    /// Claims and performs one task; false when none is open.
    fn perform(&self) -> bool {
        let mut ticket = self.ticket.load(Ordering::Acquire);
        let index = loop {
            let (index, tasks) = (ticket & TASKS_MAX as u64, ticket >> TASK_BITS & TASKS_MAX as u64);
            if index >= tasks {
                return false;
            }
            match self.ticket.compare_exchange_weak(ticket, ticket + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break index as usize,
                Err(now) => ticket = now,
            }
        };
        // SAFETY: this task is claimed and not yet counted in `done`: see `Sync for Shared`.
        if let Some(task) = unsafe { *self.task.get() }
            && catch_unwind(AssertUnwindSafe(|| task(index))).is_err()
        {
            self.failed.store(true, Ordering::Relaxed);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }

    fn help(&self, index: usize) {
        let mut spins = 0;
        while !self.stop.load(Ordering::Relaxed) {
            if self.perform() {
                spins = 0;
                continue;
            }
            spins += 1;
            if spins < SPINS_BEFORE_SLEEP {
                std::hint::spin_loop();
                continue;
            }
            let seen = self.ticket.load(Ordering::SeqCst);
            self.asleep[index].store(true, Ordering::SeqCst);
            // The caller publishes its ticket before it looks who sleeps: one of the two sees the other.
            if self.ticket.load(Ordering::SeqCst) == seen && !self.stop.load(Ordering::SeqCst) {
                std::thread::park();
            }
            self.asleep[index].store(false, Ordering::SeqCst);
            spins = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_runs_once_on_any_number_of_threads() {
        for threads in 0..5 {
            let pool = Pool::new(threads).unwrap();
            assert_eq!(pool.threads(), threads.max(1));
            for tasks in (0..40).chain([1000]) {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_short_jobs_lose_nothing() {
        let pool = Pool::new(3).unwrap();
        let sum = AtomicUsize::new(0);
        for _ in 0..20_000 {
            pool.run(4, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
        }
        assert_eq!(sum.into_inner(), 20_000 * 6);
    }

    #[test]
    fn ranges_cover_all_without_overlap() {
        let pool = Pool::new(2).unwrap();
        for (len, grain) in [(0, 1), (1, 1), (7, 3), (100, 1), (100, 1000)] {
            let seen: Vec<AtomicUsize> = (0..len).map(|_| AtomicUsize::new(0)).collect();
            pool.split(len, grain, |range| {
                assert!(range.len() >= grain.min(len));
                range.for_each(|i| {
                    seen[i].fetch_add(1, Ordering::Relaxed);
                });
            });
            assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn a_call_within_a_task_runs_there() {
        let pool = Pool::new(2).unwrap();
        let sum = AtomicUsize::new(0);
        pool.run(4, &|_| {
            pool.run(3, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.into_inner(), 12);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| pool.run(8, &|i| assert!(i != 5, "task five"))));
        assert!(outcome.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(8, &|i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 28);
    }
}
