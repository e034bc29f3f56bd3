//! `plugin test`: does a component keep the contract of its kind? For people, and as JSON for machines.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use rag_kit::{Report, chunker, connector, doubles, parser, retriever, store};
use rag_wasm::{Kind, Loaded, ParserImports, PluginHost, RetrieverImports, StoreImports, WasmConfig};
use serde_json::{Value, json};

use crate::compile;
use crate::config::Config;
use crate::output;

/// A component by itself, in a host of its own.
pub(crate) struct Alone {
    pub(crate) host: Arc<PluginHost>,
    pub(crate) loaded: Loaded,
}

/// Loads a component; what is compiled of it stays beside it, in `.compiled`, so that the next time is quick.
pub(crate) fn load(config: &Config, file: &Path) -> Result<Alone> {
    let file = component_of(file)?;
    let beside = file.parent().map_or_else(PathBuf::new, Path::to_path_buf).join(".compiled");
    let host = PluginHost::new(WasmConfig {
        threads: config.plugin_threads(),
        limits: config.plugins.limits.clone(),
        ..WasmConfig::new(beside, compile::compiler(&config.plugins.compile))
    })?;
    let loaded = host.load_file(&file)?;
    Ok(Alone { host, loaded })
}

/// The component itself, or that of a plugin's folder.
pub(crate) fn component_of(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let built = fs_err::read_dir(path.join("dist"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>())
        .unwrap_or_default();
    let mut built: Vec<PathBuf> = built
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    match (built.pop(), built.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => bail!("{0} has no component; `rwkv-rag plugin build {0}` makes it", path.display()),
        (Some(_), false) => bail!("{} has several components in dist; name one", path.display()),
    }
}

pub(crate) async fn run(config: &Config, file: &Path, json: bool) -> Result<()> {
    let alone = load(config, file)?;
    let report = check(&alone).await;
    let (info, failures) = (&alone.loaded.info, report.failures());
    if json {
        let view = |check: &rag_kit::Check| json!({"id": check.id, "about": check.about, "ok": check.failure.is_none(), "failure": check.failure});
        let checks: Vec<Value> = report.checks.iter().map(view).collect();
        output::json(&json!({
            "id": info.id,
            "version": info.version,
            "kind": alone.loaded.kind.name(),
            "digest": info.digest,
            "checks": checks,
            "failures": failures,
        }));
    } else {
        let row = |check: &rag_kit::Check| {
            let word = if check.failure.is_none() { "ok" } else { "FAILED" };
            let found = check.failure.clone().unwrap_or_else(|| check.about.to_owned());
            vec![word.to_owned(), check.id.to_owned(), found]
        };
        let rows: Vec<_> = report.checks.iter().map(row).collect();
        output::table(&["", "rule", ""], &rows);
    }
    match failures {
        0 => Ok(()),
        _ => bail!("{} {} breaks {failures} of {} rules", info.id, info.version, report.checks.len()),
    }
}

/// What the kit says of a component's kind.
pub(crate) async fn check(alone: &Alone) -> Report {
    let (host, id) = (&alone.host, alone.loaded.info.id.as_str());
    match alone.loaded.kind {
        Kind::Chunker => {
            let models = Arc::new(doubles::HashEmbedder::default());
            chunker::check(|settings| host.chunker(id, settings, models.clone())).await
        }
        Kind::Parser => parser::check(|settings| host.parser(id, settings, ParserImports::default())).await,
        Kind::Retriever => {
            let make = |settings: &str, sides: retriever::Sides| {
                let imports = RetrieverImports {
                    search: sides.search,
                    embedder: sides.embedder,
                    reranker: None,
                    generator: None,
                    kv: Arc::new(doubles::MemoryKeys::default()),
                };
                host.retriever(id, settings, imports)
            };
            retriever::check(make).await
        }
        Kind::VectorStore => {
            let make = |settings: &str, index: Arc<doubles::MemoryIndex>| {
                let kv = Arc::new(doubles::MemoryKeys::default());
                host.vector_store(id, settings, StoreImports { index, kv, http: None, sql: None })
            };
            store::check(make).await
        }
        Kind::Connector => connector::check(|settings, http| host.connector(id, settings, http)).await,
    }
}
