//! Measures and converts language models.
//!
//! ```text
//! language_model decode|prefill WEIGHTS|SIZE [FORMATS] [THREADS] [BATCHES|LENGTHS]   tokens a second, memory
//! language_model steps WEIGHTS|SIZE [FORMAT] [THREADS]               fastest single steps: robust on a busy machine
//! language_model loss WEIGHTS VOCABULARY TEXT [FORMAT]               nats a token over the first tokens of a text
//! language_model keep VOCABULARY COUNT_MIN < TEXT > IDS              ids that a text uses so often
//! language_model convert INPUT OUTPUT TABLES TIME CHANNEL [IDS]       packed file; formats int8 or int4
//! language_model answers WEIGHTS VOCABULARY [FORMAT] < PROMPTS        greedy answers; a JSON string a line, both ways
//! ```
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::error::Error;
use std::io::BufRead;
use std::path::Path;
use std::time::{Duration, Instant};

use rag_engine::bench::{self, Plan, Source, What};
use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::pool::Pool;
use rag_engine::cpu::product::Cpu;
use rag_engine::cpu::simd::Simd;
use rag_engine::generate::load_engine;
use rag_engine::packed::{self, quantize_with};
use rag_engine::rwkv::{Config, Engine, Formats, Logits, Model, Piece, RandomModel, State};
use rag_engine::tokenizer::{END_OF_TEXT, Tokenizer};
use rag_engine::{Device, LanguageModelConfig};

/// Tokens over which a loss is taken, and how many are read before each document starts anew.
const LOSS_TOKENS: usize = 16_384;
const LOSS_WINDOW: usize = 256;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match text.as_slice() {
        ["decode", weights, rest @ ..] => speed(What::Decode, weights, rest),
        ["prefill", weights, rest @ ..] => speed(What::Prefill, weights, rest),
        ["steps", weights, rest @ ..] => steps(weights, rest),
        ["loss", weights, vocabulary, text, rest @ ..] => loss(weights, vocabulary, text, rest),
        ["keep", vocabulary, count_min] => keep(vocabulary, count_min.parse()?),
        ["convert", input, output, tables, time, channel, ids @ ..] => {
            convert(input, output, [tables, time, channel], ids.first())
        }
        ["answers", weights, vocabulary, rest @ ..] => answers(weights, vocabulary, rest),
        _ => Err("see the first lines of this file for the commands".into()),
    }
}

fn config(weights: &str, rest: &[&str]) -> LanguageModelConfig {
    LanguageModelConfig {
        device: Device::Cpu,
        weights: weights.into(),
        vocabulary: "".into(),
        name: "bench".to_string(),
        slots: 8,
        queue_max: 8,
        threads: rest.get(1).and_then(|threads| threads.parse().ok()).unwrap_or(0),
        state_cache_bytes: 0,
        state_cache_disk: None,
        profiles: Vec::new(),
        quantize: rest.first().and_then(|name| Format::parse(name)).map(Formats::of),
        demonstration: true,
    }
}

/// As `rwkv-rag bench`: WEIGHTS may be a size such as 1b6, formats and counts are lists.
fn speed(what: What, weights: &str, rest: &[&str]) -> Result<()> {
    let list = |at: usize, default: &'static str| rest.get(at).copied().unwrap_or(default).split(',');
    let counts = list(2, if what == What::Decode { "1,8" } else { "64,256" });
    let counts: Vec<usize> = counts.map(str::parse).collect::<std::result::Result<_, _>>()?;
    let threads = rest.get(1).and_then(|threads| threads.parse().ok()).unwrap_or(0);
    let source = match Config::published(weights) {
        Some(_) => Source::Random { size: weights.to_string(), threads, device: Device::Cpu },
        None => Source::File(config(weights, &["", *rest.get(1).unwrap_or(&"0")])),
    };
    let plan = Plan {
        source,
        formats: list(0, "").filter_map(Format::parse).collect(),
        batches: if what == What::Decode { counts.clone() } else { vec![1] },
        lengths: counts,
        round: Duration::from_millis(1500),
    };
    for result in bench::run(what, &plan)? {
        println!("{:50} {:10.3} {}", result.name, result.value, result.unit);
    }
    Ok(())
}

fn steps(weights: &str, rest: &[&str]) -> Result<()> {
    let mut engine = match Config::published(weights) {
        Some(sizes) => {
            let format = rest.first().and_then(|name| Format::parse(name)).unwrap_or(Format::Int8);
            let model = Model::read(&RandomModel::new(&sizes, 1), format)?;
            let threads = rest.get(1).and_then(|threads| threads.parse().ok()).unwrap_or(1);
            Engine::new(model, Cpu { pool: Pool::new(threads)?, simd: Simd::detect() })
        }
        None => load_engine(&config(weights, rest))?,
    };
    for (batch, len) in [(1, 1), (8, 1), (1, 64), (1, 256)] {
        let tokens: Vec<u32> = (0..len).map(|i| 1000 + 37 * i).collect();
        let mut states = vec![State::zero(engine.config()); batch];
        let mut times: Vec<Duration> = Vec::new();
        let begin = Instant::now();
        let processor_start = processor_seconds();
        while begin.elapsed() < Duration::from_secs(3) {
            let start = Instant::now();
            let piece = |state| Piece { tokens: &tokens, state, logits: Logits::Last, adapter: None };
            engine.forward(&mut states.iter_mut().map(piece).collect::<Vec<_>>());
            times.push(start.elapsed());
        }
        times.sort();
        let rate = |time: Duration| (batch as u32 * len) as f64 / time.as_secs_f64();
        let (best, tenth, median) = (times[0], times[times.len() / 10], times[times.len() / 2]);
        let tokens = times.len() as f64 * f64::from(batch as u32 * len);
        println!(
            "batch {batch} × {len:3} tokens: best {:8.0}, tenth {:8.0}, median {:8.0} tokens/s; {:8.0} tokens a second of this thread",
            rate(best),
            rate(tenth),
            rate(median),
            tokens / (processor_seconds() - processor_start)
        );
    }
    Ok(())
}

/// Time for which this thread has run; with one thread, what a busy machine does not distort much.
fn processor_seconds() -> f64 {
    let text = fs_err::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN) * 1e-9
}

fn loss(weights: &str, vocabulary: &str, text: &str, rest: &[&str]) -> Result<()> {
    let world = Tokenizer::load(Path::new(vocabulary))?;
    let text = fs_err::read_to_string(text)?;
    let ids = world.encode(&text);
    let mut engine = load_engine(&config(weights, rest))?;
    let vocabulary = engine.config().vocabulary;
    let (mut sum, mut count, mut impossible, mut right) = (0.0, 0, 0, 0);
    for window in ids[..ids.len().min(LOSS_TOKENS)].chunks(LOSS_WINDOW) {
        let mut tokens = vec![END_OF_TEXT];
        tokens.extend_from_slice(&window[..window.len() - 1]);
        let mut state = State::zero(engine.config());
        let logits = engine.forward(&mut [Piece {
            tokens: &tokens,
            state: &mut state,
            logits: Logits::All,
            adapter: None,
        }]);
        for (logits, &next) in logits.chunks(vocabulary).zip(window) {
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f64 = logits.iter().map(|l| f64::from(l - top).exp()).sum();
            let logit = logits[next as usize];
            if logit == f32::NEG_INFINITY {
                impossible += 1;
                continue;
            }
            right += usize::from(logit == top);
            sum += f64::from(top - logit) + total.ln();
            count += 1;
        }
    }
    let share = right as f64 / f64::from(count);
    println!(
        "{:.4} nats a token over {count}, {impossible} impossible, first guess right {share:.4}",
        sum / f64::from(count)
    );
    Ok(())
}

/// Text that is encoded at a time.
const KEEP_PART_BYTES: usize = 1 << 20;

fn keep(vocabulary: &str, count_min: u32) -> Result<()> {
    let world = Tokenizer::load(Path::new(vocabulary))?;
    let mut counts = vec![0u32; world.len()];
    let mut count = |text: &str| world.encode(text).into_iter().for_each(|id| counts[id as usize] += 1);
    // Tokens may span line ends, so lines are taken together.
    let mut text = String::new();
    let mut input = std::io::stdin().lock();
    while input.read_line(&mut text)? > 0 {
        if text.len() > KEEP_PART_BYTES {
            count(&text);
            text.clear();
        }
    }
    count(&text);
    // The end of text, single bytes, and what everything else can be written with.
    (0..=256).for_each(|id| counts[id] = counts[id].max(count_min));
    let kept = counts.iter().enumerate().filter(|(_, count)| **count >= count_min);
    kept.for_each(|(id, _)| println!("{id}"));
    Ok(())
}

fn convert(input: &str, output: &str, formats: [&str; 3], ids: Option<&&str>) -> Result<()> {
    let [Some(head), Some(time_mix), Some(channel_mix)] = formats.map(Format::parse) else {
        return Err("no such format".into());
    };
    let kept_ids = ids.map(|path| -> Result<Vec<u32>> {
        let text = fs_err::read_to_string(path)?;
        Ok(text.lines().map(str::parse).collect::<Result<_, _>>()?)
    });
    let formats = Formats { embedding: head, head, time_mix, channel_mix, low_rank: Format::Int8 };
    let plan = packed::Plan { formats, kept_ids: kept_ids.transpose()? };
    quantize_with(Path::new(input), Path::new(output), &plan)?;
    println!("{output}: {:.2} MB", fs_err::metadata(output)?.len() as f64 / 1e6);
    Ok(())
}

/// Tokens of an answer at most.
const ANSWER_TOKENS_MAX: usize = 48;

fn answers(weights: &str, vocabulary: &str, rest: &[&str]) -> Result<()> {
    let world = Tokenizer::load(Path::new(vocabulary))?;
    let mut engine = load_engine(&config(weights, rest))?;
    for line in std::io::stdin().lock().lines() {
        let prompt: String = serde_json::from_str(&line?)?;
        let mut state = State::zero(engine.config());
        let mut next = world.encode(&prompt);
        let mut answer = Vec::new();
        for _ in 0..ANSWER_TOKENS_MAX {
            let logits = engine.read(&next, &mut state).ok_or("an empty prompt")?;
            let best =
                logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |best| best.0 as u32);
            if best == END_OF_TEXT {
                break;
            }
            answer.push(best);
            next = vec![best];
        }
        println!("{}", serde_json::to_string(&String::from_utf8_lossy(&world.decode(&answer)))?);
    }
    Ok(())
}
