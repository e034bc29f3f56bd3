//! How much does `store-hora` find? Measured by hand: `cargo test --workspace --test stores -- --ignored --nocapture hora`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rag_core::ports::VectorStore;
use rag_core::search::Metric;

use crate::store_kit::{batch, collection, one};
use crate::{adapter, host};
use rag_kit::random::Random;

const ROWS: usize = 10_000;
const QUESTIONS: usize = 200;

/// Rows of a kind, and questions of the same kind.
struct Kind {
    name: &'static str,
    dim: usize,
    topics: usize,
    /// How far rows lie from their topic.
    spread: f32,
    /// All rows of a topic one after the other, as documents of one subject or language come.
    in_order: bool,
}

const KINDS: [Kind; 2] = [
    Kind { name: "embedding-like", dim: 384, topics: 200, spread: 0.9, in_order: false },
    Kind { name: "clusters far apart", dim: 64, topics: 20, spread: 0.05, in_order: true },
];

fn points(kind: &Kind, random: &mut Random) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let vector = |random: &mut Random| (0..kind.dim).map(|_| random.float()).collect::<Vec<f32>>();
    let topics: Vec<Vec<f32>> = (0..kind.topics).map(|_| vector(random)).collect();
    let point = |at: usize, random: &mut Random| {
        let topic = if kind.in_order { at * kind.topics / ROWS } else { random.below(kind.topics) };
        let noise = vector(random);
        topics[topic]
            .iter()
            .zip(noise)
            .map(|(value, noise)| value + kind.spread * noise)
            .collect::<Vec<f32>>()
    };
    let rows = (0..ROWS).map(|at| point(at, random)).collect();
    let asked = (0..QUESTIONS).map(|at| point(at * ROWS / QUESTIONS, random)).collect();
    (rows, asked)
}

async fn answers(store: &dyn VectorStore, asked: &[Vec<f32>]) -> (Vec<BTreeSet<String>>, Duration) {
    let begun = Instant::now();
    let mut all = Vec::new();
    for question in asked {
        let hits = store.query("t", &one(question), 10, None).await.unwrap().remove(0);
        all.push(hits.into_iter().map(|hit| hit.chunk.0).collect());
    }
    (all, begun.elapsed() / asked.len() as u32)
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn recall_of_hora() {
    host();
    for kind in &KINDS {
        let (rows, asked) = points(kind, &mut Random::new(3));
        let hora = adapter("store-hora", &serde_json::json!({}), None, None).await;
        let local = adapter("store-local", &serde_json::json!({}), None, None).await;
        for store in [&hora.store, &local.store] {
            store.create(&collection("t", kind.dim, Metric::Cosine)).await.unwrap();
            for (at, rows) in rows.chunks(500).enumerate() {
                let ids: Vec<String> = (0..rows.len()).map(|row| format!("{:05}", at * 500 + row)).collect();
                let rows: Vec<(&str, Vec<f32>)> =
                    ids.iter().map(String::as_str).zip(rows.iter().cloned()).collect();
                store.upsert("t", batch(&rows)).await.unwrap();
            }
        }
        let begun = Instant::now();
        let whole = format!("{ROWS} of {ROWS} rows");
        while !hora.store.ping().await.unwrap().contains(&whole) {
            hora.store.query("t", &one(&asked[0]), 1, None).await.unwrap();
        }
        let grown = begun.elapsed();
        let (exact, exact_time) = answers(&*local.store, &asked).await;
        let (found, time) = answers(&*hora.store, &asked).await;
        let common: usize =
            exact.iter().zip(&found).map(|(exact, found)| exact.intersection(found).count()).sum();
        let lost = exact.iter().zip(&found).filter(|(exact, found)| exact.is_disjoint(found)).count();
        println!(
            "{}, {ROWS} × {}: recall@10 {:.3}, {lost} of {QUESTIONS} questions without any right hit; a question \
             {time:.1?} (the host's scan {exact_time:.1?}); the graph took {grown:.0?}",
            kind.name,
            kind.dim,
            common as f64 / (10 * QUESTIONS) as f64,
        );
    }
}
