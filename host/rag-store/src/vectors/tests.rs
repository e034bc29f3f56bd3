//! What the vector index promises, against plain definitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use rag_core::Error;
use rag_core::document::{ChunkId, Vectors};
use rag_core::kb::{KbName, KbSettings};
use rag_core::ports::{Catalog, StoredVectors, VectorCollection, VectorIndex};
use rag_core::search::{CompareOp, Filter, FilterNode, Hit, Metric, Value};

use super::scan::exact_score;
use super::snapshot::COARSE_ROWS;
use crate::testing::{TestStore, kb};

type Fields = Vec<(String, Value)>;

fn collection(name: &str, dim: usize, metric: Metric) -> VectorCollection {
    VectorCollection { name: name.to_owned(), dim, metric }
}

fn rows(rows: &[(&str, &[f32])]) -> (StoredVectors, Vec<Fields>) {
    let ids = rows.iter().map(|(id, _)| ChunkId((*id).to_owned())).collect();
    let dim = rows.first().map_or(0, |(_, vector)| vector.len());
    let data = rows.iter().flat_map(|(_, vector)| vector.iter().copied()).collect();
    (StoredVectors { ids, vectors: Vectors { dim, data } }, vec![Vec::new(); rows.len()])
}

fn ids(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.chunk.0.as_str()).collect()
}

fn one(vector: &[f32]) -> Vectors {
    Vectors { dim: vector.len(), data: vector.to_vec() }
}

async fn index(metric: Metric) -> (TestStore, Arc<dyn VectorIndex>) {
    let store = TestStore::with_kb().await;
    let index = store.vector_index(&kb());
    index.create(&collection("c", 2, metric)).await.unwrap();
    (store, index)
}

#[tokio::test]
async fn collections_are_created_listed_and_dropped() {
    let (store, index) = index(Metric::Cosine).await;
    index.create(&collection("c", 2, Metric::Cosine)).await.unwrap();
    for other in [collection("c", 3, Metric::Cosine), collection("c", 2, Metric::Dot)] {
        assert!(matches!(index.create(&other).await, Err(Error::Conflict { .. })));
    }
    for bad in [
        collection("", 2, Metric::Dot),
        collection("d", 0, Metric::Dot),
        collection("d", 99_999, Metric::Dot),
    ] {
        assert!(matches!(index.create(&bad).await, Err(Error::InvalidInput { .. })));
    }
    index.create(&collection("a", 5, Metric::Euclidean)).await.unwrap();
    let listed = index.list().await.unwrap();
    assert_eq!(listed, [collection("a", 5, Metric::Euclidean), collection("c", 2, Metric::Cosine)]);
    let (new, fields) = rows(&[("x", &[1.0, 0.0])]);
    index.upsert("c", new, fields).await.unwrap();
    index.drop_collection("c").await.unwrap();
    index.drop_collection("c").await.unwrap();
    for missing in [
        index.count("c").await.err(),
        index.delete("c", &[]).await.err(),
        index.query("c", &one(&[1.0, 0.0]), 1, None).await.err(),
        index.scan("c", None, 1).await.err(),
        index.vectors_of("c", &[]).await.err(),
        index.upsert("c", rows(&[]).0, Vec::new()).await.err(),
    ] {
        assert!(matches!(missing, Some(Error::NotFound { what: "collection", .. })), "{missing:?}");
    }
    index.create(&collection("c", 2, Metric::Cosine)).await.unwrap();
    assert_eq!(index.count("c").await.unwrap(), 0);
    assert!(index.query("c", &one(&[1.0, 0.0]), 9, None).await.unwrap()[0].is_empty());

    let elsewhere = store.vector_index(&KbName::parse("nowhere").unwrap());
    assert!(matches!(elsewhere.list().await, Err(Error::NotFound { what: "knowledge base", .. })));
    store.create_kb(&KbName::parse("nowhere").unwrap(), &KbSettings::default()).await.unwrap();
    assert!(elsewhere.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn nearest_by_each_metric_with_ties_by_id() {
    let points: &[(&str, &[f32])] = &[
        ("d", &[2.0, 0.0]),
        ("b", &[1.0, 0.0]),
        ("a", &[0.0, 3.0]),
        ("c", &[1.0, 0.0]),
        ("e", &[-1.0, 0.0]),
    ];
    for (metric, expected, best) in [
        (Metric::Cosine, ["b", "c", "d", "a", "e"], 1.0),
        (Metric::Dot, ["d", "b", "c", "a", "e"], 4.0),
        (Metric::Euclidean, ["d", "b", "c", "e", "a"], 0.0),
    ] {
        let (_store, index) = index(metric).await;
        let (new, fields) = rows(points);
        index.upsert("c", new, fields).await.unwrap();
        let queries = Vectors { dim: 2, data: vec![2.0, 0.0, 0.0, 2.9] };
        let hits = index.query("c", &queries, 5, None).await.unwrap();
        assert_eq!(hits.len(), 2);
        assert_eq!(ids(&hits[0]), expected, "{metric:?}");
        assert_eq!(hits[0][0].score, best, "{metric:?}");
        assert_eq!(hits[1][0].chunk.0, "a", "{metric:?}");
        assert_eq!(ids(&index.query("c", &queries, 2, None).await.unwrap()[0]), expected[..2]);
        assert!(index.query("c", &queries, 0, None).await.unwrap()[0].is_empty());
    }
}

#[tokio::test]
async fn rows_are_replaced_deleted_and_read_back() {
    let (store, index) = index(Metric::Cosine).await;
    let (new, fields) = rows(&[("a", &[1.0, 0.5]), ("b", &[0.0, 1.0]), ("a", &[0.25, 1.0])]);
    index.upsert("c", new, fields).await.unwrap();
    assert_eq!(index.count("c").await.unwrap(), 2);
    let asked = ["b", "none", "a", "b"].map(|id| ChunkId(id.to_owned()));
    let back = index.vectors_of("c", &asked).await.unwrap();
    assert_eq!(back.ids, ["b", "a", "b"].map(|id| ChunkId(id.to_owned())));
    assert_eq!(back.vectors.data, [0.0, 1.0, 0.25, 1.0, 0.0, 1.0]);
    assert_eq!(ids(&index.query("c", &one(&[1.0, 0.0]), 9, None).await.unwrap()[0]), ["a", "b"]);
    index.delete("c", &[ChunkId("a".into()), ChunkId("none".into())]).await.unwrap();
    assert_eq!(ids(&index.query("c", &one(&[1.0, 0.0]), 9, None).await.unwrap()[0]), ["b"]);
    let (new, fields) = rows(&[("c", &[1.0, 0.0]), ("a", &[1.0, 1.0])]);
    index.upsert("c", new, fields).await.unwrap();
    let page = index.scan("c", None, 2).await.unwrap();
    assert_eq!(page.ids, [ChunkId("a".into()), ChunkId("b".into())]);
    let rest = index.scan("c", page.ids.last(), 2).await.unwrap();
    assert_eq!(
        (rest.ids.as_slice(), rest.vectors.data.as_slice()),
        (&[ChunkId("c".into())][..], &[1.0, 0.0][..])
    );
    drop(index);
    let reopened = store.reopen();
    let index = reopened.vector_index(&kb());
    assert_eq!(ids(&index.query("c", &one(&[1.0, 0.0]), 9, None).await.unwrap()[0]), ["c", "a", "b"]);
}

#[tokio::test]
async fn what_is_no_vector_is_refused() {
    let (_store, index) = index(Metric::Cosine).await;
    let refused = async |vectors: Vectors, ids: &[&str], fields: Vec<Fields>| {
        let ids = ids.iter().map(|id| ChunkId((*id).to_owned())).collect();
        let outcome = index.upsert("c", StoredVectors { ids, vectors }, fields).await;
        assert!(matches!(outcome, Err(Error::InvalidInput { .. })), "{outcome:?}");
    };
    refused(one(&[f32::NAN, 0.0]), &["a"], vec![Vec::new()]).await;
    refused(one(&[f32::INFINITY, 0.0]), &["a"], vec![Vec::new()]).await;
    refused(one(&[1.0, 0.0, 0.0]), &["a"], vec![Vec::new()]).await;
    refused(Vectors { dim: 2, data: vec![1.0; 3] }, &["a"], vec![Vec::new()]).await;
    refused(Vectors { dim: 0, data: vec![1.0] }, &["a"], vec![Vec::new()]).await;
    refused(one(&[1.0, 0.0]), &["a", "b"], vec![Vec::new(); 2]).await;
    refused(one(&[1.0, 0.0]), &["a"], Vec::new()).await;
    refused(one(&[1.0, 0.0]), &[""], vec![Vec::new()]).await;
    let nan = vec![("f".to_owned(), Value::Number(f64::NAN))];
    refused(one(&[1.0, 0.0]), &["a"], vec![nan]).await;
    let long = vec![("f".to_owned(), Value::Text("x".repeat(5_000)))];
    refused(one(&[1.0, 0.0]), &["a"], vec![long]).await;
    assert_eq!(index.count("c").await.unwrap(), 0);
    for query in [one(&[f32::NAN, 0.0]), one(&[1.0; 3])] {
        assert!(matches!(index.query("c", &query, 1, None).await, Err(Error::InvalidInput { .. })));
    }
    assert!(matches!(
        index.query("c", &one(&[1.0, 0.0]), 1_001, None).await,
        Err(Error::InvalidInput { .. })
    ));
}

#[tokio::test]
async fn extreme_vectors_are_ordered_all_the_same() {
    let (_store, index) = index(Metric::Cosine).await;
    let (new, fields) = rows(&[
        ("huge", &[f32::MAX, f32::MAX]),
        ("tiny", &[1e-38, 1e-38]),
        ("zero", &[0.0, 0.0]),
        ("far", &[-1.0, 0.0]),
    ]);
    index.upsert("c", new, fields).await.unwrap();
    let hits = index.query("c", &one(&[1e38, 1e38]), 9, None).await.unwrap().remove(0);
    assert_eq!(ids(&hits), ["huge", "tiny", "zero", "far"]);
    assert!(hits.iter().all(|hit| hit.score.is_finite()));
}

#[tokio::test]
async fn equal_vectors_beyond_the_candidates_still_come_in_the_order_of_ids() {
    let (_store, index) = index(Metric::Cosine).await;
    let names: Vec<String> = (0..500).rev().map(|at| format!("{at:03}")).collect();
    let same: Vec<(&str, &[f32])> = names.iter().map(|name| (name.as_str(), &[1.0, 1.0][..])).collect();
    let (new, fields) = rows(&same);
    index.upsert("c", new, fields).await.unwrap();
    let hits = index.query("c", &one(&[1.0, 0.0]), 3, None).await.unwrap();
    assert_eq!(ids(&hits[0]), ["000", "001", "002"]);
}

#[tokio::test]
async fn memory_is_bounded_by_dropping_what_was_searched_longest_ago() {
    let store = TestStore::with(|config| config.vector_cache_bytes_max = 120);
    store.create_kb(&kb(), &KbSettings::default()).await.unwrap();
    let index = store.vector_index(&kb());
    for name in ["a", "b", "c"] {
        index.create(&collection(name, 2, Metric::Cosine)).await.unwrap();
        let (new, fields) = rows(&[("x", &[1.0, 0.0]), ("y", &[0.0, 1.0])]);
        index.upsert(name, new, fields).await.unwrap();
        assert_eq!(ids(&index.query(name, &one(&[1.0, 0.1]), 9, None).await.unwrap()[0]), ["x", "y"]);
        assert!(store.vector_cache.bytes() <= 120, "{}", store.vector_cache.bytes());
    }
    assert_eq!(store.vector_cache.bytes(), 112);
    assert_eq!(ids(&index.query("a", &one(&[0.1, 1.0]), 1, None).await.unwrap()[0]), ["y"]);
}

fn noise(seed: &mut u64) -> f32 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*seed >> 40) as f32 / (1 << 23) as f32) - 1.0
}

#[tokio::test]
async fn a_large_collection_is_scanned_as_int8_and_scored_exactly() {
    const DIM: usize = 16;
    let store = TestStore::with_kb().await;
    let index = store.vector_index(&kb());
    index.create(&collection("c", DIM, Metric::Cosine)).await.unwrap();
    let mut seed = 7;
    let mut all = BTreeMap::new();
    let put = async |from: usize, to: usize, seed: &mut u64, all: &mut BTreeMap<String, Vec<f32>>| {
        let new: Vec<(String, Vec<f32>)> =
            (from..to).map(|at| (format!("{at:06}"), (0..DIM).map(|_| noise(seed)).collect())).collect();
        let slices: Vec<(&str, &[f32])> =
            new.iter().map(|(id, vector)| (id.as_str(), vector.as_slice())).collect();
        let (stored, fields) = rows(&slices);
        index.upsert("c", stored, fields).await.unwrap();
        all.extend(new);
    };
    put(0, 10_000, &mut seed, &mut all).await;
    let query: Vec<f32> = (0..DIM).map(|_| noise(&mut seed)).collect();
    let check = async |all: &BTreeMap<String, Vec<f32>>| {
        let hits = index.query("c", &one(&query), 10, None).await.unwrap().remove(0);
        let mut plain: Vec<(f32, &String)> =
            all.iter().map(|(id, vector)| (exact_score(Metric::Cosine, &query, vector), id)).collect();
        plain.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let expected: Vec<(f32, &str)> =
            plain.iter().take(10).map(|(score, id)| (*score, id.as_str())).collect();
        let found: Vec<(f32, &str)> = hits.iter().map(|hit| (hit.score, hit.chunk.0.as_str())).collect();
        assert_eq!(found, expected);
    };
    check(&all).await;
    // Grows past the border while it is in memory.
    put(10_000, COARSE_ROWS + 100, &mut seed, &mut all).await;
    check(&all).await;
    put(500, 600, &mut seed, &mut all).await;
    let gone: Vec<String> = all.keys().step_by(7).cloned().collect();
    for batch in gone.chunks(1_000) {
        let ids: Vec<ChunkId> = batch.iter().map(|id| ChunkId(id.clone())).collect();
        index.delete("c", &ids).await.unwrap();
    }
    all.retain(|id, _| gone.binary_search(id).is_err());
    check(&all).await;
    assert_eq!(index.count("c").await.unwrap(), all.len() as u64);
    // Read anew from the database.
    drop(index);
    let reopened = store.reopen();
    let index = reopened.vector_index(&kb());
    let hits = index.query("c", &one(&query), 10, None).await.unwrap().remove(0);
    assert!(hits.iter().all(|hit| all.contains_key(&hit.chunk.0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn searches_go_on_while_rows_are_written() {
    let (store, index) = index(Metric::Euclidean).await;
    let writer = {
        let index = Arc::clone(&index);
        tokio::spawn(async move {
            for at in 0..200 {
                let id = format!("{at:03}");
                let (new, fields) = rows(&[(id.as_str(), &[1.0, at as f32])]);
                index.upsert("c", new, fields).await.unwrap();
                // What was written is found at once.
                let hits = index.query("c", &one(&[1.0, at as f32]), 1, None).await.unwrap();
                assert_eq!(ids(&hits[0]), [id.as_str()]);
                if at % 3 == 0 {
                    index.delete("c", &[ChunkId(id.clone())]).await.unwrap();
                    let hits = index.query("c", &one(&[1.0, at as f32]), 1_000, None).await.unwrap();
                    assert!(!ids(&hits[0]).contains(&id.as_str()));
                }
            }
        })
    };
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let index = Arc::clone(&index);
            tokio::spawn(async move {
                let mut least = 0;
                while least < 100 {
                    let hits = index.query("c", &one(&[1.0, 1.0]), 1_000, None).await.unwrap().remove(0);
                    assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
                    least = hits.len();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    writer.await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(index.count("c").await.unwrap(), 133);
    drop(store);
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Upsert(Vec<(u8, [i8; 2], Option<i64>)>),
    Delete(Vec<u8>),
    Query([i8; 2], u32, Option<i64>),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let row = (0..30_u8, any::<[i8; 2]>(), proptest::option::of(0..4_i64));
    prop_oneof![
        4 => proptest::collection::vec(row, 1..8).prop_map(Step::Upsert),
        2 => proptest::collection::vec(0..30_u8, 1..8).prop_map(Step::Delete),
        6 => (any::<[i8; 2]>(), 0..12_u32, proptest::option::of(0..4_i64)).prop_map(|(q, k, f)| Step::Query(q, k, f)),
        1 => Just(Step::Reopen),
    ]
}

fn floats(point: [i8; 2]) -> [f32; 2] {
    point.map(f32::from)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_history_agrees_with_a_plain_map(steps in proptest::collection::vec(step(), 1..40), euclidean: bool) {
        let metric = if euclidean { Metric::Euclidean } else { Metric::Cosine };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut store, mut vectors) = index(metric).await;
            let mut model: BTreeMap<String, ([f32; 2], Option<i64>)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Upsert(new) => {
                        let named: Vec<(String, [f32; 2])> =
                            new.iter().map(|(id, point, _)| (format!("{id:02}"), floats(*point))).collect();
                        let slices: Vec<(&str, &[f32])> = named.iter().map(|(id, p)| (id.as_str(), &p[..])).collect();
                        let fields = new.iter().map(|(_, _, page)| {
                            page.iter().map(|page| ("page".to_owned(), Value::Integer(*page))).collect()
                        });
                        vectors.upsert("c", rows(&slices).0, fields.collect()).await.unwrap();
                        for (id, point, page) in new {
                            model.insert(format!("{id:02}"), (floats(point), page));
                        }
                    }
                    Step::Delete(gone) => {
                        let gone: Vec<ChunkId> = gone.iter().map(|id| ChunkId(format!("{id:02}"))).collect();
                        vectors.delete("c", &gone).await.unwrap();
                        model.retain(|id, _| !gone.contains(&ChunkId(id.clone())));
                    }
                    Step::Query(point, k, page) => {
                        let query = floats(point);
                        let filter = page.map(|page| Filter { nodes: vec![FilterNode::Compare {
                            field: "page".to_owned(), op: CompareOp::Ge, value: Value::Integer(page),
                        }] });
                        let hits = vectors.query("c", &one(&query), k, filter.as_ref()).await.unwrap().remove(0);
                        let mut plain: Vec<(f32, &str)> = model.iter()
                            .filter(|(_, (_, held))| page.is_none_or(|page| held.is_some_and(|held| held >= page)))
                            .map(|(id, (vector, _))| (exact_score(metric, &query, vector), id.as_str()))
                            .collect();
                        plain.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
                        plain.truncate(k as usize);
                        let found: Vec<(f32, &str)> =
                            hits.iter().map(|hit| (hit.score, hit.chunk.0.as_str())).collect();
                        assert_eq!(found, plain);
                    }
                    Step::Reopen => {
                        drop(vectors);
                        store = store.reopen();
                        vectors = store.vector_index(&kb());
                    }
                }
                assert_eq!(vectors.count("c").await.unwrap(), model.len() as u64);
            }
        });
    }
}
