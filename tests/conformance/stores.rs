//! Vector stores: a random history against a map, every rule of the contract, and what happens when the host fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rag_core::document::{ChunkId, Vectors};
use rag_core::kb::{KbName, KbSettings};
use rag_core::ports::{
    Catalog, PluginInfo, StoreBatch, StoredVectors, VectorCollection, VectorIndex, VectorStore,
};
use rag_core::search::{Filter, FilterNode, Hit, Metric};
use rag_core::{ErrorCode, Result};
use rag_wasm::StoreImports;

use crate::doubles::{MemoryIndex, MemoryKeys, ranked, score};
use crate::filters::{Fields, passes, some_fields, some_filter};
use crate::host;
use crate::random::Random;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclidean];

/// The native reference: an index behind the interface of a store.
struct Direct(PluginInfo, MemoryIndex);

#[async_trait]
impl VectorStore for Direct {
    fn info(&self) -> &PluginInfo {
        &self.0
    }
    async fn create(&self, collection: &VectorCollection) -> Result<()> {
        self.1.create(collection).await
    }
    async fn drop_collection(&self, name: &str) -> Result<()> {
        self.1.drop_collection(name).await
    }
    async fn list(&self) -> Result<Vec<VectorCollection>> {
        self.1.list().await
    }
    async fn count(&self, name: &str) -> Result<u64> {
        self.1.count(name).await
    }
    async fn upsert(&self, name: &str, batch: StoreBatch) -> Result<()> {
        if batch.ids.len() > 512 || batch.vectors.rows() != batch.ids.len() {
            return Err(rag_core::Error::invalid("a batch out of shape"));
        }
        self.1.upsert(name, StoredVectors { ids: batch.ids, vectors: batch.vectors }, batch.fields).await
    }
    async fn delete(&self, name: &str, ids: &[ChunkId]) -> Result<()> {
        if ids.len() > 512 {
            return Err(rag_core::Error::invalid("too many ids"));
        }
        self.1.delete(name, ids).await
    }
    async fn query(
        &self,
        name: &str,
        queries: &Vectors,
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        self.1.query(name, queries, k, filter).await
    }
    async fn ping(&self) -> Result<String> {
        Ok("memory".to_owned())
    }
}

struct Subject {
    name: &'static str,
    store: Arc<dyn VectorStore>,
    /// Where the data lie, when they outlive the subject.
    _folder: Option<tempfile::TempDir>,
}

fn over(index: Arc<dyn VectorIndex>) -> Arc<dyn VectorStore> {
    let imports = StoreImports { index, kv: Arc::new(MemoryKeys::default()), http: None, sql: None };
    host().vector_store("store-local", "{}", imports).unwrap()
}

async fn subjects() -> Vec<Subject> {
    let info = PluginInfo {
        id: "direct".to_owned(),
        version: "0.0.0".to_owned(),
        description: String::new(),
        digest: String::new(),
    };
    let folder = tempfile::tempdir().unwrap();
    let store = rag_store::Store::open(rag_store::StoreConfig::new(folder.path())).unwrap();
    let kb = KbName::parse("conformance").unwrap();
    store.create_kb(&kb, &KbSettings::default()).await.unwrap();
    vec![
        Subject { name: "direct", store: Arc::new(Direct(info, MemoryIndex::default())), _folder: None },
        Subject {
            name: "store-local over memory",
            store: over(Arc::new(MemoryIndex::default())),
            _folder: None,
        },
        Subject {
            name: "store-local over the host's store",
            store: over(store.vector_index(&kb)),
            _folder: Some(folder),
        },
    ]
}

fn collection(name: &str, dim: usize, metric: Metric) -> VectorCollection {
    VectorCollection { name: name.to_owned(), dim, metric }
}

fn batch(rows: &[(&str, Vec<f32>)]) -> StoreBatch {
    let dim = rows.first().map_or(3, |(_, row)| row.len());
    StoreBatch {
        ids: rows.iter().map(|(id, _)| ChunkId((*id).to_owned())).collect(),
        vectors: Vectors { dim, data: rows.iter().flat_map(|(_, row)| row.clone()).collect() },
        texts: rows.iter().map(|(id, _)| format!("text of {id}")).collect(),
        fields: rows.iter().map(|_| vec![]).collect(),
    }
}

fn one(row: &[f32]) -> Vectors {
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

async fn random_history(subject: &Subject, metric: Metric, seed: u64) {
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

#[tokio::test]
async fn a_random_history_agrees_with_a_map() {
    for subject in subjects().await {
        for metric in METRICS {
            for seed in 0..6 {
                random_history(&subject, metric, seed).await;
            }
        }
    }
}

#[tokio::test]
async fn collections_have_one_shape_and_are_listed_with_it() {
    for Subject { name, store, .. } in &subjects().await {
        for (collection_name, metric) in
            [("c-cosine", Metric::Cosine), ("c-dot", Metric::Dot), ("欧氏", Metric::Euclidean)]
        {
            for _ in 0..2 {
                store.create(&collection(collection_name, 3, metric)).await.unwrap();
            }
        }
        store.upsert("c-dot", batch(&[("a", vec![1.0, 2.0, 3.0])])).await.unwrap();
        for other in [collection("c-dot", 4, Metric::Dot), collection("c-dot", 3, Metric::Cosine)] {
            assert_eq!(
                store.create(&other).await.unwrap_err().code(),
                ErrorCode::Conflict,
                "{name}: {other:?}"
            );
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
}

#[tokio::test]
async fn a_collection_that_is_not_there_is_not_found() {
    for Subject { name, store, .. } in &subjects().await {
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
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_and_nothing_of_it_is_kept() {
    for Subject { name, store, .. } in &subjects().await {
        store.create(&collection("c", 3, Metric::Cosine)).await.unwrap();
        let rows: Vec<(String, Vec<f32>)> =
            (0..513).map(|n| (format!("r{n}"), vec![1.0, 0.0, 0.0])).collect();
        let rows: Vec<(&str, Vec<f32>)> = rows.iter().map(|(id, row)| (id.as_str(), row.clone())).collect();
        let wrong_dim = batch(&[("a", vec![1.0, 2.0])]);
        let mut short = batch(&[("a", vec![1.0, 0.0, 0.0]), ("b", vec![0.0, 1.0, 0.0])]);
        short.vectors.data.truncate(3);
        for (what, bad) in
            [("513 rows", batch(&rows)), ("another dimension", wrong_dim), ("a row short", short)]
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
}

#[tokio::test]
async fn a_failing_host_is_handed_on_and_leaves_the_store_usable() {
    let index = Arc::new(MemoryIndex::default());
    let store = over(index.clone());
    store.create(&collection("c", 3, Metric::Dot)).await.unwrap();
    let row = vec![1.0, 2.0, 3.0];
    let none = Filter { nodes: vec![FilterNode::AnyOf(vec![])] };
    for call in 1..=4 {
        index.failing.set(call);
        let outcomes = [
            store.upsert("c", batch(&[("a", row.clone())])).await.err(),
            store.query("c", &one(&row), 3, Some(&none)).await.err(),
            store.list().await.err(),
        ];
        let failed: Vec<_> = outcomes.into_iter().flatten().collect();
        assert_eq!(failed.len(), 1, "call {call}");
        assert_eq!(failed[0].code(), ErrorCode::Unavailable, "call {call}: {}", failed[0]);
        index.failing.set(0);
        store.upsert("c", batch(&[("a", row.clone())])).await.unwrap();
        assert_eq!(store.query("c", &one(&row), 3, None).await.unwrap()[0].len(), 1);
    }
}
