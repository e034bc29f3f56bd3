//! The contract of a vector store as checks of one store: rules, a random history against a map, and retrieval equal
//! to another store's.

use std::collections::BTreeMap;
use std::sync::Arc;

use rag_core::ErrorCode;
use rag_core::document::{ChunkId, Vectors};
use rag_core::ports::{StoreBatch, VectorCollection, VectorStore};
use rag_core::search::{CompareOp, Filter, FilterNode, Hit, Metric, Value};

use rag_kit::doubles::{ranked, score};
use rag_kit::filters::{Fields, passes, some_fields, some_filter};
use rag_kit::random::Random;

pub(crate) const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclidean];

/// A store under test.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) store: Arc<dyn VectorStore>,
    /// Where the data lie, when they outlive the subject.
    pub(crate) _folder: Option<tempfile::TempDir>,
}

pub(crate) fn collection(name: &str, dim: usize, metric: Metric) -> VectorCollection {
    VectorCollection { name: name.to_owned(), dim, metric }
}

pub(crate) fn batch(rows: &[(&str, Vec<f32>)]) -> StoreBatch {
    let dim = rows.first().map_or(3, |(_, row)| row.len());
    StoreBatch {
        ids: rows.iter().map(|(id, _)| ChunkId((*id).to_owned())).collect(),
        vectors: Vectors { dim, data: rows.iter().flat_map(|(_, row)| row.clone()).collect() },
        texts: rows.iter().map(|(id, _)| format!("text of {id}")).collect(),
        fields: rows.iter().map(|_| vec![]).collect(),
    }
}

pub(crate) fn one(row: &[f32]) -> Vectors {
    Vectors { dim: row.len(), data: row.to_vec() }
}

type Model = BTreeMap<String, (Vec<f32>, Fields)>;

/// Hits agree with the model's: same scores in the same places; ids may change places only among equal scores.
fn assert_hits(
    model: &Model,
    metric: Metric,
    query: &[f32],
    k: u32,
    filter: Option<&Filter>,
    found: &[Hit],
    what: &str,
) {
    let passing = model.iter().filter(|(_, (_, fields))| passes(filter, fields));
    let all =
        passing.map(|(id, (row, _))| Hit { chunk: ChunkId(id.clone()), score: score(metric, query, row) });
    let expected = ranked(all.collect(), k);
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found.score - expected.score).abs() < 2e-5, "{what}: {found:?} for {expected:?}");
        let (row, fields) = &model[&found.chunk.0];
        assert!(
            passes(filter, fields) && (score(metric, query, row) - found.score).abs() < 2e-5,
            "{what}: {found:?}"
        );
    }
    let mut ids: Vec<_> = found.iter().map(|hit| &hit.chunk).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), found.len(), "{what}: no id twice");
}

pub(crate) async fn random_history(subject: &Subject, metric: Metric, seed: u64) {
    const DIM: usize = 5;
    let mut random = Random::new(seed);
    let what = format!("{} {metric:?} seed {seed}", subject.name);
    let names = [format!("one-{seed}-{metric:?}"), format!("two-{seed}-{metric:?}")];
    let mut models: [Model; 2] = Default::default();
    let store = &subject.store;
    for name in &names {
        store.create(&collection(name, DIM, metric)).await.unwrap();
    }
    let row = |random: &mut Random| (0..DIM).map(|_| random.float()).collect::<Vec<f32>>();
    for _ in 0..40 {
        let which = random.below(2);
        let (name, model) = (&names[which], &mut models[which]);
        match random.below(10) {
            0..5 => {
                let mut rows: BTreeMap<String, (Vec<f32>, Fields)> = BTreeMap::new();
                for _ in 0..random.below(9) {
                    let (row, fields) = (row(&mut random), some_fields(&mut random));
                    rows.insert(format!("片-{}", random.below(30)), (row, fields));
                }
                let ids = rows.keys().map(|id| ChunkId(id.clone())).collect();
                let data = rows.values().flat_map(|(row, _)| row.clone()).collect();
                let fields: Vec<Fields> = rows.values().map(|(_, fields)| fields.clone()).collect();
                let texts = rows.keys().cloned().collect();
                let batch = StoreBatch { ids, vectors: Vectors { dim: DIM, data }, texts, fields };
                // Every operation is safe to repeat.
                for _ in 0..1 + random.below(2) {
                    store.upsert(name, batch.clone()).await.unwrap();
                }
                model.extend(rows);
            }
            5 => {
                let ids: Vec<ChunkId> =
                    (0..random.below(6)).map(|_| ChunkId(format!("片-{}", random.below(40)))).collect();
                for _ in 0..1 + random.below(2) {
                    store.delete(name, &ids).await.unwrap();
                }
                model.retain(|id, _| !ids.contains(&ChunkId(id.clone())));
            }
            6 if random.below(6) == 0 => {
                store.drop_collection(name).await.unwrap();
                store.create(&collection(name, DIM, metric)).await.unwrap();
                model.clear();
            }
            _ => {
                let queries: Vec<Vec<f32>> = (0..1 + random.below(3)).map(|_| row(&mut random)).collect();
                let filter = (random.below(2) == 0).then(|| some_filter(&mut random));
                let k = 1 + random.below(40) as u32;
                let asked = Vectors { dim: DIM, data: queries.concat() };
                let found = store.query(name, &asked, k, filter.as_ref()).await.unwrap();
                assert_eq!(found.len(), queries.len(), "{what}: one list a query");
                for (query, found) in queries.iter().zip(&found) {
                    assert_hits(
                        model,
                        metric,
                        query,
                        k,
                        filter.as_ref(),
                        found,
                        &format!("{what} {filter:?}"),
                    );
                }
            }
        }
        assert_eq!(store.count(name).await.unwrap(), model.len() as u64, "{what}");
    }
}

pub(crate) async fn shapes(subject: &Subject) {
    let Subject { name, store, .. } = subject;
    for (collection_name, metric) in
        [("c-cosine", Metric::Cosine), ("c-dot", Metric::Dot), ("欧氏", Metric::Euclidean)]
    {
        for _ in 0..2 {
            store.create(&collection(collection_name, 3, metric)).await.unwrap();
        }
    }
    store.upsert("c-dot", batch(&[("a", vec![1.0, 2.0, 3.0])])).await.unwrap();
    for other in [collection("c-dot", 4, Metric::Dot), collection("c-dot", 3, Metric::Cosine)] {
        assert_eq!(store.create(&other).await.unwrap_err().code(), ErrorCode::Conflict, "{name}: {other:?}");
    }
    let mut listed = store.list().await.unwrap();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let expected = [
        collection("c-cosine", 3, Metric::Cosine),
        collection("c-dot", 3, Metric::Dot),
        collection("欧氏", 3, Metric::Euclidean),
    ];
    assert_eq!(listed, expected, "{name}");
    for _ in 0..2 {
        store.drop_collection("c-dot").await.unwrap();
    }
    assert_eq!(store.list().await.unwrap().len(), 2, "{name}");
    assert!(!store.ping().await.unwrap().is_empty(), "{name}");
}

pub(crate) async fn absent(subject: &Subject) {
    let Subject { name, store, .. } = subject;
    let id = ChunkId("a".to_owned());
    let row = vec![1.0, 0.0, 0.0];
    let failures = [
        store.count("absent").await.unwrap_err(),
        store.upsert("absent", batch(&[("a", row.clone())])).await.unwrap_err(),
        store.delete("absent", &[id]).await.unwrap_err(),
        store.query("absent", &one(&row), 1, None).await.unwrap_err(),
    ];
    for error in failures {
        assert_eq!(error.code(), ErrorCode::NotFound, "{name}: {error}");
    }
    store.drop_collection("absent").await.unwrap();
}

pub(crate) async fn refused(subject: &Subject) {
    let Subject { name, store, .. } = subject;
    store.create(&collection("c", 3, Metric::Cosine)).await.unwrap();
    let rows: Vec<(String, Vec<f32>)> = (0..513).map(|n| (format!("r{n}"), vec![1.0, 0.0, 0.0])).collect();
    let rows: Vec<(&str, Vec<f32>)> = rows.iter().map(|(id, row)| (id.as_str(), row.clone())).collect();
    let wrong_dim = batch(&[("a", vec![1.0, 2.0])]);
    let mut short = batch(&[("a", vec![1.0, 0.0, 0.0]), ("b", vec![0.0, 1.0, 0.0])]);
    short.vectors.data.truncate(3);
    for (what, bad) in [("513 rows", batch(&rows)), ("another dimension", wrong_dim), ("a row short", short)]
    {
        let error = store.upsert("c", bad).await.unwrap_err();
        assert!(
            matches!(error.code(), ErrorCode::InvalidInput | ErrorCode::Conflict | ErrorCode::Quota),
            "{name}: {what}: {error}"
        );
    }
    assert_eq!(store.count("c").await.unwrap(), 0, "{name}");
    store.upsert("c", batch(&rows[..512])).await.unwrap();
    assert_eq!(store.count("c").await.unwrap(), 512, "{name}");
    let ids: Vec<ChunkId> = rows.iter().map(|(id, _)| ChunkId((*id).to_owned())).collect();
    assert!(store.delete("c", &ids).await.is_err(), "{name}: 513 ids");
    assert!(
        store.query("c", &one(&[1.0, 0.0]), 1, None).await.is_err(),
        "{name}: a query of another dimension"
    );
    store.delete("c", &ids[..512]).await.unwrap();
    assert_eq!(store.count("c").await.unwrap(), 0, "{name}");
}

/// What means something to SQL, JSON or a query language is a text like any other, as a value, an id and a passage.
pub(crate) async fn texts_are_only_texts(subject: &Subject) {
    const TEXTS: [&str; 12] = [
        "'; DROP TABLE kb; --",
        "' OR '1'='1",
        "\" OR \"\"=\"",
        "\\' || true --",
        "/* x */ UNION SELECT * FROM kb",
        "{\"$ne\": null}",
        "x) || (1 = 1",
        "`y`:=1 && tags:*",
        "*",
        "%",
        "${x} {{x}} $1 ?1",
        "a\nb\tc",
    ];
    let Subject { name, store, .. } = subject;
    store.create(&collection("c-texts", 3, Metric::Cosine)).await.unwrap();
    let ids: Vec<String> =
        (0..TEXTS.len()).map(|at| format!("{at} {}", TEXTS[at].replace(['\n', '\t'], " "))).collect();
    let rows: Vec<(&str, Vec<f32>)> = ids.iter().map(|id| (id.as_str(), vec![1.0, 0.0, 0.0])).collect();
    let mut all = batch(&rows);
    all.texts = TEXTS.map(|text| format!("{text}\0")).to_vec();
    all.fields = TEXTS.map(|text| vec![("name".to_owned(), Value::Text(text.to_owned()))]).to_vec();
    store.upsert("c-texts", all).await.unwrap();
    for (id, text) in ids.iter().zip(TEXTS) {
        let value = Value::Text(text.to_owned());
        let field = "name".to_owned();
        for node in [
            FilterNode::Compare { field: field.clone(), op: CompareOp::Eq, value: value.clone() },
            FilterNode::OneOf { field, values: vec![value] },
        ] {
            let filter = Filter { nodes: vec![node] };
            let found = store.query("c-texts", &one(&[1.0, 0.0, 0.0]), 50, Some(&filter)).await.unwrap();
            let found: Vec<&str> = found[0].iter().map(|hit| hit.chunk.0.as_str()).collect();
            assert_eq!(found, [id.as_str()], "{name}: {text}");
        }
        // No field is called so.
        let filter = Filter { nodes: vec![FilterNode::Exists { field: text.to_owned() }] };
        let found = store.query("c-texts", &one(&[1.0, 0.0, 0.0]), 50, Some(&filter)).await;
        assert!(found.is_err() || found.unwrap()[0].is_empty(), "{name}: a field {text}");
    }
    assert_eq!(store.count("c-texts").await.unwrap(), TEXTS.len() as u64, "{name}");
    store.delete("c-texts", &[ChunkId(ids[0].clone())]).await.unwrap();
    assert_eq!(store.count("c-texts").await.unwrap(), TEXTS.len() as u64 - 1, "{name}");
}

/// The same data and questions: the ten nearest are those of `reference`, up to equal scores.
pub(crate) async fn retrieves_as(subject: &Subject, reference: &Subject, rows: usize, dim: usize) {
    let mut random = Random::new(2_026);
    // Topics of uneven size, as chunks of documents have.
    let topics: Vec<Vec<f32>> = (0..40).map(|_| (0..dim).map(|_| random.float()).collect()).collect();
    let point = |random: &mut Random| {
        let topic = &topics[random.below(40).min(random.below(40))];
        topic.iter().map(|value| value + random.float()).collect::<Vec<f32>>()
    };
    let all: Vec<Vec<f32>> = (0..rows).map(|_| point(&mut random)).collect();
    let name = "retrieval-g1";
    for store in [&subject.store, &reference.store] {
        store.drop_collection(name).await.unwrap();
        store.create(&collection(name, dim, Metric::Cosine)).await.unwrap();
        for (at, rows) in all.chunks(256).enumerate() {
            let ids: Vec<String> = (0..rows.len()).map(|row| format!("片{:05}", at * 256 + row)).collect();
            let rows: Vec<(&str, Vec<f32>)> =
                ids.iter().map(String::as_str).zip(rows.iter().cloned()).collect();
            store.upsert(name, batch(&rows)).await.unwrap();
        }
        assert_eq!(store.count(name).await.unwrap(), all.len() as u64);
    }
    for question in 0..40 {
        let query = one(&point(&mut random));
        let found = subject.store.query(name, &query, 10, None).await.unwrap().remove(0);
        let expected = reference.store.query(name, &query, 10, None).await.unwrap().remove(0);
        assert_eq!(found.len(), 10, "{} question {question}", subject.name);
        for (found, expected) in found.iter().zip(&expected) {
            let what = format!("{} question {question}: {found:?} for {expected:?}", subject.name);
            assert!((found.score - expected.score).abs() < 2e-5, "{what}");
            assert!(found.chunk == expected.chunk || (found.score - expected.score).abs() < 2e-6, "{what}");
        }
    }
}
