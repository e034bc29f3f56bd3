//! The encoder of a knowledge base changes while it answers, and no vector ever meets one of another encoder.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rag_core::generations::SwapRequest;
use rag_core::kb::{EncoderChoice, KbName, KbSettings};
use rag_core::ports::{GenerationState, JobState};
use rag_core::recall::SearchRequest;
use rag_core::{Error, Rag, Result};
use rag_store::Store;

use crate::fault::Fault;
use crate::system::{Models, open_with};
use crate::{KB, close};

const TEXTS: [(&str, &str); 2] = [
    ("安装.txt", "第一段讲安装。\n\nThe second paragraph."),
    ("release.txt", "A changed paragraph.\n\n第三段讲配置。"),
];

fn open(dir: &Path, models: Models) -> (Rag, Arc<Store>) {
    open_with(dir, &Arc::new(Fault::default()), models)
}

fn without(gone: &[&'static str]) -> Models {
    Models { gone: gone.to_vec(), for_all: None }
}

fn for_all(name: &'static str, gone: &[&'static str]) -> Models {
    Models { gone: gone.to_vec(), for_all: Some(name) }
}

async fn add(rag: &Rag, name: &str, text: &str) {
    let mut writer = rag.upload().await.unwrap();
    writer.write(Bytes::copy_from_slice(text.as_bytes())).await.unwrap();
    rag.submit(KB, name, Some("text/plain"), writer).await.unwrap();
}

async fn work(rag: &Rag) {
    while rag_core::jobs::run_next(rag).await.unwrap() {}
}

/// A knowledge base with both texts, in the encoder for all.
async fn filled(rag: &Rag) {
    rag.create_kb(KB, None).await.unwrap();
    for (name, text) in TEXTS {
        add(rag, name, text).await;
    }
    work(rag).await;
}

fn to(encoder: Option<&str>, publish: bool) -> SwapRequest {
    SwapRequest { encoder: Some(encoder.map(str::to_owned)), publish, ..SwapRequest::default() }
}

async fn found(rag: &Rag, question: &str) -> Result<Vec<String>> {
    let request = SearchRequest { question: question.to_owned(), ..SearchRequest::default() };
    let mut names: Vec<String> =
        rag.search(KB, request).await?.hits.into_iter().map(|hit| hit.passage.document_name).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Encoder, dimension of the catalogue, and the dimension of every vector in the live index with their number.
async fn live(rag: &Rag, store: &Arc<Store>) -> (String, usize, usize, usize) {
    let kb = rag.kb(KB).await.unwrap();
    let held = kb.embedder.unwrap();
    let rows = store.vector_index(&kb.name).scan(&kb.collection, None, 1_000).await.unwrap();
    (held.identity, held.dim, rows.vectors.dim, rows.vectors.rows())
}

#[tokio::test]
async fn the_old_index_answers_until_the_flip_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (rag, store) = open(dir.path(), Models::default());
    filled(&rag).await;
    let names = found(&rag, "安装").await.unwrap();
    assert_eq!(names, ["release.txt", "安装.txt"]);
    let staged = rag.swap(KB, to(Some("wide"), false)).await.unwrap();
    assert_eq!(staged.state, GenerationState::Building);
    // While the job fills the second index, one document comes and one goes.
    add(&rag, "late.txt", "晚来的一段。").await;
    let gone = rag.catalog.documents(&KbName::parse(KB).unwrap(), None, 9).await.unwrap();
    let gone = gone.iter().find(|document| document.name == "release.txt").unwrap().id.clone();
    assert_eq!(found(&rag, "安装").await.unwrap(), names);
    assert_eq!(live(&rag, &store).await, ("toy".to_owned(), 16, 16, 4));
    rag.delete_document(&gone).await.unwrap();
    work(&rag).await;
    let ready = rag.records.generation(&KbName::parse(KB).unwrap(), staged.number).await.unwrap();
    assert_eq!((ready.state, ready.embedder.unwrap().dim), (GenerationState::Ready, 24));
    assert_eq!(live(&rag, &store).await, ("toy".to_owned(), 16, 16, 3));
    // One that comes after the index was complete is added before the flip.
    add(&rag, "last.txt", "The very last paragraph.").await;
    work(&rag).await;
    assert_eq!(rag.publish(KB, staged.number).await.unwrap().state, GenerationState::Building);
    work(&rag).await;
    assert_eq!(live(&rag, &store).await, ("wide".to_owned(), 24, 24, 4));
    assert_eq!(found(&rag, "安装").await.unwrap(), ["last.txt", "late.txt", "安装.txt"]);
    let settings = rag.kb(KB).await.unwrap().settings;
    let wide = EncoderChoice { name: "wide".to_owned(), identity: Some("wide".to_owned()) };
    assert_eq!(settings.encoder, Some(wide));
    assert!(matches!(rag.swap(KB, to(Some("wide"), true)).await, Err(Error::Conflict { .. })));

    rag.roll_back(KB, None, "try").await.unwrap();
    assert_eq!(found(&rag, "安装").await.unwrap(), ["last.txt", "late.txt", "安装.txt"]);
    assert_eq!(live(&rag, &store).await, ("toy".to_owned(), 16, 16, 4));
}

/// The power goes at a call of the job that embeds anew: at every fifth, in turn.
#[tokio::test]
async fn a_crash_between_leaves_the_old_index_and_the_next_start_goes_on() {
    let clean = tempfile::tempdir().unwrap();
    let (rag, store) = open(clean.path(), Models::default());
    filled(&rag).await;
    drop(rag);
    close(store);
    for n in (1..).step_by(5) {
        let dir = tempfile::tempdir().unwrap();
        copy(clean.path(), dir.path());
        let fault = Arc::new(Fault::default());
        let (rag, store) = open_with(dir.path(), &fault, Models::default());
        rag.swap(KB, to(Some("wide"), true)).await.unwrap();
        fault.calls.store(0, Ordering::Relaxed);
        fault.freezes.store(true, Ordering::Relaxed);
        fault.fail_at.store(n, Ordering::Relaxed);
        tokio::select! {
            ran = rag_core::jobs::run_next(&rag) => assert!(ran.unwrap()),
            () = fault.frozen.notified() => {}
        }
        let reached = fault.calls.load(Ordering::Relaxed) >= n;
        drop(rag);
        close(store);

        let (rag, store) = open(dir.path(), Models::default());
        let (identity, dim, in_index, rows) = live(&rag, &store).await;
        assert!((dim == in_index) && rows == 4, "call {n}: {identity} {dim} {in_index} {rows}");
        assert_eq!(found(&rag, "安装").await.unwrap().len(), 2, "call {n}");
        rag_core::jobs::recover(&rag).await.unwrap();
        work(&rag).await;
        for job in rag.catalog.jobs(None, 100).await.unwrap() {
            assert!(matches!(job.state, JobState::Done { .. }), "call {n}: {job:?}");
        }
        assert_eq!(live(&rag, &store).await, ("wide".to_owned(), 24, 24, 4), "call {n}");
        assert_eq!(found(&rag, "安装").await.unwrap().len(), 2, "call {n}");
        drop(rag);
        close(store);
        if !reached {
            return;
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs_err::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs_err::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs_err::copy(entry.path(), target).unwrap();
        }
    }
}

#[track_caller]
fn refused(result: Result<Vec<String>>, words: &[&str]) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_missing_encoder_is_never_replaced_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let (rag, store) = open(dir.path(), Models::default());
    let settings = KbSettings { encoder: Some(EncoderChoice::named("other")), ..KbSettings::default() };
    rag.create_kb(KB, Some(settings)).await.unwrap();
    for (name, text) in TEXTS {
        add(&rag, name, text).await;
    }
    work(&rag).await;
    assert_eq!(live(&rag, &store).await, ("other".to_owned(), 16, 16, 4));
    drop(rag);
    close(store);

    // As many values as the encoder for all has: only the identity tells them apart.
    let (rag, store) = open(dir.path(), without(&["other"]));
    assert_eq!(rag_core::jobs::recover(&rag).await.unwrap(), Vec::<String>::new());
    refused(found(&rag, "安装").await, &["'initial'", "other", "does not exist", "kb encoder"]);
    add(&rag, "new.txt", "新的一段。").await;
    rag_core::jobs::run_next(&rag).await.unwrap();
    assert_eq!(rag.kb(KB).await.unwrap().documents, 2);
    // It would be tried again.
    let tried = rag.catalog.jobs(None, 1).await.unwrap().remove(0);
    assert_eq!(tried.state, JobState::Queued);
    rag.cancel(&tried.id).await.unwrap();
    // What needs no vectors still works.
    let documents = rag.catalog.documents(&KbName::parse(KB).unwrap(), None, 9).await.unwrap();
    rag.delete_document(&documents[0].id).await.unwrap();
    let missing = rag.swap(KB, to(Some("gone"), true)).await;
    assert!(matches!(missing, Err(Error::NotFound { what: "encoder", .. })));
    rag.swap(KB, to(None, true)).await.unwrap();
    work(&rag).await;
    assert_eq!(live(&rag, &store).await.0, "toy");
    assert_eq!(found(&rag, "安装").await.unwrap().len(), 1);
    drop(rag);
    close(store);
}

#[tokio::test]
async fn another_encoder_for_all_leaves_what_is_embedded_to_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (rag, store) = open(dir.path(), Models::default());
    filled(&rag).await;
    drop(rag);
    close(store);

    let (rag, store) = open(dir.path(), for_all("wide", &[]));
    assert_eq!(found(&rag, "安装").await.unwrap().len(), 2, "its own encoder is still known");
    add(&rag, "late.txt", "晚来的一段。").await;
    work(&rag).await;
    assert_eq!(live(&rag, &store).await, ("toy".to_owned(), 16, 16, 5));
    drop(rag);
    close(store);

    let (rag, store) = open(dir.path(), for_all("other", &["toy"]));
    refused(found(&rag, "安装").await, &["toy", "in its place there is other"]);
    assert_eq!(rag.swap(KB, to(None, true)).await.unwrap().state, GenerationState::Building);
    work(&rag).await;
    assert_eq!(live(&rag, &store).await, ("other".to_owned(), 16, 16, 5));
    // An index that was emptied takes vectors of another dimension.
    for document in rag.catalog.documents(&KbName::parse(KB).unwrap(), None, 9).await.unwrap() {
        rag.delete_document(&document.id).await.unwrap();
    }
    drop(rag);
    close(store);
    let (rag, store) = open(dir.path(), for_all("wide", &["toy", "other"]));
    add(&rag, "late.txt", "晚来的一段。").await;
    work(&rag).await;
    assert_eq!(live(&rag, &store).await, ("wide".to_owned(), 24, 24, 1));
    assert_eq!(found(&rag, "晚来").await.unwrap(), ["late.txt"]);
    drop(rag);
    close(store);
}

#[tokio::test]
async fn another_reranker_counts_from_the_next_question_on() {
    let dir = tempfile::tempdir().unwrap();
    let (rag, _store) = open(dir.path(), Models::default());
    filled(&rag).await;
    let by = async || {
        let request = SearchRequest { question: "安装".to_owned(), ..SearchRequest::default() };
        let steps = rag.search(KB, request).await.unwrap().steps;
        steps.into_iter().find(|step| step.name == "rerank").unwrap().detail
    };
    assert!(by().await.ends_with("by toy"));
    let settings = rag.kb(KB).await.unwrap().settings;
    let with = |name: Option<&str>| KbSettings { reranker: name.map(str::to_owned), ..settings.clone() };
    rag.update_kb(KB, with(Some("wide"))).await.unwrap();
    assert!(by().await.ends_with("by wide"));
    assert_eq!(rag.kb(KB).await.unwrap().generation, 1, "no index depends on it");
    let missing = rag.update_kb(KB, with(Some("gone"))).await;
    assert!(matches!(missing, Err(Error::NotFound { what: "reranker", .. })));
    assert!(by().await.ends_with("by wide"));
    rag.update_kb(KB, with(None)).await.unwrap();
    assert!(by().await.ends_with("by toy"));
}
