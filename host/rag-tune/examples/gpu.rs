//! Checks training on a GPU against the CPU, and measures it: `gpu check [MODEL…]`, `gpu bench PLAN…`.
//!
//! - `check` trains small random models, and the files given, on both, and compares losses and every gradient.
//! - A plan is `SIZE:METHOD:PRECISION:CONTEXT:BATCH:STEPS[:kept][:timed]`, e.g. `1b6:state:bf16:1024:8:4`: random
//!   weights of a published size; `kept` does without checkpointing, `timed` lists how long each kind of work took.
//!   Results are lines of JSON.

#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rag_core::ports::{TuneMethod, TuneSettings};
use rag_engine::checkpoint;
use rag_engine::random::Random;
use rag_engine::rwkv::{Config, RandomModel, Version, Weights};
use rag_tune::Place;
use rag_tune::trial::{self, Batch, Trial};
use serde_json::json;

/// Bounds of ‖gpu − cpu‖ / ‖cpu‖ of a gradient. With activations in f32 the equations decide; in bf16 it is rounding,
/// most of all for small tensors of mixes, whose gradients are sums over tokens that nearly cancel out.
const EXACT: f64 = 2e-4;
const ROUNDED_STATES: f64 = 6e-2;
const ROUNDED_MIXES: f64 = 0.25;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((what, models)) if what == "check" => check(models),
        Some((what, plans)) if what == "bench" => {
            for plan in plans {
                if let Err(error) = bench(plan) {
                    println!("{}", json!({ "plan": plan, "error": format!("{error:#}") }));
                }
            }
            Ok(())
        }
        _ => bail!("gpu check [MODEL…] | gpu bench PLAN…: see the top of gpu.rs"),
    }
}

/// How a comparison is set up beyond the model.
struct Case {
    name: &'static str,
    method: TuneMethod,
    precision: &'static str,
    /// Tokens of two sequences, and of a chunk of them, 0 for whole ones.
    tokens: usize,
    chunk: u32,
    change: fn(&mut TuneSettings),
}

fn check(models: &[String]) -> Result<()> {
    let config = Config {
        vocabulary: 1000,
        width: 128,
        layers: 3,
        heads: 2,
        head_size: 64,
        hidden: 448,
        version: Version::V6 { mix_rank: 16, decay_rank: 32 },
    };
    let random = RandomModel::new(&config, 5);
    let plain: fn(&mut TuneSettings) = |_| {};
    let case = |name, method, precision, tokens, chunk, change| Case {
        name,
        method,
        precision,
        tokens,
        chunk,
        change,
    };
    let (state, lora) = (TuneMethod::State, TuneMethod::Lora);
    let mut failed = 0;
    for case in [
        case("state", state, "f32", 150, 0, plain),
        case("state, checkpointing, chunks", state, "f32", 150, 70, |s| s.checkpointing = true),
        case("lora and mixes", lora, "f32", 150, 0, plain),
        case("lora, dropout, checkpointing", lora, "f32", 100, 0, |s| {
            s.dropout = 0.2;
            s.checkpointing = true;
        }),
        case("lora, chunks", lora, "f32", 150, 64, plain),
        case("pissa", TuneMethod::Pissa, "f32", 65, 0, plain),
        case("bone", TuneMethod::Bone, "f32", 65, 0, plain),
        case("state", state, "bf16", 150, 0, |s| s.checkpointing = true),
        case("lora and mixes", lora, "bf16", 150, 0, plain),
        case("state", state, "int8", 150, 0, plain),
        case("pissa", TuneMethod::Pissa, "int8", 100, 0, plain),
        case("state", state, "nf4", 150, 0, plain),
        case("lora and mixes", lora, "nf4", 150, 50, |s| s.checkpointing = true),
    ] {
        failed += usize::from(!compare("random", &random, &case)?);
    }
    for path in models {
        let weights = checkpoint::open(Path::new(path))?;
        for case in [
            case("state", state, "f32", 100, 0, plain),
            case("lora and mixes", lora, "f32", 100, 0, plain),
            case("state", state, "bf16", 100, 0, |s| s.checkpointing = true),
            case("lora and mixes", lora, "nf4", 100, 0, plain),
        ] {
            failed += usize::from(!compare(path, &*weights, &case)?);
        }
    }
    ensure!(failed == 0, "{failed} comparisons failed");
    println!("all comparisons hold");
    Ok(())
}

/// An update on both places, and every gradient of a second from what the CPU trained in the first.
fn compare(model: &str, weights: &dyn Weights, case: &Case) -> Result<bool> {
    let config = Config::read(weights)?;
    let mut settings = trial::defaults(case.method, &config);
    settings.precision = case.precision.to_owned();
    settings.context_tokens = case.tokens as u32;
    settings.chunk_tokens = case.chunk;
    settings.micro_batch = 2;
    settings.checkpointing = false;
    settings.rank = if case.method == TuneMethod::State { 0 } else { 16 };
    settings.lr = if case.method == TuneMethod::State { 0.5 } else { 1e-3 };
    (case.change)(&mut settings);
    let ids = weights.kept_ids()?;
    let rows = ids.as_ref().map_or(config.vocabulary, Vec::len) as u64;
    let id = |row: u64| ids.as_ref().map_or(row as u32, |ids| ids[row as usize]);
    let mut random = Random::seeded(11);
    let mut tokens = || (0..2 * case.tokens).map(|_| id(random.below(rows))).collect::<Vec<u32>>();
    let (tokens, labels) = (tokens(), tokens());
    let labels = labels.into_iter().enumerate().map(|(i, label)| (i % 5 != 1).then_some(label)).collect();
    let batch = Batch { sequences: 2, tokens, labels };
    let weight = 1.0 / batch.labels.iter().flatten().count() as f32;

    let mut processor = Trial::open(weights, &settings, Place::Processor { threads: 0 })?;
    let mut accelerator = Trial::open(weights, &settings, Place::Gpu(0))?;
    processor.update(&batch)?;
    accelerator.update(&batch)?;
    // Adam's first update is a step of the same size whatever the gradient is: where that is next to nothing, its
    // sign is rounding. What was trained agrees nearly everywhere.
    let apart = different(&processor.trained()?, &accelerator.trained()?, settings.lr);
    accelerator.continue_from(&processor)?;
    let cpu_loss = processor.accumulate(&batch, weight)? * f64::from(weight);
    let gpu_loss = accelerator.accumulate(&batch, weight)? * f64::from(weight);
    let (cpu, gpu) = (processor.gradients()?, accelerator.gradients()?);
    // With int8 and nf4 the base is the same, but activations are bf16 on the GPU.
    let limit = match (case.precision, case.method) {
        ("f32", _) => EXACT,
        (_, TuneMethod::State) => ROUNDED_STATES,
        _ => ROUNDED_MIXES,
    };
    let off_loss = (cpu_loss - gpu_loss).abs() / cpu_loss;
    let total = norm(cpu.iter().flat_map(|(_, values)| values.iter().map(|&x| f64::from(x))));
    let mut worst = (0.0, "");
    let mut bad = Vec::new();
    ensure!(cpu.len() == gpu.len(), "{} tensors for {}", gpu.len(), cpu.len());
    for ((name, a), (other, b)) in cpu.iter().zip(&gpu) {
        ensure!(name == other && a.len() == b.len(), "{name} is not {other}");
        let between = norm(a.iter().zip(b).map(|(a, b)| f64::from(a - b)));
        let own = norm(a.iter().map(|&x| f64::from(x)));
        // Gradients of next to nothing are compared with the others.
        let off = between / own.max(total * 1e-3).max(1e-12);
        if off > worst.0 || off.is_nan() {
            worst = (off, name.as_str());
        }
        if off.is_nan() || off > limit {
            bad.push(format!("{name} {off:.2e}"));
        }
    }
    let holds = bad.is_empty() && off_loss < limit && apart < limit.max(1e-3);
    println!(
        "{} {model}: {} {}: loss {cpu_loss:.5} and {gpu_loss:.5} ({off_loss:.1e}), {} gradients within {:.2e} ({}), {apart:.1e} of the values updated otherwise",
        if holds { "ok" } else { "WRONG" },
        case.name,
        case.precision,
        cpu.len(),
        worst.0,
        worst.1,
    );
    bad.iter().take(12).for_each(|line| println!("    {line}"));
    Ok(holds)
}

/// The share of values that lie more than a tenth of a step apart.
fn different(a: &[(String, Vec<f32>)], b: &[(String, Vec<f32>)], step: f64) -> f64 {
    let pairs = || a.iter().zip(b).flat_map(|((_, a), (_, b))| a.iter().zip(b));
    let apart = pairs().filter(|(a, b)| f64::from(**a - **b).abs() > 0.1 * step).count();
    apart as f64 / pairs().count().max(1) as f64
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// Random weights whose large matrices repeat some millions of values, so that they are made at once.
struct Quick {
    names: RandomModel,
    pool: Vec<f32>,
}

impl Weights for Quick {
    fn names(&self) -> Vec<String> {
        self.names.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.names.shape(name)
    }

    fn read(&self, name: &str) -> rag_core::Result<Vec<f32>> {
        let shape = self.shape(name).unwrap_or_default();
        let len: usize = shape.iter().product();
        if len < 1 << 20 {
            return self.names.read(name);
        }
        let reach = 2.0 / (shape[shape.len() - 1] as f32).sqrt();
        let start = name.bytes().fold(7, |hash, byte| (hash * 31 + usize::from(byte)) % self.pool.len());
        let mut values = Vec::with_capacity(len);
        let mut from = start;
        while values.len() < len {
            let part = &self.pool[from..(from + len - values.len()).min(self.pool.len())];
            values.extend(part.iter().map(|value| value * reach));
            from = 0;
        }
        Ok(values)
    }

    fn error(&self, message: String) -> rag_core::Error {
        self.names.error(message)
    }
}

fn bench(plan: &str) -> Result<()> {
    let parts: Vec<&str> = plan.split(':').collect();
    let [size, method, precision, context, sequences, steps, options @ ..] = parts.as_slice() else {
        bail!("SIZE:METHOD:PRECISION:CONTEXT:BATCH:STEPS")
    };
    let config = Config::published(size).context("no such size")?;
    let method = TuneMethod::parse(method).context("no such method")?;
    let (context, sequences, steps): (usize, usize, usize) =
        (context.parse()?, sequences.parse()?, steps.parse()?);
    let settings = TuneSettings {
        precision: (*precision).to_owned(),
        context_tokens: context as u32,
        micro_batch: sequences as u32,
        checkpointing: !options.contains(&"kept"),
        rank: if method == TuneMethod::State { 0 } else { 64 },
        ..trial::defaults(method, &config)
    };
    let mut random = Random::seeded(3);
    let pool = (0..(1 << 22) + 7).map(|_| 2.0 * random.unit() as f32 - 1.0).collect();
    let weights = Quick { names: RandomModel::new(&config, 7), pool };
    let place = Place::Gpu(0);
    let estimate = trial::memory_bytes(&settings, &config, place)?;
    let started = Instant::now();
    let mut trial = Trial::open(&weights, &settings, place)?;
    let loading = started.elapsed().as_secs_f64();
    let mut tokens = || {
        (0..context * sequences).map(|_| random.below(config.vocabulary as u64) as u32).collect::<Vec<_>>()
    };
    let batch = Batch { sequences, labels: tokens().into_iter().map(Some).collect(), tokens: tokens() };
    let first = trial.update(&batch)?;
    trial.update(&batch)?;
    let mut times = Vec::new();
    let mut loss = first;
    for _ in 0..steps {
        let started = Instant::now();
        loss = trial.update(&batch)?;
        // Reading the gradients' length waits for the update.
        times.push(started.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!(
        "{}",
        json!({
            "plan": plan,
            "tokens_per_s": ((context * sequences) as f64 / median).round(),
            "fastest": ((context * sequences) as f64 / times[0]).round(),
            "gpu_used_mib": gpu_used(),
            "estimated_mib": estimate >> 20,
            "loss": [first, loss],
            "loading_s": loading,
        })
    );
    if options.contains(&"timed") {
        trial.start_timing();
        trial.update(&batch)?;
        let timings = trial.timings()?;
        let all: f64 = timings.iter().map(|timing| timing.milliseconds).sum();
        println!("  all work {all:.1} ms, {:.2} µs a token", all * 1e3 / (context * sequences) as f64);
        for timing in timings.iter().take(36) {
            println!("  {:8.2} ms {:5} × {}", timing.milliseconds, timing.times, timing.name);
        }
    }
    Ok(())
}

/// MiB of the GPU's memory in use, by the driver's own tool.
fn gpu_used() -> String {
    let arguments = ["--query-gpu=memory.used", "--format=csv,noheader,nounits"];
    let output = std::process::Command::new("nvidia-smi").args(arguments).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
