//! Models: the registry, what answers, and quantised copies.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rag_engine::cpu::matrix::Format;
use serde_json::{Map, Value, json};

use super::{cell, escape, list};
use crate::cli::{ChangeModel, Model, ModelNotes};
use crate::client::Client;
use crate::output;

pub(super) const ENTRIES: &str = "/api/v1/models/entries";

pub(crate) async fn run(client: &Client, command: Model, json: bool) -> Result<()> {
    let answer = match command {
        Model::List => client.get(ENTRIES).await?,
        Model::Add { name, path, kind, sha256, notes } => {
            let mut new = notes_json(&notes);
            new.insert("name".to_owned(), json!(name));
            new.insert("path".to_owned(), json!(absolute(&path)?));
            let given = [("kind", kind.map(|kind| kind.name().to_owned())), ("sha256", sha256)];
            new.extend(given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?)))));
            one(&client.post(ENTRIES, &Value::Object(new)).await?)
        }
        Model::Set(ChangeModel { name, path, notes }) => {
            let mut change = notes_json(&notes);
            if let Some(path) = path {
                change.insert("path".to_owned(), json!(absolute(&path)?));
            }
            if change.is_empty() {
                bail!("nothing to change: name --path, --licence, …");
            }
            one(&client.patch(&path_of(&name), &Value::Object(change)).await?)
        }
        Model::Online { name } => one(&client.patch(&path_of(&name), &json!({"online": true})).await?),
        Model::Offline { name } => one(&client.patch(&path_of(&name), &json!({"online": false})).await?),
        Model::Choose { name, none, next_start } => choose(client, name, none, next_start).await?,
        Model::Restart => client.post("/api/v1/models/restart", &json!({})).await?,
        Model::Rm { name } => {
            client.delete(&path_of(&name)).await?;
            if json {
                output::json(&json!({"removed": name}));
            } else {
                output::line(format_args!("{name} is forgotten; its file stays"));
            }
            return Ok(());
        }
        Model::Convert { .. } | Model::Pull(_) => bail!("this command takes no host"),
    };
    if json {
        output::json(&answer);
    } else {
        show(&answer);
    }
    Ok(())
}

/// Chooses a model of whatever kind it is, or none of a kind.
async fn choose(
    client: &Client,
    name: Option<String>,
    none: Option<crate::cli::KindArg>,
    next_start: bool,
) -> Result<Value> {
    let kind = match (&name, none) {
        (_, Some(kind)) => kind.name().to_owned(),
        (Some(name), None) => {
            let known = client.get(ENTRIES).await?;
            let found = list(&known, "models").iter().find(|model| model["name"] == name.as_str());
            cell(&found.with_context(|| format!("there is no model '{}'", name.escape_debug()))?["kind"])
        }
        (None, None) => bail!("name a model, or --none state"),
    };
    let when = if next_start { "next_start" } else { "now" };
    let choice = json!({"name": name, "when": when});
    let answer = client.put(&format!("/api/v1/models/choices/{kind}"), &choice).await?;
    if matches!(kind.as_str(), "encoder" | "reranker") && !next_start {
        output::note(format_args!(
            "the choice of an encoder or reranker takes effect when the host starts next"
        ));
    }
    Ok(answer)
}

fn path_of(name: &str) -> String {
    format!("{ENTRIES}/{}", escape(name))
}

/// As the listing has it.
fn one(model: &Value) -> Value {
    json!({"models": [model]})
}

/// A file that is here is named by its whole path, so that the host finds it; others are below the models folder.
fn absolute(path: &Path) -> Result<String> {
    if !path.exists() {
        return Ok(path.display().to_string());
    }
    Ok(fs_err::canonicalize(path)?.display().to_string())
}

/// What was said of a model; an empty text takes a value back.
pub(super) fn notes_json(notes: &ModelNotes) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut text = |key: &str, value: &Option<String>, takes_back: bool| {
        if let Some(value) = value {
            let value = if value.is_empty() && takes_back { Value::Null } else { json!(value) };
            fields.insert(key.to_owned(), value);
        }
    };
    text("licence", &notes.licence, false);
    text("source", &notes.source, false);
    text("quantize", &notes.quantize, true);
    text("base", &notes.base, true);
    text("adapter_start", &notes.adapter_start, true);
    if let Some(alpha) = notes.alpha {
        fields.insert("adapter_alpha".to_owned(), json!(alpha));
    }
    if let Some(demonstration) = notes.demonstration {
        fields.insert("demonstration".to_owned(), json!(demonstration));
    }
    fields
}

pub(super) fn show(answer: &Value) {
    let row = |model: &Value| {
        let mark = |key: &str, word: &'static str| if model[key] == true { word } else { "" };
        let state = if model["problem"].is_string() {
            cell(&model["problem"])
        } else {
            let words =
                [mark("in_use", "in use"), mark("chosen", "chosen"), mark("configured", "configured")];
            words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(", ")
        };
        let size =
            |key: &str| model[key].as_u64().map_or("-".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
        vec![
            cell(&model["name"]),
            cell(&model["kind"]),
            if model["online"] == true { "online" } else { "offline" }.to_owned(),
            cell(&model["architecture"]),
            size("bytes"),
            size("memory_bytes"),
            cell(&model["licence"]),
            state,
        ]
    };
    let rows: Vec<Vec<String>> = list(answer, "models").iter().map(row).collect();
    output::table(&["name", "kind", "", "architecture", "file", "memory", "licence", ""], &rows);
    if let Some(message) = answer["failure"]["message"].as_str() {
        output::note(format_args!("{} was not loaded: {message}", cell(&answer["failure"]["model"])));
    }
}

/// Writes a quantised copy of a checkpoint.
pub(crate) fn convert(input: &Path, target: &Path, format: &str) -> Result<()> {
    let format =
        Format::parse(format).with_context(|| format!("--format {format} is none of int8, int4, nf4"))?;
    rag_engine::quantize(input, target, format)?;
    let bytes = fs_err::metadata(target)?.len();
    output::line(format_args!("{}: {:.1} MB", target.display(), bytes as f64 / 1e6));
    Ok(())
}
