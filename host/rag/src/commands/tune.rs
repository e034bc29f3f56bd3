//! Tuning: data sets, jobs, and what comes out.

use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rag_engine::tokenizer::Tokenizer;
use rag_tune::{Settings, make_data};
use serde_json::{Map, Value, json};

use super::{cell, escape, list};
use crate::assemble::model_file;
use crate::cli::{Tune, TuneMerge, TunePrepare, TuneStart};
use crate::client::Client;
use crate::config::Config;
use crate::output::{self, Progress};

const JOBS: &str = "/api/v1/tuning/jobs";

pub(crate) async fn run(client: &Client, command: Tune, json: bool) -> Result<()> {
    let path = |id: &str| format!("{JOBS}/{}", escape(id));
    let job = match command {
        Tune::Prepare(_) => bail!("this command takes no host"),
        Tune::Start(args) => return start(client, args, json).await,
        Tune::List => return show(list(&client.get(JOBS).await?, "jobs"), json),
        Tune::Watch { id } => return watch(client, &id, json).await,
        Tune::Stop { id } => client.post(&format!("{}/stop", path(&id)), &json!({})).await?,
        Tune::Resume { id } => {
            client.post(&format!("{}/resume", path(&id)), &json!({})).await?;
            return watch(client, &id, json).await;
        }
        Tune::Merge(TuneMerge { result, .. }) => {
            let merged = client.post(&format!("{}/merge", path(&result)), &json!({})).await?;
            if json {
                output::json(&merged);
            } else {
                output::line(format_args!("{}", cell(&merged["file"])));
            }
            return Ok(());
        }
        Tune::Delete { id } => {
            client.delete(&path(&id)).await?;
            return Ok(());
        }
    };
    show(&[job], json)
}

async fn start(client: &Client, args: TuneStart, json: bool) -> Result<()> {
    if args.detach && matches!(client, Client::Local(_)) {
        bail!("--detach needs a host that goes on training: start one and name it with --url");
    }
    let dataset =
        if args.data.ends_with(".jsonl") { upload(client, &args.data).await? } else { args.data.clone() };
    let mut settings = Map::new();
    for setting in &args.settings {
        let (name, value) = setting.split_once('=').context("--set takes NAME=VALUE")?;
        // Numbers and booleans as such; anything else is a word.
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        settings.insert(name.to_owned(), value);
    }
    if let Some(method) = args.method {
        settings.insert("method".to_owned(), method.into());
    }
    let mut body = json!({"dataset": dataset, "settings": settings});
    for (key, value) in [("name", args.name), ("base", args.base)] {
        if let Some(value) = value {
            body[key] = value.into();
        }
    }
    if args.estimate {
        let estimate = client.post("/api/v1/tuning/estimate", &body).await?;
        if json {
            output::json(&estimate);
        } else {
            let mib =
                |key: &str| estimate[key].as_u64().map_or_else(|| "?".to_owned(), |b| (b >> 20).to_string());
            output::line(format_args!(
                "{} updates, {} trained values, {} MiB of {} MiB free",
                estimate["steps"],
                estimate["trained_values"],
                mib("memory_bytes"),
                mib("available_bytes")
            ));
        }
        return Ok(());
    }
    let job = client.post(JOBS, &body).await?;
    let id = job["id"].as_str().context("the host named no job")?.to_owned();
    if args.detach {
        return show(&[job], json);
    }
    output::note(format_args!("{id}"));
    watch(client, &id, json).await
}

/// Sends a file as a data set of its name.
async fn upload(client: &Client, file: &str) -> Result<String> {
    let text = fs_err::read_to_string(file)?;
    let stem = Path::new(file).file_stem().context("the file has no name")?.to_string_lossy();
    let fine = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = stem.chars().map(fine).collect();
    let made = client.put_text(&format!("/api/v1/tuning/datasets/{}", escape(&name)), text).await?;
    output::note(format_args!("{} documents, {} tokens in '{name}'", made["documents"], made["tokens"]));
    Ok(name)
}

/// Follows a job: a bar, or with `--json` every event as a line.
async fn watch(client: &Client, id: &str, json: bool) -> Result<()> {
    let events = client.get_stream(&format!("{JOBS}/{}/events", escape(id))).await?;
    let mut progress = (!json).then(|| Progress::new(id));
    let (mut steps, mut end) = (0, Value::Null);
    events
        .events(|name, data| {
            if json {
                output::line(format_args!("{}", json!({ "event": name, "data": data })));
            }
            if name == "points" {
                if let (Some(progress), Some(point)) = (&mut progress, list(&data, "points").last()) {
                    let done = point["step"].as_u64().unwrap_or(0);
                    let percent = (done * 100).checked_div(steps).unwrap_or(0).min(99);
                    let number = |key: &str| point[key].as_f64().unwrap_or(0.0);
                    let told = format!(
                        "{done}/{steps} loss {:.3} lr {:.2e} {:.0} tokens/s",
                        number("loss"),
                        number("lr"),
                        number("tokens_per_s")
                    );
                    progress.set(percent, &told);
                }
                return Ok(true);
            }
            steps = data["steps"].as_u64().unwrap_or(0);
            end = data;
            Ok(name != "end")
        })
        .await?;
    let state = end["state"].as_str().unwrap_or("unknown").to_owned();
    if let Some(progress) = progress {
        progress.finish(&state);
    }
    match state.as_str() {
        "done" | "stopped" => {
            if !json {
                list(&end, "files").iter().for_each(|file| output::line(format_args!("{}", cell(file))));
            }
            Ok(())
        }
        _ => bail!("{}", cell(&end["error"])),
    }
}

fn show(jobs: &[Value], json: bool) -> Result<()> {
    if json {
        output::json(&json!({ "jobs": jobs }));
        return Ok(());
    }
    let row = |job: &Value| {
        let done = format!("{}/{}", job["step"], job["steps"]);
        let loss = job["last"]["loss"].as_f64().map_or_else(|| "-".to_owned(), |loss| format!("{loss:.3}"));
        vec![
            cell(&job["id"]),
            cell(&job["name"]),
            cell(&job["settings"]["method"]),
            cell(&job["state"]),
            done,
            loss,
            cell(&job["error"]),
        ]
    };
    let rows: Vec<Vec<String>> = jobs.iter().map(row).collect();
    output::table(&["id", "name", "method", "state", "updates", "loss", "error"], &rows);
    Ok(())
}

/// Merges files of this machine.
pub(crate) fn merge_files(args: &TuneMerge) -> Result<()> {
    let (Some(base), Some(output)) = (&args.base, &args.output) else {
        bail!("--base and --output belong together");
    };
    rag_tune::merge::merge(base, Path::new(&args.result), output)?;
    output::line(format_args!("{}", output.display()));
    Ok(())
}

pub(crate) fn prepare(config: &Config, args: TunePrepare, json: bool) -> Result<()> {
    let TunePrepare { input, epochs, context, out, seed } = args;
    let tokenizer = Tokenizer::load(&model_file(config, &config.models.vocabulary)?)?;
    let source = BufReader::new(fs_err::File::open(&input)?);
    let settings = Settings { copies: epochs, context_tokens: u64::from(context), seed };
    let made = make_data(source, &|text| tokenizer.encode(text), &settings, &out)
        .with_context(|| input.display().to_string())?;
    if json {
        output::json(&json!({
            "documents": made.documents,
            "tokens": made.tokens,
            "magic_prime": made.magic_prime,
            "bin": made.bin,
            "idx": made.idx,
        }));
    } else {
        output::line(format_args!(
            "{} documents, {} tokens in {}",
            made.documents,
            made.tokens,
            made.bin.display()
        ));
        match made.magic_prime {
            Some(prime) => output::line(format_args!("magic prime {prime}")),
            None => {
                output::line(format_args!("too little text for a magic prime: train with --context smaller"))
            }
        }
    }
    Ok(())
}
