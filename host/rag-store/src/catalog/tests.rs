//! What the catalogue promises, call by call.

use rag_core::Error;
use rag_core::document::{ChunkId, DocumentId, ParsedSummary, Span};
use rag_core::kb::{Embedded, KbName, KbSettings};
use rag_core::ports::{
    BlobStore, Catalog, DocumentState, JobKind, JobState, Opened, Progress, Stage, VectorGarbage,
};
use rag_core::search::Turn;

use crate::testing::{Sample, TestStore, found, kb, put_blob};

fn name(text: &str) -> KbName {
    KbName::parse(text).unwrap()
}

#[tokio::test]
async fn knowledge_bases_are_created_changed_listed_and_deleted() {
    let store = TestStore::new();
    let created = store.create_kb(&name("Books"), &KbSettings::default()).await.unwrap();
    assert_eq!((created.collection.as_str(), created.documents, created.chunks), ("Books-g1", 0, 0));
    assert_eq!(created.embedder, None);
    let again = store.create_kb(&name("bOOKS"), &KbSettings::default()).await;
    assert!(matches!(again, Err(Error::Conflict { message }) if message.contains("bOOKS")));

    let settings = KbSettings { rerank: false, ..KbSettings::default() };
    store.update_kb(&name("Books"), &settings).await.unwrap();
    assert_eq!(store.kb(&name("books")).await.unwrap().settings, settings);
    store.create_kb(&name("abc"), &settings).await.unwrap();
    let names: Vec<String> = store.kbs().await.unwrap().into_iter().map(|kb| kb.name.to_string()).collect();
    assert_eq!(names, ["abc", "Books"]);

    assert!(store.delete_kb(&name("abc")).await.unwrap().is_empty());
    for missing in [
        store.kb(&name("abc")).await.err(),
        store.update_kb(&name("abc"), &settings).await.err(),
        store.set_embedder(&name("abc"), "abc-g1", &embedded("e5")).await.err(),
        store.delete_kb(&name("abc")).await.err(),
        store.lexical(&name("abc"), "abc-g1", "x", 1, None).await.err(),
        store.documents(&name("abc"), None, 1).await.err(),
        store.passages(&name("abc"), &[]).await.err(),
        store.vector_garbage(&name("abc"), 1).await.err(),
        store.jobs(Some(&name("abc")), 1).await.err(),
    ] {
        assert!(matches!(missing, Some(Error::NotFound { what: "knowledge base", .. })), "{missing:?}");
    }
}

#[tokio::test]
async fn a_collection_holds_one_models_vectors() {
    let store = TestStore::with_kb().await;
    let set = async |model: &str| store.set_embedder(&kb(), "initial-g1", &embedded(model)).await;
    set("e5").await.unwrap();
    set("bge").await.unwrap();
    let sample = Sample::ingested(&store, "a.txt", &["一\n"]).await;
    set("bge").await.unwrap();
    assert_eq!(store.kb(&kb()).await.unwrap().embedder, Some(embedded("bge")));
    let mixed = set("e5").await;
    assert!(
        matches!(mixed, Err(Error::Conflict { message }) if message.contains("bge") && message.contains("e5"))
    );
    store.delete_document(sample.id()).await.unwrap();
    assert_eq!(store.kb(&kb()).await.unwrap().embedder, None);
    set("e5").await.unwrap();
    let nowhere = store.set_embedder(&kb(), "initial-g9", &embedded("e5")).await;
    assert!(matches!(nowhere, Err(Error::NotFound { what: "index", .. })));
}

/// Of as many values as its name has bytes.
fn embedded(model: &str) -> Embedded {
    Embedded { identity: model.to_owned(), dim: model.len() }
}

#[tokio::test]
async fn a_document_is_seen_only_once_committed() {
    let store = TestStore::with_kb().await;
    let sample = Sample::new(&store, "李白.txt", &["床前明月光\n疑是地上霜\n", "举头望明月\n"]).await;
    sample.write(&store).await;
    assert_eq!(store.document(sample.id()).await.unwrap().state, DocumentState::Pending);
    assert!(found(&store, "明月").await.is_empty());
    assert!(store.passages(&kb(), &sample.chunk_ids()).await.unwrap().is_empty());
    assert!(store.chunks(sample.id(), None, 10).await.unwrap().is_empty());
    assert!(store.documents(&kb(), None, 10).await.unwrap().is_empty());
    assert!(matches!(store.document_text(sample.id(), 0, 9).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.delete_chunk(&sample.chunk_ids()[0]).await, Err(Error::Conflict { .. })));
    assert_eq!(store.kb(&kb()).await.unwrap().documents, 0);
    assert_eq!(store.vector_garbage(&kb(), 10).await.unwrap(), None);

    assert!(sample.commit(&store).await.is_empty());
    let info = store.document(sample.id()).await.unwrap();
    assert_eq!((info.state, info.chunks, info.text_bytes), (DocumentState::Ready, 3, 48));
    assert_eq!((info.title.as_deref(), info.language.as_deref()), (Some("标题"), Some("zh")));
    assert_eq!((info.name.as_str(), info.media_type.as_str()), ("李白.txt", "text/plain"));
    assert_eq!(found(&store, "望").await, ["举头望明月"]);
    let passages = store.passages(&kb(), &sample.chunk_ids()).await.unwrap();
    assert_eq!(passages.len(), 3);
    assert_eq!((passages[1].span, passages[1].page), (Span { start: 16, end: 31 }, None));
    assert_eq!(passages[2].source, Some(Span { start: 32, end: 48 }));
    assert_eq!(passages[0].heading.as_deref(), Some("第一章 › 起源"));
    assert_eq!(passages[0].document_name, "李白.txt");
    let state = store.job(&sample.job.id).await.unwrap().state;
    assert_eq!(state, JobState::Done { document: Some(sample.id().clone()), unchanged: false });
    let kb_now = store.kb(&kb()).await.unwrap();
    assert_eq!((kb_now.documents, kb_now.chunks), (1, 3));
    assert_eq!(store.open_document(&sample.new).await.unwrap(), Opened::Unchanged);
    assert!(sample.commit(&store).await.is_empty(), "committing again changes nothing");
}

#[tokio::test]
async fn passages_come_in_the_order_asked_and_only_of_this_knowledge_base() {
    let store = TestStore::with_kb().await;
    store.create_kb(&name("other"), &KbSettings::default()).await.unwrap();
    let sample = Sample::ingested(&store, "a.txt", &["one\ntwo\nthree\n"]).await;
    let ids = sample.chunk_ids();
    let asked = [ids[2].clone(), ChunkId("unknown".into()), ids[0].clone(), ids[2].clone()];
    let texts: Vec<String> =
        store.passages(&kb(), &asked).await.unwrap().into_iter().map(|passage| passage.text).collect();
    assert_eq!(texts, ["three", "one", "three"]);
    assert!(store.passages(&name("other"), &asked).await.unwrap().is_empty());
    assert!(store.lexical(&name("other"), "other-g1", "one", 5, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn text_is_cut_at_characters() {
    let store = TestStore::with_kb().await;
    let sample = Sample::ingested(&store, "a.txt", &["你好\n", "世界\n"]).await;
    let text = async |start, end| store.document_text(sample.id(), start, end).await.unwrap();
    assert_eq!(text(0, 14).await, "你好\n世界\n");
    assert_eq!(text(1, 2).await, "你");
    assert_eq!(text(4, 8).await, "好\n世");
    assert_eq!(text(5, 999).await, "好\n世界\n");
    assert_eq!(text(3, 3).await, "");
    assert_eq!(text(9, 2).await, "");
    assert_eq!(text(14, u64::MAX).await, "");
}

#[tokio::test]
async fn a_new_version_replaces_the_earlier_one_of_its_name() {
    let store = TestStore::with_kb().await;
    let first = Sample::ingested(&store, "a.txt", &["旧版本\n"]).await;
    let second = Sample::new(&store, "a.txt", &["新版本\n"]).await;
    second.write(&store).await;
    assert_eq!(found(&store, "版本").await, ["旧版本"]);
    let unused = second.commit(&store).await;
    assert_eq!(unused, std::slice::from_ref(&first.new.blob));
    assert_eq!(found(&store, "版本").await, ["新版本"]);
    assert!(matches!(store.document(first.id()).await, Err(Error::NotFound { .. })));
    let garbage = store.vector_garbage(&kb(), 10).await.unwrap().unwrap();
    assert_eq!(garbage, VectorGarbage { collection: "initial-g1".into(), chunks: first.chunk_ids() });
    store.forget_vectors(&garbage).await.unwrap();
    assert_eq!(store.vector_garbage(&kb(), 10).await.unwrap(), None);
}

#[tokio::test]
async fn documents_and_chunks_are_listed_in_pages() {
    let store = TestStore::with_kb().await;
    for name in ["c.txt", "a.txt", "b.txt"] {
        Sample::ingested(&store, name, &["1\n2\n3\n"]).await;
    }
    let page = async |after: Option<&str>, limit| {
        let page = store.documents(&kb(), after, limit).await.unwrap();
        page.into_iter().map(|document| document.name).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2).await, ["a.txt", "b.txt"]);
    assert_eq!(page(Some("b.txt"), 2).await, ["c.txt"]);
    let document = store.documents(&kb(), None, 1).await.unwrap().remove(0);
    let ordinals = async |after, limit| {
        let page = store.chunks(&document.id, after, limit).await.unwrap();
        page.into_iter().map(|stored| stored.chunk.ordinal).collect::<Vec<_>>()
    };
    assert_eq!(ordinals(None, 2).await, [0, 1]);
    assert_eq!(ordinals(Some(1), 2).await, [2]);
    let stored = store.chunks(&document.id, None, 1).await.unwrap().remove(0);
    let written = Sample::new(&store, "a.txt", &["1\n2\n3\n"]).await.sections.remove(0).chunks.remove(0);
    assert_eq!(stored.chunk, written);
}

#[tokio::test]
async fn sections_and_chunks_keep_their_order_and_bounds() {
    let store = TestStore::with_kb().await;
    let sample = Sample::new(&store, "a.txt", &["一\n二\n", "三\n"]).await;
    let put = async |start: u64, text: &str, chunks: &[_]| {
        store.put_section(sample.id(), start, text, chunks).await
    };
    let [first, second] = &sample.sections[..] else { unreachable!() };
    assert!(matches!(put(0, &first.text, &first.chunks).await, Err(Error::NotFound { .. })));
    store.open_document(&sample.new).await.unwrap();
    assert!(matches!(put(8, &second.text, &second.chunks).await, Err(Error::InvalidInput { .. })), "a gap");
    assert!(matches!(put(0, &first.text, &second.chunks).await, Err(Error::InvalidInput { .. })), "ordinals");
    let mut outside = first.chunks.clone();
    outside[1].span.end = 9;
    assert!(matches!(put(0, &first.text, &outside).await, Err(Error::InvalidInput { .. })), "span");
    put(0, &first.text, &first.chunks).await.unwrap();
    put(0, &first.text, &first.chunks).await.unwrap();
    assert!(matches!(put(0, "三\n四\n", &first.chunks).await, Err(Error::InvalidInput { .. })), "other text");
    let mut stolen = second.chunks.clone();
    stolen[0].id = first.chunks[0].id.clone();
    assert!(matches!(put(8, &second.text, &stolen).await, Err(Error::Conflict { .. })), "an id twice");
    put(8, &second.text, &second.chunks).await.unwrap();
    sample.commit(&store).await;
    assert_eq!(store.document(sample.id()).await.unwrap().chunks, 3);
    assert!(matches!(put(0, &first.text, &first.chunks).await, Err(Error::Conflict { .. })), "committed");
}

#[tokio::test]
async fn an_unfinished_attempt_starts_over_and_its_vectors_are_garbage_until_written_again() {
    let store = TestStore::with_kb().await;
    let sample = Sample::new(&store, "a.txt", &["一\n二\n"]).await;
    sample.write(&store).await;
    assert_eq!(store.open_document(&sample.new).await.unwrap(), Opened::Fresh);
    let garbage = store.vector_garbage(&kb(), 1).await.unwrap().unwrap();
    assert_eq!(garbage.chunks.len(), 1);
    let section = &sample.sections[0];
    let early = store.put_section(sample.id(), 0, &section.text, &section.chunks).await;
    assert!(matches!(early, Err(Error::Unavailable { .. })), "its old vector is being dropped: {early:?}");
    store.forget_vectors(&garbage).await.unwrap();
    store.put_section(sample.id(), 0, &section.text, &section.chunks).await.unwrap();
    assert_eq!(store.vector_garbage(&kb(), 10).await.unwrap(), None);
    sample.commit(&store).await;
    assert_eq!(found(&store, "一").await, ["一"]);
}

#[tokio::test]
async fn deleting_removes_from_every_search() {
    let store = TestStore::with_kb().await;
    let one = Sample::ingested(&store, "a.txt", &["苹果\n香蕉\n"]).await;
    let two = Sample::ingested(&store, "b.txt", &["苹果树\n"]).await;
    store.delete_chunk(&one.chunk_ids()[0]).await.unwrap();
    store.delete_chunk(&one.chunk_ids()[0]).await.unwrap();
    let mut left = found(&store, "苹果 香蕉").await;
    left.sort();
    assert_eq!(left, ["苹果树", "香蕉"]);
    assert_eq!(store.document_text(one.id(), 0, 99).await.unwrap(), "苹果\n香蕉\n");
    assert_eq!(store.document(one.id()).await.unwrap().chunks, 1);
    assert_eq!(store.delete_document(one.id()).await.unwrap(), std::slice::from_ref(&one.new.blob));
    assert!(store.delete_document(one.id()).await.unwrap().is_empty());
    assert_eq!(found(&store, "苹果 香蕉").await, ["苹果树"]);
    assert!(matches!(store.document_text(one.id(), 0, 9).await, Err(Error::NotFound { .. })));
    let mut garbage = store.vector_garbage(&kb(), 10).await.unwrap().unwrap().chunks;
    garbage.sort();
    let mut expected = one.chunk_ids();
    expected.sort();
    assert_eq!(garbage, expected);
    let unused = store.delete_kb(&kb()).await.unwrap();
    assert_eq!(unused, std::slice::from_ref(&two.new.blob));
    assert!(matches!(store.document(two.id()).await, Err(Error::NotFound { .. })));
    store.create_kb(&kb(), &KbSettings::default()).await.unwrap();
    assert!(found(&store, "苹果树").await.is_empty());
}

#[tokio::test]
async fn an_original_is_unused_only_when_neither_document_nor_job_needs_it() {
    let store = TestStore::with_kb().await;
    let sample = Sample::ingested(&store, "a.txt", &["同样\n"]).await;
    let JobKind::Ingest(source) = sample.job.kind.clone() else { unreachable!() };
    let waiting = store.enqueue(&kb(), &JobKind::Ingest(source)).await.unwrap();
    assert!(store.delete_document(sample.id()).await.unwrap().is_empty());
    BlobStore::remove(&**store, &sample.new.blob).await.unwrap();
    BlobStore::open(&**store, &sample.new.blob, "a", "b").await.unwrap();
    store.claim().await.unwrap();
    store.finish(&waiting.id, &JobState::Done { document: None, unchanged: true }).await.unwrap();
    BlobStore::remove(&**store, &sample.new.blob).await.unwrap();
    assert!(matches!(
        BlobStore::open(&**store, &sample.new.blob, "a", "b").await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn jobs_are_claimed_in_order_and_end_once() {
    let store = TestStore::with(|config| config.jobs_queued_max = 2);
    store.create_kb(&kb(), &KbSettings::default()).await.unwrap();
    let delete = |id: &str| JobKind::DeleteDocument(DocumentId(id.to_owned()));
    let first = store.enqueue(&kb(), &delete("1")).await.unwrap();
    let second = store.enqueue(&kb(), &delete("2")).await.unwrap();
    assert!(first.id < second.id);
    assert_eq!(first.state, JobState::Queued);
    let full = store.enqueue(&kb(), &delete("3")).await;
    assert!(matches!(full, Err(Error::Busy { limit: 2, .. })), "{full:?}");

    let claimed = store.claim().await.unwrap().unwrap();
    assert_eq!((&claimed.id, &claimed.state, &claimed.kind), (&first.id, &JobState::Running, &delete("1")));
    let at = |percent| Progress { stage: Stage::Embed, done: 3, total: 9, percent };
    store.progress(&first.id, at(40)).await.unwrap();
    store.progress(&first.id, at(30)).await.unwrap();
    assert_eq!(store.job(&first.id).await.unwrap().progress, at(40));
    store.finish(&first.id, &JobState::Failed { message: "坏".into() }).await.unwrap();
    store.finish(&first.id, &JobState::Done { document: None, unchanged: false }).await.unwrap();
    assert_eq!(store.job(&first.id).await.unwrap().state, JobState::Failed { message: "坏".into() });
    assert!(matches!(store.progress(&first.id, at(50)).await, Err(Error::Conflict { .. })));

    store.finish(&first.id, &JobState::Queued).await.unwrap();
    let requeued = store.job(&first.id).await.unwrap();
    assert_eq!((requeued.state, requeued.progress.percent), (JobState::Queued, 0));
    assert_eq!(store.claim().await.unwrap().unwrap().id, first.id);
    store.finish(&first.id, &JobState::Cancelled).await.unwrap();
    assert!(matches!(store.progress(&first.id, at(50)).await, Err(Error::Cancelled)));
    assert_eq!(store.claim().await.unwrap().unwrap().id, second.id);
    store.finish(&second.id, &JobState::Done { document: None, unchanged: true }).await.unwrap();
    assert_eq!(store.job(&second.id).await.unwrap().progress.percent, 100);
    assert!(matches!(store.finish(&second.id, &JobState::Queued).await, Err(Error::Conflict { .. })));
    assert!(matches!(store.finish(&second.id, &JobState::Running).await, Err(Error::InvalidInput { .. })));
    assert_eq!(store.claim().await.unwrap(), None);
    let listed: Vec<_> = store.jobs(Some(&kb()), 1).await.unwrap().into_iter().map(|job| job.id).collect();
    assert_eq!(listed, [second.id]);
    assert_eq!(store.jobs(None, 10).await.unwrap().len(), 2);
    for unknown in ["nonsense", "", "000000000001x", "00000000ffff", "1"] {
        let missing = store.job(&rag_core::ports::JobId(unknown.into())).await;
        assert!(matches!(missing, Err(Error::NotFound { what: "job", .. })), "{unknown}");
    }
}

#[tokio::test]
async fn ended_jobs_are_remembered_up_to_a_limit() {
    let store = TestStore::with(|config| config.jobs_kept_max = 2);
    store.create_kb(&kb(), &KbSettings::default()).await.unwrap();
    for index in 0..5 {
        let job =
            store.enqueue(&kb(), &JobKind::DeleteDocument(DocumentId(index.to_string()))).await.unwrap();
        store.finish(&job.id, &JobState::Cancelled).await.unwrap();
    }
    store.enqueue(&kb(), &JobKind::DeleteDocument(DocumentId("last".into()))).await.unwrap();
    assert_eq!(store.jobs(None, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_job_needs_its_original() {
    let store = TestStore::with_kb().await;
    let sample = Sample::ingested(&store, "a.txt", &["x\n"]).await;
    let JobKind::Ingest(mut source) = sample.job.kind else { unreachable!() };
    source.blob.0.replace_range(..2, if source.blob.0.starts_with("00") { "11" } else { "00" });
    let missing = store.enqueue(&kb(), &JobKind::Ingest(source)).await;
    assert!(matches!(missing, Err(Error::NotFound { what: "original", .. })));
}

#[tokio::test]
async fn a_cancelled_job_commits_nothing() {
    let store = TestStore::with_kb().await;
    let sample = Sample::new(&store, "a.txt", &["一\n"]).await;
    sample.write(&store).await;
    store.finish(&sample.job.id, &JobState::Cancelled).await.unwrap();
    let commit = store.commit_document(sample.id(), &ParsedSummary::default(), &sample.job.id).await;
    assert!(matches!(commit, Err(Error::Cancelled)));
    assert_eq!(store.document(sample.id()).await.unwrap().state, DocumentState::Pending);
    assert_eq!(store.vector_garbage(&kb(), 9).await.unwrap(), None, "whoever runs the job may still write");
    store.finish(&sample.job.id, &JobState::Cancelled).await.unwrap();
    assert!(matches!(store.document(sample.id()).await, Err(Error::NotFound { .. })));
    assert_eq!(store.vector_garbage(&kb(), 9).await.unwrap().unwrap().chunks, sample.chunk_ids());
}

#[tokio::test]
async fn a_failed_job_leaves_only_garbage_and_can_run_again() {
    let store = TestStore::with_kb().await;
    let sample = Sample::new(&store, "a.txt", &["一\n"]).await;
    sample.write(&store).await;
    store.finish(&sample.job.id, &JobState::Failed { message: "no".into() }).await.unwrap();
    assert!(matches!(store.document(sample.id()).await, Err(Error::NotFound { .. })));
    let garbage = store.vector_garbage(&kb(), 9).await.unwrap().unwrap();
    store.forget_vectors(&garbage).await.unwrap();
    BlobStore::remove(&**store, &sample.new.blob).await.unwrap();
    store.finish(&sample.job.id, &JobState::Queued).await.unwrap();
    assert_eq!(store.claim().await.unwrap().unwrap().id, sample.job.id);
    sample.write(&store).await;
    sample.commit(&store).await;
    assert_eq!(found(&store, "一").await, ["一"]);
}

#[tokio::test]
async fn conversations_keep_their_rounds() {
    let store = TestStore::with_kb().await;
    let turn = |at: usize| Turn { question: format!("问{at}"), answer: format!("答{at}") };
    for at in 0..5 {
        store.append_turn("c1", &kb(), &turn(at)).await.unwrap();
    }
    assert_eq!(store.turns("c1", 2).await.unwrap(), [turn(3), turn(4)]);
    assert_eq!(store.turns("c1", 99).await.unwrap().len(), 5);
    assert!(store.turns("c2", 6).await.unwrap().is_empty());
    assert!(matches!(store.append_turn("c1", &name("none"), &turn(0)).await, Err(Error::NotFound { .. })));
    store.delete_kb(&kb()).await.unwrap();
    assert!(store.turns("c1", 6).await.unwrap().is_empty());
}

#[tokio::test]
async fn originals_no_one_needs_go_at_the_next_start() {
    let store = TestStore::with_kb().await;
    let used = Sample::ingested(&store, "a.txt", &["x\n"]).await;
    let unused = put_blob(&store, "nobody's").await;
    let store = store.reopen();
    assert!(BlobStore::open(&**store, &used.new.blob, "a", "b").await.is_ok());
    assert!(matches!(BlobStore::open(&**store, &unused, "a", "b").await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_job_that_its_caller_does_is_never_claimed() {
    let store = TestStore::with_kb().await;
    let delete = |id: &str| JobKind::DeleteDocument(DocumentId(id.to_owned()));
    let waiting = store.enqueue(&kb(), &delete("1")).await.unwrap();
    let own = store.begin(&kb(), &delete("2")).await.unwrap();
    assert_eq!((own.state, own.kind), (JobState::Running, delete("2")));
    assert_eq!(store.claim().await.unwrap().unwrap().id, waiting.id);
    assert_eq!(store.claim().await.unwrap(), None);
    store.finish(&own.id, &JobState::Done { document: None, unchanged: false }).await.unwrap();
    assert!(matches!(store.job(&own.id).await.unwrap().state, JobState::Done { .. }));
}
