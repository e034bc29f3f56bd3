//! One live component: made and called under every limit, and never used again after it broke one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rag_core::error::PluginFault;
use rag_core::ports::PluginInfo;
use rag_core::{Error, Result};
use tokio::time::timeout_at;
use wasmtime::component::InstancePre;
use wasmtime::{Store, UpdateDeadline};

use crate::Kind;
use crate::bindings::ragkit::types::types as wit;
use crate::config::KindLimits;
use crate::fault;
use crate::imports::wasi_http::Outgoing;
use crate::meter::{HostNanos, Metered};
use crate::runner::{Runner, Slot};
use crate::state::{Grants, State};

/// Id, version and description, as a component describes itself.
pub(crate) type Description = (String, String, String);

/// What a call into a guest comes to: a trap, a typed error, a value.
pub(crate) type GuestOutcome<T> = wasmtime::Result<Result<T, wit::Error>>;

/// One of the worlds.
pub(crate) trait World: Sized + Send + Sync + 'static {
    const KIND: Kind;
    /// Exports resolved once, when the plugin is loaded.
    type Pre: Clone + Send + Sync + 'static;

    fn resolve(pre: InstancePre<State>) -> wasmtime::Result<Self::Pre>;
    fn instantiate<'a>(
        pre: &'a Self::Pre,
        store: &'a mut Store<State>,
    ) -> BoxFuture<'a, wasmtime::Result<Self>>;
    fn describe<'a>(&'a self, store: &'a mut Store<State>) -> BoxFuture<'a, GuestOutcome<Description>>;
}

/// A plugin that was admitted.
pub(crate) struct Plugin<W: World> {
    pub(crate) runner: Arc<Runner>,
    pub(crate) info: PluginInfo,
    /// "id version", for messages.
    pub(crate) label: Arc<str>,
    pub(crate) limits: Arc<KindLimits>,
    pub(crate) pre: W::Pre,
}

/// What is left of a call's processor time and wall-clock time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    cpu: Duration,
    wall: Duration,
    exact: bool,
}

impl Budget {
    /// For one call.
    pub(crate) fn of(limits: &KindLimits) -> Self {
        Budget {
            exact: false,
            cpu: Duration::from_millis(limits.cpu_ms_max),
            wall: Duration::from_millis(limits.wall_ms_max),
        }
    }

    /// The same with another wall-clock time.
    pub(crate) fn within(self, wall_ms: u64) -> Self {
        Budget { wall: Duration::from_millis(wall_ms), ..self }
    }

    /// For all calls of a document together.
    pub(crate) fn of_document(limits: &KindLimits) -> Self {
        Budget { exact: true, ..Budget::of(limits) }
    }
}

/// What an instance is made with.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) settings: Arc<str>,
    pub(crate) grants: Arc<Grants>,
}

/// A store with one component in it.
pub(crate) struct Instance<W> {
    // In the order in which they are dropped: memory is free before the slot is.
    store: Store<State>,
    world: W,
    broken: bool,
    calls: u64,
    _slot: Slot,
}

impl<W: World> Instance<W> {
    pub(crate) async fn new(plugin: &Plugin<W>, setup: &Setup, budget: &mut Budget) -> Result<Self> {
        let slot = plugin.runner.slots(W::KIND).take().await?;
        let mut store = new_store(&plugin.runner, &plugin.label, setup, &plugin.limits);
        let nanos = Arc::clone(&store.data().host_nanos);
        let began = store.data().call_began;
        let made = guarded(plugin, &nanos, budget, began, W::instantiate(&plugin.pre, &mut store)).await;
        match made? {
            Ok(world) => Ok(Instance { store, world, broken: false, calls: 0, _slot: slot }),
            Err(err) => Err(fault::of_trap(&plugin.label, &err, store.data())),
        }
    }

    /// Calls one exported function. After any fault but a typed error the instance is broken.
    pub(crate) async fn call<T>(
        &mut self,
        plugin: &Plugin<W>,
        budget: &mut Budget,
        function: impl for<'a> FnOnce(&'a W, &'a mut Store<State>) -> BoxFuture<'a, GuestOutcome<T>>,
    ) -> Result<T> {
        // Stays so when this future is dropped half way.
        self.broken = true;
        self.calls += 1;
        let began = self.store.data_mut().begin_call();
        let nanos = Arc::clone(&self.store.data().host_nanos);
        let outcome = guarded(plugin, &nanos, budget, began, function(&self.world, &mut self.store)).await?;
        let outcome = outcome.map_err(|err| fault::of_trap(&plugin.label, &err, self.store.data()))?;
        self.broken = false;
        outcome.map_err(|err| fault::of_guest(&plugin.label, &err, self.store.data_mut()))
    }

    /// Whether it may be kept for another call. A request that it left under way ends with it.
    pub(crate) fn reusable(&self, limits: &KindLimits) -> bool {
        !self.broken
            && self.store.data().outgoing.as_ref().is_none_or(Outgoing::idle)
            && self.calls < limits.warm_calls_max
            && self.store.data().bounds.memory_bytes() <= limits.warm_memory_bytes_max
    }

    /// What it returned breaks the contract: its memory is not to be trusted either.
    pub(crate) fn discredit(&mut self) {
        self.broken = true;
    }

    pub(crate) fn state(&mut self) -> &mut State {
        self.store.data_mut()
    }
}

pub(crate) fn new_store(
    runner: &Runner,
    label: &Arc<str>,
    setup: &Setup,
    limits: &Arc<KindLimits>,
) -> Store<State> {
    let state = State::new(label, &setup.settings, &setup.grants, limits, &runner.memory);
    let mut store = Store::new(&runner.engine, state);
    store.limiter(|state| &mut state.bounds);
    store.set_hostcall_fuel(limits.crossing_bytes_max);
    store.set_max_component_handles(limits.handles_max);
    store.set_epoch_deadline(1);
    let least = Duration::from_millis(runner.limits.tick_ms) / LEAST_OF_A_TICK;
    store.epoch_deadline_callback(move |state| {
        if state.data().call_began.elapsed() < least {
            return Ok(UpdateDeadline::Continue(1));
        }
        // Tokio's own yield: the default one would put the guest before tasks that wait longer.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store
}

/// A call that began less than this part of a tick ago runs on when the tick comes: most end sooner than that, and would
/// wait for another guest's whole turn.
const LEAST_OF_A_TICK: u32 = 8;

/// Longer than any call.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// Runs guest code, which began just now, until it ends, its processor time is used or its wall-clock time has passed.
pub(crate) async fn guarded<W: World, T>(
    plugin: &Plugin<W>,
    nanos: &HostNanos,
    budget: &mut Budget,
    started: Instant,
    code: BoxFuture<'_, T>,
) -> Result<T> {
    let _ticking = plugin.runner.ticker.enter();
    let until = started.checked_add(budget.wall).unwrap_or(started + FOREVER);
    let rough = (!budget.exact).then_some(started);
    let mut took = None;
    let metered = Metered::new(code, nanos, &mut budget.cpu, rough, &mut took);
    let outcome = timeout_at(until.into(), metered).await;
    budget.wall = budget.wall.saturating_sub(took.unwrap_or_else(|| started.elapsed()));
    let stopped = |fault, message| Error::Plugin { plugin: plugin.label.to_string(), fault, message };
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(stopped(
            PluginFault::CpuLimit,
            format!("it used more than {} ms of processor time", plugin.limits.cpu_ms_max),
        )),
        Err(_) => Err(stopped(
            PluginFault::WallLimit,
            format!("it took longer than {} ms", plugin.limits.wall_ms_max),
        )),
    }
}
