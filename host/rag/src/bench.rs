//! How fast and how good this machine answers: each benchmark prints named figures with device, commit and command.

mod answers;
mod corpus;
mod ingest;
mod load;
mod parse;
mod plugin;
mod score;
mod search;
mod swaps;
mod times;
mod toy;

use std::time::Duration;

use anyhow::{Context, Result};
use rag_engine::LanguageModelConfig;
use rag_engine::bench::{Measurement, Plan, Source, What, peak_memory};
use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::simd::Simd;
use rag_engine::encoder::EncoderConfig;
use serde_json::{Value, json};

use crate::cli::{Bench, BenchWhat};
use crate::config::Config;
use crate::{assemble, output};

/// One measured value.
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Figure { name: name.into(), value, unit }
    }
}

pub(crate) async fn run(config: &Config, args: &Bench, json: bool) -> Result<()> {
    let mut figures = match args.what {
        BenchWhat::Decode | BenchWhat::Prefill => tokio::task::block_in_place(|| language(config, args))?,
        BenchWhat::Embed | BenchWhat::Rerank => tokio::task::block_in_place(|| encoder(config, args))?,
        BenchWhat::Parse => parse::run(config, args).await?,
        BenchWhat::Ingest => ingest::run(config, args).await?,
        BenchWhat::Search => search::run(config, args).await?,
        BenchWhat::Answers => answers::run(config, args).await?,
        BenchWhat::Plugin => plugin::run(config, args).await?,
        BenchWhat::Swaps => swaps::many(config, args).await?,
        BenchWhat::Reindex => swaps::large(config, args).await?,
    };
    if !matches!(args.what, BenchWhat::Decode | BenchWhat::Prefill) {
        figures.extend(peak_memory().map(|m| Figure::new(m.name, m.value, m.unit)));
    }
    report(args, &figures, json);
    Ok(())
}

fn language(config: &Config, args: &Bench) -> Result<Vec<Figure>> {
    let what = if args.what == BenchWhat::Decode { What::Decode } else { What::Prefill };
    let formats = args.format.iter().map(|name| {
        Format::parse(name).with_context(|| format!("--format {name} is none of f32, int8, int4, nf4"))
    });
    let device = assemble::device(args.device.as_deref().unwrap_or(&config.models.device))?;
    let plan = Plan {
        source: match &args.random {
            Some(size) => Source::Random { size: size.clone(), threads: config.engine_threads(), device },
            None => Source::File(LanguageModelConfig { device, ..assemble::language_config(config)? }),
        },
        formats: formats.collect::<Result<_>>()?,
        batches: args.batch.clone(),
        lengths: args.tokens.clone(),
        round: Duration::from_secs(args.seconds) / rag_engine::bench::ROUNDS,
    };
    Ok(figures(rag_engine::bench::run(what, &plan)?))
}

fn figures(measured: Vec<Measurement>) -> Vec<Figure> {
    measured.into_iter().map(|m| Figure::new(m.name, m.value, m.unit)).collect()
}

fn encoder(config: &Config, args: &Bench) -> Result<Vec<Figure>> {
    let time = Duration::from_secs(args.seconds);
    let device = assemble::device(args.device.as_deref().unwrap_or(&config.models.encoder_device))?;
    let encoder = EncoderConfig { device, ..assemble::encoder_config(config)? };
    let report = match args.what {
        BenchWhat::Embed => rag_engine::encoder::bench::embed(&encoder, time)?,
        _ => rag_engine::encoder::bench::rerank(&encoder, time)?,
    };
    output::note(format_args!("computed by: {}", report.kernels));
    Ok(figures(report.results))
}

/// A time that this share of sorted times does not exceed.
pub(crate) fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn report(args: &Bench, figures: &[Figure], json: bool) {
    let what = format!("{:?}", args.what).to_lowercase();
    let command: Vec<String> = std::env::args().skip(1).collect();
    if json {
        let result =
            |figure: &Figure| json!({"name": figure.name, "value": figure.value, "unit": figure.unit});
        let results: Vec<Value> = figures.iter().map(result).collect();
        output::json(&json!({
            "what": what,
            "device": processor(),
            "commit": commit(),
            "command": format!("rwkv-rag {}", command.join(" ")),
            "results": results,
        }));
        return;
    }
    output::line(format_args!("{what} on {}, commit {}", processor(), commit()));
    let row =
        |figure: &Figure| vec![figure.name.clone(), format!("{:.4}", figure.value), figure.unit.to_owned()];
    output::table(&["", "value", "unit"], &figures.iter().map(row).collect::<Vec<_>>());
}

/// Processor with its number of threads and the instructions in use.
pub(crate) fn processor() -> String {
    let info = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} × {threads}, {:?}", model.trim_start_matches([' ', '\t', ':']), Simd::detect())
}

/// The commit that was built, or that stands in the working folder.
fn commit() -> String {
    if let Some(commit) = option_env!("RWKV_RAG_COMMIT") {
        return commit.to_owned();
    }
    let git = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let found = git.ok().filter(|output| output.status.success());
    found.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
