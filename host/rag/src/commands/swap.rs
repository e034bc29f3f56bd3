//! Swapping the plugins of a knowledge base: try, compare, publish, go back, look at the history.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::Digest as _;

use super::{cell, escape, list};
use crate::cli::{KbEncoder, PluginSwap, PluginSwapped};
use crate::client::Client;
use crate::output::{self, Progress};

/// Characters of a digest that people see.
const DIGEST_SHOWN: usize = 12;
/// Passages shown of each side of a comparison.
const HITS_SHOWN: usize = 2;

/// Digits of a digest that tell a component from any other.
const DIGEST_DIGITS_MIN: usize = 16;

/// Refuses a file whose SHA-256 is another one.
pub(crate) fn check_digest(file: &Path, wanted: &str) -> Result<()> {
    if wanted.len() < DIGEST_DIGITS_MIN || !wanted.chars().all(|c| c.is_ascii_hexdigit()) {
        bail!("'{wanted}' is no SHA-256, nor its first {DIGEST_DIGITS_MIN} digits");
    }
    let hash = sha2::Sha256::digest(fs_err::read(file)?);
    let found: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    if !found.starts_with(&wanted.to_ascii_lowercase()) {
        bail!("{} has the SHA-256 {found}, not {wanted}: it is not installed", file.display());
    }
    Ok(())
}

/// Checks and keeps a component file; what it is.
pub(crate) async fn install(client: &Client, file: &Path) -> Result<Value> {
    let bytes = fs_err::read(file)?;
    client.post_file("/api/v1/plugins", bytes.into()).await.with_context(|| file.display().to_string())
}

pub(crate) async fn install_and_tell(client: &Client, file: &Path, json: bool) -> Result<()> {
    let installed = install(client, file).await?;
    let text = format!(
        "{} {} is offered as a {}",
        cell(&installed["id"]),
        cell(&installed["version"]),
        cell(&installed["kind"])
    );
    told(json, &installed, &text);
    Ok(())
}

pub(crate) async fn remove(client: &Client, digest: &str, json: bool) -> Result<()> {
    let installed = client.get("/api/v1/plugins").await?;
    let found = named(&installed, digest)?;
    let full = cell(&found["digest"]);
    client.delete(&format!("/api/v1/plugins/{full}")).await?;
    told(
        json,
        &json!({"removed": full}),
        &format!("{} {} is removed", cell(&found["id"]), cell(&found["version"])),
    );
    Ok(())
}

/// Stages, shows the comparison, and publishes when that is wanted.
pub(crate) async fn swap(client: &Client, args: PluginSwap, json: bool) -> Result<()> {
    let when = When { yes: args.yes, hold: args.hold };
    if args.release {
        // It may be installed no longer.
        return stage(client, &args.kb, &json!({"release": [args.plugin]}), when, json).await;
    }
    let plugin = if Path::new(&args.plugin).is_file() {
        install(client, Path::new(&args.plugin)).await?
    } else {
        named(&client.get("/api/v1/plugins").await?, &args.plugin)?.clone()
    };
    let settings: Value = match &args.settings {
        Some(text) => serde_json::from_str(text).context("--settings is not JSON")?,
        None => json!({}),
    };
    let choice = json!({"id": plugin["id"], "digest": plugin["digest"], "settings": settings});
    let body = match plugin["kind"].as_str() {
        Some("chunker") => json!({"chunker": choice}),
        Some("vector-store") => json!({"store": choice}),
        Some("retriever") => json!({"retriever": choice}),
        Some("parser") => json!({"parsers": [choice]}),
        other => bail!("a {} is not bound by a knowledge base", other.unwrap_or("plugin of this kind")),
    };
    stage(client, &args.kb, &body, when, json).await
}

/// Likewise with another encoder.
pub(crate) async fn encoder(client: &Client, args: KbEncoder, json: bool) -> Result<()> {
    let when = When { yes: args.yes, hold: args.hold };
    stage(client, &args.kb, &json!({"encoder": args.model}), when, json).await
}

/// Whether a generation that is ready is published: always, never, or when somebody agrees.
#[derive(Clone, Copy)]
struct When {
    yes: bool,
    hold: bool,
}

async fn stage(client: &Client, kb: &str, body: &Value, when: When, json: bool) -> Result<()> {
    let mut staged = client.post(&format!("{}/swap", path(kb)), body).await?;
    if staged["state"] == "building" {
        staged = follow(client, kb, &staged).await?;
    }
    if staged["state"] == "failed" || staged["state"] == "abandoned" {
        bail!("{}", cell(&staged["reason"]));
    }
    if !json {
        report(&staged["report"]);
    }
    if when.hold || !(when.yes || agreed(&staged)?) {
        let text = format!(
            "generation {0} is ready; let it answer with `rwkv-rag plugin publish --kb {kb} {0}`, or give it up with `rwkv-rag plugin abandon --kb {kb} {0}`",
            staged["number"]
        );
        told(json, &staged, &text);
        return Ok(());
    }
    publish(client, kb, staged["number"].as_u64().unwrap_or_default(), json).await
}

pub(crate) async fn run(client: &Client, command: PluginSwapped, json: bool) -> Result<()> {
    match command {
        PluginSwapped::Publish { kb, generation } => publish(client, &kb, generation, json).await,
        PluginSwapped::Abandon { kb, generation } => {
            let ended = client.delete(&format!("{}/generations/{generation}", path(&kb))).await?;
            told(json, &ended, &format!("generation {generation} is given up"));
            Ok(())
        }
        PluginSwapped::Rollback { kb, reason } => {
            let live = client.post(&format!("{}/rollback", path(&kb)), &json!({"reason": reason})).await?;
            told(json, &live, &format!("generation {} answers: {}", live["number"], cell(&live["reason"])));
            Ok(())
        }
        PluginSwapped::History { kb } => {
            let answer = client.get(&format!("{}/generations", path(&kb))).await?;
            if json {
                output::json(&answer);
                return Ok(());
            }
            let rows: Vec<_> = list(&answer, "generations").iter().map(row).collect();
            output::table(&["", "state", "chunker", "store", "retriever", "encoder", "index", "why"], &rows);
            Ok(())
        }
    }
}

async fn publish(client: &Client, kb: &str, generation: u64, json: bool) -> Result<()> {
    let mut live = client.post(&format!("{}/generations/{generation}/publish", path(kb)), &json!({})).await?;
    if live["state"] == "building" {
        live = follow(client, kb, &live).await?;
    }
    if live["state"] != "live" {
        bail!("generation {generation} is {}: {}", cell(&live["state"]), cell(&live["reason"]));
    }
    told(
        json,
        &live,
        &format!("generation {generation} answers; `rwkv-rag plugin rollback --kb {kb}` goes back"),
    );
    Ok(())
}

/// Waits for the job that fills a generation's index.
async fn follow(client: &Client, kb: &str, staged: &Value) -> Result<Value> {
    let mut progress = Progress::new(&format!("generation {}", staged["number"]));
    if let Some(job) = staged["job"].as_str() {
        let events = client.get_stream(&format!("/api/v1/jobs/{job}/events")).await?;
        let show = |name: &str, job: Value| {
            progress
                .set(job["percent"].as_u64().unwrap_or_default(), job["stage"].as_str().unwrap_or_default());
            Ok(name != "end")
        };
        events.events(show).await?;
    }
    let now = client.get(&format!("{}/generations/{}", path(kb), staged["number"])).await?;
    progress.finish(now["state"].as_str().unwrap_or_default());
    Ok(now)
}

fn path(kb: &str) -> String {
    format!("/api/v1/kbs/{}/plugins", escape(kb))
}

/// A plugin by its id, which means its newest version, or by the beginning of its digest.
fn named<'a>(installed: &'a Value, wanted: &str) -> Result<&'a Value> {
    let all = list(installed, "plugins");
    let by_digest = |one: &&Value| one["digest"].as_str().is_some_and(|digest| digest.starts_with(wanted));
    let matching: Vec<&Value> = match all.iter().find(|one| one["id"] == wanted) {
        Some(newest) => vec![newest],
        None => all.iter().filter(by_digest).collect(),
    };
    match matching[..] {
        [one] => Ok(one),
        [] => bail!("no plugin '{wanted}' is installed; `rwkv-rag plugin list` names them"),
        _ => bail!("'{wanted}' begins more than one digest"),
    }
}

fn agreed(staged: &Value) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut out = std::io::stderr().lock();
    write!(out, "Let generation {} answer? [y/N] ", staged["number"])?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "是"))
}

fn report(report: &Value) {
    let Some(questions) = report["questions"].as_array() else { return };
    for asked in questions {
        output::line(format_args!("{}", cell(&asked["question"])));
        for side in ["before", "after"] {
            for hit in list(asked, side).iter().take(HITS_SHOWN) {
                let text = cell(&hit["text"]).replace('\n', " ");
                output::line(format_args!("  {side:6}  {}: {text}", cell(&hit["document"])));
            }
        }
    }
    output::line(format_args!(
        "{} of {} recent questions have another best passage; {} chunks became {}; {:.1} ms a search became {:.1}",
        report["changed"],
        questions.len(),
        report["chunks_before"],
        report["chunks_after"],
        report["millis_before"].as_f64().unwrap_or_default(),
        report["millis_after"].as_f64().unwrap_or_default(),
    ));
    if report["edits_lost"].as_u64().is_some_and(|lost| lost > 0) {
        output::line(format_args!("{} edited or disabled chunks are cut anew", report["edits_lost"]));
    }
}

fn row(generation: &Value) -> Vec<String> {
    let plugin = |part: &str| {
        let digest = cell(&generation[part]["digest"]);
        let shown: String = digest.chars().take(DIGEST_SHOWN).collect();
        format!("{} {shown}", cell(&generation[part]["id"])).trim_end().to_owned()
    };
    vec![
        generation["number"].to_string(),
        cell(&generation["state"]),
        plugin("chunker"),
        plugin("store"),
        plugin("retriever"),
        cell(&generation["encoder"]),
        cell(&generation["index"]),
        cell(&generation["reason"]),
    ]
}

fn told(json: bool, value: &Value, text: &str) {
    if json {
        output::json(value);
    } else {
        output::line(format_args!("{text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_digest_is_refused_with_both() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.wasm");
        fs_err::write(&file, "abc").unwrap();
        let right = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        check_digest(&file, right).unwrap();
        check_digest(&file, &right[..16]).unwrap();
        let error = check_digest(&file, &"0".repeat(64)).unwrap_err().to_string();
        assert!(error.contains("ba7816bf") && error.contains("not 0000"), "{error}");
        for bad in ["", "ba78", "not hexadecimal!"] {
            assert!(check_digest(&file, bad).unwrap_err().to_string().contains("no SHA-256"));
        }
    }
}
