//! Encoders and rerankers that knowledge bases chose: each in memory once, and at most `models.encoders_max` of them.
//!
//! What is handed out is light and lasts: it has its model loaded again when that had to make room for another one.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use rag_core::document::Vectors;
use rag_core::ports::{Embed, Encoders, ModelKind, Purpose, Rerank};
use rag_core::{Error, Result};
use rag_engine::encoder::{self, CrossEncoder, Encoder, MaxSim, Tokenizer};
use rag_engine::inspect;

use super::shelf::{Known, stamp};
use super::{Registry, blocking, files, loading};
use crate::assemble;
use crate::config::Config;

/// Identities of files that are remembered, so that they are not read again.
const IDENTITIES_MAX: usize = 256;

/// A file's size and time.
type Stamp = (u64, i64);

/// The models of one process that knowledge bases may choose; clones share it.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    config: Config,
    registry: Registry,
    /// For all, and always in memory.
    encoder: Arc<Encoder>,
    reranker: Arc<dyn Rerank>,
    /// The encoder for all as a reranker.
    maxsim: Arc<dyn Rerank>,
    /// Used last at the end.
    loaded: Mutex<Vec<(PathBuf, Stamp, Arc<Engine>)>>,
    /// By name; one whose file changed is replaced.
    pooled: Mutex<BTreeMap<String, Arc<Pooled>>>,
    identities: Mutex<HashMap<(PathBuf, Stamp), String>>,
    /// One at a time, so that the memory of each is known to the next.
    loading: tokio::sync::Mutex<()>,
}

enum Engine {
    Encoder { encoder: Arc<Encoder>, maxsim: MaxSim },
    Cross(CrossEncoder),
}

impl Engine {
    fn load(config: &Config, known: &Known) -> Result<Self> {
        files::verify(known)?;
        let inspected = files::inspect_as(config, known)?;
        inspect::require_memory(&known.path, inspected.memory_bytes)?;
        let wrong = |error: anyhow::Error| Error::Unavailable { message: format!("{error:#}") };
        let settings = assemble::encoder_of(config, known.path.clone()).map_err(wrong)?;
        if known.kind == ModelKind::Reranker {
            return Ok(Engine::Cross(CrossEncoder::load(&settings)?));
        }
        let encoder = Encoder::load(&settings)?;
        Ok(Engine::Encoder { maxsim: MaxSim::new(encoder.clone()), encoder })
    }

    fn reranker(&self) -> &dyn Rerank {
        match self {
            Engine::Encoder { maxsim, .. } => maxsim,
            Engine::Cross(cross) => cross,
        }
    }
}

/// A model of the pool, whether it is in memory or not.
struct Pooled {
    pool: Weak<Inner>,
    known: Known,
    stamp: Stamp,
    /// Identity as an encoder; empty for a cross-encoder.
    embeds_as: String,
    /// And as a reranker.
    reranks_as: String,
    dim: usize,
    tokens_max: usize,
    vocabulary: Option<Arc<Tokenizer>>,
}

impl Pool {
    /// Beside the models for all.
    pub(crate) fn new(
        config: &Config,
        registry: &Registry,
        encoder: &Arc<Encoder>,
        reranker: &Arc<dyn Rerank>,
    ) -> Self {
        Pool(Arc::new(Inner {
            config: config.clone(),
            registry: registry.clone(),
            encoder: encoder.clone(),
            reranker: reranker.clone(),
            maxsim: Arc::new(MaxSim::new(encoder.clone())),
            loaded: Mutex::default(),
            pooled: Mutex::default(),
            identities: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
        }))
    }

    /// Hands a model out, after it was loaded once: only then its sizes are known.
    async fn pooled(&self, known: Known) -> Result<Arc<Pooled>> {
        let stamp = stamp_of(&known)?;
        if let Some(pooled) = locked(&self.0.pooled).get(&known.name)
            && pooled.stamp == stamp
            && pooled.known.path == known.path
        {
            return Ok(pooled.clone());
        }
        let engine = self.0.engine(&known, stamp).await?;
        let (embeds_as, dim, tokens_max, vocabulary) = match &*engine {
            Engine::Encoder { encoder, .. } => {
                let vocabulary = Some(encoder.vocabulary());
                (encoder.identity().to_owned(), encoder.dim(), encoder.tokens_max(), vocabulary)
            }
            Engine::Cross(_) => (String::new(), 0, 0, None),
        };
        let pooled = Arc::new(Pooled {
            pool: Arc::downgrade(&self.0),
            reranks_as: engine.reranker().identity().to_owned(),
            embeds_as,
            dim,
            tokens_max,
            vocabulary,
            stamp,
            known,
        });
        locked(&self.0.pooled).insert(pooled.known.name.clone(), pooled.clone());
        Ok(pooled)
    }

    /// Whether this is the file of the encoder for all.
    fn is_for_all(&self, known: &Known) -> bool {
        self.0.registry.encoder().is_some_and(|for_all| for_all.path == known.path)
    }

    /// What an encoder would say of itself, without loading it.
    async fn identity(&self, known: &Known) -> Result<String> {
        let key = (known.path.clone(), stamp_of(known)?);
        if let Some(identity) = locked(&self.0.identities).get(&key) {
            return Ok(identity.clone());
        }
        let path = known.path.clone();
        let identity = blocking(move || encoder::identity(&path)).await?;
        let mut identities = locked(&self.0.identities);
        if identities.len() >= IDENTITIES_MAX {
            identities.clear();
        }
        identities.insert(key, identity.clone());
        Ok(identity)
    }
}

#[async_trait]
impl Encoders for Pool {
    async fn encoder(&self, name: Option<&str>) -> Result<Arc<dyn Embed>> {
        let Some(name) = name else { return Ok(self.0.encoder.clone()) };
        let known = loading::online(&self.0.registry.known(), ModelKind::Encoder, name)?.clone();
        match self.is_for_all(&known) {
            true => Ok(self.0.encoder.clone()),
            false => Ok(self.pooled(known).await?),
        }
    }

    async fn of_identity(&self, identity: &str) -> Result<Option<Arc<dyn Embed>>> {
        if self.0.encoder.identity() == identity {
            return Ok(Some(self.0.encoder.clone()));
        }
        let all = self.0.registry.known().into_values();
        for known in all.filter(|known| known.kind == ModelKind::Encoder && known.online) {
            // A file that cannot be read is not the one.
            if self.identity(&known).await.is_ok_and(|found| found == identity) {
                return Ok(Some(self.pooled(known).await?));
            }
        }
        Ok(None)
    }

    async fn reranker(&self, name: Option<&str>) -> Result<Arc<dyn Rerank>> {
        let Some(name) = name else { return Ok(self.0.reranker.clone()) };
        let all = self.0.registry.known();
        let found = all.get(name).filter(|known| known.kind == ModelKind::Encoder);
        let kind = found.map_or(ModelKind::Reranker, |known| known.kind);
        let known = loading::online(&all, kind, name)?.clone();
        match kind == ModelKind::Encoder && self.is_for_all(&known) {
            true => Ok(self.0.maxsim.clone()),
            false => Ok(self.pooled(known).await?),
        }
    }
}

impl Inner {
    fn in_memory(&self, known: &Known, stamp: Stamp) -> Option<Arc<Engine>> {
        let mut loaded = locked(&self.loaded);
        let at = loaded.iter().position(|(path, of, _)| *path == known.path && *of == stamp)?;
        loaded[at..].rotate_left(1);
        loaded.last().map(|(_, _, engine)| engine.clone())
    }

    /// The model in memory, which it is read into when it is not there.
    async fn engine(&self, known: &Known, stamp: Stamp) -> Result<Arc<Engine>> {
        if let Some(engine) = self.in_memory(known, stamp) {
            return Ok(engine);
        }
        let _one_at_a_time = self.loading.lock().await;
        if let Some(engine) = self.in_memory(known, stamp) {
            return Ok(engine);
        }
        self.make_room()?;
        let (config, wanted) = (self.config.clone(), known.clone());
        let engine = Arc::new(blocking(move || Engine::load(&config, &wanted)).await?);
        locked(&self.loaded).push((known.path.clone(), stamp, engine.clone()));
        tracing::info!(model = known.name, "loaded for a knowledge base that chose it");
        Ok(engine)
    }

    /// Lets go of those that waited longest for a use, but of none at work.
    fn make_room(&self) -> Result<()> {
        let max = self.config.models.encoders_max.max(1);
        let mut loaded = locked(&self.loaded);
        while loaded.len() >= max {
            let idle = loaded.iter().position(|(_, _, engine)| Arc::strong_count(engine) == 1);
            let Some(idle) = idle else {
                return Err(Error::Unavailable {
                    message: format!(
                        "{max} further encoders and rerankers of knowledge bases are at work, as many as models.encoders_max allows: try again shortly, or raise it"
                    ),
                });
            };
            let (path, ..) = loaded.remove(idle);
            tracing::info!(path = %path.display(), "makes room for another encoder or reranker");
        }
        Ok(())
    }
}

impl Pooled {
    async fn engine(&self) -> Result<Arc<Engine>> {
        let pool = self.pool.upgrade().ok_or(Error::Cancelled)?;
        pool.engine(&self.known, self.stamp).await
    }

    fn changed(&self) -> Error {
        let (name, path) = (&self.known.name, self.known.path.display());
        Error::Unavailable { message: format!("the model '{name}' at {path} is no longer what it was") }
    }
}

#[async_trait]
impl Embed for Pooled {
    fn identity(&self) -> &str {
        &self.embeds_as
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    fn count_tokens(&self, texts: &[String]) -> Vec<u32> {
        let count = |text: &String| {
            let encoded = self.vocabulary.as_ref().map(|vocabulary| vocabulary.encode(text).len());
            encoded.map_or(0, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX))
        };
        texts.iter().map(count).collect()
    }

    async fn embed(&self, texts: Vec<String>, purpose: Purpose) -> Result<Vectors> {
        match &*self.engine().await? {
            Engine::Encoder { encoder, .. } if encoder.identity() == self.embeds_as => {
                encoder.embed(texts, purpose).await
            }
            _ => Err(self.changed()),
        }
    }
}

#[async_trait]
impl Rerank for Pooled {
    fn identity(&self) -> &str {
        &self.reranks_as
    }

    async fn rerank(&self, query: &str, passages: &[String]) -> Result<Vec<f32>> {
        let engine = self.engine().await?;
        let reranker = engine.reranker();
        match reranker.identity() == self.reranks_as {
            true => reranker.rerank(query, passages).await,
            false => Err(self.changed()),
        }
    }
}

fn stamp_of(known: &Known) -> Result<Stamp> {
    stamp(&known.path).map_err(|error| Error::Unavailable { message: error.to_string() })
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
