//! How a knowledge base gets its parts: components by id, bound to the host's store and engines.

mod kept;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rag_core::encoders;
use rag_core::kb::{EncoderChoice, Kb, KbParts, PluginChoice};
use rag_core::kb_search::BoundSearch;
use rag_core::ports::{
    Binding, Bindings, Catalog, Chunk, Embed, Encoders, Generate, GenerateRequest, GenerationStream, Grants,
    Http, KbSearch, Parse, PluginAsk, PluginInfo, Rerank, Retrieve, Sql, VectorIndex, VectorStore,
};
use rag_core::{Error, ErrorCode, Result};
use rag_store::Store;
use rag_wasm::{Kind, Loaded, ParserImports, PluginHost, RetrieverImports, StoreImports};

use crate::config::Retrieval;
use crate::egress::Egress;
use crate::ocr::Tesseract;
use crate::sql::Databases;
use kept::{Held, Kept};

/// Knowledge bases whose parts are kept bound; the rest is bound again when asked.
const BOUND_MAX: usize = 256;

/// Binds components of one plugin host to one store and one set of engines.
pub(crate) struct PluginBindings {
    pub(crate) plugins: Arc<PluginHost>,
    pub(crate) store: Arc<Store>,
    pub(crate) encoders: Arc<dyn Encoders>,
    pub(crate) retrieval: Retrieval,
    pub(crate) generator: Arc<dyn Generate>,
    pub(crate) grants: Arc<dyn Grants>,
    pub(crate) egress: Egress,
    pub(crate) ocr: Option<Arc<Tesseract>>,
    /// Of one statement of a plugin, in milliseconds.
    pub(crate) sql_timeout_ms: u64,
    pub(crate) bound: Mutex<HashMap<String, Kept<Bound>>>,
}

/// Parts of one generation of a knowledge base, or of one like it for a try: a vector store's or retriever's actor lives
/// in them.
#[derive(Clone)]
pub(crate) struct Bound {
    parts: KbParts,
    collection: String,
    models: Models,
    /// What was installed when the parsers were chosen.
    revision: u64,
    /// The book of grants as it was then.
    grants: u64,
    /// Languages of text in pictures that the parsers were bound to.
    ocr_languages: Vec<String>,
    parsers: Vec<Arc<dyn Parse>>,
    chunker: Arc<dyn Chunk>,
    store: Arc<dyn VectorStore>,
    retriever: Arc<dyn Retrieve>,
}

impl Held for Bound {
    type Used = dyn Retrieve;

    fn used(&self) -> &Arc<dyn Retrieve> {
        &self.retriever
    }

    fn index(&self) -> &str {
        &self.collection
    }
}

/// What embeds and reranks for a knowledge base now.
#[derive(Clone)]
struct Models {
    encoder: Arc<dyn Embed>,
    reranker: Arc<dyn Rerank>,
}

impl Models {
    /// The very same objects: a model that came back, or another one under its name, is bound anew.
    fn same(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.encoder), Arc::as_ptr(&other.encoder))
            && std::ptr::addr_eq(Arc::as_ptr(&self.reranker), Arc::as_ptr(&other.reranker))
    }
}

/// Servers and databases of one plugin.
type Reach = (Option<Arc<dyn Http>>, Option<Arc<dyn Sql>>);

impl PluginBindings {
    /// Makes what is needed, and takes over what another generation has alike.
    fn make(&self, kb: &Kb, models: Models) -> Result<Bound> {
        let parts = kb.settings.parts();
        let alike = |same: &dyn Fn(&Bound) -> bool| {
            let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
            bound.get(kb.name.as_str()).and_then(|kept| kept.all.iter().rev().find(|one| same(one)).cloned())
        };
        let grants = self.grants.version();
        let store_like = |one: &Bound| {
            one.parts.store == parts.store && one.collection == kb.collection && one.grants == grants
        };
        let store = match alike(&store_like) {
            Some(other) => other.store,
            None => self.store(kb, &parts.store)?,
        };
        let retriever_like = |one: &Bound| {
            store_like(one) && one.parts.retriever == parts.retriever && one.models.same(&models)
        };
        let retriever = match alike(&retriever_like) {
            Some(other) => other.retriever,
            None => self.retriever(kb, &store, &models)?,
        };
        let revision = self.plugins.revision();
        Ok(Bound {
            parsers: self.parsers(kb, &parts)?,
            chunker: self.meant(&parts.chunker, |key| {
                self.plugins.chunker(key, &parts.chunker.settings, models.encoder.clone())
            })?,
            collection: kb.collection.clone(),
            revision,
            grants,
            ocr_languages: kb.settings.ocr_languages.clone(),
            store,
            retriever,
            parts,
            models,
        })
    }

    fn store(&self, kb: &Kb, choice: &PluginChoice) -> Result<Arc<dyn VectorStore>> {
        self.meant(choice, |key| {
            let (http, sql) = self.outside(&choice.id, key)?;
            let imports = StoreImports {
                index: self.store.vector_index(&kb.name),
                kv: self.store.key_value(&kb.name, &choice.id),
                http,
                sql,
            };
            self.plugins.vector_store(key, &choice.settings, imports)
        })
    }

    fn retriever(&self, kb: &Kb, store: &Arc<dyn VectorStore>, models: &Models) -> Result<Arc<dyn Retrieve>> {
        let choice = &kb.settings.retriever;
        let catalog: Arc<dyn Catalog> = self.store.clone();
        let search: Arc<dyn KbSearch> = Arc::new(BoundSearch {
            kb: kb.name.clone(),
            collection: kb.collection.clone(),
            catalog,
            store: store.clone(),
            index: Some(self.store.vector_index(&kb.name)),
        });
        self.meant(choice, |key| {
            let imports = RetrieverImports {
                search: search.clone(),
                embedder: models.encoder.clone(),
                reranker: Some(models.reranker.clone()),
                generator: Some(Arc::new(OfKb {
                    inner: self.generator.clone(),
                    tenant: format!("kb:{}", kb.name),
                })),
                kv: self.store.key_value(&kb.name, &choice.id),
            };
            self.plugins.retriever(key, &choice.settings, imports)
        })
    }

    /// Every parser in the version that the host offers first, or in the one that the knowledge base fixed. One that
    /// sends documents elsewhere is asked where the knowledge base names it, before all others, and nowhere else.
    fn parsers(&self, kb: &Kb, parts: &KbParts) -> Result<Vec<Arc<dyn Parse>>> {
        let ocr = self.ocr.as_ref().map(|ocr| ocr.for_languages(&kb.settings.ocr_languages));
        let fixed = |id: &str| parts.parsers.iter().find(|fixed| fixed.id == id);
        let sends = |parser: &Loaded| parser.imports.iter().any(|import| import == "http");
        let mut used = self.plugins.first_of(Kind::Parser);
        used.retain(|parser| !sends(parser) || fixed(&parser.info.id).is_some());
        used.sort_by_key(|parser| !sends(parser));
        let of = |parser: &Loaded| {
            let id = &parser.info.id;
            let imports = |version: &str| -> Result<ParserImports> {
                let http = if sends(parser) { self.outside(id, version)?.0 } else { None };
                Ok(ParserImports { ocr: ocr.clone(), http })
            };
            match fixed(id) {
                Some(fixed) => {
                    self.meant(fixed, |key| self.plugins.parser(key, &fixed.settings, imports(key)?))
                }
                None => self.plugins.parser(id, "{}", imports(id)?),
            }
        };
        used.iter().map(of).collect()
    }

    /// What a plugin is granted outside, none of a kind where the very version (by id or digest) asks for none or is
    /// given none.
    fn outside(&self, plugin: &str, version: &str) -> Result<Reach> {
        let mut granted = self.grants.of(plugin);
        let asks = self.asks(version);
        let asked = |interface: &str, name: &str| {
            let asked = asks.iter().any(|ask| ask.interface == interface && ask.covers(name));
            if !asked {
                tracing::warn!(
                    plugin,
                    interface,
                    name,
                    "a grant that the plugin does not ask for has no effect"
                );
            }
            asked
        };
        granted.http.retain(|grant| asked("http", &grant.origin));
        granted.sql.retain(|grant| asked("sql", &grant.name));
        let http = match granted.http {
            none if none.is_empty() => None,
            servers => Some(self.egress.granted(&format!("plugin {plugin}"), servers)?),
        };
        let sql: Option<Arc<dyn Sql>> = match granted.sql {
            none if none.is_empty() => None,
            databases => Some(Databases::new(databases, self.sql_timeout_ms)?),
        };
        Ok((http, sql))
    }

    /// A plugin in the version that is meant. One that is gone is stood in for by another version, which is told: a
    /// knowledge base that answers a little differently serves better than one that does not answer.
    fn meant<T>(&self, choice: &PluginChoice, make: impl Fn(&str) -> Result<T>) -> Result<T> {
        match make(choice.key()) {
            Err(error) if error.code() == ErrorCode::NotFound && choice.digest.is_some() => {
                let stand_in = make(&choice.id)?;
                tracing::error!(
                    id = choice.id,
                    digest = choice.key(),
                    "this version of a plugin is gone; another one stands in for it until somebody swaps"
                );
                Ok(stand_in)
            }
            made => made,
        }
    }

    /// Parts that still are what the settings ask for.
    fn cached(&self, kb: &Kb, models: &Models) -> Option<Bound> {
        let (revision, grants) = (self.plugins.revision(), self.grants.version());
        let parts = kb.settings.parts();
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let all = &mut bound.get_mut(kb.name.as_str())?.all;
        let same = |one: &Bound| {
            one.parts == parts
                && one.collection == kb.collection
                && one.grants == grants
                && one.models.same(models)
        };
        let at = all.iter().position(same)?;
        // The one that waited longest for a use goes first.
        all[at..].rotate_left(1);
        let found = all.last_mut()?;
        let languages = &kb.settings.ocr_languages;
        if found.revision != revision || found.ocr_languages != *languages {
            // Only parsers follow what is installed and which languages are read.
            found.parsers = self.parsers(kb, &parts).ok()?;
            found.revision = revision;
            found.ocr_languages = languages.clone();
        }
        Some(found.clone())
    }

    fn keep(&self, kb: &Kb, parts: &Bound) {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if bound.len() >= BOUND_MAX {
            bound.retain(|_, kept| kept.any_in_use());
        }
        bound.entry(kb.name.as_str().to_owned()).or_default().keep(parts.clone());
    }

    fn binding(&self, kb: &Kb, parts: Bound, models: Models) -> Arc<Binding> {
        Arc::new(Binding {
            kb: kb.clone(),
            parsers: parts.parsers,
            chunker: parts.chunker,
            store: parts.store,
            retriever: parts.retriever,
            relevance_min: self.retrieval.floors(models.encoder.identity(), models.reranker.identity()),
            embedder: models.encoder,
            reranker: kb.settings.rerank.then_some(models.reranker),
        })
    }

    fn is_gone(&self, kb: &Kb) -> bool {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound.get(kb.name.as_str()).is_some_and(|kept| kept.is_gone(&kb.collection))
    }

    async fn models(&self, kb: &Kb) -> Models {
        Models {
            encoder: encoders::encoder_of(&*self.encoders, kb).await,
            reranker: encoders::reranker_of(&*self.encoders, kb).await,
        }
    }
}

#[async_trait]
impl Bindings for PluginBindings {
    async fn bind(&self, kb: &Kb) -> Result<Arc<Binding>> {
        let mut models = self.models(kb).await;
        if let Some(parts) = self.cached(kb, &models) {
            return Ok(self.binding(kb, parts, models));
        }
        let live;
        let kb = if self.is_gone(kb) {
            // It was read before two swaps, and nobody held its index then.
            // A knowledge base that is being imported is new, whatever had its name.
            live = match self.store.kb(&kb.name).await {
                Err(Error::Conflict { .. }) => kb.clone(),
                found => found?,
            };
            models = self.models(&live).await;
            &live
        } else {
            kb
        };
        let parts = self.make(kb, models.clone())?;
        self.keep(kb, &parts);
        Ok(self.binding(kb, parts, models))
    }

    async fn store_of(
        &self,
        kb: &Kb,
        store: &PluginChoice,
        collection: &str,
    ) -> Result<Arc<dyn VectorStore>> {
        let known = {
            let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
            let mut all = bound.get(kb.name.as_str()).into_iter().flat_map(|kept| &kept.all);
            all.find(|one| one.parts.store == *store && one.collection == collection)
                .map(|one| one.store.clone())
        };
        known.map_or_else(|| self.store(kb, store), Ok)
    }

    fn vectors_of(&self, kb: &Kb) -> Option<Arc<dyn VectorIndex>> {
        Some(self.store.vector_index(&kb.name))
    }

    async fn pin(&self, kind: &str, choice: &PluginChoice) -> Result<PluginChoice> {
        let found = self.plugins.newest(choice.key());
        let found = found.filter(|found| found.kind.name() == kind && found.info.id == choice.id);
        let Some(found) = found else {
            let what = match kind {
                "chunker" => "chunker plugin",
                "vector-store" => "vector-store plugin",
                "retriever" => "retriever plugin",
                "parser" => "parser plugin",
                _ => "plugin",
            };
            let name = match &choice.digest {
                Some(digest) => format!("{} {digest}", choice.id),
                None => choice.id.clone(),
            };
            return Err(Error::NotFound { what, name });
        };
        let (plugins, digest) = (self.plugins.clone(), found.info.digest.clone());
        let kept = tokio::task::spawn_blocking(move || plugins.keep(&digest)).await;
        kept.map_err(|_| Error::internal("keeping a component failed"))??;
        Ok(PluginChoice { digest: Some(found.info.digest), ..choice.clone() })
    }

    async fn pin_encoder(&self, name: &str) -> Result<EncoderChoice> {
        let identity = self.encoders.encoder(Some(name)).await?.identity().to_owned();
        Ok(EncoderChoice { name: name.to_owned(), identity: Some(identity) })
    }

    async fn check_reranker(&self, name: &str) -> Result<()> {
        self.encoders.reranker(Some(name)).await.map(|_| ())
    }

    async fn install(&self, component: Vec<u8>) -> Result<(&'static str, PluginInfo)> {
        let plugins = self.plugins.clone();
        let loaded = tokio::task::spawn_blocking(move || plugins.install(&component)).await;
        let checked = loaded.map_err(|_| Error::internal("checking a component failed"))?;
        // Here the caller brought the component: why it is refused is for them to read.
        let loaded = checked.map_err(|error| match error {
            Error::Plugin { message, .. } => Error::invalid(format!("the component is refused: {message}")),
            other => other,
        })?;
        Ok((loaded.kind.name(), loaded.info))
    }

    async fn remove(&self, digest: &str) -> Result<()> {
        self.plugins.remove(digest).map(|_| ())
    }

    fn retire(&self, kb: &Kb, collection: &str) -> bool {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        // Also one that nothing of is bound is told to those who come too late.
        bound.entry(kb.name.as_str().to_owned()).or_default().retire(collection)
    }

    fn installed(&self) -> Vec<(&'static str, PluginInfo)> {
        self.plugins.installed().into_iter().map(|plugin| (plugin.kind.name(), plugin.info)).collect()
    }

    fn asks(&self, plugin: &str) -> Vec<PluginAsk> {
        self.plugins.newest(plugin).map(|loaded| loaded.asks).unwrap_or_default()
    }

    fn settings_schema(&self, digest: &str) -> Option<String> {
        let loaded = self.plugins.installed().into_iter().find(|loaded| loaded.info.digest == digest)?;
        loaded.settings.is_object().then(|| loaded.settings.to_string())
    }
}

/// The language model as plugins of one knowledge base use it: what is kept of their prompts stays theirs.
struct OfKb {
    inner: Arc<dyn Generate>,
    tenant: String,
}

#[async_trait]
impl Generate for OfKb {
    fn identity(&self) -> String {
        self.inner.identity()
    }

    fn demonstration(&self) -> bool {
        self.inner.demonstration()
    }

    fn count_tokens(&self, text: &str) -> u32 {
        self.inner.count_tokens(text)
    }

    async fn generate(&self, request: GenerateRequest) -> Result<GenerationStream> {
        self.inner.generate(GenerateRequest { tenant: self.tenant.clone(), ..request }).await
    }
}
