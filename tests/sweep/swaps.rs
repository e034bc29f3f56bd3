//! A second index is filled beside a stream of ingests that never ends, and a swap survives a death at any call.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rag_core::ask::AskRequest;
use rag_core::generations::SwapRequest;
use rag_core::kb::{KbName, PluginChoice};
use rag_core::ports::{Generation, GenerationState, Job, JobKind, JobState};
use rag_core::{Rag, Result};
use rag_store::Store;

use crate::fault::Fault;
use crate::{KB, close, drain, index, submit_as, system};

/// Documents before the swap, and ingests that wait when it begins.
const DOCUMENTS: usize = 10;
const WAITING: usize = 40;

/// Stages another chunker.
async fn swap(rag: &Rag, publish: bool) -> Result<Generation> {
    let chunker = Some(PluginChoice::any("chunk-other".to_owned(), "{}".to_owned()));
    rag.swap(KB, SwapRequest { chunker, publish, ..SwapRequest::default() }).await
}

async fn waiting(rag: &Rag) -> usize {
    let waits = |job: &Job| job.state == JobState::Queued && matches!(job.kind, JobKind::Ingest(_));
    rag.catalog.jobs(None, 1_000).await.unwrap().iter().filter(|job| waits(job)).count()
}

#[tokio::test]
async fn a_second_index_is_complete_long_before_a_stream_of_ingests_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (rag, _store) = system::open(dir.path(), &Arc::default());
    rag.create_kb(KB, None).await.unwrap();
    for n in 0..DOCUMENTS {
        submit_as(&rag, &format!("{n}.txt"), &format!("第 {n} 篇。\n\nPaper {n}.")).await.unwrap();
        assert!(rag_core::jobs::run_next(&rag).await.unwrap());
    }
    for n in 0..WAITING {
        // Every other one replaces a document that the index holds already.
        let name = format!("{}.txt", if n % 2 == 0 { n % DOCUMENTS } else { DOCUMENTS + n });
        submit_as(&rag, &name, &format!("新的第 {n} 篇。\n\nPaper {n}, new.")).await.unwrap();
    }
    let staged = swap(&rag, true).await.unwrap();
    assert_eq!(staged.state, GenerationState::Building);
    let kb = KbName::parse(KB).unwrap();
    let mut ingested_first = 0;
    while rag.records.generation(&kb, staged.number).await.unwrap().state == GenerationState::Building {
        assert!(rag_core::jobs::run_next(&rag).await.unwrap(), "everything ran, but never its index");
        ingested_first = WAITING - waiting(&rag).await;
    }
    let live = rag.kb(KB).await.unwrap();
    assert_eq!(live.generation, staged.number);
    assert!(ingested_first > 0, "nobody waits for the whole index");
    assert!(ingested_first <= DOCUMENTS, "each turn of it reads more than one ingest brings");
    while rag_core::jobs::run_next(&rag).await.unwrap() {}
    let live = rag.kb(KB).await.unwrap();
    assert_eq!(live.documents as usize, DOCUMENTS + WAITING / 2, "the rest came to the new index");
    assert_eq!(rag.records.index_gaps(&kb, &live.collection, 9).await.unwrap().1, 0);
}

/// Documents of the knowledge base that is killed again and again.
const PAPERS: usize = 3;

/// A folder with a few documents, to be copied.
async fn papers() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (rag, store) = system::open(dir.path(), &Arc::default());
    rag.create_kb(KB, None).await.unwrap();
    for n in 0..PAPERS {
        submit_as(&rag, &format!("{n}.txt"), &format!("第 {n} 篇讲锚。\n\nPaper {n}.")).await.unwrap();
    }
    drain(&rag, 0).await.unwrap();
    drop(rag);
    close(store);
    dir
}

fn copy(from: &Path, to: &Path) {
    for entry in fs_err::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs_err::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs_err::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Another chunker is staged, gets its index, is published, sees a further document and is taken back.
async fn there_and_back(rag: &Rag) -> Result<()> {
    let staged = swap(rag, false).await?;
    while rag_core::jobs::run_next(rag).await? {}
    let live = rag.publish(KB, staged.number).await?;
    assert_eq!(live.state, GenerationState::Live);
    submit_as(rag, "late.txt", "后来的一篇。\n\nA late paper.").await?;
    while rag_core::jobs::run_next(rag).await? {}
    rag.roll_back(KB, Some(staged.number), "tried").await?;
    while rag_core::jobs::run_next(rag).await? {}
    Ok(())
}

/// The same with a retriever, which needs no other index.
async fn retriever_there_and_back(rag: &Rag) -> Result<()> {
    let retriever = Some(PluginChoice::any("retrieve-other".to_owned(), "{}".to_owned()));
    let request = SwapRequest { retriever, publish: true, ..SwapRequest::default() };
    let live = rag.swap(KB, request).await?;
    rag.roll_back(KB, Some(live.number), "tried").await.map(|_| ())
}

/// One generation is live, its index is complete, and an answer has passages of it alone.
async fn check_whole(rag: &Rag, store: &Arc<Store>, when: &str) {
    let name = KbName::parse(KB).unwrap();
    let kb = rag.kb(KB).await.unwrap();
    let generations = rag.records.generations(&name, 99).await.unwrap();
    let of = |state| generations.iter().filter(|one| one.state == state).map(|one| one.number).collect();
    let live: Vec<u64> = of(GenerationState::Live);
    assert_eq!(live, [kb.generation], "{when}");
    let building: Vec<u64> = of(GenerationState::Building);
    assert!(building.is_empty(), "{when}: nobody goes on with {building:?}");
    let index = index(rag, store).await;
    let documents = index.documents.len();
    assert!(documents == PAPERS || documents == PAPERS + 1, "{when}: {:?}", index.documents);
    assert_eq!(rag.records.index_gaps(&name, &kb.collection, 9).await.unwrap().1, 0, "{when}");
    let mut chunks: Vec<&String> = index.chunks.iter().map(|(id, _)| id).collect();
    let mut vectors: Vec<&String> = index.vectors.iter().map(|(id, _)| id).collect();
    chunks.sort();
    vectors.sort();
    assert_eq!(chunks, vectors, "{when}");
    let request = AskRequest { question: "锚在哪一篇？".into(), ..AskRequest::default() };
    let answer = rag.ask(KB, request).await.unwrap();
    assert!(!answer.recall.is_empty(), "{when}");
    assert!(answer.recall.iter().all(|hit| chunks.contains(&&hit.passage.chunk.0)), "{when}");
}

/// Publishes what was staged when the process died, or swaps anew.
async fn swap_at_last(rag: &Rag, when: &str) {
    let name = KbName::parse(KB).unwrap();
    let all = rag.records.generations(&name, 99).await.unwrap();
    let number = match all.iter().find(|one| one.state == GenerationState::Ready) {
        Some(ready) => ready.number,
        None if rag.kb(KB).await.unwrap().settings.chunker.id == "chunk-other" => return,
        None => swap(rag, false).await.unwrap().number,
    };
    drain(rag, 0).await.unwrap();
    rag.publish(KB, number).await.unwrap();
    drain(rag, 0).await.unwrap();
    assert_eq!(rag.kb(KB).await.unwrap().generation, number, "{when}");
}

/// Kills the process before every call that a swap makes, one after the other, beginning with the `first`; two tests share
/// them.
async fn sweep(script: impl AsyncFn(&Rag) -> Result<()>, first: usize, points_min: usize) {
    let prepared = papers().await;
    // A fault comes before a call or after it; to a process that dies, after one is before the next.
    for n in (2 * first - 1..).step_by(4) {
        let when = format!("killed at call {n}");
        let dir = tempfile::tempdir().unwrap();
        copy(prepared.path(), dir.path());
        let fault = Arc::new(Fault::default());
        let (rag, store) = system::open(dir.path(), &fault);
        fault.dead.store(true, Ordering::Relaxed);
        fault.fail_at.store(n, Ordering::Relaxed);
        let ended = script(&rag).await;
        let reached = fault.calls.load(Ordering::Relaxed) >= n;
        assert_eq!(ended.is_err(), reached, "{when}: {ended:?}");
        drop(rag);
        close(store);

        let (rag, store) = system::open(dir.path(), &Arc::default());
        drain(&rag, 0).await.unwrap();
        check_whole(&rag, &store, &when).await;
        swap_at_last(&rag, &when).await;
        check_whole(&rag, &store, &when).await;
        if !reached {
            assert!(n > points_min, "the sweep reached only {n} calls");
            return;
        }
    }
}

#[tokio::test]
async fn a_process_killed_at_any_call_of_a_swap_and_the_way_back_leaves_a_whole_knowledge_base() {
    sweep(there_and_back, 1, 150).await;
}

#[tokio::test]
async fn so_does_one_killed_at_the_calls_between() {
    sweep(there_and_back, 2, 150).await;
}

#[tokio::test]
async fn so_does_one_killed_while_a_retriever_is_swapped() {
    sweep(retriever_there_and_back, 1, 15).await;
    sweep(retriever_there_and_back, 2, 15).await;
}
