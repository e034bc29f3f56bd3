//! Knowledge bases: create, list, show, delete, export, import.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{cell, escape, list};
use crate::cli::Kb;
use crate::client::Client;
use crate::commands::{ingest, swap};
use crate::output;

/// File that describes a knowledge base that was exported as a folder; originals stand in `ORIGINALS` beside it.
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
        Kb::Export { name, file } => {
            let bytes = export(client, &name, &file).await?;
            let text = format!("{name} is in {} ({bytes} bytes)", file.display());
            done(json, &json!({"kb": name, "file": file, "bytes": bytes}), &text);
        }
        Kb::Import { file, name } => import(client, &file, name, json).await?,
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

/// Writes the host's file beside its place and puts it there once it is whole.
async fn export(client: &Client, name: &str, file: &Path) -> Result<u64> {
    if file.exists() {
        bail!("{} is there already", file.display());
    }
    let mut beside = file.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let written = download(client, name, &beside).await;
    match written {
        Ok(bytes) => {
            fs_err::rename(&beside, file)?;
            Ok(bytes)
        }
        Err(error) => {
            let _ = fs_err::remove_file(&beside);
            Err(error)
        }
    }
}

async fn download(client: &Client, name: &str, to: &Path) -> Result<u64> {
    let mut body = client.get_stream(&format!("{}/export", path(name))).await?;
    let mut file = tokio::fs::File::create(to).await.with_context(|| to.display().to_string())?;
    let mut bytes = 0;
    while let Some(chunk) = body.chunk().await? {
        bytes += chunk.len() as u64;
        file.write_all(&chunk).await?;
    }
    file.sync_all().await?;
    Ok(bytes)
}

async fn import(client: &Client, file: &Path, name: Option<String>, json: bool) -> Result<()> {
    if file.is_dir() {
        return import_folder(client, file, name, json).await;
    }
    let body = tokio::fs::File::open(file).await.with_context(|| file.display().to_string())?;
    let target = match name {
        Some(name) => format!("/api/v1/imports?name={}", escape(&name)),
        None => "/api/v1/imports".to_owned(),
    };
    let answer = client.post_file(&target, reqwest::Body::from(body)).await?;
    let exchanged: Vec<String> = list(&answer, "exchanged").iter().map(cell).collect();
    if !exchanged.is_empty() {
        output::note(format_args!("other versions than in the file: {}", exchanged.join(", ")));
    }
    let kb = &answer["kb"];
    let text = format!(
        "{} holds {} documents in {} chunks, {} of them embedded anew",
        cell(&kb["name"]),
        kb["documents"],
        kb["chunks"],
        answer["embedded"]
    );
    done(json, &answer, &text);
    Ok(())
}

/// A folder as the first version exported it: settings and originals, which are ingested anew.
async fn import_folder(client: &Client, dir: &Path, name: Option<String>, json: bool) -> Result<()> {
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
    let source = |(at, document): (usize, &Value)| ingest::Source::File {
        path: dir.join(ORIGINALS).join(at.to_string()),
        name: cell(&document["name"]),
        media_type: document["media_type"].as_str().map(str::to_owned),
        folder: None,
    };
    let sources = documents.iter().enumerate().map(source).collect();
    let (_, failed) = ingest::put_all(client, &name, sources, true).await;
    if failed > 0 {
        bail!("{failed} of {} documents failed", documents.len());
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
