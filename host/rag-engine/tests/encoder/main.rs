//! The embedding model behind its ports: what callers may rely on, alone and together.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use rag_core::ErrorCode;
use rag_core::ports::{Embed, Purpose, Rerank};
use rag_engine::Device;
use rag_engine::encoder::{Encoder, EncoderConfig, MaxSim, bench};

fn config() -> EncoderConfig {
    let shipped = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let models = std::env::var_os("RAG_MODELS_DIR").map_or_else(shipped, PathBuf::from);
    EncoderConfig {
        weights: models.join("e5-small.safetensors"),
        threads: 2,
        queue_max: 8,
        batch_tokens_max: 2048,
        device: Device::Cpu,
    }
}

fn encoder() -> Arc<Encoder> {
    Encoder::load(&config()).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

async fn embed(encoder: &Encoder, texts: &[&str], purpose: Purpose) -> Vec<Vec<f32>> {
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    encoder.embed(texts, purpose).await.unwrap().iter().map(<[f32]>::to_vec).collect()
}

/// Whether a future is still waiting after one poll.
async fn waits<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

/// So many passages that computing them takes minutes.
fn endless() -> Vec<String> {
    (0..4000).map(|i| format!("{i}：知识库把文件切成小段，每一段都有自己的向量。").repeat(8)).collect()
}

const PASSAGES: [&str; 4] = [
    "水在标准大气压下于一百摄氏度沸腾。",
    "The Great Wall of China was built over many centuries to protect the northern borders.",
    "《红楼梦》的作者一般认为是清代作家曹雪芹。",
    "",
];

#[tokio::test]
async fn vectors_are_of_unit_length_in_order_and_independent_of_company() {
    let encoder = encoder();
    let together = embed(&encoder, &PASSAGES, Purpose::Passage).await;
    assert_eq!((together.len(), encoder.dim()), (4, 384));
    for (text, vector) in PASSAGES.iter().zip(&together) {
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-5, "{text}");
        let alone = embed(&encoder, &[text], Purpose::Passage).await.remove(0);
        assert!(cosine(&alone, vector) > 0.999_999, "{text}");
        let question = embed(&encoder, &[text], Purpose::Query).await.remove(0);
        assert!(cosine(&question, vector) < 0.999, "the purpose must matter: {text}");
    }
    assert!(encoder.embed(Vec::new(), Purpose::Query).await.unwrap().data.is_empty());
}

#[tokio::test]
async fn questions_find_their_passage_in_both_languages() {
    let encoder = encoder();
    let passages = embed(&encoder, &PASSAGES[..3], Purpose::Passage).await;
    let max_sim = MaxSim::new(Arc::clone(&encoder));
    let texts: Vec<String> = PASSAGES[..3].iter().map(|text| (*text).to_owned()).collect();
    let questions = [
        ("水的沸点是多少？", 0),
        ("At what temperature does water boil?", 0),
        ("Why was the Great Wall built?", 1),
        ("誰寫了紅樓夢？", 2),
    ];
    for (question, expected) in questions {
        let query = embed(&encoder, &[question], Purpose::Query).await.remove(0);
        let scores: Vec<f32> = passages.iter().map(|passage| cosine(&query, passage)).collect();
        assert_eq!(best(&scores), expected, "{question}: {scores:?}");
        let scores = max_sim.rerank(question, &texts).await.unwrap();
        assert_eq!(best(&scores), expected, "MaxSim, {question}: {scores:?}");
    }
}

fn best(scores: &[f32]) -> usize {
    (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap()
}

#[tokio::test]
async fn a_long_text_is_embedded_whole() {
    let encoder = encoder();
    let [front, back] =
        ["长城始建于春秋战国时期。", "The heart pumps blood through the body. "].map(|text| text.repeat(120));
    let tokens = encoder.count_tokens(&[front.clone(), back.clone()]);
    assert!(tokens.iter().all(|tokens| *tokens as usize > encoder.tokens_max()), "{tokens:?}");
    let long = format!("{front}{back}");
    let vectors = embed(&encoder, &[&long, &front, &back], Purpose::Passage).await;
    let (with_front, with_back) = (cosine(&vectors[0], &vectors[1]), cosine(&vectors[0], &vectors[2]));
    let apart = cosine(&vectors[1], &vectors[2]);
    assert!(with_front > apart + 0.05 && with_back > apart + 0.05, "{with_front} {with_back} {apart}");
}

#[tokio::test]
async fn reranking_again_gives_the_same_scores() {
    let encoder = encoder();
    let max_sim = MaxSim::new(Arc::clone(&encoder));
    let forgetful = MaxSim::with_cache(encoder, 0);
    let passages = PASSAGES.map(str::to_owned);
    let first = max_sim.rerank("谁写了《红楼梦》？", &passages).await.unwrap();
    let again = max_sim.rerank("谁写了《红楼梦》？", &passages).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(first, forgetful.rerank("谁写了《红楼梦》？", &passages).await.unwrap());
    assert_eq!(first[3], -1.0, "an empty passage is like nothing");
    assert!(first[..3].iter().all(|score| (0.5..1.0).contains(score)), "{first:?}");
    let reversed: Vec<String> = passages.iter().rev().cloned().collect();
    let scores = max_sim.rerank("谁写了《红楼梦》？", &reversed).await.unwrap();
    assert_eq!(scores.into_iter().rev().collect::<Vec<_>>(), first);

    assert!(max_sim.rerank("谁？", &[]).await.unwrap().is_empty());
    let blank = max_sim.rerank(" \n", &passages).await.unwrap_err();
    assert_eq!(blank.code(), ErrorCode::InvalidInput);
}

#[tokio::test]
async fn many_callers_each_get_their_own_answer() {
    let encoder = encoder();
    let alone: Vec<Vec<f32>> = embed(&encoder, &PASSAGES[..3], Purpose::Passage).await;
    let calls: Vec<_> = (0..6)
        .map(|i| {
            let encoder = Arc::clone(&encoder);
            tokio::spawn(async move {
                embed(&encoder, &PASSAGES[i % 3..=i % 3], Purpose::Passage).await.remove(0)
            })
        })
        .collect();
    for (i, call) in calls.into_iter().enumerate() {
        assert!(cosine(&call.await.unwrap(), &alone[i % 3]) > 0.999_999, "caller {i}");
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_caller_that_leaves_frees_its_place() {
    let encoder = Encoder::load(&EncoderConfig { queue_max: 1, ..config() }).unwrap();
    let mut long = encoder.embed(endless(), Purpose::Passage);
    assert!(waits(&mut long).await);
    let refused = encoder.embed(vec!["知识".to_owned()], Purpose::Query).await.unwrap_err();
    assert!(refused.retryable() && refused.to_string().contains("queue of 1"), "{refused}");
    drop(long);
    loop {
        match encoder.embed(vec!["知识".to_owned()], Purpose::Query).await {
            Ok(vectors) => break assert_eq!(vectors.rows(), 1),
            Err(error) => assert!(error.retryable(), "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_question_overtakes_passages() {
    let encoder = encoder();
    let mut passages = encoder.embed(endless(), Purpose::Passage);
    assert!(waits(&mut passages).await);
    assert_eq!(embed(&encoder, &["知识库是什么？"], Purpose::Query).await.len(), 1);
    assert!(waits(&mut passages).await);
}

#[test]
fn the_benchmarks_give_every_figure() {
    let time = std::time::Duration::from_millis(1);
    let embed = bench::embed(&config(), time).unwrap();
    let rerank = bench::rerank(&config(), time).unwrap();
    let units = |report: &bench::Report| report.results.iter().map(|result| result.unit).collect::<Vec<_>>();
    assert_eq!(units(&embed)[..3], ["ms", "tokens", "million characters/s"]);
    assert_eq!(units(&embed).iter().filter(|unit| **unit == "passages/s").count(), 2);
    assert_eq!(units(&rerank)[..2], ["ms", "ms"]);
    let values = [embed.results, rerank.results].concat();
    assert!(values.iter().all(|result| result.value.is_finite() && result.value > 0.0), "{values:?}");
}
