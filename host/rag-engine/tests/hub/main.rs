//! Encoders in the folders of the usual hub agree with transformers, and folders that are not whole are refused.
//!
//! `make.py` made the small random models and `expected.json`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rag_core::ports::{Embed, Purpose, Rerank};
use rag_engine::Device;
use rag_engine::encoder::{CrossEncoder, Encoder, EncoderConfig, Isa, MaxSim, Precision};
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/hub").join(name)
}

fn config(weights: &Path) -> EncoderConfig {
    let weights = weights.to_owned();
    EncoderConfig { weights, threads: 2, queue_max: 8, batch_tokens_max: 512, device: Device::Cpu }
}

fn encoder(name: &str, precision: Precision) -> Arc<Encoder> {
    Encoder::load_as(&config(&folder(name)), precision, Isa::detect()).unwrap()
}

fn expected(name: &str) -> Value {
    let text = fs_err::read_to_string(folder("expected.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[name].take()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn close(found: f32, expected: f32, tolerance: f32, what: &str) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found} where {expected} is expected");
}

#[tokio::test]
async fn vectors_and_pieces_are_those_of_transformers() {
    for name in ["multi-vector", "tiny-e5-small"] {
        let exact = encoder(name, Precision::F32);
        let fast = encoder(name, Precision::Int8);
        for row in expected(name)["texts"].as_array().unwrap() {
            let content = text(&row["text"]);
            let ids: Vec<u32> = numbers(&row["ids"]).iter().map(|id| *id as u32).collect();
            assert_eq!(exact.tokenizer().encode(&content), ids, "{name}: {content}");
            let vector = exact.embed(vec![content.clone()], Purpose::Passage).await.unwrap().data;
            let reference = numbers(&row["vector"]);
            assert_eq!(vector.len(), reference.len());
            for (value, reference) in vector.iter().zip(&reference) {
                close(*value, *reference, 2e-5, &format!("{name}: {content}"));
            }
            let vector = fast.embed(vec![content.clone()], Purpose::Passage).await.unwrap().data;
            let cosine: f32 = vector.iter().zip(&reference).map(|(a, b)| a * b).sum();
            assert!(cosine > 0.998, "{name}: {content}: {cosine} in int8");
        }
    }
}

fn texts(expected: &Value) -> Vec<String> {
    expected["texts"].as_array().unwrap().iter().map(|row| text(&row["text"])).collect()
}

#[tokio::test]
async fn the_multi_vector_head_scores_as_defined() {
    let name = "multi-vector";
    let encoder = encoder(name, Precision::F32);
    let expected = expected(name);
    let texts = texts(&expected);
    let reranker = MaxSim::new(encoder);
    assert!(reranker.identity().starts_with("maxsim+lexical:multi-vector@"), "{}", reranker.identity());
    let scores = reranker.rerank(&texts[0], &texts[1..]).await.unwrap();
    let both = numbers(&expected["max_sim"]).into_iter().zip(numbers(&expected["lexical"]).split_off(1));
    for (score, (max_sim, lexical)) in scores.iter().zip(both) {
        // Token vectors are kept in 8 bits.
        close(*score, (0.4 * max_sim + 0.2 * lexical) / 0.6, 0.005, "max_sim and lexical");
    }
    let own = reranker.rerank(&texts[0], &texts[..1]).await.unwrap();
    close(own[0], (0.4 + 0.2 * numbers(&expected["lexical"])[0]) / 0.6, 0.01, "the same text");
}

#[tokio::test]
async fn the_lexical_head_weighs_tokens_as_defined() {
    let expected = expected("multi-vector");
    let texts = texts(&expected);
    for (precision, tolerance) in [(Precision::F32, 2e-5), (Precision::Int8, 0.15)] {
        let encoder = encoder("multi-vector", precision);
        let found = encoder.lexical(texts.clone(), Purpose::Passage).await.unwrap();
        for (found, row) in found.iter().zip(expected["texts"].as_array().unwrap()) {
            let wanted: Vec<Vec<f32>> = row["lexical"].as_array().unwrap().iter().map(numbers).collect();
            let weight = |id: u32| found.weights().iter().find(|(of, _)| *of == id).map_or(0.0, |of| of.1);
            for pair in &wanted {
                close(weight(pair[0] as u32), pair[1], tolerance, &format!("{precision:?}: {pair:?}"));
            }
            if precision == Precision::F32 {
                assert_eq!(found.weights().len(), wanted.len(), "{found:?}");
            }
        }
        for (other, score) in found.iter().zip(numbers(&expected["lexical"])) {
            close(found[0].score(other), score, 20.0 * tolerance, "lexical score");
        }
    }
    // A text in several windows has the weights of them all.
    let encoder = encoder("multi-vector", Precision::F32);
    let long = texts.join(" ").repeat(20);
    let [long] = &encoder.lexical(vec![long], Purpose::Passage).await.unwrap()[..] else { panic!() };
    assert!(long.weights().len() > 3 && long.weights().is_sorted_by_key(|(id, _)| *id), "{long:?}");
    let none = self::encoder("tiny-e5-small", Precision::F32).lexical(texts, Purpose::Query).await;
    assert!(matches!(none, Err(rag_core::Error::Unsupported { .. })));
}

#[tokio::test]
async fn cross_encoders_score_as_in_transformers() {
    for name in ["cross", "tiny-e5-small"] {
        for (precision, tolerance) in [(Precision::F32, 2e-5), (Precision::Int8, 0.04)] {
            let reranker = CrossEncoder::load_as(&config(&folder(name)), precision).unwrap();
            for row in expected(name)["pairs"].as_array().unwrap() {
                let (question, passage) = (text(&row["question"]), text(&row["passage"]));
                let scores = reranker.rerank(&question, std::slice::from_ref(&passage)).await.unwrap();
                let score = row["score"].as_f64().unwrap() as f32;
                close(scores[0], score, tolerance, &format!("{name} {precision:?}: {question} {passage}"));
            }
        }
    }
}

#[tokio::test]
async fn several_passages_keep_their_order_and_long_ones_are_cut() {
    let reranker = CrossEncoder::load_as(&config(&folder("cross")), Precision::F32).unwrap();
    let passages: Vec<String> = ["南京", "列车从上海出发。", ""].map(str::to_owned).to_vec();
    let together = reranker.rerank("列车经过哪里？", &passages).await.unwrap();
    for (passage, score) in passages.iter().zip(&together) {
        let alone = reranker.rerank("列车经过哪里？", std::slice::from_ref(passage)).await.unwrap();
        close(*score, alone[0], 1e-5, passage);
    }
    let long = "列车从上海出发，经过南京和济南。".repeat(50);
    let scores = reranker.rerank(&long, std::slice::from_ref(&long)).await.unwrap();
    assert!(scores[0] > 0.0 && scores[0] < 1.0);
    assert!(reranker.rerank(" ", &passages).await.is_err(), "a blank question has no score");
    assert!(reranker.rerank("x", &[]).await.unwrap().is_empty());
}

#[test]
fn a_folder_that_is_not_whole_is_refused_with_the_reason() {
    let check = |name: &str, change: &dyn Fn(&Path), reason: &str| {
        let copy = tempfile::tempdir().unwrap();
        for entry in
            fs_err::read_dir(folder(name)).unwrap().map(Result::unwrap).filter(|e| e.path().is_file())
        {
            fs_err::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        change(copy.path());
        let error = CrossEncoder::load(&config(copy.path())).unwrap_err().to_string();
        assert!(error.contains(reason), "'{error}' lacks '{reason}'");
    };
    let remove = |name: &'static str| move |path: &Path| fs_err::remove_file(path.join(name)).unwrap();
    let set = |key: &'static str, value: Value| {
        move |path: &Path| {
            let file = path.join("config.json");
            let mut config: Value = serde_json::from_slice(&fs_err::read(&file).unwrap()).unwrap();
            config[key] = value.clone();
            fs_err::write(file, config.to_string()).unwrap();
        }
    };
    check("multi-vector", &|_| (), "it only embeds");
    check("cross", &remove("config.json"), "there is no config.json");
    check("cross", &remove("tokenizer.json"), "tokenizer.json");
    check("cross", &remove("model.safetensors"), "neither model.safetensors nor pytorch_model.bin");
    check("cross", &set("model_type", "deberta".into()), "models of type 'deberta' are not read");
    check("cross", &set("hidden_act", "relu".into()), "'relu' is not supported");
    check("cross", &set("position_embedding_type", "relative_key".into()), "positions are relative");
    check("cross", &set("num_attention_heads", 5.into()), "do not divide into 5 heads");
    check("cross", &set("hidden_size", 64.into()), "are not rows of 64");
    check("cross", &set("num_hidden_layers", 3.into()), "encoder.layer.2.intermediate");
    check("cross", &set("hidden_size", "x".into()), "config.json cannot be read");
    let cut = |path: &Path| {
        let file = path.join("model.safetensors");
        let bytes = fs_err::read(&file).unwrap();
        fs_err::write(&file, &bytes[..bytes.len() - 4]).unwrap();
    };
    check("cross", &cut, "model.safetensors");
}
