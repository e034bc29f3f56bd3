//! The configured search engines: each a connector with its own settings and the servers that it may ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rag_core::ports::{Connect, Engine, Engines, HttpGrant, HttpMethod};
use rag_core::{Error, Result};
use rag_wasm::PluginHost;

use crate::config::outside;
use crate::egress::Egress;

/// Engines by name, made when first asked.
pub(crate) struct ConfiguredEngines {
    plugins: Arc<PluginHost>,
    egress: Egress,
    engines: Vec<outside::Engine>,
    made: Mutex<HashMap<String, Arc<dyn Connect>>>,
}

impl ConfiguredEngines {
    pub(crate) fn new(plugins: Arc<PluginHost>, egress: Egress, engines: Vec<outside::Engine>) -> Self {
        ConfiguredEngines { plugins, egress, engines, made: Mutex::new(HashMap::new()) }
    }
}

impl Engines for ConfiguredEngines {
    fn list(&self) -> Vec<Engine> {
        let engine = |engine: &outside::Engine| Engine {
            name: engine.name.clone(),
            plugin: engine.plugin.clone(),
            origins: engine.origins.clone(),
        };
        self.engines.iter().map(engine).collect()
    }

    fn engine(&self, name: &str) -> Result<Arc<dyn Connect>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connector) = made.get(name) {
            return Ok(connector.clone());
        }
        let engine = self.engines.iter().find(|engine| engine.name == name);
        let engine =
            engine.ok_or_else(|| Error::NotFound { what: "search engine", name: name.to_owned() })?;
        let grant = |origin: &String| HttpGrant {
            origin: origin.clone(),
            path: String::new(),
            methods: vec![HttpMethod::Get, HttpMethod::Post],
            private: engine.private,
            headers: Vec::new(),
        };
        let grants = engine.origins.iter().map(grant).collect();
        let http = self.egress.granted(&format!("search engine {name}"), grants)?;
        let connector = self.plugins.connector(&engine.plugin, &engine.settings, http)?;
        made.insert(name.to_owned(), connector.clone());
        Ok(connector)
    }
}
