//! The plugin host: what is installed, and how an installed plugin becomes a port.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use fs_err as fs;
use rag_core::ports::{
    Chunk, Connect, Embed, Generate, Http, KbSearch, KeyValue, Ocr, Parse, PluginAsk, PluginInfo, Rerank,
    Retrieve, Sql, VectorIndex, VectorStore,
};
use rag_core::{Error, Result};
use wasmtime::component::InstancePre;

use crate::admit;
use crate::artefact::{Artefacts, Origin};
use crate::bindings::chunker::ChunkerPlugin;
use crate::bindings::connector::ConnectorPlugin;
use crate::bindings::parser::ParserPlugin;
use crate::bindings::retriever::RetrieverPlugin;
use crate::bindings::vector_store::VectorStorePlugin;
use crate::chunker::WasmChunker;
use crate::config::WasmConfig;
use crate::connector::WasmConnector;
use crate::instance::{Plugin, Setup, World};
use crate::lanes::Lanes;
use crate::manifest::Profile;
use crate::parser::WasmParser;
use crate::retriever::WasmRetriever;
use crate::runner::Runner;
use crate::shelf::{self, Shelf};
use crate::state::{Grants, State};
use crate::store::WasmVectorStore;
use crate::versions::{Came, Installed, Versions};

/// What a plugin does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Parser,
    Chunker,
    VectorStore,
    Retriever,
    Connector,
}

impl Kind {
    pub(crate) const ALL: [Kind; 5] =
        [Kind::Parser, Kind::Chunker, Kind::VectorStore, Kind::Retriever, Kind::Connector];

    /// As its interface is called: `parser`, `chunker`, `vector-store`, `retriever`, `connector`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Parser => "parser",
            Kind::Chunker => "chunker",
            Kind::VectorStore => "vector-store",
            Kind::Retriever => "retriever",
            Kind::Connector => "connector",
        }
    }
}

/// A plugin that was admitted.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub info: PluginInfo,
    pub kind: Kind,
    pub path: PathBuf,
    /// Media types (parsers only).
    pub accepts: Vec<String>,
    /// Host interfaces that it imports, such as `http`.
    pub imports: Vec<String>,
    /// What it asks for: as its manifest says, else what it imports.
    pub asks: Vec<PluginAsk>,
    /// Which limits it runs under.
    pub profile: Profile,
    /// JSON Schema of its settings, from its manifest; null when it has none.
    pub settings: Arc<serde_json::Value>,
    /// Size of the component, in bytes.
    pub bytes: u64,
    /// Whether it had to be compiled.
    pub origin: Origin,
}

/// What a parser may reach beside its document. `Default` is nothing.
#[derive(Clone, Default)]
pub struct ParserImports {
    pub ocr: Option<Arc<dyn Ocr>>,
    /// What the operator granted.
    pub http: Option<Arc<dyn Http>>,
}

/// What a vector store may reach: the host's own vectors, and what the operator granted.
#[derive(Clone)]
pub struct StoreImports {
    pub index: Arc<dyn VectorIndex>,
    pub kv: Arc<dyn KeyValue>,
    pub http: Option<Arc<dyn Http>>,
    pub sql: Option<Arc<dyn Sql>>,
}

/// What a retriever may reach: one knowledge base and the models.
#[derive(Clone)]
pub struct RetrieverImports {
    pub search: Arc<dyn KbSearch>,
    pub embedder: Arc<dyn Embed>,
    pub reranker: Option<Arc<dyn Rerank>>,
    pub generator: Option<Arc<dyn Generate>>,
    pub kv: Arc<dyn KeyValue>,
}

/// An admitted component, by kind.
#[derive(Clone)]
pub(crate) enum Component {
    Parser(Arc<Plugin<ParserPlugin>>),
    Chunker(Arc<Plugin<ChunkerPlugin>>),
    VectorStore(Arc<Plugin<VectorStorePlugin>>),
    Retriever(Arc<Plugin<RetrieverPlugin>>),
    Connector(Arc<Plugin<ConnectorPlugin>>),
}

/// All plugins of this process. Make one; it reserves much address space and starts threads.
pub struct PluginHost {
    runner: Arc<Runner>,
    artefacts: Artefacts,
    shelf: Option<Shelf>,
    installed: RwLock<Versions>,
}

impl PluginHost {
    /// Starts the engine, its threads and the cache; loads nothing.
    pub fn new(config: WasmConfig) -> Result<Arc<Self>> {
        let runner = Arc::new(Runner::new(config.threads, config.limits)?);
        let artefacts = Artefacts::open(&config.cache_dir, &runner.engine, config.compiler)?;
        let shelf = config.shelf_dir.as_deref().map(Shelf::open).transpose()?;
        Ok(Arc::new(PluginHost { runner, artefacts, shelf, installed: RwLock::default() }))
    }

    /// Loads every `*.wasm` in a folder, in the order of their names; a file that is not a plugin is reported beside
    /// its path and stops nothing. Fails only when the folder cannot be read. Blocks: see `load_file`.
    pub fn load_dir(&self, dir: &Path) -> Result<Vec<(PathBuf, Result<Loaded>)>> {
        let failed = |err: std::io::Error| Error::Unavailable { message: err.to_string() };
        let mut paths = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "wasm") {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths.into_iter().map(|path| (path.clone(), self.load_file(&path))).collect())
    }

    /// Admits a component and installs it: its id alone means it from now on, where nobody means another by digest.
    ///
    /// Errors: `Plugin` with fault `Refused` says what is wrong with a file that is not a plugin, any other fault what
    /// it did when asked who it is; `Conflict` when another file holds the id and version; `TooLarge`; `Unavailable` when
    /// it cannot be read. Blocks for as long as compiling takes (some 50 ms for 40 KB, once a digest).
    pub fn load_file(&self, path: &Path) -> Result<Loaded> {
        self.admit(path, Came::Loaded)
    }

    /// Admits a component that came while the host runs, beside what is installed: no knowledge base changes under its
    /// users. Otherwise as `load_file`.
    pub fn offer_file(&self, path: &Path) -> Result<Loaded> {
        self.admit(path, Came::Offered)
    }

    /// Admits a component that came as bytes and keeps it for later starts; it may have the version of another, since who
    /// sends it means this very one. Otherwise as `offer_file`.
    pub fn install(&self, bytes: &[u8]) -> Result<Loaded> {
        let limit = self.runner.limits.component_bytes_max;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge {
                what: "the component".to_owned(),
                size: bytes.len() as u64,
                limit,
                unit: "bytes",
                setting: "plugins.component_bytes_max",
            });
        }
        let path = self.shelf()?.put(bytes)?;
        self.admit(&path, Came::Installed).inspect_err(|_| {
            // Nothing means it yet; what stays is looked at again by the next start.
            let _ = self.shelf().and_then(|shelf| shelf.remove(&shelf::digest_of(bytes)));
        })
    }

    /// Loads what was kept by earlier processes, beside what is installed. Blocks.
    pub fn load_kept(&self) -> Result<Vec<(PathBuf, Result<Loaded>)>> {
        let Some(shelf) = &self.shelf else { return Ok(Vec::new()) };
        let paths = shelf.paths()?.into_iter();
        let load = |path: PathBuf| {
            let loaded = shelf.check(&path).and_then(|()| self.admit(&path, Came::Kept));
            (path, loaded)
        };
        Ok(paths.map(load).collect())
    }

    /// Sees to it that an installed component is there at every later start. Blocks for a copy of it, once.
    pub fn keep(&self, digest: &str) -> Result<()> {
        let loaded = self.read().find(digest).map(|found| found.loaded.clone());
        let loaded = loaded.ok_or_else(|| Error::NotFound { what: "plugin", name: digest.to_owned() })?;
        match &self.shelf {
            Some(shelf) => shelf.keep(digest, &loaded.path),
            None => Ok(()),
        }
    }

    /// Takes a component out that nobody means. One in the plugins folder comes back with the next start.
    pub fn remove(&self, digest: &str) -> Result<Loaded> {
        let absent = || Error::NotFound { what: "plugin", name: digest.to_owned() };
        self.read().find(digest).ok_or_else(absent)?;
        // The file first: one that cannot go leaves the component installed, here as after the next start.
        if let Some(shelf) = &self.shelf {
            shelf.remove(digest)?;
        }
        self.installed.write().unwrap_or_else(PoisonError::into_inner).remove(digest).ok_or_else(absent)
    }

    fn admit(&self, path: &Path, came: Came) -> Result<Loaded> {
        let (loaded, component) = admit::file(&self.runner, &self.artefacts, path)?;
        let mut installed = self.installed.write().unwrap_or_else(PoisonError::into_inner);
        installed.add(Installed { loaded, component, came })
    }

    fn shelf(&self) -> Result<&Shelf> {
        self.shelf.as_ref().ok_or_else(|| Error::internal("this host keeps no components"))
    }

    fn read(&self) -> RwLockReadGuard<'_, Versions> {
        self.installed.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything installed, by id; of several versions the one that came last first.
    pub fn installed(&self) -> Vec<Loaded> {
        self.read().all()
    }

    /// Of a kind, the versions that are meant where only an id is told.
    pub fn first_of(&self, kind: Kind) -> Vec<Loaded> {
        self.read().first_of(kind)
    }

    /// The component of a digest, or the version of an id that came last.
    pub fn newest(&self, key: &str) -> Option<Loaded> {
        self.read().newest(key).map(|found| found.loaded.clone())
    }

    /// Changes whenever what is installed does.
    pub fn revision(&self) -> u64 {
        self.read().revision
    }

    /// A parser by id or digest, here and below. `settings` is a JSON object, too. `NotFound` when no such parser is
    /// installed, `InvalidInput` names the setting that does not fit the plugin's manifest.
    pub fn parser(&self, id: &str, settings: &str, imports: ParserImports) -> Result<Arc<dyn Parse>> {
        let (loaded, component) = self.find(id, Kind::Parser)?;
        let Component::Parser(plugin) = component else { return Err(absent(id, Kind::Parser)) };
        // One that never asks for text recognition is bound by the time of any parser.
        let ocr = imports.ocr.filter(|_| loaded.asks.iter().any(|ask| ask.interface == "ocr"));
        let setup = self.setup(&loaded, settings, Grants { ocr, http: imports.http, ..Grants::default() })?;
        Ok(Arc::new(WasmParser { plugin, setup, accepts: loaded.accepts }))
    }

    /// A chunker by id.
    pub fn chunker(&self, id: &str, settings: &str, embedder: Arc<dyn Embed>) -> Result<Arc<dyn Chunk>> {
        let (loaded, Component::Chunker(plugin)) = self.find(id, Kind::Chunker)? else {
            return Err(absent(id, Kind::Chunker));
        };
        let grants = Grants { embedder: Some(embedder), ..Grants::default() };
        Ok(Arc::new(WasmChunker { plugin, setup: self.setup(&loaded, settings, grants)? }))
    }

    /// A vector store by id, with an instance of its own: make one a knowledge base and keep it.
    pub fn vector_store(
        &self,
        id: &str,
        settings: &str,
        imports: StoreImports,
    ) -> Result<Arc<dyn VectorStore>> {
        let (loaded, Component::VectorStore(plugin)) = self.find(id, Kind::VectorStore)? else {
            return Err(absent(id, Kind::VectorStore));
        };
        let grants = Grants {
            index: Some(imports.index),
            kv: Some(imports.kv),
            http: imports.http,
            sql: imports.sql,
            ..Grants::default()
        };
        let setup = self.setup(&loaded, settings, grants)?;
        // One lane: a store may keep an index in its memory.
        Ok(Arc::new(WasmVectorStore { lanes: Lanes::new(plugin, setup, 1) }))
    }

    /// A retriever by id, with warm instances of its own: make one a knowledge base and keep it.
    pub fn retriever(
        &self,
        id: &str,
        settings: &str,
        imports: RetrieverImports,
    ) -> Result<Arc<dyn Retrieve>> {
        let (loaded, Component::Retriever(plugin)) = self.find(id, Kind::Retriever)? else {
            return Err(absent(id, Kind::Retriever));
        };
        let grants = Grants {
            embedder: Some(imports.embedder),
            reranker: imports.reranker,
            generator: imports.generator,
            search: Some(imports.search),
            kv: Some(imports.kv),
            ..Grants::default()
        };
        let setup = self.setup(&loaded, settings, grants)?;
        Ok(Arc::new(WasmRetriever { lanes: Lanes::new(plugin, setup, self.runner.limits.retriever_lanes) }))
    }

    /// A connector by id, with warm instances of its own: make one an engine and keep it.
    pub fn connector(&self, id: &str, settings: &str, http: Arc<dyn Http>) -> Result<Arc<dyn Connect>> {
        let (loaded, Component::Connector(plugin)) = self.find(id, Kind::Connector)? else {
            return Err(absent(id, Kind::Connector));
        };
        let setup = self.setup(&loaded, settings, Grants { http: Some(http), ..Grants::default() })?;
        Ok(Arc::new(WasmConnector { lanes: Lanes::new(plugin, setup, self.runner.limits.retriever_lanes) }))
    }

    /// The compiled component behind an installed plugin.
    pub(crate) fn component(&self, id: &str) -> Result<Component> {
        let absent = || Error::NotFound { what: "plugin", name: id.to_owned() };
        Ok(self.read().find(id).ok_or_else(absent)?.component.clone())
    }

    /// Maps and links a compiled component once more.
    pub(crate) fn link_again<W: World>(&self, digest: &str) -> Result<W::Pre> {
        let code = self.artefacts.find(&self.runner.engine, digest);
        let code = code.ok_or_else(|| Error::internal("the compiled component is gone"))?;
        admit::link::<W>(&self.runner, &code).map_err(|err| Error::internal(format!("{err:#}")))
    }

    /// The same before its exports are resolved.
    pub(crate) fn link_raw(&self, digest: &str, kind: Kind) -> Result<InstancePre<State>> {
        let code = self.artefacts.find(&self.runner.engine, digest);
        let code = code.ok_or_else(|| Error::internal("the compiled component is gone"))?;
        let linked = self.runner.linker(kind).instantiate_pre(&code);
        linked.map_err(|err| Error::internal(format!("{err:#}")))
    }

    fn find(&self, id: &str, kind: Kind) -> Result<(Loaded, Component)> {
        let installed = self.read();
        let plugin = installed.find(id).filter(|plugin| plugin.loaded.kind == kind);
        let plugin = plugin.ok_or_else(|| absent(id, kind))?;
        Ok((plugin.loaded.clone(), plugin.component.clone()))
    }

    fn setup(&self, loaded: &Loaded, settings: &str, grants: Grants) -> Result<Setup> {
        let limit = self.runner.limits.settings_bytes_max;
        if settings.len() > limit {
            return Err(Error::invalid(format!("plugin settings of more than {limit} bytes")));
        }
        let given = match serde_json::from_str::<serde_json::Value>(settings) {
            Ok(serde_json::Value::Object(given)) => given,
            Ok(_) => return Err(Error::invalid("plugin settings must be a JSON object")),
            Err(err) => return Err(Error::invalid(format!("plugin settings are not JSON: {err}"))),
        };
        crate::settings::check(&loaded.settings, &given)
            .map_err(|why| Error::invalid(format!("{} {}: {why}", loaded.info.id, loaded.info.version)))?;
        Ok(Setup { settings: Arc::from(settings), grants: Arc::new(grants) })
    }
}

fn absent(id: &str, kind: Kind) -> Error {
    let what = match kind {
        Kind::Parser => "parser plugin",
        Kind::Chunker => "chunker plugin",
        Kind::VectorStore => "vector-store plugin",
        Kind::Retriever => "retriever plugin",
        Kind::Connector => "connector plugin",
    };
    Error::NotFound { what, name: id.to_owned() }
}

impl fmt::Debug for PluginHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginHost").field("installed", &self.installed()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ParserImports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParserImports")
    }
}

impl fmt::Debug for StoreImports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreImports")
    }
}

impl fmt::Debug for RetrieverImports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetrieverImports")
    }
}
