//! Whether many streams at once, some of which leave, get the texts that each gets alone, on one GPU or several:
//! `gpu crowd MODEL VOCABULARY DEVICE SECONDS`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rag_core::Error;
use rag_core::ports::{GenerateRequest, GenerationEvent, GenerationStream, Sampling};
use rag_engine::profile::DEFAULT_PROFILE;
use rag_engine::random::Random;
use rag_engine::{Device, LanguageModel, LanguageModelConfig};

const STREAMS: u64 = 64;
const TOKENS: u32 = 48;
const WORDS: [&str; 16] = [
    "北京", "黄河", "李白", "唐朝", "月亮", "苹果", "大海", "杭州", "a river", "Paris", "gold", "music",
    "a train", "water", "light", "tea",
];

/// What callers got.
#[derive(Debug, Default)]
struct Seen {
    whole: usize,
    left: usize,
    differ: usize,
    tokens: usize,
}

pub(crate) fn run(model: &str, vocabulary: &str, device: &str, seconds: u64) {
    match crowd(model, vocabulary, device, seconds) {
        Ok(text) => println!("ok   crowd on {device}: {text}"),
        Err(error) => println!("FAIL crowd on {device}: {error}"),
    }
}

fn crowd(model: &str, vocabulary: &str, device: &str, seconds: u64) -> super::check::Outcome {
    let model = LanguageModel::load(LanguageModelConfig {
        weights: model.into(),
        vocabulary: vocabulary.into(),
        name: "checked".to_string(),
        device: Device::parse(device).ok_or("no such device")?,
        slots: STREAMS as usize,
        queue_max: 2 * STREAMS as usize,
        threads: 2,
        state_cache_bytes: 64 << 20,
        state_cache_disk: None,
        profiles: Vec::new(),
        quantize: None,
        demonstration: true,
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let mut solo = HashMap::new();
        for word in WORDS {
            solo.insert(word, collect(start(&model, word)?, usize::MAX).await?.0);
        }
        let solo = Arc::new(solo);
        let start = Instant::now();
        let end = start + Duration::from_secs(seconds);
        let callers: Vec<_> = (0..STREAMS).map(|seed| call(&model, seed, &solo, end)).collect();
        let all = futures(callers).await;
        let mut sum = Seen::default();
        for seen in all {
            let seen = seen?;
            sum.whole += seen.whole;
            sum.left += seen.left;
            sum.differ += seen.differ;
            sum.tokens += seen.tokens;
        }
        let rate = sum.tokens as f64 / start.elapsed().as_secs_f64();
        while model.totals().running > 0 {
            tokio::task::yield_now().await;
        }
        let text = format!("{sum:?}, {rate:.0} tokens/s, no slot held at the end");
        if sum.differ > (sum.whole + sum.left) / 20 { Err(text.into()) } else { Ok(text) }
    })
}

/// All at once, on this thread.
async fn futures<F: Future>(all: Vec<F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(done.drain(..).flatten().collect())
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}

/// One caller: a third of its texts it leaves after some events.
async fn call(
    model: &LanguageModel,
    seed: u64,
    solo: &HashMap<&'static str, String>,
    end: Instant,
) -> Result<Seen, Error> {
    let mut random = Random::seeded(seed);
    let mut seen = Seen::default();
    while Instant::now() < end {
        let word = WORDS[random.below(WORDS.len() as u64) as usize];
        let leaves = random.below(3) == 0;
        let events = if leaves { random.below(8) as usize } else { usize::MAX };
        let (text, count) = collect(start(model, word)?, events).await?;
        let right = if leaves { solo[word].starts_with(&text) } else { solo[word] == text };
        seen.differ += usize::from(!right);
        *(if leaves { &mut seen.left } else { &mut seen.whole }) += 1;
        seen.tokens += count;
    }
    Ok(seen)
}

fn start(model: &LanguageModel, word: &str) -> Result<GenerationStream, Error> {
    let request = GenerateRequest {
        prompt: format!("User: {word}?\n\nAssistant:"),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        tokens_max: TOKENS,
        stop: Vec::new(),
        tenant: String::new(),
        bounds: None,
        variant: None,
    };
    model.generate_as(DEFAULT_PROFILE, request)
}

/// The text of the first `events` events, and how many tokens were written by then.
async fn collect(mut stream: GenerationStream, events: usize) -> Result<(String, usize), Error> {
    let (mut text, mut tokens) = (String::new(), 0);
    for _ in 0..events {
        match std::future::poll_fn(|context| stream.as_mut().poll_next(context)).await {
            Some(event) => match event? {
                GenerationEvent::Text(part) => {
                    text += &part;
                    tokens += 1;
                }
                GenerationEvent::Done { usage, .. } => tokens = usage.output_tokens as usize,
            },
            None => break,
        }
    }
    Ok((text, tokens))
}
