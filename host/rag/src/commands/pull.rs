//! `rwkv-rag model pull`: lets the host fetch a model, and follows it to its end.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{cell, escape, list, model};
use crate::cli::Pull;
use crate::client::Client;
use crate::config::Config;
use crate::output::{self, Progress};

const PULLS: &str = "/api/v1/models/pulls";
/// Between looks at how far it is.
const POLL: Duration = Duration::from_millis(300);

/// The configuration under which this command fetches: whoever types it may name another server, but not for a host
/// that runs elsewhere.
pub(crate) fn at(config: &Config, args: &Pull, remote: bool) -> Result<Config> {
    let mut config = config.clone();
    if let Some(mirror) = &args.mirror {
        if remote {
            bail!("--mirror is for commands without --url: the host asks what its models.hub names");
        }
        config.models.hub.clone_from(mirror);
    }
    Ok(config)
}

pub(crate) async fn run(client: &Client, args: Pull, json: bool) -> Result<()> {
    let mut wanted = model::notes_json(&args.notes);
    if wanted.remove("source").is_some() {
        bail!("--source is the hub's to tell");
    }
    wanted.insert("repository".to_owned(), json!(args.repository));
    wanted.insert("online".to_owned(), json!(args.online));
    let given =
        [("file", args.file), ("revision", args.revision), ("name", args.name), ("sha256", args.sha256)];
    wanted.extend(given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?)))));
    let begun = client.post(PULLS, &Value::Object(wanted)).await?;
    let ended = follow(client, begun, &args.repository).await?;
    if json {
        output::json(&ended);
    } else if ended["state"] == "done" {
        let mut known = client.get(model::ENTRIES).await?;
        known["models"] =
            list(&known, "models").iter().filter(|m| m["name"] == ended["name"]).cloned().collect();
        model::show(&known);
    }
    match cell(&ended["state"]).as_str() {
        "done" => Ok(()),
        "stopped" => bail!("the pull was stopped; the same command goes on from there"),
        _ => bail!("{}", cell(&ended["message"])),
    }
}

/// Until it ends; a bar on a terminal.
async fn follow(client: &Client, begun: Value, repository: &str) -> Result<Value> {
    let path = format!("{PULLS}/{}", escape(&cell(&begun["id"])));
    let mut progress = Progress::new(repository);
    let mut pull = begun;
    let mut told = Value::Null;
    loop {
        let state = cell(&pull["state"]);
        if matches!(state.as_str(), "done" | "failed" | "stopped") {
            progress.finish(&state);
            return Ok(pull);
        }
        if pull["message"].is_string() && pull["message"] != told {
            told = pull["message"].clone();
            output::note(format_args!("{}; trying again", cell(&told)));
        }
        progress.set(pull["percent"].as_u64().unwrap_or(0), &stage(&pull, &state));
        tokio::time::sleep(POLL).await;
        pull = client.get(&path).await?;
    }
}

/// What it is doing, as people read it.
fn stage(pull: &Value, state: &str) -> String {
    let mib = |key: &str| pull[key].as_u64().unwrap_or(0) as f64 / f64::from(1 << 20);
    match (state, pull["bytes"].as_u64()) {
        ("fetching", Some(_)) => {
            let left =
                pull["eta_s"].as_u64().map(|seconds| format!(", {seconds} s left")).unwrap_or_default();
            let (done, bytes, speed) = (mib("done_bytes"), mib("bytes"), mib("bytes_per_second"));
            format!("{done:.1} of {bytes:.1} MiB, {speed:.1} MiB/s{left}")
        }
        ("fetching", None) => format!("{:.1} MiB", mib("done_bytes")),
        ("registering", _) => "comparing hashes".to_owned(),
        _ => "asking the hub".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_words() {
        let pull = json!({"bytes": 3 << 20, "done_bytes": 1 << 20, "bytes_per_second": 1 << 19, "eta_s": 4});
        assert_eq!(stage(&pull, "fetching"), "1.0 of 3.0 MiB, 0.5 MiB/s, 4 s left");
        assert_eq!(stage(&json!({"done_bytes": 1 << 20}), "fetching"), "1.0 MiB");
        assert_eq!(stage(&pull, "registering"), "comparing hashes");
    }

    #[test]
    fn another_server_is_for_the_own_process_only() {
        let args = Pull {
            repository: "owner/name".into(),
            file: None,
            revision: None,
            name: None,
            sha256: None,
            mirror: Some("http://127.0.0.1:1".into()),
            online: false,
            notes: crate::cli::ModelNotes::default(),
        };
        assert_eq!(at(&Config::default(), &args, false).unwrap().models.hub, "http://127.0.0.1:1");
        assert!(at(&Config::default(), &args, true).unwrap_err().to_string().contains("models.hub"));
    }
}
