//! `plugin dev`: at every change of the sources, build, put the component into a knowledge base of its own on a running
//! host, and show what the plugin logs.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use rag_wasm::{Kind, Manifest};
use serde_json::{Value, json};

use super::build;
use crate::cli::{PluginDev, PluginSwap};
use crate::client::Client;
use crate::commands::{cell, escape, list, swap};
use crate::output;

/// Between two looks at the sources and at the log.
const EVERY: Duration = Duration::from_millis(500);
/// What tools make, which is no source.
const MADE: [&str; 6] = ["dist", "target", "node_modules", "__pycache__", ".venv", ".git"];
/// Files that are watched; a folder with more is no plugin's.
const FILES_MAX: usize = 10_000;
/// Characters of a knowledge base's name.
const KB_CHARS_MAX: usize = *rag_core::limits::KB_NAME_CHARS.end();
/// What is in the knowledge base until somebody puts documents of their own there.
const SAMPLE: (&str, &str) = (
    "sample.txt",
    "春眠不觉晓\n处处闻啼鸟\n\n夜来风雨声\n花落知多少\n\nA third paragraph, in English.\nIt has two lines.\n",
);

pub(crate) async fn run(client: &Client, args: &PluginDev, json: bool) -> Result<()> {
    let mut session = Session { client, args, json, log_seen: log_end(client).await, tried: None };
    loop {
        let now = newest(&args.dir);
        if session.tried != Some(now) {
            session.tried = Some(now);
            if let Err(error) = session.turn().await {
                // The next change may mend it.
                output::error(&error);
                if args.once {
                    return Err(error);
                }
            }
            if args.once {
                return Ok(());
            }
            output::note(format_args!("waiting for a change in {}", args.dir.display()));
        }
        session.show_log().await;
        tokio::time::sleep(EVERY).await;
    }
}

struct Session<'a> {
    client: &'a Client,
    args: &'a PluginDev,
    json: bool,
    /// Number of the last line of the host's log that was shown.
    log_seen: u64,
    /// Time of the newest source at the last build.
    tried: Option<SystemTime>,
}

impl Session<'_> {
    /// Builds and swaps once.
    async fn turn(&mut self) -> Result<()> {
        let dir = self.args.dir.clone();
        let component = tokio::task::spawn_blocking(move || build::build(&dir)).await??;
        let manifest = Manifest::of(&fs_err::read(&component)?).map_err(anyhow::Error::msg)?;
        let kind = manifest.as_ref().and_then(Manifest::kind);
        if kind == Some(Kind::Connector) {
            // An engine of the web names its connector; no knowledge base binds one.
            return swap::install_and_tell(self.client, &component, self.json).await;
        }
        let kb = self.kb(manifest.as_ref()).await?;
        let wanted = PluginSwap {
            plugin: component.display().to_string(),
            kb,
            release: false,
            settings: self.args.settings.clone(),
            yes: true,
            hold: false,
        };
        let outcome = swap::swap(self.client, wanted, self.json).await;
        self.show_log().await;
        outcome
    }

    /// The knowledge base to swap in, made with a sample where it is not there.
    async fn kb(&self, manifest: Option<&Manifest>) -> Result<String> {
        let name = match (&self.args.kb, manifest) {
            (Some(name), _) => return Ok(name.clone()),
            (None, Some(manifest)) => kb_of(&manifest.id),
            (None, None) => "dev".to_owned(),
        };
        let known = self.client.get("/api/v1/kbs").await?;
        if !list(&known, "kbs").iter().any(|kb| kb["name"] == name) {
            self.client.post("/api/v1/kbs", &json!({"name": name})).await?;
            let path = format!("/api/v1/kbs/{}/documents?name={}", escape(&name), SAMPLE.0);
            let accepted = self.client.post_file(&path, SAMPLE.1.into()).await?;
            for job in list(&accepted, "jobs") {
                let events = format!("/api/v1/jobs/{}/events", cell(&job["id"]));
                self.client.get_stream(&events).await?.events(|event, _| Ok(event != "end")).await?;
            }
        }
        Ok(name)
    }

    /// What the host logged since the last look; nothing where it may not be read.
    async fn show_log(&mut self) {
        let path = format!("/api/v1/logs?after={}", self.log_seen);
        let Ok(answer) = self.client.get(&path).await else { return };
        for line in list(&answer, "lines") {
            self.log_seen = line["number"].as_u64().unwrap_or(self.log_seen);
            if line["text"].as_str().is_some_and(|text| text.contains("plugin")) {
                output::note(format_args!("{} {}", cell(&line["level"]), cell(&line["text"])));
            }
        }
    }
}

/// The knowledge base of a plugin: its id in the letters that a knowledge base may have.
fn kb_of(id: &str) -> String {
    let name: String = format!("dev_{}", id.replace('-', "_")).chars().take(KB_CHARS_MAX).collect();
    name.trim_end_matches('_').to_owned()
}

/// Number of the newest line of the host's log.
async fn log_end(client: &Client) -> u64 {
    let answer = client.get("/api/v1/logs").await.unwrap_or(Value::Null);
    list(&answer, "lines").last().and_then(|line| line["number"].as_u64()).unwrap_or_default()
}

/// Time of the last change of any source.
fn newest(dir: &Path) -> SystemTime {
    let (mut newest, mut seen, mut folders) = (SystemTime::UNIX_EPOCH, 0, vec![PathBuf::from(dir)]);
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).into_iter().flatten().flatten() {
            let made = MADE.iter().any(|name| entry.file_name() == *name);
            let Ok(about) = entry.metadata() else { continue };
            seen += 1;
            if made || seen > FILES_MAX {
                continue;
            }
            if about.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() != "Cargo.lock" {
                newest = newest.max(about.modified().unwrap_or(newest));
            }
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plugin_has_a_knowledge_base_of_its_own() {
        assert_eq!(kb_of("my-chunker"), "dev_my_chunker");
        for id in ["a", "chunk-verses-2", &"x".repeat(64), &format!("{}-long", "x".repeat(28))] {
            let name = kb_of(id);
            assert!(rag_core::kb::KbName::parse(&name).is_ok(), "{id}: {name}");
        }
    }

    #[test]
    fn only_sources_are_watched() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, seconds: u64| {
            let path = dir.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(&path, "x").unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            time
        };
        let first = write("src/lib.rs", 100);
        write("target/made.wasm", 900);
        write("dist/made.wasm", 900);
        write("Cargo.lock", 900);
        assert_eq!(newest(dir.path()), first);
        let second = write("plugin.toml", 200);
        assert_eq!(newest(dir.path()), second);
    }
}
