//! Many streams at once for minutes, with callers that cancel and disconnect: is a slot lost, does memory grow, is every
//! text that of its solo run?
//!
//! ```text
//! soak WEIGHTS VOCABULARY [MINUTES] [STREAMS]     10 minutes of 64 streams; fails when one of the three is not so
//! ```
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rag_core::ports::{Generate, GenerateRequest, GenerationEvent, GenerationStream, Sampling};
use rag_engine::random::Random;
use rag_engine::{Device, LanguageModel, LanguageModelConfig};

/// Tokens of an answer at most.
const TOKENS: u32 = 48;
/// Different prompts; as each is asked again and again, prefixes are known in part.
const PROMPTS: usize = 60;
/// What the memory may grow by after the first tenth, of what it was then.
const GROWTH_MAX: f64 = 0.05;

/// When every slot must be free after the last answer.
const FREED_IN: Duration = Duration::from_secs(10);

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

#[derive(Debug, Default)]
struct Counts {
    whole: u64,
    cut: u64,
    dropped: u64,
    wrong: u64,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, vocabulary, rest @ ..] = arguments.as_slice() else {
        return Err("see the first lines of this file for the command".into());
    };
    let number = |at: usize, usual: f64| rest.get(at).map_or(Ok(usual), |text| text.parse::<f64>());
    let (minutes, streams) = (number(0, 10.0)?, number(1, 64.0)? as usize);
    let model = LanguageModel::load(LanguageModelConfig {
        device: Device::Cpu,
        weights: weights.into(),
        vocabulary: vocabulary.into(),
        name: "soak".to_owned(),
        slots: streams,
        queue_max: 2 * streams,
        threads: 0,
        state_cache_bytes: 32 << 20,
        state_cache_disk: None,
        profiles: Vec::new(),
        quantize: None,
        demonstration: false,
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, run(model, Duration::from_secs_f64(60.0 * minutes), streams))
}

async fn run(model: Arc<LanguageModel>, time: Duration, streams: usize) -> Result<()> {
    let mut solo = Vec::new();
    for number in 0..PROMPTS {
        let prompt = prompt(number);
        let text = whole(model.generate(request(&prompt)).await?).await?;
        solo.push((prompt, text));
    }
    let (solo, counts) = (Rc::new(solo), Rc::new(RefCell::new(Counts::default())));
    let begun = Instant::now();
    let callers: Vec<_> = (0..streams as u64)
        .map(|seed| {
            tokio::task::spawn_local(caller(model.clone(), solo.clone(), counts.clone(), seed, begun + time))
        })
        .collect();
    let mut first = None;
    for tenth in 1..=10 {
        tokio::time::sleep_until((begun + time * tenth / 10).into()).await;
        let (memory, now) = (resident_mib()?, model.totals());
        first.get_or_insert(memory);
        println!(
            "{:5.0} s: {memory:7.1} MiB, {} sequences running, {} requests, {} tokens written, {:?}",
            begun.elapsed().as_secs_f64(),
            now.running,
            now.requests,
            now.output_tokens,
            counts.borrow()
        );
    }
    for caller in callers {
        caller.await?;
    }
    // Those that left are noticed at the next step: a last request makes sure that there is one.
    whole(model.generate(request("end")).await?).await?;
    // A slot is free a moment after the end of its answer was sent.
    let limit = Instant::now() + FREED_IN;
    while model.totals().running > 0 && Instant::now() < limit {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (held, memory) = (model.totals().running, resident_mib()?);
    let (first, counts) = (first.unwrap_or(memory), counts.borrow());
    println!(
        "{streams} streams for {:.0} s: {} slots held, {} wrong texts, {first:.1} -> {memory:.1} MiB",
        begun.elapsed().as_secs_f64(),
        held,
        counts.wrong
    );
    match held == 0 && counts.wrong == 0 && memory <= first * (1.0 + GROWTH_MAX) {
        true => Ok(()),
        false => Err("that is not as it should be".into()),
    }
}

/// One client: half of its answers are read whole, the others left after a few events, or before the first.
async fn caller(
    model: Arc<LanguageModel>,
    solo: Rc<Vec<(String, String)>>,
    counts: Rc<RefCell<Counts>>,
    seed: u64,
    until: Instant,
) {
    let mut random = Random::seeded(seed);
    while Instant::now() < until {
        let (prompt, expected) = &solo[random.below(solo.len() as u64) as usize];
        let events = match random.below(8) {
            0..4 => u64::MAX,
            4..7 => random.below(20),
            _ => 0,
        };
        let read = match model.generate(request(prompt)).await {
            Ok(stream) => read(stream, events).await,
            Err(error) => Err(error.into()),
        };
        let mut counts = counts.borrow_mut();
        match (events, read) {
            (u64::MAX, Ok(text)) if text == *expected => counts.whole += 1,
            (0, Ok(_)) => counts.dropped += 1,
            (1..u64::MAX, Ok(text)) if expected.starts_with(&text) => counts.cut += 1,
            (_, other) => {
                counts.wrong += 1;
                println!("{prompt}: {other:?} instead of {expected:?}");
            }
        }
    }
}

fn prompt(number: usize) -> String {
    let words = ["苹果", "天空", "知识库", "the river", "a model", "北京", "检索", "history", "水", "light"];
    let [a, b] = [words[number % words.len()], words[(number / words.len() + 3 * number) % words.len()]];
    match number % 3 {
        0 => format!("User: {a}和{b}有什么关系？\n\nAssistant:"),
        1 => format!("User: What does {a} have to do with {b}?\n\nAssistant:"),
        _ => format!("{a}、{b}：{}", "春眠不觉晓，处处闻啼鸟。".repeat(number % 7)),
    }
}

fn request(prompt: &str) -> GenerateRequest {
    GenerateRequest {
        prompt: prompt.to_owned(),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        tokens_max: TOKENS,
        stop: Vec::new(),
        tenant: String::new(),
        bounds: None,
        variant: None,
    }
}

async fn whole(stream: GenerationStream) -> Result<String> {
    read(stream, u64::MAX).await
}

/// The text of so many events; the stream is dropped after them.
async fn read(mut stream: GenerationStream, events: u64) -> Result<String> {
    let mut text = String::new();
    for _ in 0..events {
        match std::future::poll_fn(|context| stream.as_mut().poll_next(context)).await {
            Some(Ok(GenerationEvent::Text(part))) => text.push_str(&part),
            Some(Ok(GenerationEvent::Done { .. })) | None => break,
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(text)
}

fn resident_mib() -> Result<f64> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}
