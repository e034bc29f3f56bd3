//! Plugins: what is installed, and whether a component file could be.

pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod dev;
pub(crate) mod new;
pub(crate) mod test;

use std::path::Path;

use anyhow::Result;
use rag_wasm::{PluginHost, WasmConfig};
use serde_json::{Value, json};

use super::{cell, list};
use crate::client::Client;
use crate::compile;
use crate::config::Config;
use crate::output;

pub(crate) async fn list_installed(client: &Client, json: bool) -> Result<()> {
    let answer = client.get("/api/v1/plugins").await?;
    if json {
        output::json(&answer);
        return Ok(());
    }
    let row = |plugin: &Value| {
        let mut row = ["id", "version", "kind", "description"].map(|key| cell(&plugin[key])).to_vec();
        row.push(rights(plugin));
        row
    };
    let rows: Vec<_> = list(&answer, "plugins").iter().map(row).collect();
    output::table(&["id", "version", "kind", "description", "rights"], &rows);
    Ok(())
}

/// What it asks for in plain words, each with what it is granted.
fn rights(plugin: &Value) -> String {
    let one = |right: &Value| {
        let words = cell(&right["words"]);
        let names = |key: &str| list(right, key).iter().map(cell).collect::<Vec<String>>().join(", ");
        let (to, missing) = (names("to"), names("missing"));
        let granted = match (right["granted"] == true, to.is_empty()) {
            (false, _) => format!("{words} (nothing granted)"),
            (true, true) => words,
            (true, false) => format!("{words}: {to}"),
        };
        if missing.is_empty() { granted } else { format!("{granted}; asks for {missing}, not granted") }
    };
    list(plugin, "rights").iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Loads a component outside the data folder, so that nothing of it stays.
pub(crate) fn check(config: &Config, file: &Path, json: bool) -> Result<()> {
    let scratch = std::env::temp_dir().join(format!("rwkv-rag-check-{}", std::process::id()));
    let compiler = compile::compiler(&config.plugins.compile);
    let host = PluginHost::new(WasmConfig {
        threads: config.plugin_threads(),
        limits: config.plugins.limits.clone(),
        ..WasmConfig::new(scratch.clone(), compiler)
    })?;
    let loaded = host.load_file(file);
    // The scratch folder is ours alone; when it cannot be removed the check still stands.
    let _ = fs_err::remove_dir_all(&scratch);
    let loaded = loaded?;
    let asks: Vec<String> = loaded.asks.iter().map(|ask| ask.interface.clone()).collect();
    let found = json!({
        "asks": asks.join(", "),
        "bytes": loaded.bytes,
        "id": loaded.info.id,
        "version": loaded.info.version,
        "kind": loaded.kind.name(),
        "description": loaded.info.description,
        "digest": loaded.info.digest,
    });
    if json {
        output::json(&found);
    } else {
        let rows: Vec<Vec<String>> = ["id", "version", "kind", "description", "asks", "bytes", "digest"]
            .map(|key| vec![key.to_owned(), cell(&found[key])])
            .to_vec();
        output::table(&["", ""], &rows);
    }
    Ok(())
}
