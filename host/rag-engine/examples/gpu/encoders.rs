//! Whether a GPU runs encoders as the processor does, and how fast.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rag_core::ports::{Embed, Purpose, Rerank};
use rag_engine::Device;
use rag_engine::encoder::gpu::trial::{Distance, Trial};
use rag_engine::encoder::{CrossEncoder, Encoder, EncoderConfig, Isa, MaxSim, Precision};
use serde_json::json;

use super::check::{Outcome, error, wanted, within};

/// Of one pass: a tile of queries is 64, a step of keys too.
const LENGTHS: [usize; 7] = [300, 1, 513, 2, 65, 31, 64];
/// So often together that attention takes 128 queries at a time.
const CROWD: [usize; 4] = [300, 513, 65, 200];
const CROWD_TIMES: usize = 24;
const PASSAGE_CHARS: usize = 400;
const SENTENCES: [&str; 5] = [
    "知识库把文件切成小段，每一段都有自己的向量，问题来了就去找最近的那一段。",
    "The library opens at nine on weekdays and closes early before public holidays.",
    "列车从上海出发，经过南京和济南，最后到达天津，全程大约需要五个小时。",
    "Under the contract both parties settle the payment within thirty days of delivery.",
    "研究人员发现，这种材料在高温下仍然保持稳定，因此适合做发动机的部件。",
];

pub(crate) fn check(folders: &[String], only: &[String]) {
    let bert = Trial {
        words: 500,
        positions: 520,
        width: 128,
        heads: 4,
        inner: 512,
        layers: 2,
        kinds: true,
        token_width: None,
        seed: 1,
    };
    let xlm =
        Trial { width: 192, heads: 3, inner: 320, kinds: false, token_width: Some(64), seed: 2, ..bert };
    let small = Trial { width: 32, heads: 2, inner: 64, seed: 3, ..bert };
    let wide = Trial { width: 1088, heads: 17, inner: 1088, layers: 1, seed: 4, ..xlm };
    for (name, trial) in [("bert-32", bert), ("xlm-64", xlm), ("bert-16", small), ("xlm-wide", wide)] {
        for precision in [Precision::F32, Precision::Int8] {
            report(&label(name, precision), only, || {
                judge(&trial.distance(0, precision, &LENGTHS)?, precision)
            });
        }
        report(&format!("encoder {name} crowd f16"), only, || {
            judge(&trial.distance(0, Precision::Int8, &CROWD.repeat(CROWD_TIMES))?, Precision::Int8)
        });
    }
    for folder in folders {
        for precision in [Precision::F32, Precision::Int8] {
            report(&label(folder, precision), only, || compare(folder, precision));
        }
    }
}

fn label(name: &str, precision: Precision) -> String {
    format!("encoder {name} {}", if precision == Precision::F32 { "f32" } else { "f16" })
}

fn report(label: &str, only: &[String], check: impl FnOnce() -> Outcome) {
    if !wanted(only, label) {
        return;
    }
    match check() {
        Ok(text) => println!("ok   {label}: {text}"),
        Err(error) => println!("FAIL {label}: {error}"),
    }
}

/// Token vectors are of 8 bits on both: a value at the edge of two steps may fall to either.
fn judge(found: &Distance, precision: Precision) -> Outcome {
    let exact = precision == Precision::F32;
    let bound = |in_f32: f64, in_f16: f64| if exact { in_f32 } else { in_f16 };
    let all = [
        within("rows", found.rows, bound(1e-4, 1e-2))?,
        within("vectors", found.vectors, bound(1e-8, 1e-4))?,
        within("tokens", found.tokens, bound(1e-4, 1e-3))?,
        within("weights", found.weights, bound(1e-4, 1e-2))?,
        within("scores", found.scores, bound(1e-5, 1e-2))?,
    ];
    Ok(all.join(", "))
}

fn config(folder: &str, device: Device) -> EncoderConfig {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    EncoderConfig { weights: PathBuf::from(folder), threads, queue_max: 64, batch_tokens_max: 4096, device }
}

fn texts(count: usize, chars: usize) -> Vec<String> {
    let text = |index: usize| {
        let sentences = (0..).map(|i| SENTENCES[(index + i * (1 + index % 4)) % SENTENCES.len()]);
        format!("{index} {}", sentences.flat_map(str::chars).take(chars).collect::<String>())
    };
    (0..count).map(text).collect()
}

/// Texts of unequal lengths through the whole encoder, on both.
fn compare(folder: &str, precision: Precision) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mixed: Vec<String> = (0..12).flat_map(|i| texts(1, 3 + i * i * 9)).collect();
    let (question, passages) = (&mixed[3], &mixed[..]);
    let exact = precision == Precision::F32;
    let load = |device, precision| Encoder::load_as(&config(folder, device), precision, Isa::detect());
    let [cpu, gpu] = [load(Device::Cpu, Precision::F32)?, load(Device::Cuda(vec![0]), precision)?];
    let embed = |encoder: &Arc<Encoder>| runtime.block_on(encoder.embed(mixed.clone(), Purpose::Passage));
    let mut text =
        within("vectors", error(&embed(&gpu)?.data, &embed(&cpu)?.data), if exact { 1e-4 } else { 2e-2 })?;
    let scores = |encoder: &Arc<Encoder>| {
        let reranker = MaxSim::with_cache(encoder.clone(), 0);
        runtime.block_on(reranker.rerank(question, passages))
    };
    text += &within(", MaxSim", error(&scores(&gpu)?, &scores(&cpu)?), if exact { 1e-3 } else { 1e-2 })?;
    let lexical = |encoder: &Arc<Encoder>| runtime.block_on(encoder.lexical(mixed.clone(), Purpose::Passage));
    if let Ok(right) = lexical(&cpu) {
        let weights =
            |of: &[rag_engine::encoder::Lexical]| -> Vec<f32> { of.iter().map(|of| of.score(of)).collect() };
        let off = error(&weights(&lexical(&gpu)?), &weights(&right));
        text += &within(", lexical", off, if exact { 1e-3 } else { 2e-2 })?;
    }
    if let Ok(cpu) = CrossEncoder::load_as(&config(folder, Device::Cpu), Precision::F32) {
        let gpu = CrossEncoder::load_as(&config(folder, Device::Cuda(vec![0])), precision)?;
        let of = |reranker: &CrossEncoder| runtime.block_on(reranker.rerank(question, passages));
        text += &within(", cross-encoder", error(&of(&gpu)?, &of(&cpu)?), if exact { 1e-4 } else { 1e-2 })?;
    }
    Ok(text)
}

/// `random-e5`, `random-bge-m3`, or files.
pub(crate) fn bench(what: &[String], round: Duration) {
    for what in what {
        let measured = match what.strip_prefix("random-") {
            Some(size) => random(what, size, round),
            None => files(what, round),
        };
        if let Err(error) = measured {
            println!("{}", json!({ "encoder": what, "error": error.to_string() }));
        }
    }
}

fn random(what: &str, size: &str, round: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let trial = Trial::published(size).ok_or("random-e5 and random-bge-m3 are there")?;
    let start = Instant::now();
    let plans = [[1, 16], [1, 256], [8, 256], [64, 256], [64, 64], [1, trial.positions]];
    let (device, rates) = trial.rates(0, &plans, round)?;
    for rate in rates {
        println!(
            "{}",
            json!({
                "encoder": what, "device": device, "texts": rate.texts, "tokens_each": rate.tokens,
                "ms": rate.milliseconds, "texts_a_second": rate.texts_a_second,
                "tokens_a_second": rate.texts_a_second * rate.tokens as f64,
                "teraflops": rate.operations_a_second / 1e12,
            })
        );
    }
    println!("{}", json!({ "encoder": what, "seconds_in_all": start.elapsed().as_secs_f64() }));
    Ok(())
}

/// The whole encoder, its vocabulary included, a call after the other.
fn files(what: &str, round: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let start = Instant::now();
    let encoder = Encoder::load(&config(Path::new(what).to_str().unwrap(), Device::Cuda(vec![0])))?;
    println!(
        "{}",
        json!({ "encoder": what, "device": encoder.computes_on(), "load_s": start.elapsed().as_secs_f64() })
    );
    for (count, chars, purpose) in [
        (1, 12, Purpose::Query),
        (1, PASSAGE_CHARS, Purpose::Passage),
        (8, PASSAGE_CHARS, Purpose::Passage),
        (64, PASSAGE_CHARS, Purpose::Passage),
    ] {
        let texts = texts(count, chars);
        let tokens: u32 = encoder.count_tokens(&texts).iter().sum();
        runtime.block_on(encoder.embed(texts.clone(), purpose))?;
        let (start, mut calls) = (Instant::now(), 0);
        while calls == 0 || start.elapsed() < round * 3 {
            runtime.block_on(encoder.embed(texts.clone(), purpose))?;
            calls += 1;
        }
        let seconds = start.elapsed().as_secs_f64() / f64::from(calls);
        println!(
            "{}",
            json!({
                "encoder": what, "texts": count, "characters_each": chars, "tokens": tokens, "ms": seconds * 1e3,
                "texts_a_second": count as f64 / seconds, "tokens_a_second": f64::from(tokens) / seconds,
            })
        );
    }
    Ok(())
}
