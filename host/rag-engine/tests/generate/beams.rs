//! Beam search against greedy decoding and against every continuation computed one by one.

use rag_core::Error;
use rag_engine::rwkv::State;

use super::{config, engine_of, model, plainly, request, text_of, tokenizer};
use crate::synthetic::Synthetic;

/// log-softmax of logits, over all ids.
fn logs(logits: &[f32]) -> Vec<f64> {
    let greatest = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - greatest).exp()).sum();
    logits.iter().map(|&logit| f64::from(logit - greatest) - sum.ln()).collect()
}

/// Ids with text, and the end, likeliest first.
fn ranked(logs: &[f64]) -> Vec<usize> {
    let tokenizer = tokenizer();
    let mut ids: Vec<usize> =
        (0..logs.len()).filter(|&id| id == 0 || !tokenizer.token(id as u32).is_empty()).collect();
    ids.sort_by(|&a, &b| logs[b].total_cmp(&logs[a]).then(a.cmp(&b)));
    ids
}

/// The best text of up to two tokens among those that begin with one of the `beams` likeliest.
fn best_pair(prompt: &str, beams: usize) -> String {
    let mut engine = engine_of(&Synthetic::new(1));
    let mut state = State::zero(engine.config());
    let first = logs(engine.read(&tokenizer().encode(prompt), &mut state).unwrap());
    let mut best = (f64::NEG_INFINITY, Vec::new());
    let mut consider = |mean: f64, ids: Vec<u32>| {
        if mean > best.0 {
            best = (mean, ids);
        }
    };
    for &id in ranked(&first).iter().take(beams) {
        if id == 0 {
            consider(first[0], vec![]);
            continue;
        }
        let mut after = state.clone();
        let second = logs(engine.read(&[id as u32], &mut after).unwrap());
        for next in ranked(&second) {
            let ids = if next == 0 { vec![id as u32] } else { vec![id as u32, next as u32] };
            consider((first[id] + second[next]) / 2.0, ids);
        }
    }
    text_of(&best.1)
}

#[tokio::test]
async fn one_beam_is_greedy_and_many_find_the_likeliest() {
    let model = model(config());
    for prompt in ["hello", "word3", "天气", "yz"] {
        let greedy = text_of(&plainly(prompt, 12));
        assert_eq!(model.beam("", request(prompt, 12), 1).await.unwrap(), greedy, "{prompt:?}");
    }
    for prompt in ["hello", "word3 word1", "天气怎么样", "x"] {
        let found = model.beam("", request(prompt, 2), 16).await.unwrap();
        assert_eq!(found, best_pair(prompt, 16), "{prompt:?}");
    }
    let again = model.beam("", request("hello", 20), 5).await.unwrap();
    assert_eq!(model.beam("", request("hello", 20), 5).await.unwrap(), again, "it repeats");
}

#[tokio::test]
async fn beams_stop_and_are_bounded() {
    let model = model(config());
    let whole = model.beam("", request("hello", 12), 3).await.unwrap();
    let stop = whole.chars().nth(1).unwrap().to_string();
    let stopping = rag_core::ports::GenerateRequest { stop: vec![stop.clone()], ..request("hello", 12) };
    assert!(!model.beam("", stopping, 3).await.unwrap().contains(&stop));
    for beams in [0, rag_engine::BEAMS_MAX + 1] {
        let refused = model.beam("", request("hello", 12), beams).await;
        assert!(matches!(refused, Err(Error::InvalidInput { .. })), "{beams}");
    }
    assert!(matches!(model.beam("none", request("a", 1), 2).await, Err(Error::NotFound { .. })));
}
