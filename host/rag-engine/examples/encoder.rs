//! Measures the embedding model: its speed, and its quality on questions with known paragraphs.
//!
//! ```text
//! cargo run --release -p rag-engine --example encoder -- speed MODEL
//! xzcat questions.jsonl.xz | cargo run --release -p rag-engine --example encoder -- quality MODEL [int8|f32]
//! ```
//! Questions are JSON objects, one a line, with `question` and `context`; a question's own context is the paragraph
//! to be found among all contexts.
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::collections::HashMap;
use std::error::Error;
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rag_core::document::Vectors;
use rag_core::ports::{Embed, Purpose, Rerank};
use rag_engine::Device;
use rag_engine::encoder::{Encoder, EncoderConfig, Isa, MaxSim, Precision, bench};

/// Candidates reranked, as the answer flow does it.
const CANDIDATES: usize = 10;
const CACHE_BYTES: usize = 1 << 30;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let config = |weights: &str| EncoderConfig {
        weights: PathBuf::from(weights),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        queue_max: 64,
        batch_tokens_max: 8192,
        device: Device::Auto,
    };
    match text.as_slice() {
        ["speed", weights] => speed(&config(weights)),
        ["quality", weights, rest @ ..] => {
            let precision = if rest.first() == Some(&"f32") { Precision::F32 } else { Precision::Int8 };
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            runtime.block_on(quality(&Encoder::load_as(&config(weights), precision, Isa::detect())?))
        }
        _ => Err("usage: encoder speed MODEL | encoder quality MODEL [int8|f32] < questions.jsonl".into()),
    }
}

fn speed(config: &EncoderConfig) -> Result<()> {
    for report in
        [bench::embed(config, Duration::from_secs(3))?, bench::rerank(config, Duration::from_secs(3))?]
    {
        println!("kernels: {}", report.kernels);
        for line in report.results {
            println!("{:60} {:9.2} {}", line.name, line.value, line.unit);
        }
    }
    Ok(())
}

struct Questions {
    paragraphs: Vec<String>,
    /// Question and the index of its paragraph.
    list: Vec<(String, usize)>,
}

fn read() -> Result<Questions> {
    let mut places = HashMap::new();
    let mut questions = Questions { paragraphs: Vec::new(), list: Vec::new() };
    for line in std::io::stdin().lock().lines() {
        let row: serde_json::Value = serde_json::from_str(&line?)?;
        let field =
            |name: &str| row[name].as_str().map(str::to_owned).ok_or_else(|| format!("no '{name}' in {row}"));
        let context = field("context")?;
        let place = *places.entry(context.clone()).or_insert_with(|| {
            questions.paragraphs.push(context);
            questions.paragraphs.len() - 1
        });
        questions.list.push((field("question")?, place));
    }
    Ok(questions)
}

/// The best scores of one question: over all paragraphs, and over all but its own.
struct Best {
    with: f32,
    without: f32,
}

async fn quality(encoder: &Arc<Encoder>) -> Result<()> {
    let questions = read()?;
    let started = Instant::now();
    let passages = embed(encoder, questions.paragraphs.clone(), Purpose::Passage).await?;
    println!("{} paragraphs in {:.1} s", questions.paragraphs.len(), started.elapsed().as_secs_f64());
    let texts = questions.list.iter().map(|(text, _)| text.clone()).collect();
    let queries = embed(encoder, texts, Purpose::Query).await?;
    let max_sim = MaxSim::with_cache(Arc::clone(encoder), CACHE_BYTES);
    let (mut dense, mut reranked) = (Vec::new(), Vec::new());
    let (mut dense_ranks, mut reranked_first) = (Vec::new(), 0);
    for ((text, gold), query) in questions.list.iter().zip(queries.iter()) {
        let mut order: Vec<(f32, usize)> = passages.iter().map(|row| dot(query, row)).zip(0..).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        dense_ranks.push(order.iter().position(|(_, place)| place == gold).unwrap_or(usize::MAX));
        dense.push(best(&order, *gold));
        // One more, so that there are enough when the own paragraph is left out.
        let candidates: Vec<usize> = order.iter().take(CANDIDATES + 1).map(|(_, place)| *place).collect();
        let texts: Vec<String> =
            candidates.iter().map(|place| questions.paragraphs[*place].clone()).collect();
        let scores = max_sim.rerank(text, &texts).await?;
        let mut order: Vec<(f32, usize)> = scores.into_iter().zip(candidates).take(CANDIDATES).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        reranked_first += usize::from(order.first().is_some_and(|(_, place)| place == gold));
        reranked.push(best(&order, *gold));
    }
    let share = |count: usize| count as f64 / questions.list.len() as f64;
    let within = |k: usize| share(dense_ranks.iter().filter(|rank| **rank < k).count());
    println!("{} questions; dense R@1 {:.4} R@10 {:.4}", questions.list.len(), within(1), within(10));
    println!(
        "MaxSim of the best {CANDIDATES}: R@1 {:.4}; {:.0} s in all",
        share(reranked_first),
        started.elapsed().as_secs_f64()
    );
    thresholds("dense cosine", &dense);
    thresholds("MaxSim", &reranked);
    Ok(())
}

async fn embed(encoder: &Arc<Encoder>, texts: Vec<String>, purpose: Purpose) -> Result<Vectors> {
    let mut all = Vectors { dim: encoder.dim(), data: Vec::new() };
    for part in texts.chunks(64) {
        all.data.extend(encoder.embed(part.to_vec(), purpose).await?.data);
    }
    Ok(all)
}

fn best(order: &[(f32, usize)], gold: usize) -> Best {
    let first =
        |own: bool| order.iter().find(|(_, place)| own || *place != gold).map_or(-1.0, |(score, _)| *score);
    Best { with: first(true), without: first(false) }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// How often a lower bound refuses a question that has its paragraph, and lets one pass that has not.
fn thresholds(name: &str, scores: &[Best]) {
    let share = |test: &dyn Fn(&Best) -> bool| {
        scores.iter().filter(|score| test(score)).count() as f64 / scores.len() as f64 * 100.0
    };
    let quantiles = |of: &dyn Fn(&Best) -> f32| {
        let mut values: Vec<f32> = scores.iter().map(of).collect();
        values.sort_by(f32::total_cmp);
        [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99].map(|q| values[(q * (values.len() - 1) as f64) as usize])
    };
    println!("{name}: 1 5 25 50 75 95 99 % with the paragraph {:.3?}", quantiles(&|s| s.with));
    println!("{name}: the same without it             {:.3?}", quantiles(&|s| s.without));
    for step in 0..=40 {
        let bound = 0.76 + step as f32 * 0.005;
        let (refused, passed) = (share(&|s| s.with < bound), share(&|s| s.without >= bound));
        if refused < 60.0 && passed < 99.5 {
            println!("{name} >= {bound:.3}: refuses {refused:5.1} % wrongly, answers {passed:5.1} % wrongly");
        }
    }
}
