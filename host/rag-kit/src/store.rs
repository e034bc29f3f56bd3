//! Vector stores: a random history against a map, one shape a collection, what is absent, batches out of shape.

use std::collections::BTreeMap;
use std::sync::Arc;

use rag_core::document::{ChunkId, Vectors};
use rag_core::ports::{StoreBatch, VectorCollection, VectorStore};
use rag_core::search::{Filter, Hit, Metric};
use rag_core::{ErrorCode, Result};

use crate::doubles::{MemoryIndex, ranked, score};
use crate::filters::{Fields, passes, some_fields, some_filter};
use crate::random::Random;
use crate::{Checked, Report, UNKNOWN_SETTINGS, during, ensure, refused_by_name};

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclidean];
const DIM: usize = 5;
const STEPS: usize = 40;
/// Scores may differ by this, since a database may add in another order.
const TOLERANCE: f32 = 2e-5;

/// Checks a vector store; `make` makes it with settings as JSON, over vectors of the host in memory.
pub async fn check(make: impl Fn(&str, Arc<MemoryIndex>) -> Result<Arc<dyn VectorStore>>) -> Report {
    let mut report = Report::default();
    let index = || Arc::new(MemoryIndex::default());
    let store = match make("{}", index()) {
        Ok(store) => store,
        Err(error) => {
            let failed = async { Err(error.to_string()) };
            report.check("store.made", "it is made with its default settings", failed).await;
            return report;
        }
    };
    let unknown = async {
        match make(UNKNOWN_SETTINGS, index()) {
            Ok(store) => refused_by_name(store.create(&collection("s", 2, Metric::Dot)).await),
            refused => refused_by_name(refused.map(|_| ())),
        }
    };
    report.check("store.settings", "an unknown setting is refused by its name", unknown).await;
    let ping = store.ping().await.map(|_| ());
    if matches!(&ping, Err(error) if error.code() == ErrorCode::Unavailable) {
        let about = "it keeps its vectors in a server that it does not reach here, and says so at every call";
        report.check("store.away", about, away(&store)).await;
        return report;
    }
    report.check("store.ping", "it says that it is there", async { during("ping", ping) }).await;
    let about = "rows, filters, overwriting, deleting and repeating agree with a map";
    report.check("store.history", about, history(&store)).await;
    let about = "a collection has one shape, is listed with it and is dropped once or twice";
    report.check("store.shapes", about, shapes(&store)).await;
    report.check("store.absent", "a collection that is not there is not-found", absent(&store)).await;
    let about = "a batch out of shape is refused, and nothing of it is kept";
    report.check("store.batches", about, batches(&store)).await;
    report
}

fn collection(name: &str, dim: usize, metric: Metric) -> VectorCollection {
    VectorCollection { name: name.to_owned(), dim, metric }
}

type Model = BTreeMap<String, (Vec<f32>, Fields)>;

fn batch(rows: &Model, dim: usize) -> StoreBatch {
    StoreBatch {
        ids: rows.keys().map(|id| ChunkId(id.clone())).collect(),
        vectors: Vectors { dim, data: rows.values().flat_map(|(row, _)| row.clone()).collect() },
        texts: rows.keys().cloned().collect(),
        fields: rows.values().map(|(_, fields)| fields.clone()).collect(),
    }
}

async fn history(store: &Arc<dyn VectorStore>) -> Checked {
    for (seed, metric) in (0..).zip(METRICS) {
        let what = format!("{metric:?}");
        random_history(store, metric, seed).await.map_err(|why| format!("{what}: {why}"))?;
    }
    Ok(())
}

async fn random_history(store: &Arc<dyn VectorStore>, metric: Metric, seed: u64) -> Checked {
    let mut random = Random::new(seed);
    let names = [format!("one-{seed}"), format!("二-{seed}")];
    let mut models: [Model; 2] = Default::default();
    for name in &names {
        during("create", store.create(&collection(name, DIM, metric)).await)?;
    }
    let row = |random: &mut Random| (0..DIM).map(|_| random.float()).collect::<Vec<f32>>();
    for _ in 0..STEPS {
        let which = random.below(2);
        let (name, model) = (&names[which], &mut models[which]);
        match random.below(10) {
            0..5 => {
                let mut rows = Model::new();
                for _ in 0..random.below(9) {
                    let (row, fields) = (row(&mut random), some_fields(&mut random));
                    rows.insert(format!("片-{}", random.below(30)), (row, fields));
                }
                for _ in 0..1 + random.below(2) {
                    during("upsert", store.upsert(name, batch(&rows, DIM)).await)?;
                }
                model.extend(rows);
            }
            5 => {
                let ids: Vec<ChunkId> =
                    (0..random.below(6)).map(|_| ChunkId(format!("片-{}", random.below(40)))).collect();
                for _ in 0..1 + random.below(2) {
                    during("delete", store.delete(name, &ids).await)?;
                }
                model.retain(|id, _| !ids.contains(&ChunkId(id.clone())));
            }
            _ => {
                let queries: Vec<Vec<f32>> = (0..1 + random.below(3)).map(|_| row(&mut random)).collect();
                let filter = (random.below(2) == 0).then(|| some_filter(&mut random));
                let k = 1 + random.below(40) as u32;
                let asked = Vectors { dim: DIM, data: queries.concat() };
                let found = during("query", store.query(name, &asked, k, filter.as_ref()).await)?;
                ensure(found.len() == queries.len(), || "not one list a query".to_owned())?;
                for (query, found) in queries.iter().zip(&found) {
                    agrees(model, metric, query, k, filter.as_ref(), found)?;
                }
            }
        }
        let count = during("count", store.count(name).await)?;
        ensure(count == model.len() as u64, || format!("{count} rows where {} should be", model.len()))?;
    }
    Ok(())
}

/// Same scores in the same places; ids may change places only among equal scores.
fn agrees(
    model: &Model,
    metric: Metric,
    query: &[f32],
    k: u32,
    filter: Option<&Filter>,
    found: &[Hit],
) -> Checked {
    let passing = model.iter().filter(|(_, (_, fields))| passes(filter, fields));
    let all =
        passing.map(|(id, (row, _))| Hit { chunk: ChunkId(id.clone()), score: score(metric, query, row) });
    let expected = ranked(all.collect(), k);
    ensure(found.len() == expected.len(), || {
        format!("{} hits where {} should be ({filter:?})", found.len(), expected.len())
    })?;
    for (found, expected) in found.iter().zip(&expected) {
        let own = model.get(&found.chunk.0).map(|(row, _)| score(metric, query, row));
        let near = |other: f32| (found.score - other).abs() < TOLERANCE;
        ensure(near(expected.score) && own.is_some_and(near), || {
            format!("{found:?} where {expected:?} should be")
        })?;
    }
    Ok(())
}

async fn shapes(store: &Arc<dyn VectorStore>) -> Checked {
    let wanted = [("c-cosine", Metric::Cosine), ("c-dot", Metric::Dot), ("欧氏", Metric::Euclidean)];
    for (name, metric) in wanted {
        for _ in 0..2 {
            during("create", store.create(&collection(name, 3, metric)).await)?;
        }
    }
    for other in [collection("c-dot", 4, Metric::Dot), collection("c-dot", 3, Metric::Cosine)] {
        match store.create(&other).await {
            Ok(()) => return Err(format!("{other:?} was created over another shape")),
            Err(error) => ensure(error.code() == ErrorCode::Conflict, || error.to_string())?,
        }
    }
    let listed = during("list", store.list().await)?;
    for (name, metric) in wanted {
        let expected = collection(name, 3, metric);
        ensure(listed.contains(&expected), || format!("{expected:?} is not listed"))?;
        for _ in 0..2 {
            during("drop", store.drop_collection(name).await)?;
        }
    }
    let listed = during("list", store.list().await)?;
    ensure(wanted.iter().all(|(name, _)| listed.iter().all(|other| other.name != *name)), || {
        "a dropped collection is still listed".to_owned()
    })
}

/// An adapter without its server. The other rules are for one that has it: `tests/stores` in this tree.
async fn away(store: &Arc<dyn VectorStore>) -> Checked {
    let outcomes = [
        ("create", store.create(&collection("away", 2, Metric::Dot)).await),
        ("list", store.list().await.map(|_| ())),
        ("count", store.count("away").await.map(|_| ())),
        ("delete", store.delete("away", &[ChunkId("a".to_owned())]).await),
    ];
    for (what, outcome) in outcomes {
        let error = outcome.err().ok_or_else(|| format!("{what} passed"))?;
        ensure(error.code() == ErrorCode::Unavailable, || format!("{what}: {error}"))?;
    }
    Ok(())
}

async fn absent(store: &Arc<dyn VectorStore>) -> Checked {
    let rows: Model = [("a".to_owned(), (vec![1.0, 0.0], vec![]))].into();
    let query = Vectors { dim: 2, data: vec![1.0, 0.0] };
    let outcomes = [
        ("count", store.count("absent").await.map(|_| ())),
        ("upsert", store.upsert("absent", batch(&rows, 2)).await),
        ("delete", store.delete("absent", &[ChunkId("a".to_owned())]).await),
        ("query", store.query("absent", &query, 1, None).await.map(|_| ())),
    ];
    for (what, outcome) in outcomes {
        let error = outcome.err().ok_or_else(|| format!("{what} passed"))?;
        ensure(error.code() == ErrorCode::NotFound, || format!("{what}: {error}"))?;
    }
    during("drop", store.drop_collection("absent").await)
}

async fn batches(store: &Arc<dyn VectorStore>) -> Checked {
    during("create", store.create(&collection("b", 2, Metric::Dot)).await)?;
    let row = |number: usize| (format!("r{number}"), (vec![1.0, 0.0], vec![]));
    let mut short = batch(&(0..2).map(row).collect(), 2);
    short.vectors.data.truncate(2);
    for (what, bad) in [("513 rows", batch(&(0..513).map(row).collect(), 2)), ("a row short", short)] {
        let taken = store.upsert("b", bad).await;
        ensure(taken.is_err(), || format!("{what} were taken"))?;
    }
    let count = during("count", store.count("b").await)?;
    ensure(count == 0, || format!("{count} rows of refused batches were kept"))?;
    during("512 rows", store.upsert("b", batch(&(0..512).map(row).collect(), 2)).await)?;
    during("drop", store.drop_collection("b").await)
}
