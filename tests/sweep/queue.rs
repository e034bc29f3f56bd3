//! The queue that opens the next job's document ahead ends in the index that one job after the other ends in.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rag_core::Rag;
use rag_core::ahead::Queue;
use rag_core::ports::JobState;
use rag_store::Store;

use super::fault::Fault;
use super::{FIRST, Index, KB, NAME, SECOND, close, drain, index, submit_as, system};

type Documents = [(&'static str, &'static str); 3];

/// A second version comes last: it must be read after the first, whatever is opened when.
const VERSIONS: Documents = [(NAME, FIRST), ("另一篇.txt", "Another one.\n\n另一段。"), (NAME, SECOND)];
const APART: Documents = [("a.txt", FIRST), ("b.txt", "Another one.\n\n另一段。"), ("c.txt", SECOND)];
/// Calls that looking one job ahead adds at most; reading a document twice would be more.
const LOOK_CALLS_MAX: usize = 8;

async fn queued(dir: &Path, fault: &Arc<Fault>, documents: Documents) -> (Rag, Arc<Store>) {
    let (rag, store) = system::open(dir, fault);
    rag.create_kb(KB, None).await.unwrap();
    for (name, text) in documents {
        submit_as(&rag, name, text).await.unwrap();
    }
    fault.calls.store(0, Ordering::Relaxed);
    (rag, store)
}

/// Without the order in which documents came.
async fn sorted(rag: &Rag, store: &Arc<Store>) -> Index {
    let mut index = index(rag, store).await;
    index.documents.sort();
    index.chunks.sort();
    index.vectors.sort();
    index
}

/// One job after the other; also the calls that it takes.
async fn in_turn(documents: Documents) -> (Index, usize) {
    let (dir, fault) = (tempfile::tempdir().unwrap(), Arc::default());
    let (rag, store) = queued(dir.path(), &fault, documents).await;
    while rag_core::jobs::run_next(&rag).await.unwrap() {}
    let calls = fault.calls.load(Ordering::Relaxed);
    (sorted(&rag, &store).await, calls)
}

#[tokio::test]
async fn what_is_opened_ahead_is_read_once_and_in_the_queues_order() {
    for documents in [VERSIONS, APART] {
        let (want, calls) = in_turn(documents).await;
        let (dir, fault) = (tempfile::tempdir().unwrap(), Arc::default());
        let (rag, store) = queued(dir.path(), &fault, documents).await;
        let rag = Arc::new(rag);
        let mut queue = Queue::new(rag.clone());
        while queue.run_next().await.unwrap() {}
        let more = fault.calls.load(Ordering::Relaxed) - calls;
        assert_eq!(sorted(&rag, &store).await, want);
        assert!(more <= documents.len() * LOOK_CALLS_MAX, "{more} calls more");
    }
}

#[tokio::test]
async fn a_job_that_was_cancelled_after_its_document_was_opened_leaves_nothing() {
    let (dir, fault) = (tempfile::tempdir().unwrap(), Arc::default());
    let (rag, store) = queued(dir.path(), &fault, APART).await;
    let rag = Arc::new(rag);
    let mut queue = Queue::new(rag.clone());
    assert!(queue.run_next().await.unwrap());
    let next = rag.catalog.upcoming().await.unwrap().expect("two wait");
    rag.cancel(&next.id).await.unwrap();
    while queue.run_next().await.unwrap() {}
    let names: Vec<String> = index(&rag, &store).await.documents.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(!names.contains(&"b.txt".to_owned()), "{names:?}");
    assert_eq!(rag.catalog.job(&next.id).await.unwrap().state, JobState::Cancelled);
}

#[tokio::test]
async fn a_queue_that_fails_anywhere_ends_in_the_same_index_when_run_again() {
    let (want, _) = in_turn(APART).await;
    let mut n = 1;
    loop {
        let (dir, fault) = (tempfile::tempdir().unwrap(), Arc::<Fault>::default());
        let (rag, store) = queued(dir.path(), &fault, APART).await;
        fault.fail_at.store(n, Ordering::Relaxed);
        let mut queue = Queue::new(Arc::new(rag));
        // An error is one of the catalogue itself, and the loop goes on after it.
        while !matches!(queue.run_next().await, Ok(false)) {}
        let reached = fault.calls.load(Ordering::Relaxed) >= n;
        drop(queue);
        close(store);
        let (rag, store) = system::open(dir.path(), &Arc::default());
        drain(&rag, 3).await.unwrap();
        assert_eq!(sorted(&rag, &store).await, want, "after call {n} failed");
        if !reached {
            break;
        }
        n += 1;
    }
    assert!(n > 60, "the sweep reached only {n} calls");
}
