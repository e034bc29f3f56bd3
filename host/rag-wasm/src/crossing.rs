//! What crossing the border costs: calls without work, bytes, numbers and texts in and out of one live instance.
//!
//! For `bench plugin`, with the component `tests/guests/bench`, which exports `ragkit:bench/data@0.1.0` beside a chunker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rag_core::{Error, Result};
use wasmtime::Store;
use wasmtime::component::{ComponentNamedList, InstancePre, Lift, Lower, TypedFunc};

use crate::bindings::chunker::ChunkerPlugin;
use crate::host::Component;
use crate::instance::{self, Budget, Plugin};
use crate::state::State;
use crate::{Kind, PluginHost, timing};

/// A way over the border.
#[derive(Debug, Clone, PartialEq)]
pub enum Crossing {
    /// No work, nothing in or out.
    Nothing,
    /// So many calls of `log` on a level that is not kept.
    Log(u32),
    BytesIn(Arc<[u8]>),
    /// So many bytes.
    BytesOut(u32),
    /// Vectors as one list of numbers.
    Flat(Arc<[f32]>),
    /// Vectors as lists of their own.
    Nested(Arc<[Vec<f32>]>),
    /// A text in, and spans of pieces of this many bytes out.
    Spans(Arc<str>, u32),
    /// The same with the pieces' text.
    Copies(Arc<str>, u32),
}

impl PluginHost {
    /// Performs a call of the installed component `id` `rounds` times under every limit; the time of each. Blocks.
    pub fn time_crossing(&self, id: &str, crossing: Crossing, rounds: u32) -> Result<Vec<Duration>> {
        let Component::Chunker(plugin) = self.component(id)? else {
            return Err(Error::invalid(format!("{id} is not the component of the benchmarks")));
        };
        let pre = self.link_raw(&plugin.info.digest, Kind::Chunker)?;
        let timed = plugin.clone();
        plugin.runner.run_blocking(async move { Live::new(&timed, &pre).await?.time(crossing, rounds).await })
    }
}

/// A live instance.
struct Live<'a> {
    plugin: &'a Plugin<ChunkerPlugin>,
    store: Store<State>,
    instance: wasmtime::component::Instance,
    _slot: crate::runner::Slot,
}

impl<'a> Live<'a> {
    async fn new(plugin: &'a Plugin<ChunkerPlugin>, pre: &InstancePre<State>) -> Result<Self> {
        let slot = plugin.runner.slots(Kind::Chunker).take().await?;
        let mut store = instance::new_store(&plugin.runner, &plugin.label, &timing::setup(), &plugin.limits);
        let _ticking = plugin.runner.ticker.enter();
        let instance = pre.instantiate_async(&mut store).await.map_err(broken)?;
        Ok(Live { plugin, store, instance, _slot: slot })
    }

    async fn time(mut self, crossing: Crossing, rounds: u32) -> Result<Vec<Duration>> {
        match crossing {
            Crossing::Nothing => self.repeat::<(), ()>("nothing", || (), rounds).await,
            Crossing::Log(times) => self.repeat::<_, ()>("log", || (times,), rounds).await,
            Crossing::BytesIn(bytes) => self.repeat::<_, ()>("take-bytes", || (bytes.clone(),), rounds).await,
            Crossing::BytesOut(count) => {
                self.repeat::<_, (Vec<u8>,)>("give-bytes", || (count,), rounds).await
            }
            Crossing::Flat(numbers) => self.repeat::<_, ()>("take-flat", || (numbers.clone(),), rounds).await,
            Crossing::Nested(rows) => self.repeat::<_, ()>("take-nested", || (rows.clone(),), rounds).await,
            Crossing::Spans(text, size) => {
                type Spans = (Vec<(u32, u32)>,);
                self.repeat::<_, Spans>("give-spans", || (text.clone(), size), rounds).await
            }
            Crossing::Copies(text, size) => {
                self.repeat::<_, (Vec<String>,)>("give-copies", || (text.clone(), size), rounds).await
            }
        }
    }

    async fn repeat<P, R>(&mut self, name: &str, input: impl Fn() -> P, rounds: u32) -> Result<Vec<Duration>>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let function: TypedFunc<P, R> = self.function(name)?;
        let mut times = Vec::with_capacity(rounds as usize);
        for _ in 0..rounds {
            let input = input();
            let mut budget = Budget::of(&self.plugin.limits);
            let started = Instant::now();
            let began = self.store.data_mut().begin_call();
            let nanos = Arc::clone(&self.store.data().host_nanos);
            let call = Box::pin(function.call_async(&mut self.store, input));
            let output =
                instance::guarded(self.plugin, &nanos, &mut budget, began, call).await?.map_err(broken)?;
            times.push(started.elapsed());
            drop(output);
        }
        Ok(times)
    }

    fn function<P, R>(&mut self, name: &str) -> Result<TypedFunc<P, R>>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let missing = || Error::invalid("the component does not export ragkit:bench/data@0.1.0");
        let store = &mut self.store;
        let data = self.instance.get_export_index(&mut *store, None, "ragkit:bench/data@0.1.0");
        let data = data.ok_or_else(missing)?;
        let index = self.instance.get_export_index(&mut *store, Some(&data), name).ok_or_else(missing)?;
        self.instance.get_typed_func(&mut *store, index).map_err(broken)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: wasmtime::Error) -> Error {
    Error::internal(format!("{error:#}"))
}
