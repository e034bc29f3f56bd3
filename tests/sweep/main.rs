//! Whatever call fails, and whether the process survives it or not: run again, the index is the same.

mod encoders;
mod fault;
mod imports;
mod queue;
mod records;
mod swaps;
mod system;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rag_core::ask::AskRequest;
use rag_core::kb::KbName;
use rag_core::ports::{Catalog, JobState};
use rag_core::{Rag, Result};
use rag_store::Store;

use fault::Fault;

const KB: &str = "initial";
const NAME: &str = "手册.txt";
const FIRST: &str = "第一段讲安装。\n\nThe second paragraph.\n\n第三段讲配置。";
const SECOND: &str = "第一段讲安装。\n\nA changed paragraph.\n\n第三段讲配置。\n\n新的第四段。";

/// Everything that answers may depend on.
#[derive(Debug, PartialEq)]
struct Index {
    documents: Vec<(String, u64)>,
    chunks: Vec<(String, String)>,
    vectors: Vec<(String, Vec<u32>)>,
    lexical: Vec<Vec<String>>,
}

async fn submit(rag: &Rag, text: &str) -> Result<()> {
    submit_as(rag, NAME, text).await
}

async fn submit_as(rag: &Rag, name: &str, text: &str) -> Result<()> {
    let mut writer = rag.upload().await?;
    writer.write(Bytes::copy_from_slice(text.as_bytes())).await?;
    rag.submit(KB, name, Some("text/plain"), writer).await.map(|_| ())
}

/// What a host does after its start: runs every job; failed ones are queued again until `retries` are used up.
async fn drain(rag: &Rag, mut retries: usize) -> Result<()> {
    rag_core::jobs::recover(rag).await?;
    loop {
        while rag_core::jobs::run_next(rag).await? {}
        let failed = rag
            .catalog
            .jobs(None, 100)
            .await?
            .into_iter()
            .find(|job| matches!(job.state, JobState::Failed { .. }));
        match failed {
            Some(job) if retries > 0 => {
                retries -= 1;
                rag.retry(&job.id).await?;
            }
            Some(job) => panic!("job failed without an injected fault: {job:?}"),
            None => return Ok(()),
        }
    }
}

async fn index(rag: &Rag, store: &Arc<Store>) -> Index {
    let kb = KbName::parse(KB).unwrap();
    let catalog = store.as_ref();
    let documents = catalog.documents(&kb, None, 100).await.unwrap();
    let mut chunks = Vec::new();
    for document in &documents {
        let stored = catalog.chunks(&document.id, None, 100).await.unwrap();
        chunks.extend(stored.into_iter().map(|row| (row.chunk.id.0, row.chunk.text)));
    }
    let collection = rag.kb(KB).await.unwrap().collection;
    let rows = store.vector_index(&kb).scan(&collection, None, 1_000).await.unwrap();
    let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect();
    let vectors =
        rows.ids.iter().zip(rows.vectors.iter()).map(|(id, row)| (id.0.clone(), bits(row))).collect();
    let mut lexical = Vec::new();
    for query in ["第一段", "paragraph", "changed", "第四段"] {
        let hits = catalog.lexical(&kb, &collection, query, 10, None).await.unwrap();
        let mut hits: Vec<String> = hits.into_iter().map(|hit| hit.chunk.0).collect();
        hits.sort();
        lexical.push(hits);
    }
    let documents = documents.into_iter().map(|document| (document.name, document.chunks)).collect();
    Index { documents, chunks, vectors, lexical }
}

/// A folder that holds the first version, made without any fault.
async fn prepare(dir: &Path) {
    let (rag, _store) = system::open(dir, &Arc::default());
    rag.create_kb(KB, None).await.unwrap();
    submit(&rag, FIRST).await.unwrap();
    drain(&rag, 0).await.unwrap();
}

/// Replaces the first version with the second while call `n` fails; returns whether that call was reached.
async fn replace_with_fault(dir: &Path, n: usize, dead: bool) -> bool {
    let fault = Arc::new(Fault::default());
    let (rag, store) = system::open(dir, &fault);
    submit(&rag, SECOND).await.unwrap();
    fault.calls.store(0, Ordering::Relaxed);
    fault.dead.store(dead, Ordering::Relaxed);
    fault.fail_at.store(n, Ordering::Relaxed);
    // However it ends, what counts is the next start.
    let _ = rag_core::jobs::run_next(&rag).await;
    let reached = fault.calls.load(Ordering::Relaxed) >= n;
    drop(rag);
    close(store);
    reached
}

/// The lock on the folder goes with the last reference.
fn close(store: Arc<Store>) {
    assert_eq!(Arc::strong_count(&store), 1, "somebody still holds the store");
}

async fn sweep_ingest(dead: bool) {
    let clean = tempfile::tempdir().unwrap();
    prepare(clean.path()).await;
    assert!(!replace_with_fault(clean.path(), usize::MAX, false).await);
    let (rag, store) = system::open(clean.path(), &Arc::default());
    let want = index(&rag, &store).await;
    assert_eq!(want.documents, [(NAME.to_owned(), 4)]);
    assert_eq!(want.vectors.len(), 4, "vectors of the first version are gone");

    let mut n = 1;
    loop {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path()).await;
        let reached = replace_with_fault(dir.path(), n, dead).await;
        let (rag, store) = system::open(dir.path(), &Arc::default());
        drain(&rag, 3).await.unwrap();
        assert_eq!(index(&rag, &store).await, want, "after call {n} failed (dead: {dead})");
        if !reached {
            break;
        }
        n += 1;
    }
    assert!(n > 30, "the sweep reached only {n} calls");
}

#[tokio::test]
async fn an_ingest_that_fails_anywhere_ends_in_the_same_index_when_run_again() {
    sweep_ingest(false).await;
}

#[tokio::test]
async fn a_process_that_dies_anywhere_in_an_ingest_ends_in_the_same_index_after_a_restart() {
    sweep_ingest(true).await;
}

#[tokio::test]
async fn a_question_that_fails_anywhere_is_an_error_and_the_next_one_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path()).await;
    let fault = Arc::new(Fault::default());
    let (rag, _store) = system::open(dir.path(), &fault);
    let ask = || AskRequest {
        question: "怎样安装？".into(),
        conversation: Some("c".into()),
        ..AskRequest::default()
    };
    let mut n = 1;
    loop {
        fault.calls.store(0, Ordering::Relaxed);
        fault.fail_at.store(n, Ordering::Relaxed);
        let answered = rag.ask(KB, ask()).await;
        let reached = fault.calls.load(Ordering::Relaxed) >= n;
        assert_eq!(answered.is_err(), reached, "call {n}");
        fault.fail_at.store(0, Ordering::Relaxed);
        assert!(!rag.ask(KB, ask()).await.unwrap().citations(None).is_empty(), "after call {n} failed");
        if !reached {
            break;
        }
        n += 1;
    }
    assert!(n > 6, "the sweep reached only {n} calls");
}

#[tokio::test]
async fn a_deletion_that_fails_anywhere_removes_everything_when_run_again() {
    let mut n = 1;
    loop {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path()).await;
        let fault = Arc::new(Fault::default());
        let (rag, store) = system::open(dir.path(), &fault);
        let id = store.documents(&KbName::parse(KB).unwrap(), None, 1).await.unwrap().remove(0).id;
        fault.fail_at.store(n, Ordering::Relaxed);
        let result = rag.delete_document(&id).await;
        let reached = fault.calls.load(Ordering::Relaxed) >= n;
        assert_eq!(result.is_err(), reached, "call {n}");
        drop(rag);
        close(store);
        let (rag, store) = system::open(dir.path(), &Arc::default());
        match rag.delete_document(&id).await {
            Ok(()) => {}
            Err(error) => assert_eq!(error.code(), rag_core::ErrorCode::NotFound, "{error}"),
        }
        let binding = rag.binding(KB).await.unwrap();
        rag_core::jobs::collect_garbage(&rag, &binding).await.unwrap();
        drop(binding);
        let left = index(&rag, &store).await;
        assert!(
            left.documents.is_empty() && left.chunks.is_empty() && left.vectors.is_empty(),
            "call {n}: {left:?}"
        );
        assert!(left.lexical.iter().all(Vec::is_empty), "call {n}: {left:?}");
        if !reached {
            break;
        }
        n += 1;
    }
}
