//! One model on several devices: the same answers, requests side by side, prefixes and profiles known to all.

use rag_core::Error;
use rag_core::ports::Generate;
use rag_engine::LanguageModelConfig;

use super::{answer, collect, config, model, model_on, plainly, request, text_of, tokenizer};

#[tokio::test]
async fn requests_run_side_by_side_and_answer_as_one_device_does() {
    let model = model_on(3, LanguageModelConfig { slots: 1, ..config() });
    let prompts = ["word1", "word2", "word3", "word4 word5"];
    let mut streams = Vec::new();
    for prompt in prompts {
        streams.push(model.generate(request(prompt, 40)).await.unwrap());
    }
    for (prompt, stream) in prompts.into_iter().zip(streams) {
        assert_eq!(collect(stream).await.0, text_of(&plainly(prompt, 40)), "{prompt}");
    }
    assert_eq!(model.totals().requests, 4);
}

#[tokio::test]
async fn what_one_device_has_read_all_know() {
    let model = model_on(2, LanguageModelConfig { state_cache_bytes: 1 << 20, slots: 1, ..config() });
    let prompt = "word1 word2 word3 word4";
    let tokens = tokenizer().count(prompt) as u64;
    let first = answer(&model, request(prompt, 4)).await;
    // Two at once: one of them is on the other device.
    let (one, two) = (model.generate(request(prompt, 4)), model.generate(request(prompt, 4)));
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    assert_eq!(collect(one).await.0, first.0);
    assert_eq!(collect(two).await.0, first.0);
    assert!(model.totals().prompt_tokens_known >= 2 * (tokens - 1));
}

#[tokio::test]
async fn all_queues_together_hold_what_one_holds() {
    let small = LanguageModelConfig { slots: 1, queue_max: 2, ..config() };
    for model in [model(small.clone()), model_on(2, small)] {
        let mut streams = Vec::new();
        // More than slots and queues hold.
        let refused = loop {
            match model.generate(request("word1", 20_000)).await {
                Ok(stream) => streams.push(stream),
                Err(error) => break error,
            }
            assert!(streams.len() < 64, "nothing is refused");
        };
        assert!(matches!(refused, Error::Busy { limit: 2, .. }), "{refused}");
    }
}
