//! Folders kept in step with a knowledge base: what is new or changed is uploaded, what is unchanged stays, what
//! vanished is deleted; or, in a dry run, only told.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ingest::{Source, files_below, folder_label, put_all};
use super::{cell, escape, list};
use crate::cli::Ingest;
use crate::client::Client;
use crate::output;

/// Bytes of a file hashed at once.
const PIECE: usize = 256 << 10;

/// What is to be done about a folder.
#[derive(Default)]
struct Plan {
    added: Vec<Source>,
    changed: Vec<Source>,
    /// Archives, whose files are documents of their own: looked into again.
    archives: Vec<Source>,
    /// Ingested without a folder, or from another: uploaded once more so that this folder is noted; nothing is
    /// embedded.
    adopted: Vec<Source>,
    unchanged: u64,
    /// Documents whose file is there no more: name and id.
    vanished: Vec<(String, String)>,
}

pub(crate) async fn run(client: &Client, args: &Ingest, json: bool) -> Result<()> {
    let (mut told, mut failed) = (Vec::new(), 0);
    for path in &args.paths {
        if !path.is_dir() {
            bail!("{} is no folder: --sync keeps folders in step", path.display());
        }
        let plan = plan(client, &args.kb, path).await?;
        let mut row = plan.row(path);
        if !args.dry_run {
            failed += carry_out(client, &args.kb, plan, &mut row).await?;
        }
        told.push(row);
    }
    if json {
        output::json(&json!({"kb": args.kb, "dry_run": args.dry_run, "folders": told}));
    } else {
        told.iter().for_each(|row| show(row, args.dry_run));
    }
    if failed > 0 { bail!("{failed} documents failed") } else { Ok(()) }
}

/// Compares the files below a folder with the documents of the knowledge base.
async fn plan(client: &Client, kb: &str, path: &Path) -> Result<Plan> {
    let label = folder_label(path)?;
    let mut known = documents(client, kb).await?;
    let mut plan = Plan::default();
    let files = files_below(path)?;
    // A disk that is not mounted must not empty a knowledge base.
    if files.is_empty() {
        bail!("there is no file below {}", path.display());
    }
    let mut prefixes = Vec::new();
    for file in files {
        let (Source::File { path, name, .. }, name_slash) = (&file, format!("{}/", file.name())) else {
            continue;
        };
        match known.remove(name) {
            Some(document) if document["sha256"] == json!(sha256(path)?) => {
                if document["folder"] == json!(label) {
                    plan.unchanged += 1;
                } else {
                    plan.adopted.push(file);
                }
            }
            Some(_) => plan.changed.push(file),
            None if known
                .range(name_slash.clone()..)
                .next()
                .is_some_and(|(held, _)| held.starts_with(&name_slash)) =>
            {
                plan.archives.push(file);
            }
            None => plan.added.push(file),
        }
        prefixes.push(name_slash);
    }
    prefixes.sort();
    // What was unpacked from a file is there as long as the file is.
    let unpacked = |name: &str| {
        name.match_indices('/')
            .any(|(at, _)| prefixes.binary_search_by(|held| held.as_str().cmp(&name[..=at])).is_ok())
    };
    for (name, document) in &known {
        if document["folder"] == json!(label) && !unpacked(name) {
            plan.vanished.push((name.clone(), cell(&document["id"])));
        }
    }
    Ok(plan)
}

/// Every document of a knowledge base by its name.
async fn documents(client: &Client, kb: &str) -> Result<BTreeMap<String, Value>> {
    let mut known = BTreeMap::new();
    let mut after = String::new();
    loop {
        let target = format!("/api/v1/kbs/{}/documents?limit=1000&after={}", escape(kb), escape(&after));
        let page = client.get(&target).await?;
        let rows = list(&page, "documents");
        let Some(last) = rows.last() else { return Ok(known) };
        after = cell(&last["name"]);
        known.extend(rows.iter().map(|row| (cell(&row["name"]), row.clone())));
    }
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = fs_err::File::open(path)?;
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece).with_context(|| path.display().to_string())? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hasher.update(&piece[..read]),
        }
    }
}

/// Uploads and deletes; how many documents failed.
async fn carry_out(client: &Client, kb: &str, plan: Plan, row: &mut Value) -> Result<usize> {
    let sources = plan.added.into_iter().chain(plan.changed).chain(plan.archives).chain(plan.adopted);
    let (jobs, failed) = put_all(client, kb, sources.collect(), true).await;
    for (_, id) in &plan.vanished {
        client.delete(&format!("/api/v1/kbs/{}/documents/{}", escape(kb), escape(id))).await?;
    }
    row["jobs"] = json!(jobs);
    Ok(failed)
}

impl Plan {
    fn row(&self, path: &Path) -> Value {
        let names =
            |sources: &[Source]| sources.iter().map(|source| source.name().to_owned()).collect::<Vec<_>>();
        json!({
            "folder": path.display().to_string(),
            "added": names(&self.added),
            "changed": names(&self.changed),
            "archives": names(&self.archives),
            "unchanged": self.unchanged + self.adopted.len() as u64,
            "vanished": self.vanished.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        })
    }
}

fn show(row: &Value, dry_run: bool) {
    let names = |key: &str| row[key].as_array().map(Vec::as_slice).unwrap_or_default();
    if dry_run {
        for (sign, key) in [("+", "added"), ("~", "changed"), ("=", "archives"), ("-", "vanished")] {
            names(key).iter().for_each(|name| output::line(format_args!("{sign} {}", cell(name))));
        }
    }
    let count = |key: &str| names(key).len();
    let deleted = if dry_run { "to delete" } else { "deleted" };
    output::line(format_args!(
        "{}: {} new, {} changed, {} unchanged, {} {deleted}",
        cell(&row["folder"]),
        count("added"),
        count("changed"),
        row["unchanged"],
        count("vanished"),
    ));
}
