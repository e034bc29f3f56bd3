//! How fast a model trains here and how much memory that takes:
//! `cargo run --release -p rag-tune --example speed -- BASE VOCABULARY METHOD PRECISION CONTEXT MICRO_BATCH STEPS`.
//!
//! Prints wall-clock tokens a second, tokens a second of processor time (which other work on the machine disturbs
//! less), the memory estimated, and the most that was in use.

#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use rag_core::ports::{Tune, TuneMethod, TuneRequest, TuneState};
use rag_tune::{Place, Tuner, TunerConfig};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &'static str| args.next().with_context(|| format!("missing: {what}"));
    let (base, vocabulary) = (PathBuf::from(next("base")?), PathBuf::from(next("vocabulary")?));
    let method = next("method")?;
    let precision = next("precision")?;
    let mut number = |what| Ok::<u32, anyhow::Error>(next(what)?.parse()?);
    let (context_tokens, micro_batch, steps) = (number("context")?, number("micro batch")?, number("steps")?);

    let dir = tempfile::tempdir()?;
    let tuner = Tuner::open(TunerConfig {
        dir: dir.path().to_path_buf(),
        models: dir.path().to_path_buf(),
        base,
        vocabulary,
        place: Place::Processor { threads: 2 },
        queue_max: 1,
        wandb: None,
        tracker: None,
    })?;
    // Documents longer than the context, so that no row is padding.
    let words = "春天来了，河边的柳树发芽了。The quick brown fox jumps over the lazy dog. ";
    let line = serde_json::json!({ "text": words.repeat(context_tokens as usize / 8) }).to_string() + "\n";
    tuner.add_dataset("speed", &line.repeat(8))?;
    let mut settings = tuner.defaults(None, TuneMethod::parse(&method))?;
    settings.precision = precision;
    settings.context_tokens = context_tokens;
    settings.micro_batch = micro_batch;
    settings.mask = "all".to_owned();
    settings.epochs = 1;
    settings.epoch_steps = steps;
    settings.checkpoint_steps = 1_000_000;
    if std::env::var_os("CHECKPOINTING").is_some() {
        settings.checkpointing = true;
    }
    let request = TuneRequest { name: "speed".to_owned(), base: None, dataset: "speed".to_owned(), settings };
    let estimate = tuner.estimate(&request)?;
    let id = tuner.start(&request)?.id;
    let mut started = None;
    loop {
        let job = tuner.job(&id)?;
        if let (None, Some(first)) = (&started, job.last) {
            started = Some((first, cpu_seconds()));
        }
        match job.state {
            TuneState::Done => break,
            TuneState::Failed(error) => bail!(error),
            _ => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    }
    let points = tuner.points(&id, 0, 10_000)?;
    let ((first, cpu), last) = (started.context("no update")?, points.last().context("no update")?);
    let tokens = (last.tokens - first.tokens) as f64;
    let wall = (last.time_ms - first.time_ms) as f64 / 1_000.0;
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{method} {} ctx {context_tokens} x {micro_batch}: {:.0} tokens/s wall, {:.0} a second of one core; {} MiB estimated, {} MiB at most; loss {:.2} to {:.2}",
        request.settings.precision,
        tokens / wall,
        tokens / (cpu_seconds() - cpu),
        mib(estimate.memory_bytes),
        mib(peak_bytes()),
        first.loss,
        last.loss,
    );
    Ok(())
}

/// Processor time of this process so far.
fn cpu_seconds() -> f64 {
    let stat = fs_err::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn peak_bytes() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}
