//! Knowledge bases: create, list, show, delete, export, import.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{cell, escape, list};
use crate::cli::Kb;
use crate::client::Client;
use crate::commands::{ingest, swap};
use crate::output;

/// File that describes an exported knowledge base; originals stand in `ORIGINALS` beside it.
const MANIFEST: &str = "kb.json";
const ORIGINALS: &str = "originals";

pub(crate) async fn run(client: &Client, command: Kb, json: bool) -> Result<()> {
    match command {
        Kb::Create {
            name,
            chunker,
            chunker_settings,
            retriever,
            retriever_settings,
            store,
            store_settings,
            encoder,
            reranker,
            no_rerank,
        } => {
            let mut settings = json!({});
            choose(&mut settings, "chunker", chunker, chunker_settings)?;
            choose(&mut settings, "retriever", retriever, retriever_settings)?;
            choose(&mut settings, "store", store, store_settings)?;
            settings["encoder"] = json!(encoder);
            settings["reranker"] = json!(reranker);
            if no_rerank {
                settings["rerank"] = json!(false);
            }
            let kb = client.post("/api/v1/kbs", &json!({"name": name, "settings": settings})).await?;
            show(&kb, json);
        }
        Kb::Encoder(args) => swap::encoder(client, args, json).await?,
        Kb::Reranker { model, kb } => {
            let mut change = json!({"reranker": model});
            if model.is_some() {
                change["rerank"] = json!(true);
            }
            show(&client.patch(&path(&kb), &change).await?, json);
        }
        Kb::List => list_all(client, json).await?,
        Kb::Show { name } => show(&client.get(&path(&name)).await?, json),
        Kb::Delete { name, yes } => {
            let kb = client.get(&path(&name)).await?;
            if !yes {
                confirm(&name, &kb)?;
            }
            client.delete(&path(&name)).await?;
            done(json, &json!({"deleted": name}), &format!("{name} is deleted"));
        }
        Kb::Export { name, dir } => {
            let documents = export(client, &name, &dir).await?;
            let text = format!("{documents} documents of {name} are in {}", dir.display());
            done(json, &json!({"kb": name, "documents": documents}), &text);
        }
        Kb::Import { dir, name } => import(client, &dir, name, json).await?,
    }
    Ok(())
}

fn path(kb: &str) -> String {
    format!("/api/v1/kbs/{}", escape(kb))
}

fn choose(settings: &mut Value, role: &str, id: Option<String>, own: Option<String>) -> Result<()> {
    let Some(id) = id else { return Ok(()) };
    let own: Value = match own {
        Some(text) => {
            serde_json::from_str(&text).with_context(|| format!("--{role}-settings is not JSON"))?
        }
        None => json!({}),
    };
    settings[role] = json!({"id": id, "settings": own});
    Ok(())
}

async fn list_all(client: &Client, json: bool) -> Result<()> {
    let answer = client.get("/api/v1/kbs").await?;
    if json {
        output::json(&answer);
        return Ok(());
    }
    let row = |kb: &Value| {
        let plugin = |role: &str| cell(&kb["settings"][role]["id"]);
        vec![
            cell(&kb["name"]),
            cell(&kb["documents"]),
            cell(&kb["chunks"]),
            plugin("chunker"),
            plugin("retriever"),
        ]
    };
    let rows: Vec<_> = list(&answer, "kbs").iter().map(row).collect();
    output::table(&["name", "documents", "chunks", "chunker", "retriever"], &rows);
    Ok(())
}

fn show(kb: &Value, json: bool) {
    if json {
        return output::json(kb);
    }
    let settings = &kb["settings"];
    let plugin = |role: &str| format!("{} {}", cell(&settings[role]["id"]), settings[role]["settings"]);
    let rows: Vec<Vec<String>> = [
        ("name", cell(&kb["name"])),
        ("documents", cell(&kb["documents"])),
        ("chunks", cell(&kb["chunks"])),
        ("encoder", cell(&settings["encoder"])),
        ("embedded with", cell(&kb["embedder"])),
        ("dimension", cell(&kb["dim"])),
        ("chunker", plugin("chunker")),
        ("vector store", plugin("store")),
        ("retriever", plugin("retriever")),
        ("rerank", cell(&settings["rerank"])),
        ("reranker", cell(&settings["reranker"])),
        ("answer", settings["answer"].to_string()),
    ]
    .map(|(name, value)| vec![name.to_owned(), value])
    .to_vec();
    output::table(&["", ""], &rows);
}

fn confirm(name: &str, kb: &Value) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("deleting '{name}' needs --yes when nobody can be asked");
    }
    output::piece(&format!("Delete {name} with its {} documents? Type its name: ", kb["documents"]));
    std::io::stdout().flush()?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed)?;
    if typed.trim() != name {
        bail!("not deleted: '{}' is not '{name}'", typed.trim());
    }
    Ok(())
}

/// Writes settings, the list of documents and every original; originals are named by their place in the list.
async fn export(client: &Client, name: &str, dir: &Path) -> Result<usize> {
    if dir.join(MANIFEST).exists() {
        bail!("{} holds an export already", dir.display());
    }
    fs_err::create_dir_all(dir.join(ORIGINALS))?;
    let kb = client.get(&path(name)).await?;
    let mut documents = Vec::new();
    let mut after = String::new();
    loop {
        let page =
            client.get(&format!("{}/documents?limit=500&after={}", path(name), escape(&after))).await?;
        let rows = list(&page, "documents");
        let Some(last) = rows.last() else { break };
        after = cell(&last["name"]);
        documents.extend(rows.iter().cloned());
    }
    for (at, document) in documents.iter().enumerate() {
        let id = cell(&document["id"]);
        let mut body = client.get_stream(&format!("{}/documents/{id}/original", path(name))).await?;
        let mut file = tokio::fs::File::create(dir.join(ORIGINALS).join(at.to_string())).await?;
        while let Some(chunk) = body.chunk().await? {
            file.write_all(&chunk).await?;
        }
        file.sync_all().await?;
    }
    // The manifest comes last: an export without it is not one.
    let manifest = json!({"format": 1, "kb": kb, "documents": documents});
    fs_err::write(dir.join(MANIFEST), format!("{manifest:#}"))?;
    Ok(documents.len())
}

async fn import(client: &Client, dir: &Path, name: Option<String>, json: bool) -> Result<()> {
    let text = fs_err::read_to_string(dir.join(MANIFEST))?;
    let manifest: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", dir.display()))?;
    if manifest["format"] != json!(1) {
        bail!("{} is an export of format {}; this version reads format 1", dir.display(), manifest["format"]);
    }
    let name = name.unwrap_or_else(|| cell(&manifest["kb"]["name"]));
    let mut settings = manifest["kb"]["settings"].clone();
    for part in ["chunker", "store", "retriever"] {
        // The very version may not be here; the newest of the same plugin is.
        if let Some(choice) = settings[part].as_object_mut() {
            choice.remove("digest");
        }
    }
    let new = json!({"name": name, "settings": settings});
    client.post("/api/v1/kbs", &new).await?;
    let documents = list(&manifest, "documents");
    for (at, document) in documents.iter().enumerate() {
        let file = dir.join(ORIGINALS).join(at.to_string());
        let source = ingest::Source::File {
            path: file,
            name: cell(&document["name"]),
            media_type: document["media_type"].as_str().map(str::to_owned),
        };
        ingest::put(client, &name, source).await?;
    }
    done(
        json,
        &json!({"kb": name, "documents": documents.len()}),
        &format!("{name} holds {} documents", documents.len()),
    );
    Ok(())
}

fn done(json: bool, value: &Value, text: &str) {
    if json { output::json(value) } else { output::line(format_args!("{text}")) }
}
