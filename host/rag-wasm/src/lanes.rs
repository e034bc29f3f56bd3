//! Warm instances of one plugin in one knowledge base: each call has one to itself, and a broken one is made anew.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::future::BoxFuture;
use rag_core::error::PluginFault;
use rag_core::{Error, Result};
use tokio::sync::Semaphore;
use wasmtime::Store;

use crate::fault;
use crate::instance::{Budget, GuestOutcome, Instance, Plugin, Setup, World};
use crate::runner::{Spare, Waiting};
use crate::state::State;

/// What callers of a full queue are told.
const BUSY: &str = "the plugin of this knowledge base";

/// A bounded queue in front of a fixed number of instances, made when first needed.
pub(crate) struct Lanes<W: World> {
    pub(crate) plugin: Arc<Plugin<W>>,
    setup: Setup,
    free: Semaphore,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Instance<W>>>,
}

impl<W: World> Lanes<W> {
    /// `count` calls run at once; a plugin that keeps state in its memory needs one lane.
    pub(crate) fn new(plugin: Arc<Plugin<W>>, setup: Setup, count: usize) -> Arc<Self> {
        let lanes = Arc::new(Lanes {
            setup,
            free: Semaphore::new(count.max(1)),
            waiting: AtomicUsize::new(0),
            idle: Mutex::new(Vec::new()),
            plugin,
        });
        let spare: Weak<dyn Spare> = Arc::downgrade(&(Arc::clone(&lanes) as Arc<dyn Spare>));
        lanes.plugin.runner.slots(W::KIND).register(spare);
        lanes
    }

    /// Calls one exported function and checks what it returned; the check's error says what is wrong.
    pub(crate) async fn call<T, U>(
        self: &Arc<Self>,
        function: impl for<'a> FnOnce(&'a W, &'a mut Store<State>) -> BoxFuture<'a, GuestOutcome<T>>
        + Send
        + 'static,
        check: impl FnOnce(T) -> Result<U, String> + Send + 'static,
    ) -> Result<U>
    where
        T: Send + 'static,
        U: Send + 'static,
    {
        let lanes = Arc::clone(self);
        let call = async move { lanes.call_here(function, check).await };
        self.plugin.runner.run(call).await
    }

    async fn call_here<T, U>(
        &self,
        function: impl for<'a> FnOnce(&'a W, &'a mut Store<State>) -> BoxFuture<'a, GuestOutcome<T>>,
        check: impl FnOnce(T) -> Result<U, String>,
    ) -> Result<U> {
        let _lane = match self.free.try_acquire() {
            Ok(lane) => lane,
            Err(_) => {
                let limit = self.plugin.runner.limits.queue_max;
                let _waiting = Waiting::enter(&self.waiting, limit, BUSY)?;
                self.free.acquire().await.map_err(|_| Error::Cancelled)?
            }
        };
        let mut budget = Budget::of(&self.plugin.limits);
        let warm = self.idle().pop();
        let mut instance = match warm {
            Some(instance) => instance,
            None => Instance::new(&self.plugin, &self.setup, &mut budget).await?,
        };
        let outcome = instance.call(&self.plugin, &mut budget, function).await;
        let outcome = outcome.and_then(|value| {
            check(value).map_err(|message| {
                instance.discredit();
                fault::new(&self.plugin.label, PluginFault::InvalidOutput, message)
            })
        });
        // Whoever waits for a slot gets this one's.
        let wanted = self.plugin.runner.slots(W::KIND).wanted();
        if !wanted && instance.reusable(&self.plugin.limits) {
            self.idle().push(instance);
        }
        outcome
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Instance<W>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: World> Spare for Lanes<W> {
    fn drop_one(&self) -> bool {
        self.idle().pop().is_some()
    }
}
