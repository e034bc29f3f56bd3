//! Checks a GPU's numbers against the CPU's and measures it: `gpu check [MODEL…]`, `gpu profiles MODEL VOCABULARY`,
//! `gpu bench PLAN…`.
//!
//! - `check` compares random models, the test model of rwkv.cpp and the files given, format by format; each check is
//!   reported apart. `--only WORD,WORD` takes those whose line has every word, e.g. `v7,int8,batches`.
//! - `profiles` serves a model on both, with an adapter, a tuned state, vectors and scores; `crowd MODEL VOCABULARY
//!   DEVICE SECONDS` lets 64 callers stream from it, of whom some leave.
//! - `encoder-check [MODEL…]` compares random encoders of BERT's family, and files or folders given; `encoder-bench
//!   random-e5|random-bge-m3|MODEL…` times passages and questions, with random weights of published sizes or files.
//!   `--only` holds for its check too.
//! - A plan is `SIZE:FORMAT:WHAT[:WHAT…]`, e.g. `1b6:bf16:d1:d256:p1x4096`: random weights of a published size in bf16,
//!   int8, int4 or nf4; `dB` writes B texts at once, `pNxL` reads N prompts of L tokens. `--seconds S` is the time of a
//!   round, `--tuning overlap=0,ahead=0,recorded=0,few=0,run=0` switches things off, `--kernels FILE` loads other kernels (PTX
//!   needs overlap=0), `--kernels text` has the driver compile all of them, as other GPUs need it. Results are lines of JSON.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a tool for developers")]

#[path = "gpu/check.rs"]
mod check;
#[path = "gpu/crowd.rs"]
mod crowd;
#[path = "gpu/encoders.rs"]
mod encoders;
#[path = "../tests/numerics/ggml.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod ggml;
#[path = "gpu/profiles.rs"]
mod profiles;

use std::time::Duration;

use rag_engine::cpu::matrix::Format;
use rag_engine::rwkv::cuda::{Dense, Engine, Options, Tuning};
use rag_engine::rwkv::{Config, Formats};
use serde_json::json;

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        let value = arguments.get(at + 1).cloned();
        arguments.drain(at..(at + 2).min(arguments.len()));
        value
    };
    let seconds: f64 = option("--seconds").map_or(0.4, |text| text.parse().unwrap());
    let only: Vec<String> =
        option("--only").map_or_else(Vec::new, |text| text.split(',').map(str::to_string).collect());
    let tuning = option("--tuning").map_or_else(Tuning::default, |text| tuning(&text));
    match option("--kernels") {
        Some(text) if text == "text" => rag_engine::rwkv::cuda::use_text(),
        Some(path) => rag_engine::rwkv::cuda::use_kernels(fs_err::read(path).unwrap()),
        None => {}
    }
    let round = Duration::from_secs_f64(seconds);
    match arguments.split_first() {
        Some((what, models)) if what == "check" => check::run(models, tuning, &only),
        Some((what, plans)) if what == "bench" => plans.iter().for_each(|plan| bench(plan, round, tuning)),
        Some((what, models)) if what == "encoder-check" => encoders::check(models, &only),
        Some((what, models)) if what == "encoder-bench" => encoders::bench(models, round),
        Some((what, [model, vocabulary])) if what == "profiles" => profiles::served(model, vocabulary),
        Some((what, [model, vocabulary, device, seconds])) if what == "crowd" => {
            crowd::run(model, vocabulary, device, seconds.parse().unwrap());
        }
        _ => println!("gpu check|profiles|crowd|bench|encoder-check|encoder-bench …: see the top of gpu.rs"),
    }
}

fn tuning(text: &str) -> Tuning {
    let mut tuning = Tuning::default();
    for (name, value) in text.split(',').filter_map(|part| part.split_once('=')) {
        let value: usize = value.parse().unwrap();
        match name {
            "overlap" => tuning.overlap = value > 0,
            "ahead" => tuning.ahead_bytes = value << 10,
            "recorded" => tuning.recorded = value > 0,
            "run" => tuning.run_tokens = value,
            _ => tuning.few_max = value,
        }
    }
    tuning
}

fn bench(plan: &str, round: Duration, tuning: Tuning) {
    if let Err(error) = measure(plan, round, tuning) {
        println!("{}", json!({ "plan": plan, "error": error.to_string() }));
    }
}

fn measure(plan: &str, round: Duration, tuning: Tuning) -> rag_core::Result<()> {
    let mut parts = plan.split(':');
    let (size, format) = (parts.next().unwrap(), parts.next().unwrap());
    let config = Config::published(size).unwrap();
    let kind = if format == "bf16" { Format::F32 } else { Format::parse(format).unwrap() };
    let works: Vec<&str> = parts.collect();
    let sequences = works.iter().filter_map(|work| counts(work)).map(|(_, n, _)| n).max().unwrap_or(1);
    let options = Options { device: 0, sequences, formats: Formats::of(kind), dense: Dense::Bf16, tuning };
    let start = std::time::Instant::now();
    let mut engine = Engine::random(&config, 1, &options)?;
    let bandwidth = engine.memory_bandwidth()?;
    println!(
        "{}",
        json!({
            "size": size, "format": format, "device": engine.name(), "load_s": start.elapsed().as_secs_f64(),
            "bytes_read_a_token_gb": engine.bytes_read() as f64 / 1e9,
            "memory_taken_gb": engine.memory_taken()? as f64 / 1e9, "copy_gb_s": bandwidth / 1e9,
        })
    );
    let state = config.state_len() * 4;
    for work in works {
        let Some((kind, n, len)) = counts(work) else { continue };
        let (rate, share) = if kind == 'd' {
            let rate = engine.decode_rate(n, round)?;
            let bound = n as f64 * bandwidth / (engine.bytes_read() + 2 * n * state) as f64;
            (rate, rate / bound)
        } else {
            (engine.prefill_rate(n, len, round)?, 0.0)
        };
        println!(
            "{}",
            json!({ "size": size, "format": format, "work": work, "tokens_a_second": rate, "of_memory_bound": share })
        );
    }
    Ok(())
}

/// The kind, how many sequences, how many tokens each.
fn counts(work: &str) -> Option<(char, usize, usize)> {
    let kind = work.chars().next()?;
    let (n, len) = work[1..].split_once('x').unwrap_or((&work[1..], "1"));
    Some((kind, n.parse().ok()?, len.parse().ok()?))
}
