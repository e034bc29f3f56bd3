//! A process that dies at any step of an ingest leaves nothing half done, and the rerun ends in the same index.
//!
//! The dying process is this test program itself, started again for the one test `child` and told where to die.

use std::process::{Command, Output};

use rag_core::document::{ChunkId, ParsedSummary, Vectors};
use rag_core::kb::KbSettings;
use rag_core::ports::{
    BlobStore, Catalog, Job, JobKind, JobState, StoredVectors, VectorCollection, VectorIndex,
};
use rag_core::search::Metric;

use crate::testing::{Sample, TestStore, config, found, kb};
use crate::{Store, StoreConfig};

const DIR: &str = "RAG_STORE_TEST_DIR";
const STEP: &str = "RAG_STORE_TEST_STEP";
const OLD: &[&str] = &["第一版 床前明月光\n疑是地上霜\n"];
const NEW: &[&str] = &["第二版 举头望明月\n", "低头思故乡\n落款\n"];

fn run_child(dir: &tempfile::TempDir, step: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "catalog::crash_tests::child", "--nocapture"])
        .env(DIR, dir.path())
        .env(STEP, step)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap()
}

/// Counts the steps of an ingest down to the one before which to die.
struct Countdown(usize);

impl Countdown {
    async fn step(&mut self, store: &Store) {
        if self.0 == 0 {
            // Dies within a transaction that has written already.
            let died: rag_core::Result<()> = store
                .write(|transaction| {
                    transaction.execute("DELETE FROM chunks", [])?;
                    transaction.execute("UPDATE jobs SET state = 2", [])?;
                    std::process::abort()
                })
                .await;
            died.unwrap();
        }
        self.0 -= 1;
    }
}

/// Takes the job and ingests the second version as the flow does, vectors included.
async fn ingest(store: &std::sync::Arc<Store>, countdown: &mut Countdown) {
    let index = store.vector_index(&kb());
    let Some(job) = claim_ingest(store).await else { return };
    let sample = Sample::of_job(job, NEW);
    countdown.step(store).await;
    if store.open_document(&sample.new).await.unwrap() == rag_core::ports::Opened::Unchanged {
        return;
    }
    for section in &sample.sections {
        countdown.step(store).await;
        store.put_section(sample.id(), section.start, &section.text, &section.chunks).await.unwrap();
        for chunk in &section.chunks {
            countdown.step(store).await;
            upsert(index.as_ref(), &chunk.id).await;
        }
    }
    countdown.step(store).await;
    let unused = store.commit_document(sample.id(), &ParsedSummary::default(), &sample.job.id).await.unwrap();
    countdown.step(store).await;
    for blob in unused {
        BlobStore::remove(&**store, &blob).await.unwrap();
    }
    while let Some(garbage) = store.vector_garbage(&kb(), 2).await.unwrap() {
        countdown.step(store).await;
        index.delete(&garbage.collection, &garbage.chunks).await.unwrap();
        countdown.step(store).await;
        store.forget_vectors(&garbage).await.unwrap();
    }
}

async fn claim_ingest(store: &Store) -> Option<Job> {
    let job = store.claim().await.unwrap()?;
    assert!(matches!(job.kind, JobKind::Ingest(_)));
    Some(job)
}

async fn upsert(index: &dyn VectorIndex, id: &ChunkId) {
    let vectors = Vectors { dim: 2, data: vec![1.0, 2.0] };
    index
        .upsert("initial-g1", StoredVectors { ids: vec![id.clone()], vectors }, vec![Vec::new()])
        .await
        .unwrap();
}

/// A store with the first version, and the second one waiting in the queue.
async fn prepared() -> TestStore {
    let store = TestStore::with_kb().await;
    let collection = VectorCollection { name: "initial-g1".into(), dim: 2, metric: Metric::Cosine };
    let index = store.vector_index(&kb());
    index.create(&collection).await.unwrap();
    let old = Sample::ingested(&store, "诗.txt", OLD).await;
    for id in old.chunk_ids() {
        upsert(index.as_ref(), &id).await;
    }
    let new = Sample::new(&store, "诗.txt", NEW).await;
    // The next process finds the job as a dead one left it: running.
    assert_eq!(store.job(&new.job.id).await.unwrap().state, JobState::Running);
    drop(index);
    store
}

/// Everything that a person could see of the index.
async fn seen(store: &TestStore) -> (Vec<String>, Vec<ChunkId>, Vec<ChunkId>, bool) {
    let mut words = found(store, "明月 光 霜 低头 落款 版").await;
    words.sort();
    let index = store.vector_index(&kb());
    let vectors = index.scan("initial-g1", None, 100).await.unwrap().ids;
    let hits = index.query("initial-g1", &Vectors { dim: 2, data: vec![1.0, 0.0] }, 100, None).await.unwrap();
    let mut near: Vec<ChunkId> = hits[0].iter().map(|hit| hit.chunk.clone()).collect();
    near.sort();
    let garbage: u64 = store
        .read(|connection| Ok(connection.query_row("SELECT count(*) FROM garbage", [], |row| row.get(0))?))
        .await
        .unwrap();
    (words, vectors, near, garbage == 0)
}

/// Runs what is left to do and looks at the result.
async fn finished(store: TestStore) -> (Vec<String>, Vec<ChunkId>, Vec<ChunkId>, bool) {
    let mut store = store;
    let mut endless = Countdown(usize::MAX);
    ingest(&store.store, &mut endless).await;
    // Garbage of a process that died after the commit is collected by whoever comes next.
    let index = store.vector_index(&kb());
    while let Some(garbage) = store.vector_garbage(&kb(), 100).await.unwrap() {
        index.delete(&garbage.collection, &garbage.chunks).await.unwrap();
        store.forget_vectors(&garbage).await.unwrap();
    }
    drop(index);
    store = store.reopen();
    seen(&store).await
}

#[tokio::test]
async fn dying_at_any_step_ends_in_the_same_index_after_a_rerun() {
    let undisturbed = finished(prepared().await.reopen()).await;
    assert_eq!(undisturbed.0, ["低头思故乡", "第二版 举头望明月", "落款"]);
    assert_eq!(undisturbed.1.len(), 3);
    let mut died = 0;
    for step in 0.. {
        let TestStore { store, dir } = prepared().await;
        drop(store);
        let output = run_child(&dir, &step.to_string());
        let store = TestStore { store: Store::open(config(&dir)).unwrap(), dir };
        // Whatever happened, either version is there as a whole.
        let words = seen(&store).await.0;
        assert!(
            words == ["疑是地上霜", "第一版 床前明月光"] || words == undisturbed.0,
            "step {step}: {words:?}"
        );
        assert_eq!(finished(store).await, undisturbed, "step {step}");
        if output.status.success() {
            break;
        }
        died += 1;
    }
    assert_eq!(died, 10, "every step was tried");
}

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_folder() {
    let store = TestStore::new();
    let output = run_child(&store.dir, "lock");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = format!("{} is in use by process {}", store.dir.path().display(), std::process::id());
    assert!(said.contains(&expected), "{said}");
}

/// Does nothing unless the tests above start it.
#[tokio::test]
async fn child() {
    let (Ok(dir), Ok(step)) = (std::env::var(DIR), std::env::var(STEP)) else { return };
    let opened = Store::open(StoreConfig { disk_free_min_bytes: 0, ..StoreConfig::new(dir) });
    if step == "lock" {
        println!("{}", opened.unwrap_err());
        return;
    }
    ingest(&opened.unwrap(), &mut Countdown(step.parse().unwrap())).await;
}

#[tokio::test]
async fn a_store_dropped_in_the_middle_starts_over() {
    let store = TestStore::with_kb().await;
    let sample = Sample::new(&store, "a.txt", &["一\n"]).await;
    sample.write(&store).await;
    let store = store.reopen();
    assert_eq!(store.job(&sample.job.id).await.unwrap().state, JobState::Queued);
    assert!(store.document(sample.id()).await.is_err());
    assert_eq!(store.vector_garbage(&kb(), 9).await.unwrap().unwrap().chunks, sample.chunk_ids());
    // The handed-out garbage of a dead process does not block the rerun either.
    let store = store.reopen();
    assert_eq!(store.claim().await.unwrap().unwrap().id, sample.job.id);
    sample.write(&store).await;
    sample.commit(&store).await;
    assert_eq!(found(&store, "一").await, ["一"]);
    assert_eq!(store.vector_garbage(&kb(), 9).await.unwrap(), None);
    assert!(store.create_kb(&kb(), &KbSettings::default()).await.is_err());
}
