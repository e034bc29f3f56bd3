//! The registry of models: what is known, what was chosen, and the switch from one language model to another.

mod changes;
mod files;
mod loading;
mod pool;
mod pull;
mod shelf;
mod switch;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rag_core::ports::{
    Generate, ModelChange, ModelEntry, ModelKind, ModelRegistry, ModelsNow, NewModel, NewPull, Pull,
    PullsNow, SwitchFailure, Switching, Variant, When,
};
use rag_core::{Error, Result};
use rag_engine::inspect;

use crate::config::Config;
use loading::{Target, add_state, load, not_for, online};
pub(crate) use pool::Pool;
use shelf::{Known, Shelf, ms};
use switch::Under;
pub(crate) use switch::{Current, Switch, profile};

/// Between looks at a registry that other processes may have changed.
const LOOK: Duration = Duration::from_secs(1);

/// The registry of one process; clones share it.
#[derive(Clone)]
pub(crate) struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    shelf: Shelf,
    switch: Arc<Switch>,
    /// Names of the encoder and of the reranker that were loaded.
    encoder: String,
    reranker: Option<String>,
    status: Mutex<Status>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    /// Whether the hashes of configured models are being made.
    hashing: Mutex<bool>,
    pulls: pull::Pulls,
}

#[derive(Default)]
struct Status {
    switching: Option<Switching>,
    failure: Option<SwitchFailure>,
}

/// What a process loads at its start.
pub(crate) struct Start {
    shelf: Shelf,
    pub(crate) encoder: Known,
    pub(crate) reranker: Option<Known>,
}

impl Start {
    /// Reads the registry.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let shelf = Shelf::open(config)?;
        let encoder = shelf.chosen(ModelKind::Encoder);
        let encoder =
            encoder.ok_or_else(|| anyhow::anyhow!("models.encoder is empty: an encoder is needed"))?;
        let reranker = shelf.chosen(ModelKind::Reranker);
        Ok(Start { shelf, encoder, reranker })
    }

    /// Loads the chosen language model; when that fails, the configured one as it is.
    pub(crate) fn load(self, config: &Config) -> Result<Registry> {
        let Start { shelf, encoder, reranker } = self;
        let all = shelf.all();
        let mut status = Status::default();
        let chosen = |kind| shelf.chosen(kind);
        let language = chosen(ModelKind::Language)
            .ok_or_else(|| Error::invalid("models.language is empty: a language model is needed"))?;
        let name = |known: Known| known.name;
        let variant = Variant {
            state: chosen(ModelKind::State).map(name),
            adapter: chosen(ModelKind::Adapter).map(name),
        };
        let target = Target { language, variant };
        let current = match load(config, &all, &target) {
            Ok(current) => current,
            Err(error) => {
                let default = shelf.default(ModelKind::Language).and_then(|name| all.get(&name).cloned());
                let plain = Target { language: default.unwrap_or(target.language.clone()), ..target.clone() };
                let plain = Target { variant: Variant::default(), ..plain };
                if plain.language == target.language && plain.variant == target.variant {
                    return Err(error);
                }
                tracing::error!(model = target.language.name, %error, "the chosen model cannot be loaded; the configured one answers");
                status.failure = Some(failure(&target.language.name, &error));
                load(config, &all, &plain)?
            }
        };
        Ok(Registry {
            inner: Arc::new(Inner {
                config: config.clone(),
                shelf,
                switch: Switch::new(current),
                encoder: encoder.name,
                reranker: reranker.map(|reranker| reranker.name),
                status: Mutex::new(status),
                changing: tokio::sync::Mutex::default(),
                hashing: Mutex::new(false),
                pulls: pull::Pulls::default(),
            }),
        })
    }
}

impl Registry {
    /// The language model in use, whichever it is at each request.
    pub(crate) fn switch(&self) -> Arc<Switch> {
        self.inner.switch.clone()
    }

    /// An online model by name, path or file name. Nothing is opened.
    pub(crate) fn resolve(&self, kind: ModelKind, name_or_path: &str) -> Result<String> {
        let given = Path::new(name_or_path);
        let matches = |known: &&Known| {
            known.kind == kind
                && (known.name == name_or_path
                    || known.path == given
                    || known.path.file_name() == Some(given.as_os_str()))
        };
        let all = self.inner.shelf.all();
        let found = all.values().find(matches).ok_or_else(|| not_registered(kind, name_or_path))?;
        online(&all, kind, &found.name).map(|known| known.name.clone())
    }

    /// The language model in use, beginning from a registered state or under a registered adapter.
    pub(crate) fn under(&self, state: Option<&str>, adapter: Option<&str>) -> Result<Arc<dyn Generate>> {
        let current = self.inner.switch.current();
        let named = |kind, given: Option<&str>| given.map(|given| self.resolve(kind, given)).transpose();
        let variant =
            Variant { state: named(ModelKind::State, state)?, adapter: named(ModelKind::Adapter, adapter)? };
        if variant == Variant::default() {
            return Ok(self.inner.switch.clone());
        }
        if !current.has(&variant) {
            return Err(match (&variant.state, &variant.adapter) {
                (Some(_), Some(_)) => Error::Unsupported {
                    message:
                        "a state and an adapter go together when both are chosen (`rwkv-rag model choose`)"
                            .to_owned(),
                },
                (state, adapter) => {
                    let name = state.as_ref().or(adapter.as_ref()).map_or("", String::as_str);
                    not_for(name, &current.name)
                }
            });
        }
        Ok(Arc::new(Under { current, variant }))
    }

    pub(crate) fn current(&self) -> Current {
        self.inner.switch.current()
    }

    /// Names of online language models.
    pub(crate) fn language_models(&self) -> Vec<String> {
        let all = self.inner.shelf.all().into_values();
        all.filter(|known| known.kind == ModelKind::Language && known.online)
            .map(|known| known.name)
            .collect()
    }

    /// Every model by name.
    fn known(&self) -> BTreeMap<String, Known> {
        self.inner.shelf.all()
    }

    /// The encoder that was loaded.
    pub(crate) fn encoder(&self) -> Option<Known> {
        self.inner.shelf.get(&self.inner.encoder).ok()
    }

    /// Follows what other processes choose in the same registry; never ends.
    pub(crate) async fn follow(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.look().await {
                tracing::error!(%error, "what was chosen elsewhere cannot be used here");
            }
        }
    }

    /// Takes over what another process changed; whether there was something.
    async fn look(&self) -> Result<bool> {
        let refreshed = self.inner.shelf.refresh();
        let changed = refreshed.map_err(|error| Error::Storage { message: format!("{error:#}") })?;
        if changed {
            self.detached(Inner::follow_choice).await?;
        }
        Ok(changed)
    }

    /// Runs a change to its end, whether or not the caller waits for it.
    async fn detached<T, F>(&self, change: impl FnOnce(Arc<Inner>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let change = change(self.inner.clone());
        tokio::spawn(change).await.map_err(|error| Error::internal(error.to_string()))?
    }
}

impl Inner {
    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the book says is to answer, with one choice replaced.
    fn target(&self, replaced: Option<(ModelKind, Option<&str>)>) -> Result<Target> {
        let all = self.shelf.all();
        let choice = |kind: ModelKind| match replaced {
            Some((of, name)) if of == kind => name.map(|name| online(&all, kind, name).cloned()).transpose(),
            _ => Ok(self.shelf.chosen(kind)),
        };
        let language = choice(ModelKind::Language)?
            .ok_or_else(|| Error::invalid("there must be a language model: choose another one instead"))?;
        let name = |known: Known| known.name;
        let mut variant = Variant {
            state: choice(ModelKind::State)?.map(name),
            adapter: choice(ModelKind::Adapter)?.map(name),
        };
        // What was made for another model does not stand in the way of choosing this one.
        let fits = |name: &Option<String>| {
            let base = name.as_ref().and_then(|name| all.get(name)?.settings.base.clone());
            base.is_none_or(|base| base == language.name)
        };
        if matches!(replaced, Some((ModelKind::Language, _))) {
            variant.state = variant.state.filter(|name| fits(&Some(name.clone())));
            variant.adapter = variant.adapter.filter(|name| fits(&Some(name.clone())));
        }
        Ok(Target { language, variant })
    }

    /// Makes the target answer: at once where the model in memory can, else by loading one beside it.
    async fn switch_to(self: &Arc<Self>, target: Target, anew: bool) -> Result<()> {
        let current = self.switch.current();
        let same = current.name == target.language.name && current.path == target.language.path;
        if same && !anew {
            if current.variant == target.variant {
                return Ok(());
            }
            if let (Some(name), None) = (&target.variant.state, &target.variant.adapter) {
                let state = self.shelf.get(name)?;
                let (model, language) = (current.model.clone(), target.language.clone());
                blocking(move || add_state(&model, &language, &state)).await?;
            }
            if current.has(&target.variant) {
                self.switch.set(Current { variant: target.variant, ..current });
                return Ok(());
            }
        }
        drop(current);
        let to = target.language.name.clone();
        self.status().switching = Some(Switching { to: to.clone(), since_ms: now_ms() });
        let inner = self.clone();
        let loaded = blocking(move || load(&inner.config, &inner.shelf.all(), &target)).await;
        let mut status = self.status();
        status.switching = None;
        match loaded {
            Ok(current) => {
                status.failure = None;
                tracing::info!(
                    model = to,
                    "another language model answers now; the old one ends its answers"
                );
                self.switch.set(current);
                Ok(())
            }
            Err(error) => {
                status.failure = Some(failure(&to, &error));
                Err(error)
            }
        }
    }

    async fn choose(self: Arc<Self>, kind: ModelKind, name: Option<String>, when: When) -> Result<()> {
        let _one_at_a_time = self.changing.lock().await;
        if let Some(name) = &name {
            let known = online(&self.shelf.all(), kind, name)?.clone();
            let inner = self.clone();
            blocking(move || {
                files::verify(&known)?;
                let inspected = files::inspect_as(&inner.config, &known)?;
                match kind {
                    // It is alone in memory after a start.
                    ModelKind::Encoder | ModelKind::Reranker => Ok(()),
                    _ if when == When::NextStart || inner.is_loaded(&known) => Ok(()),
                    _ => inspect::require_memory(&known.path, inspected.memory_bytes),
                }
            })
            .await?;
        } else if matches!(kind, ModelKind::Language | ModelKind::Encoder) {
            return Err(Error::invalid(format!("there must be a {} model: name one", kind.name())));
        }
        if when == When::Now && !matches!(kind, ModelKind::Encoder | ModelKind::Reranker) {
            self.switch_to(self.target(Some((kind, name.as_deref())))?, false).await?;
        }
        self.shelf.update(|book| {
            book.chosen.insert(kind.name().to_owned(), name);
            Ok(())
        })
    }

    async fn follow_choice(self: Arc<Self>) -> Result<()> {
        let _one_at_a_time = self.changing.lock().await;
        let target = self.target(None)?;
        let current = self.switch.current();
        let is_new = |known: &Known, kind: ModelKind, variant: Variant| {
            known.kind == kind && known.online && !current.has(&variant)
        };
        let named = |known: &Known| Some(known.name.clone());
        let mut anew = false;
        for known in self.shelf.all().into_values() {
            let state = Variant { state: named(&known), adapter: None };
            let adapter = Variant { state: None, adapter: named(&known) };
            let of_it = known.settings.base.as_ref() == Some(&target.language.name);
            anew |= of_it && is_new(&known, ModelKind::Adapter, adapter);
            if is_new(&known, ModelKind::State, state) {
                let (model, language) = (current.model.clone(), target.language.clone());
                // One that does not fit is refused to whoever names it.
                let _ = blocking(move || add_state(&model, &language, &known)).await;
            }
        }
        drop(current);
        self.switch_to(target, anew).await
    }

    async fn restart(self: Arc<Self>) -> Result<()> {
        let _one_at_a_time = self.changing.lock().await;
        self.switch_to(self.target(None)?, true).await
    }

    fn is_loaded(&self, known: &Known) -> bool {
        let current = self.switch.current();
        match known.kind {
            ModelKind::Language => current.name == known.name && current.path == known.path,
            ModelKind::Encoder => known.name == self.encoder,
            ModelKind::Reranker => self.reranker.as_ref() == Some(&known.name),
            ModelKind::State => current.variant.state.as_ref() == Some(&known.name),
            ModelKind::Adapter => current.variant.adapter.as_ref() == Some(&known.name),
        }
    }
}

#[async_trait]
impl ModelRegistry for Registry {
    async fn models(&self) -> Result<ModelsNow> {
        self.inner.clone().now().await
    }

    async fn add(&self, new: NewModel) -> Result<ModelEntry> {
        self.detached(|inner| inner.add(new)).await
    }

    async fn change(&self, name: &str, change: ModelChange) -> Result<ModelEntry> {
        let name = name.to_owned();
        self.detached(|inner| inner.change(name, change)).await
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.detached(|inner| inner.remove(name)).await
    }

    async fn choose(&self, kind: ModelKind, name: Option<&str>, when: When) -> Result<ModelsNow> {
        let name = name.map(str::to_owned);
        self.detached(|inner| inner.choose(kind, name, when)).await?;
        self.models().await
    }

    async fn restart(&self) -> Result<ModelsNow> {
        self.detached(Inner::restart).await?;
        self.models().await
    }

    async fn pull(&self, new: NewPull) -> Result<Pull> {
        self.inner.pull(new)
    }

    async fn pulls(&self) -> Result<PullsNow> {
        Ok(self.inner.pulls_now())
    }

    async fn stop_pull(&self, id: &str) -> Result<Pull> {
        self.inner.stop_pull(id)
    }

    async fn variants(&self) -> Result<Vec<(ModelKind, String)>> {
        let current = self.inner.switch.current();
        let fits = |known: &Known| {
            let name = Some(known.name.clone());
            match known.kind {
                ModelKind::State => current.has(&Variant { state: name, adapter: None }),
                ModelKind::Adapter => current.has(&Variant { state: None, adapter: name }),
                ModelKind::Language | ModelKind::Encoder | ModelKind::Reranker => false,
            }
        };
        let all = self.inner.shelf.all().into_values();
        Ok(all.filter(fits).map(|known| (known.kind, known.name)).collect())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(error.to_string()))?
}

fn now_ms() -> i64 {
    ms(SystemTime::now())
}

fn failure(model: &str, error: &Error) -> SwitchFailure {
    SwitchFailure { model: model.to_owned(), message: error.to_string(), at_ms: now_ms() }
}

fn not_registered(kind: ModelKind, given: &str) -> Error {
    Error::Denied {
        message: format!(
            "'{}' is not registered, and only registered files are loaded: `rwkv-rag model add NAME --path FILE` registers a {}, `rwkv-rag model online NAME` allows it",
            given.escape_debug(),
            kind.name()
        ),
    }
}
