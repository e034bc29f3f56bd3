//! The language model behind its port: answers, stops, limits, batches, prefixes, callers that leave.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::sync::Arc;

use rag_core::Error;
use rag_core::ports::{
    Bounds, FinishReason, Generate, GenerateRequest, GenerationEvent, GenerationStream, Sampling, Usage,
};
use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::pool::Pool;
use rag_engine::cpu::product::Cpu;
use rag_engine::cpu::simd::Simd;
use rag_engine::profile::DEFAULT_PROFILE;
use rag_engine::rwkv::{Engine, Model, State, Weights};
use rag_engine::tokenizer::Tokenizer;
use rag_engine::{Device, LanguageModel, LanguageModelConfig};

mod beams;
mod devices;
mod profiles;
mod streams;
#[path = "../numerics/synthetic.rs"]
mod synthetic;
use synthetic::Synthetic;

/// Every byte, and ten words: 267 ids of the model's 300.
fn tokenizer() -> Tokenizer {
    let bytes = (0..256).map(|byte| format!("{} b'\\x{byte:02x}' 1\n", byte + 1));
    let words = (0..10).map(|i| format!("{} 'word{i}' 5\n", 257 + i));
    Tokenizer::parse(&bytes.chain(words).collect::<String>()).unwrap()
}

fn engine_of(weights: &dyn Weights) -> Engine {
    let cpu = Cpu { pool: Pool::new(2).unwrap(), simd: Simd::detect() };
    Engine::new(Model::read(weights, Format::Int8).unwrap(), cpu)
}

fn config() -> LanguageModelConfig {
    LanguageModelConfig {
        device: Device::Cpu,
        weights: "unused".into(),
        vocabulary: "unused".into(),
        name: "synthetic".into(),
        slots: 3,
        queue_max: 16,
        threads: 2,
        state_cache_bytes: 0,
        state_cache_disk: None,
        profiles: Vec::new(),
        quantize: None,
        demonstration: true,
    }
}

fn model(config: LanguageModelConfig) -> Arc<LanguageModel> {
    LanguageModel::start(engine_of(&Synthetic::new(1)), tokenizer(), config).unwrap()
}

/// Copies of the model on so many devices, each of one thread.
fn model_on(devices: usize, config: LanguageModelConfig) -> Arc<LanguageModel> {
    let runner = || {
        let cpu = Cpu { pool: Pool::new(1).unwrap(), simd: Simd::detect() };
        Engine::new(Model::read(&Synthetic::new(1), Format::Int8).unwrap(), cpu).into()
    };
    LanguageModel::start_on((0..devices).map(|_| runner()).collect(), tokenizer(), config).unwrap()
}

fn request(prompt: &str, tokens_max: u32) -> GenerateRequest {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    GenerateRequest {
        prompt: prompt.to_string(),
        sampling,
        tokens_max,
        stop: Vec::new(),
        tenant: String::new(),
        bounds: None,
        variant: None,
    }
}

async fn next(stream: &mut GenerationStream) -> Option<rag_core::Result<GenerationEvent>> {
    std::future::poll_fn(|context| stream.as_mut().poll_next(context)).await
}

/// The whole answer.
async fn collect(mut stream: GenerationStream) -> (String, FinishReason, Usage) {
    let mut text = String::new();
    loop {
        match next(&mut stream).await.unwrap().unwrap() {
            GenerationEvent::Text(part) => text.push_str(&part),
            GenerationEvent::Done { reason, usage } => {
                assert!(next(&mut stream).await.is_none());
                return (text, reason, usage);
            }
        }
    }
}

async fn answer(model: &LanguageModel, request: GenerateRequest) -> (String, FinishReason, Usage) {
    collect(model.generate(request).await.unwrap()).await
}

/// Greedy continuation without the worker.
fn plainly(prompt: &str, tokens: usize) -> Vec<u32> {
    let tokenizer = tokenizer();
    let mut engine = engine_of(&Synthetic::new(1));
    let mut state = State::zero(engine.config());
    let mut logits = engine.read(&tokenizer.encode(prompt), &mut state).unwrap();
    let mut out = Vec::new();
    for _ in 0..tokens {
        let texts =
            logits.iter().enumerate().filter(|(id, _)| *id == 0 || !tokenizer.token(*id as u32).is_empty());
        // The first of equals, as the sampler takes it.
        let best =
            texts.fold((0, f32::NEG_INFINITY), |best, (id, &l)| if l > best.1 { (id, l) } else { best });
        if best.0 == 0 {
            break;
        }
        out.push(best.0 as u32);
        logits = engine.read(&[best.0 as u32], &mut state).unwrap();
    }
    out
}

fn text_of(ids: &[u32]) -> String {
    String::from_utf8_lossy(&tokenizer().decode(ids)).into_owned()
}

#[tokio::test]
async fn answers_are_the_plain_continuation_one_or_many_at_a_time() {
    let model = model(config());
    assert_eq!(
        (model.identity(), model.demonstration(), model.count_tokens("word3!")),
        ("synthetic".to_owned(), true, 2)
    );
    let long = "word1 word2. ".repeat(120);
    let prompts = ["hello", "word3", &long, "天气", "a", "longer prompt with words", "x", "yz", ""];
    let mut streams = Vec::new();
    for prompt in prompts {
        streams.push(model.generate(request(prompt, 30)).await.unwrap());
    }
    for (prompt, stream) in prompts.iter().zip(streams) {
        let (text, reason, usage) = collect(stream).await;
        if !prompt.is_empty() {
            let want = plainly(prompt, 30);
            assert_eq!(text, text_of(&want), "{prompt:?}");
            assert_eq!(usage.output_tokens as usize, want.len());
            assert_eq!(usage.prompt_tokens, model.count_tokens(prompt));
            assert_eq!(reason, if want.len() == 30 { FinishReason::Length } else { FinishReason::Stop });
        }
    }
}

#[tokio::test]
async fn an_answer_ends_before_a_stop_string() {
    let model = model(config());
    let whole = text_of(&plainly("hello", 40));
    let stop = whole.chars().skip(10).find(char::is_ascii_graphic).unwrap().to_string();
    let asked = GenerateRequest { stop: vec!["never there".into(), stop.clone()], ..request("hello", 40) };
    let (text, reason, usage) = answer(&model, asked).await;
    assert_eq!(text, whole.split(&stop).next().unwrap());
    assert!(text.len() < whole.len());
    assert_eq!(reason, FinishReason::Stop);
    assert!(usage.output_tokens <= 40);
}

/// A model whose logits are largest for id 0, whatever it reads.
struct Silent(Synthetic);

impl Weights for Silent {
    fn names(&self) -> Vec<String> {
        self.0.names()
    }
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.shape(name)
    }
    fn read(&self, name: &str) -> rag_core::Result<Vec<f32>> {
        let mut values = self.0.read(name)?;
        match name {
            "ln_out.weight" => values.fill(0.0),
            "ln_out.bias" => values.fill(1.0),
            "head.weight" => values[..128].fill(10.0),
            _ => {}
        }
        Ok(values)
    }
    fn error(&self, message: String) -> Error {
        self.0.error(message)
    }
}

#[tokio::test]
async fn the_end_of_text_ends_an_answer() {
    let model = LanguageModel::start(engine_of(&Silent(Synthetic::new(1))), tokenizer(), config()).unwrap();
    let (text, reason, usage) = answer(&model, request("hello", 20)).await;
    assert_eq!((text.as_str(), reason), ("", FinishReason::Stop));
    assert_eq!(usage, Usage { prompt_tokens: 5, output_tokens: 0 });
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_caller_who_leaves_frees_the_slot() {
    let model = model(LanguageModelConfig { slots: 1, queue_max: 1, ..config() });
    let sampling = Sampling { seed: Some(1), top_p: 1.0, ..Sampling::default() };
    let endless = |prompt| GenerateRequest { sampling: sampling.clone(), ..request(prompt, 32_768) };
    // Its first text shows that it has the slot. Random text may end by itself, so several are tried.
    let mut running = model.generate(endless("a")).await.unwrap();
    assert!(next(&mut running).await.is_some());
    let waiting = model.generate(endless("b")).await.unwrap();
    match model.generate(endless("c")).await {
        Err(Error::Busy { limit: 1, .. }) => {}
        Err(other) => panic!("{other}"),
        // The first had ended meanwhile.
        Ok(_) => assert!(model.totals().requests > 1),
    }
    drop(waiting);
    drop(running);
    // The one that left the queue is skipped, the one that left its slot makes room.
    loop {
        match model.generate(request("d", 3)).await {
            Ok(stream) => {
                assert_eq!(collect(stream).await.2.prompt_tokens, 1);
                break;
            }
            Err(Error::Busy { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_known_prefix_is_not_read_again() {
    let with = model(LanguageModelConfig { state_cache_bytes: 64 << 20, ..config() });
    let without = model(config());
    let history = "word1 word2 and more. ".repeat(40);
    let mut known = 0;
    for (prompt, known_min) in [
        (history.clone(), 0),
        (history.clone(), history.len() / 2),
        (format!("{history}And now?"), history.len() / 2),
        (format!("other {history}"), 0),
    ] {
        let expected = answer(&without, request(&prompt, 20)).await;
        assert_eq!(answer(&with, request(&prompt, 20)).await, expected);
        let now = with.totals().prompt_tokens_known - known;
        let tokens = with.count_tokens(&prompt) as usize;
        assert!(now as usize >= known_min * tokens / prompt.len(), "{now} of {tokens} known");
        assert!(known_min > 0 || now == 0, "{now} known");
        known += now;
    }
    assert_eq!(without.totals().prompt_tokens_known, 0);
    assert!(with.totals().output_tokens > 0);
}

/// The first token after a long known prefix costs what it costs after none: the question's tokens are read, no others.
#[tokio::test]
async fn a_prepared_prefix_of_4096_tokens_costs_nothing_more() {
    let model = model(LanguageModelConfig { state_cache_bytes: 64 << 20, ..config() });
    let prefix = "word1word2".repeat(2_048);
    assert_eq!(model.count_tokens(&prefix), 4_096);
    model.prepare(DEFAULT_PROFILE, "", &prefix).await.unwrap();
    let read = || model.totals().prompt_tokens - model.totals().prompt_tokens_known;
    let begun = read();
    answer(&model, request("word3?", 1)).await;
    let alone = read() - begun;
    let (.., usage) = answer(&model, request(&format!("{prefix}word4!"), 1)).await;
    assert_eq!((usage.prompt_tokens, read() - begun), (4_098, 2 * alone));
}

/// A conversation: the second prompt holds the first one and its answer.
#[tokio::test]
async fn an_answer_s_state_is_kept_for_the_next_round() {
    let model = model(LanguageModelConfig { state_cache_bytes: 64 << 20, ..config() });
    let tokenizer = tokenizer();
    let (text, ..) = answer(&model, request("hello word1", 12)).await;
    let next = format!("hello word1{text} and");
    let known_before = model.totals().prompt_tokens_known;
    answer(&model, request(&next, 2)).await;
    let known = (model.totals().prompt_tokens_known - known_before) as usize;
    // All of it when the answer is encoded again as it was written; at least the first prompt.
    assert!(known >= tokenizer.count("hello word1") - 1, "{known}");
}

#[tokio::test]
async fn a_seed_fixes_the_answer_whatever_runs_beside_it() {
    let model = model(config());
    let sampling = Sampling { seed: Some(9), top_p: 0.9, frequency_penalty: 0.2, ..Sampling::default() };
    let asked = GenerateRequest { sampling, ..request("hello", 25) };
    let alone = answer(&model, asked.clone()).await;
    let beside = model.generate(request("something else entirely", 40)).await.unwrap();
    assert_eq!(answer(&model, asked).await, alone);
    collect(beside).await;
}

#[tokio::test]
async fn requests_out_of_range_are_refused() {
    let model = model(config());
    let fine = request("a", 1);
    for (bad, complaint) in [
        (request("a", 0), "tokens_max"),
        (request("a", 40_000), "tokens_max"),
        (GenerateRequest { stop: vec![String::new()], ..fine.clone() }, "stop string"),
        (GenerateRequest { stop: vec!["x".repeat(300)], ..fine.clone() }, "stop string"),
        (GenerateRequest { stop: vec!["x".into(); 17], ..fine.clone() }, "stop strings"),
        (request(&"x".repeat(300_000), 1), "300000 tokens"),
        (
            GenerateRequest { sampling: Sampling { top_p: 2.0, ..Sampling::default() }, ..fine.clone() },
            "top_p",
        ),
    ] {
        match model.generate(bad).await {
            Err(Error::InvalidInput { message }) => assert!(message.contains(complaint), "{message}"),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("accepted: {complaint}"),
        }
    }
    assert_eq!(answer(&model, fine).await.2.output_tokens, 1);
}

#[tokio::test]
async fn a_bounded_answer_is_words_of_the_text() {
    let model = model(config());
    let text = "一个不长的段落，里面 has English words，还有 123 个数字。";
    for prompt in ["hello", "什么？", "other words"] {
        let bounds = Bounds { parts_of: vec![text.into()], or_whole: vec!["没有答案。".into()] };
        let (answer, ..) =
            answer(&model, GenerateRequest { bounds: Some(bounds), ..request(prompt, 40) }).await;
        let answer = answer.trim_start();
        assert!(!answer.is_empty(), "{prompt}");
        assert!(text.contains(answer) || "没有答案。".starts_with(answer), "{answer}");
    }
}
