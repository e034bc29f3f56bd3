//! Runs plugin code on threads of its own: who may enter, and what happens when a caller leaves or the host panics.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::Duration;

use rag_core::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::config::Limits;
use crate::state::{MemoryBudget, State};
use crate::ticker::Ticker;
use crate::{Kind, engine, link};

/// Every so many turns tokio wakes the guests that gave way although other calls wait. In the same turn it is to look at
/// the calls that came from outside first: else a guest that never ends has two ticks in a row then.
const TURNS: u32 = 61;

/// Everything that calls share; one a process.
pub(crate) struct Runner {
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) ticker: Ticker,
    pub(crate) memory: Arc<MemoryBudget>,
    slots: Slots,
    store_slots: Slots,
    /// What each kind may import, in the order of `Kind::ALL`.
    linkers: [Linker<State>; 5],
    handle: Handle,
    /// Taken out only when dropped.
    runtime: Option<Runtime>,
}

impl Runner {
    pub(crate) fn new(threads: usize, limits: Limits) -> Result<Self> {
        let engine = engine::new(&limits)?;
        let ticker = Ticker::start(&engine, Duration::from_millis(limits.tick_ms))?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("rag-wasm")
            .event_interval(TURNS)
            .global_queue_interval(TURNS)
            .enable_all()
            .build()
            .map_err(|err| Error::Unavailable { message: format!("cannot start plugin threads: {err}") })?;
        Ok(Runner {
            slots: Slots::new("the plugin host", limits.instances_max, limits.queue_max),
            store_slots: Slots::new("the vector-store host", limits.store_instances_max, limits.queue_max),
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            linkers: link::linkers(&engine)?,
            memory: MemoryBudget::new(limits.total_memory_bytes_max),
            engine,
            limits,
            ticker,
        })
    }

    /// Performs `work` on the plugin threads. Dropping the returned future drops the work with every instance in it;
    /// a panic in it ends there.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let mut task = AbortOnDrop(self.handle.spawn(work));
        match (&mut task.0).await {
            Ok(outcome) => outcome,
            Err(err) if err.is_panic() => {
                Err(Error::internal("the host panicked during a plugin call; see the log"))
            }
            Err(_) => Err(Error::Cancelled),
        }
    }

    /// The same for a caller that is not asynchronous; waits.
    pub(crate) fn run_blocking<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            // The receiver waits below; it cannot be gone.
            let _ = answer.send(work.await);
        });
        answered.recv().unwrap_or_else(|_| Err(Error::internal("the host panicked while it loaded a plugin")))
    }

    pub(crate) fn linker(&self, kind: Kind) -> &Linker<State> {
        let [parser, chunker, vector_store, retriever, connector] = &self.linkers;
        match kind {
            Kind::Parser => parser,
            Kind::Chunker => chunker,
            Kind::VectorStore => vector_store,
            Kind::Retriever => retriever,
            Kind::Connector => connector,
        }
    }

    pub(crate) fn slots(&self, kind: Kind) -> &Slots {
        if kind == Kind::VectorStore { &self.store_slots } else { &self.slots }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // The last owner may be a task of this very runtime, where waiting for it is not possible.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Right to have one live instance.
pub(crate) type Slot = OwnedSemaphorePermit;

/// Something that keeps instances for later and can do without them.
pub(crate) trait Spare: Send + Sync {
    /// Drops one instance that nobody uses; false when there is none.
    fn drop_one(&self) -> bool;
}

/// The bound on live instances. Below what the pool holds, because an empty pool is an error and not a wait.
pub(crate) struct Slots {
    what: &'static str,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue_max: usize,
    spares: Mutex<Vec<Weak<dyn Spare>>>,
}

impl Slots {
    fn new(what: &'static str, instances_max: u32, queue_max: usize) -> Self {
        Slots {
            what,
            free: Arc::new(Semaphore::new(instances_max as usize)),
            waiting: AtomicUsize::new(0),
            queue_max,
            spares: Mutex::new(Vec::new()),
        }
    }

    /// Takes a slot, if need be from an idle warm instance; waits in a bounded queue, else `Busy`.
    pub(crate) async fn take(&self) -> Result<Slot> {
        for _ in 0..2 {
            if let Ok(slot) = Arc::clone(&self.free).try_acquire_owned() {
                return Ok(slot);
            }
            self.drop_spare();
        }
        let _waiting = Waiting::enter(&self.waiting, self.queue_max, self.what)?;
        Arc::clone(&self.free)
            .acquire_owned()
            .await
            .map_err(|_| Error::internal("the plugin host is shutting down"))
    }

    /// Whether somebody waits for a slot.
    pub(crate) fn wanted(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Counts `spare` among those that may be asked to give up an instance.
    pub(crate) fn register(&self, spare: Weak<dyn Spare>) {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        spares.retain(|spare| spare.strong_count() > 0);
        spares.push(spare);
    }

    fn drop_spare(&self) {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        // The one that gave goes last, so that all take turns.
        let giver = spares.iter().position(|spare| spare.upgrade().is_some_and(|spare| spare.drop_one()));
        if let Some(giver) = giver {
            let spare = spares.remove(giver);
            spares.push(spare);
        }
    }
}

/// A place in a bounded queue.
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    pub(crate) fn enter(count: &'a AtomicUsize, limit: usize, what: &'static str) -> Result<Self> {
        if count.fetch_add(1, SeqCst) >= limit {
            count.fetch_sub(1, SeqCst);
            return Err(Error::Busy { what, limit });
        }
        Ok(Waiting(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
