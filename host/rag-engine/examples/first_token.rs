//! How long the first token takes with a long prefix whose state is known, beside none.
//!
//! ```text
//! first_token WEIGHTS VOCABULARY [TOKENS] [ROUNDS]      a prefix of 4096 tokens; medians over 20 rounds, by turns
//! ```
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::error::Error;
use std::time::{Duration, Instant};

use rag_core::ports::{Generate, GenerateRequest, GenerationEvent, Sampling};
use rag_engine::profile::DEFAULT_PROFILE;
use rag_engine::{Device, LanguageModel, LanguageModelConfig};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, vocabulary, rest @ ..] = arguments.as_slice() else {
        return Err("see the first lines of this file for the command".into());
    };
    let number = |at: usize, usual: usize| rest.get(at).map_or(Ok(usual), |text| text.parse::<usize>());
    let (tokens, rounds) = (number(0, 4096)?, number(1, 20)?);
    let model = LanguageModel::load(LanguageModelConfig {
        device: Device::Cpu,
        weights: weights.into(),
        vocabulary: vocabulary.into(),
        name: "first".to_owned(),
        slots: 2,
        queue_max: 2,
        threads: 0,
        state_cache_bytes: 256 << 20,
        state_cache_disk: None,
        profiles: Vec::new(),
        quantize: None,
        demonstration: false,
    })?;
    tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
        let sentence = "春眠不觉晓，处处闻啼鸟。The river runs to the sea. ";
        let mut prefix = sentence.repeat(tokens / model.count_tokens(sentence) as usize);
        while (model.count_tokens(&prefix) as usize) < tokens {
            prefix.push_str("鸟。");
        }
        let begun = Instant::now();
        let prepared = model.prepare(DEFAULT_PROFILE, "", &prefix).await?;
        println!("{prepared} tokens read in {:.2} s", begun.elapsed().as_secs_f64());
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            // No question is known from before.
            let question = format!("第{round}个问题：风雨声里花落多少？\n\nAssistant:");
            without.push(first(&model, question.clone()).await?);
            with.push(first(&model, format!("{prefix}{question}")).await?);
        }
        let [with, without] = [with, without].map(|mut times| {
            times.sort();
            times[times.len() / 2].as_secs_f64() * 1e3
        });
        println!(
            "first token: {without:.2} ms with no prefix, {with:.2} ms with it ({:+.1} %)",
            (with / without - 1.0) * 100.0
        );
        Ok(())
    })
}

/// Until something of the answer is there.
async fn first(model: &LanguageModel, prompt: String) -> Result<Duration> {
    let request = GenerateRequest {
        prompt,
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        tokens_max: 1,
        stop: Vec::new(),
        tenant: String::new(),
        bounds: None,
        variant: None,
    };
    let begun = Instant::now();
    let mut stream = model.generate(request).await?;
    let event = std::future::poll_fn(|context| stream.as_mut().poll_next(context)).await;
    let taken = begun.elapsed();
    match event {
        Some(Ok(GenerationEvent::Text(_) | GenerationEvent::Done { .. })) => Ok(taken),
        Some(Err(error)) => Err(error.into()),
        None => Err("no answer".into()),
    }
}
