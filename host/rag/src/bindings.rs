//! How a knowledge base gets its parts: components by id, bound to the host's store and engines.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rag_core::Result;
use rag_core::kb::{Kb, KbSettings};
use rag_core::kb_search::BoundSearch;
use rag_core::ports::{
    Binding, Bindings, Catalog, Chunk, Embed, Generate, GenerateRequest, GenerationStream, KbSearch, Parse,
    PluginInfo, Rerank, Retrieve, VectorStore,
};
use rag_store::Store;
use rag_wasm::{Kind, PluginHost, RetrieverImports, StoreImports};

/// Knowledge bases whose parts are kept bound; the rest is bound again when asked.
const BOUND_MAX: usize = 256;

/// Binds components of one plugin host to one store and one set of engines.
pub(crate) struct PluginBindings {
    pub(crate) plugins: Arc<PluginHost>,
    pub(crate) store: Arc<Store>,
    pub(crate) embedder: Arc<dyn Embed>,
    pub(crate) reranker: Arc<dyn Rerank>,
    pub(crate) generator: Arc<dyn Generate>,
    pub(crate) bound: Mutex<HashMap<String, Bound>>,
}

/// Parts that stay while the settings do: a vector store's or retriever's actor lives in them.
#[derive(Clone)]
pub(crate) struct Bound {
    settings: KbSettings,
    collection: String,
    /// Parsers that were installed then.
    parsers: Vec<Arc<dyn Parse>>,
    chunker: Arc<dyn Chunk>,
    store: Arc<dyn VectorStore>,
    retriever: Arc<dyn Retrieve>,
}

impl PluginBindings {
    fn parts(&self, kb: &Kb) -> Result<Bound> {
        let settings = &kb.settings;
        let key_value = |plugin: &str| self.store.key_value(&kb.name, plugin);
        let index = self.store.vector_index(&kb.name);
        let store = self.plugins.vector_store(
            &settings.store.id,
            &settings.store.settings,
            StoreImports { index: index.clone(), kv: key_value(&settings.store.id) },
        )?;
        let catalog: Arc<dyn Catalog> = self.store.clone();
        let search: Arc<dyn KbSearch> = Arc::new(BoundSearch {
            kb: kb.name.clone(),
            collection: kb.collection.clone(),
            catalog,
            store: store.clone(),
            index: Some(index),
        });
        let retriever = self.plugins.retriever(
            &settings.retriever.id,
            &settings.retriever.settings,
            RetrieverImports {
                search,
                embedder: self.embedder.clone(),
                reranker: Some(self.reranker.clone()),
                generator: Some(Arc::new(OfKb {
                    inner: self.generator.clone(),
                    tenant: format!("kb:{}", kb.name),
                })),
                kv: key_value(&settings.retriever.id),
            },
        )?;
        Ok(Bound {
            settings: settings.clone(),
            collection: kb.collection.clone(),
            parsers: self
                .parser_ids()
                .into_iter()
                .map(|id| self.plugins.parser(&id, "{}"))
                .collect::<Result<_>>()?,
            chunker: self.plugins.chunker(
                &settings.chunker.id,
                &settings.chunker.settings,
                self.embedder.clone(),
            )?,
            store,
            retriever,
        })
    }

    fn parser_ids(&self) -> Vec<String> {
        let installed = self.plugins.installed().into_iter();
        installed.filter(|plugin| plugin.kind == Kind::Parser).map(|plugin| plugin.info.id).collect()
    }

    /// Parts that still are what the settings ask for, with every parser: one may have come since.
    fn cached(&self, kb: &Kb) -> Option<Bound> {
        let parsers = self.plugins.count(Kind::Parser);
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = bound.get(kb.name.as_str())?;
        let current = parts.settings == kb.settings
            && parts.collection == kb.collection
            && parts.parsers.len() == parsers;
        current.then(|| parts.clone())
    }

    fn keep(&self, kb: &Kb, parts: &Bound) {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if bound.len() >= BOUND_MAX {
            bound.clear();
        }
        bound.insert(kb.name.as_str().to_owned(), parts.clone());
    }
}

#[async_trait]
impl Bindings for PluginBindings {
    async fn bind(&self, kb: &Kb) -> Result<Arc<Binding>> {
        let parts = match self.cached(kb) {
            Some(parts) => parts,
            None => {
                let parts = self.parts(kb)?;
                self.keep(kb, &parts);
                parts
            }
        };
        Ok(Arc::new(Binding {
            kb: kb.clone(),
            parsers: parts.parsers,
            chunker: parts.chunker,
            store: parts.store,
            retriever: parts.retriever,
            embedder: self.embedder.clone(),
            reranker: kb.settings.rerank.then(|| self.reranker.clone()),
        }))
    }

    fn installed(&self) -> Vec<(&'static str, PluginInfo)> {
        self.plugins.installed().into_iter().map(|plugin| (plugin.kind.name(), plugin.info)).collect()
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
