//! How long the host takes around a plugin's own work: for `bench plugin` and the benchmarks of this crate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rag_core::document::Section;
use rag_core::ports::Embed;
use rag_core::{Error, Result};

use crate::host::Component;
use crate::instance::{Budget, Instance, Plugin, Setup, World};
use crate::state::Grants;
use crate::{PluginHost, chunker};

/// A step of the host's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Check the mark of the compiled component, map it and link it.
    Load,
    /// Store, limits, WASI context and instance.
    Instantiate,
    /// Ask a live instance who it is: a call with no work in it.
    Call,
}

impl PluginHost {
    /// Performs a step of an installed plugin `rounds` times on a plugin thread; the time of each round. Blocks.
    pub fn time(&self, id: &str, step: Step, rounds: u32) -> Result<Vec<Duration>> {
        match self.component(id)? {
            Component::Parser(plugin) => self.time_world(&plugin, step, rounds),
            Component::Chunker(plugin) => self.time_world(&plugin, step, rounds),
            Component::VectorStore(plugin) => self.time_world(&plugin, step, rounds),
            Component::Retriever(plugin) => self.time_world(&plugin, step, rounds),
            Component::Connector(plugin) => self.time_world(&plugin, step, rounds),
        }
    }

    /// Cuts a section in a fresh instance each round: made, called and dropped on a plugin thread. Blocks.
    pub fn time_split(
        &self,
        id: &str,
        section: &Section,
        embedder: Arc<dyn Embed>,
        rounds: u32,
    ) -> Result<Vec<Duration>> {
        let Component::Chunker(plugin) = self.component(id)? else {
            return Err(Error::invalid(format!("{id} is no chunker")));
        };
        let grants = Grants { embedder: Some(embedder), ..Grants::default() };
        let setup = Setup { grants: Arc::new(grants), ..setup() };
        let (timed, section) = (Arc::clone(&plugin), section.clone());
        plugin.runner.run_blocking(async move {
            let mut times = Vec::with_capacity(rounds as usize);
            for _ in 0..rounds {
                let section = section.clone();
                let started = Instant::now();
                let chunks = chunker::split(&timed, &setup, section).await?;
                times.push(started.elapsed());
                drop(chunks);
            }
            Ok(times)
        })
    }

    fn time_world<W: World>(
        &self,
        plugin: &Arc<Plugin<W>>,
        step: Step,
        rounds: u32,
    ) -> Result<Vec<Duration>> {
        match step {
            Step::Load => (0..rounds)
                .map(|_| {
                    let started = Instant::now();
                    let linked = self.link_again::<W>(&plugin.info.digest)?;
                    let elapsed = started.elapsed();
                    drop(linked);
                    Ok(elapsed)
                })
                .collect(),
            Step::Instantiate => {
                let timed = Arc::clone(plugin);
                plugin.runner.run_blocking(async move { instantiate(&timed, rounds).await })
            }
            Step::Call => {
                let timed = Arc::clone(plugin);
                plugin.runner.run_blocking(async move { call(&timed, rounds).await })
            }
        }
    }
}

pub(crate) fn setup() -> Setup {
    Setup { settings: Arc::from("{}"), grants: Arc::new(Grants::default()) }
}

async fn instantiate<W: World>(plugin: &Plugin<W>, rounds: u32) -> Result<Vec<Duration>> {
    let (setup, mut times) = (setup(), Vec::with_capacity(rounds as usize));
    for _ in 0..rounds {
        let mut budget = Budget::of(&plugin.limits);
        let started = Instant::now();
        let instance = Instance::new(plugin, &setup, &mut budget).await?;
        times.push(started.elapsed());
        drop(instance);
    }
    Ok(times)
}

async fn call<W: World>(plugin: &Plugin<W>, rounds: u32) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(rounds as usize);
    let mut instance = Instance::new(plugin, &setup(), &mut Budget::of(&plugin.limits)).await?;
    for _ in 0..rounds {
        let mut budget = Budget::of(&plugin.limits);
        let started = Instant::now();
        let description = instance.call(plugin, &mut budget, |world, store| world.describe(store)).await?;
        times.push(started.elapsed());
        drop(description);
    }
    Ok(times)
}
