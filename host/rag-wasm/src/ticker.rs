//! Makes running guests give way: a thread that advances the engine's epoch, asleep while no guest runs.
//!
//! A thread rather than a task, because a guest that never yields would keep a task from running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::Duration;

use rag_core::{Error, Result};
use wasmtime::{Engine, EngineWeak};

/// Ticks without a running guest after which the thread goes to sleep; waking it costs a system call.
const IDLE_TICKS: u32 = 50;

#[derive(Debug)]
struct Shared {
    active: AtomicUsize,
    asleep: AtomicBool,
    stopped: AtomicBool,
}

/// Owner of the thread, which ends with it.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

/// While one exists, epochs advance.
#[derive(Debug)]
pub(crate) struct Ticking<'a>(&'a Ticker);

impl Ticker {
    pub(crate) fn start(engine: &Engine, tick: Duration) -> Result<Self> {
        let shared = Arc::new(Shared {
            active: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let (for_thread, engine) = (Arc::clone(&shared), engine.weak());
        let handle = thread::Builder::new()
            .name("rag-wasm-epoch".to_owned())
            .spawn(move || run(&for_thread, &engine, tick))
            .map_err(|err| Error::Unavailable { message: format!("cannot start the epoch thread: {err}") })?;
        Ok(Ticker { shared, thread: handle.thread().clone() })
    }

    /// Call before entering a guest.
    pub(crate) fn enter(&self) -> Ticking<'_> {
        self.shared.active.fetch_add(1, SeqCst);
        // Either the thread sees the call in `active`, or this sees that it fell asleep before.
        if self.shared.asleep.load(SeqCst) {
            self.thread.unpark();
        }
        Ticking(self)
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.shared.active.fetch_sub(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        self.thread.unpark();
    }
}

fn run(shared: &Shared, engine: &EngineWeak, tick: Duration) {
    // Late ticks are turns too long for whoever waits, and limits too late.
    rag_slice::shorten();
    let mut idle = 0;
    while !shared.stopped.load(SeqCst) {
        if shared.active.load(SeqCst) > 0 {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle > IDLE_TICKS {
            shared.asleep.store(true, SeqCst);
            if shared.active.load(SeqCst) == 0 && !shared.stopped.load(SeqCst) {
                thread::park();
            }
            shared.asleep.store(false, SeqCst);
            idle = 0;
            continue;
        }
        thread::sleep(tick);
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
    }
}
