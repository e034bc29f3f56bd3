//! Many streams at once, some of which leave: no slot is lost, and every text is that of its solo run.

use std::collections::HashMap;
use std::sync::Arc;

use rag_core::ports::{Generate, GenerationEvent};
use rag_engine::random::Random;
use rag_engine::{LanguageModel, LanguageModelConfig};

use super::{collect, config, model, model_on, next, plainly, request, text_of};

const STREAMS: usize = 64;
const ROUNDS: usize = 4;
const TOKENS: u32 = 24;

fn prompt(number: u64) -> String {
    format!("word{} tell {}", number % 10, number % 7)
}

/// One caller: some take everything, some leave after a few events, some before the first.
async fn call(model: Arc<LanguageModel>, seed: u64, solo: Arc<HashMap<String, String>>) {
    let mut random = Random::seeded(seed);
    for _ in 0..ROUNDS {
        let prompt = prompt(random.below(70));
        let mut stream = model.generate(request(&prompt, TOKENS)).await.unwrap();
        match random.below(4) {
            0 => drop(stream),
            1 => {
                let mut text = String::new();
                for _ in 0..random.below(6) {
                    if let Some(Ok(GenerationEvent::Text(part))) = next(&mut stream).await {
                        text.push_str(&part);
                    }
                }
                assert!(solo[&prompt].starts_with(&text), "{prompt}: {text:?}");
            }
            _ => assert_eq!(collect(stream).await.0, solo[&prompt], "{prompt}"),
        }
    }
}

fn roomy() -> LanguageModelConfig {
    LanguageModelConfig { slots: 32, queue_max: 2 * STREAMS, state_cache_bytes: 1 << 20, ..config() }
}

#[tokio::test]
async fn streams_with_cancels_leave_no_slot_behind_and_change_no_text() {
    crowd(model(roomy())).await;
}

#[tokio::test]
async fn several_devices_leave_no_slot_behind_either_and_change_no_text() {
    crowd(model_on(3, LanguageModelConfig { slots: 8, ..roomy() })).await;
}

async fn crowd(model: Arc<LanguageModel>) {
    let prompts: Vec<String> = (0..70).map(prompt).collect();
    let solo: Arc<HashMap<String, String>> = Arc::new(
        prompts
            .into_iter()
            .map(|prompt| (prompt.clone(), text_of(&plainly(&prompt, TOKENS as usize))))
            .collect(),
    );
    let callers: Vec<_> =
        (0..STREAMS as u64).map(|seed| tokio::spawn(call(model.clone(), seed, solo.clone()))).collect();
    for caller in callers {
        caller.await.unwrap();
    }
    // Those that left are noticed at the next step.
    while model.totals().running > 0 {
        tokio::task::yield_now().await;
    }
}
