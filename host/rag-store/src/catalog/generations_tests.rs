//! Generations: two indexes side by side, the flip, the way back, and what goes with them.

use rag_core::Error;
use rag_core::document::{DocumentId, ParsedSummary};
use rag_core::kb::{Embedded, EncoderChoice, PluginChoice};
use rag_core::ports::{
    Catalog as _, Curation as _, Generation, GenerationState, Generations as _, IngestSource, Job, JobKind,
    JobState, NewGeneration, Queue as _, SwapHit, SwapQuestion, SwapReport,
};
use rag_core::search::Turn;

use crate::testing::{Sample, TestStore, kb};

pub(super) async fn new(store: &TestStore, chunker: &str, new_index: bool) -> NewGeneration {
    let live = store.kb(&kb()).await.unwrap();
    let mut parts = live.settings.parts();
    parts.chunker = PluginChoice { digest: Some("d1".into()), ..PluginChoice::any(chunker, "{}") };
    NewGeneration { parent: live.generation, parts, new_index, publish: false }
}

pub(super) async fn staged(store: &TestStore, chunker: &str) -> (Generation, Job) {
    let staged = store.stage_generation(&kb(), &new(store, chunker, true).await).await.unwrap();
    let job = store.enqueue(&kb(), &JobKind::Reindex(staged.number)).await.unwrap();
    assert_eq!(store.claim().await.unwrap().unwrap().id, job.id);
    (store.assign_generation(&kb(), staged.number, &job.id).await.unwrap(), job)
}

/// What the job of a staged generation would write for each live document: one chunk, told by its text.
pub(super) async fn fill(store: &TestStore, generation: &Generation, job: &Job) {
    for document in store.index_gaps(&kb(), &generation.collection, 99).await.unwrap().0 {
        let mut anew = Sample::of_job(source_of(job, &document), &["anew 重新切分\n"]);
        anew.new.id = DocumentId(format!("{}-{}", document.id, generation.collection));
        anew.new.collection.clone_from(&generation.collection);
        for chunk in anew.sections.iter_mut().flat_map(|section| &mut section.chunks) {
            chunk.id.0.push_str(&anew.new.id.0);
        }
        anew.write(store).await;
        store.commit_document(&anew.new.id, &ParsedSummary::default(), &job.id).await.unwrap();
    }
}

fn source_of(job: &Job, document: &rag_core::ports::DocumentInfo) -> Job {
    let source = rag_core::ports::IngestSource {
        blob: document.blob.clone(),
        size: document.size,
        name: document.name.clone(),
        media_type: document.media_type.clone(),
        chunker: None,
        origin: rag_core::ports::Origin::default(),
        alone: false,
    };
    Job { kind: JobKind::Ingest(source), ..job.clone() }
}

async fn words(store: &TestStore, collection: &str, query: &str) -> usize {
    store.lexical(&kb(), collection, query, 99, None).await.unwrap().len()
}

pub(super) async fn ready(store: &TestStore, generation: &Generation) {
    store.ready_generation(&kb(), generation.number, &SwapReport::default()).await.unwrap();
}

pub(super) async fn flipped(store: &TestStore, chunker: &str) -> Generation {
    let (generation, job) = staged(store, chunker).await;
    fill(store, &generation, &job).await;
    ready(store, &generation).await;
    store.finish(&job.id, &JobState::Done { document: None, unchanged: false }).await.unwrap();
    store.publish_generation(&kb(), generation.number, 60_000).await.unwrap()
}

#[tokio::test]
async fn a_second_index_is_out_of_sight_until_it_answers_alone() {
    let store = TestStore::with_kb().await;
    Sample::ingested(&store, "a.md", &["one 第一段\n", "two 第二段\n"]).await;
    let (generation, job) = staged(&store, "chunk-other").await;
    assert_eq!((generation.number, generation.collection.as_str()), (2, "initial-g2"));
    fill(&store, &generation, &job).await;
    assert!(matches!(store.job(&job.id).await.unwrap().state, JobState::Running), "the job goes on");
    let before = store.kb(&kb()).await.unwrap();
    assert_eq!((before.documents, before.chunks, before.generation), (1, 2, 1));
    assert_eq!(
        (words(&store, "initial-g1", "anew").await, words(&store, "initial-g2", "anew").await),
        (0, 1)
    );
    assert_eq!(store.documents(&kb(), None, 9).await.unwrap().len(), 1);

    ready(&store, &generation).await;
    let live = store.publish_generation(&kb(), 2, 60_000).await.unwrap();
    assert_eq!(live.state, GenerationState::Live);
    assert!(live.probation_until_ms > live.published_ms);
    let after = store.kb(&kb()).await.unwrap();
    assert_eq!((after.documents, after.chunks, after.generation), (1, 1, 2));
    assert_eq!(after.collection, "initial-g2");
    assert_eq!(after.settings.chunker.id, "chunk-other");
    // Who began before still finds everything of before.
    assert_eq!(words(&store, "initial-g1", "第一段").await, 1);
    assert_eq!(store.generation(&kb(), 1).await.unwrap().state, GenerationState::Retired);
    // Publishing twice is no error.
    assert_eq!(store.publish_generation(&kb(), 2, 0).await.unwrap(), live);
}

#[tokio::test]
async fn documents_that_came_meanwhile_send_it_back_to_its_job() {
    let store = TestStore::with_kb().await;
    Sample::ingested(&store, "a.md", &["one\n"]).await;
    let (generation, job) = staged(&store, "chunk-other").await;
    fill(&store, &generation, &job).await;
    ready(&store, &generation).await;
    store.finish(&job.id, &JobState::Done { document: None, unchanged: false }).await.unwrap();
    let late = Sample::ingested(&store, "b.md", &["late\n"]).await;
    let again = store.publish_generation(&kb(), 2, 0).await.unwrap();
    assert_eq!((again.state, again.publish), (GenerationState::Building, true));
    assert_eq!(store.kb(&kb()).await.unwrap().generation, 1, "the old one answers");
    let job = store.enqueue(&kb(), &JobKind::Reindex(2)).await.unwrap();
    store.claim().await.unwrap();
    fill(&store, &generation, &job).await;
    // Deleted meanwhile: it is in no index.
    store.delete_document(late.id()).await.unwrap();
    assert_eq!(store.index_counts(&kb(), "initial-g2").await.unwrap().0, 1);
    ready(&store, &generation).await;
    assert_eq!(store.publish_generation(&kb(), 2, 0).await.unwrap().state, GenerationState::Live);
}

#[tokio::test]
async fn an_index_and_other_jobs_take_turns_whatever_their_priority() {
    let store = TestStore::with_kb().await;
    let delete = |id: &str| JobKind::DeleteDocument(DocumentId(id.to_owned()));
    let mut others = Vec::new();
    for id in ["a", "b", "c"] {
        others.push(store.enqueue(&kb(), &delete(id)).await.unwrap().id);
    }
    let index = store.enqueue(&kb(), &JobKind::Reindex(2)).await.unwrap().id;
    store.set_priority(&index, rag_core::limits::PRIORITY_REINDEX).await.unwrap();
    for other in &others {
        assert_eq!(store.claim().await.unwrap().unwrap().id, index);
        // It makes way.
        store.interrupted(&index).await.unwrap();
        assert_eq!(store.claim().await.unwrap().unwrap().id, *other);
    }
    for _ in 0..2 {
        assert_eq!(store.claim().await.unwrap().unwrap().id, index, "nobody else waits");
        store.interrupted(&index).await.unwrap();
    }
}

#[tokio::test]
async fn the_way_back_is_at_once_and_ingests_what_is_missing() {
    let store = TestStore::with_kb().await;
    let first = Sample::ingested(&store, "a.md", &["one\n"]).await;
    let other = Sample::ingested(&store, "b.md", &["two\n"]).await;
    flipped(&store, "chunk-other").await;
    // An ingest that began before the flip would write where nobody looks.
    let stale = Sample::new(&store, "c.md", &["three\n"]).await;
    stale.write(&store).await;
    let late = store.commit_document(stale.id(), &ParsedSummary::default(), &stale.job.id).await;
    assert!(matches!(late, Err(Error::Unavailable { .. })));
    store.finish(&stale.job.id, &JobState::Cancelled).await.unwrap();
    // What is deleted now must not come back.
    let live_a = store.documents(&kb(), None, 9).await.unwrap().remove(0);
    assert_ne!(live_a.id, *first.id());
    store.delete_document(&live_a.id).await.unwrap();
    // What is disabled now must not answer then.
    let live_b = store.documents(&kb(), None, 9).await.unwrap().remove(0);
    store.set_metadata(&live_b.id, &[("topic".into(), "船".into())]).await.unwrap();
    store.disable_document(&live_b.id).await.unwrap();

    let back = store.roll_back(&kb(), 2, "worse", false).await.unwrap();
    assert_eq!((back.number, back.parent, back.state), (3, Some(2), GenerationState::Live));
    assert_eq!(back.collection, "initial-g1");
    let now = store.kb(&kb()).await.unwrap();
    assert_eq!((now.generation, now.documents, now.settings.chunker.id.as_str()), (3, 0, "chunk-sentence"));
    assert_eq!(words(&store, "initial-g1", "one two").await, 0);
    let again = store.claim().await.unwrap().unwrap();
    assert!(matches!(&again.kind, JobKind::Ingest(source) if source.name == "b.md"), "{again:?}");
    let JobKind::Ingest(source) = other.job.kind else { panic!("not an ingest") };
    // What it holds has documents of its own, which are ingested again by themselves.
    assert_eq!(again.kind, JobKind::Ingest(IngestSource { alone: true, ..source }));
    let undone = store.generation(&kb(), 2).await.unwrap();
    assert_eq!((undone.state, undone.reason.as_deref()), (GenerationState::RolledBack, Some("worse")));
    // And forward again.
    assert_eq!(store.roll_back(&kb(), 3, "better", false).await.unwrap().collection, "initial-g2");
}

#[tokio::test]
async fn two_swaps_at_a_time_are_refused_and_so_is_a_stale_one() {
    let store = TestStore::with_kb().await;
    let request = new(&store, "chunk-other", false).await;
    let one = store.stage_generation(&kb(), &request).await.unwrap();
    let refused = store.stage_generation(&kb(), &request).await;
    assert!(matches!(refused, Err(Error::Conflict { message }) if message.contains("staged already")));
    assert!(matches!(store.publish_generation(&kb(), one.number, 0).await, Err(Error::Conflict { .. })));
    let given_up = store.end_generation(&kb(), one.number, GenerationState::Abandoned, "no").await.unwrap();
    assert_eq!(given_up.state, GenerationState::Abandoned);
    let report = SwapReport::default();
    let late = store.ready_generation(&kb(), one.number, &report).await;
    assert!(matches!(late, Err(Error::Conflict { .. })));
    let stale = NewGeneration { parent: 7, ..request };
    let refused = store.stage_generation(&kb(), &stale).await;
    assert!(matches!(refused, Err(Error::Conflict { message }) if message.contains("became live")));
    let none = store.roll_back(&kb(), 1, "x", false).await;
    assert!(matches!(none, Err(Error::Conflict { message }) if message.contains("none before")));
    assert!(matches!(store.generation(&kb(), 99).await, Err(Error::NotFound { .. })));
    let live = store.end_generation(&kb(), 1, GenerationState::Failed, "x").await;
    assert!(matches!(live, Err(Error::Conflict { .. })));
}

#[tokio::test]
async fn probation_ends() {
    let store = TestStore::with_kb().await;
    let request = new(&store, "chunk-other", false).await;
    let staged = store.stage_generation(&kb(), &request).await.unwrap();
    ready(&store, &staged).await;
    store.publish_generation(&kb(), staged.number, 0).await.unwrap();
    // Its time was over with the next millisecond, which the clock of this machine reaches before long.
    while store.generation(&kb(), 2).await.unwrap().probation_until_ms >= Some(crate::store::now_ms()) {}
    let over = store.roll_back(&kb(), 2, "strikes", true).await;
    assert!(matches!(over, Err(Error::Conflict { message }) if message.contains("no longer on probation")));
    assert_eq!(store.roll_back(&kb(), 2, "strikes", false).await.unwrap().number, 3);
}

#[tokio::test]
async fn an_index_goes_when_neither_the_live_nor_the_one_before_needs_it() {
    let store = TestStore::with_kb().await;
    Sample::ingested(&store, "a.md", &["one\n"]).await;
    flipped(&store, "chunk-two").await;
    assert!(store.unused_indexes(&kb()).await.unwrap().is_empty(), "the way back needs it");
    flipped(&store, "chunk-three").await;
    let unused = store.unused_indexes(&kb()).await.unwrap();
    let names: Vec<&str> = unused.iter().map(|index| index.collection.as_str()).collect();
    assert_eq!(names, ["initial-g1"]);
    assert_eq!(unused[0].store.id, "store-local");
    while store.drop_index(&kb(), "initial-g1").await.unwrap() {}
    assert!(!store.drop_index(&kb(), "initial-g3").await.unwrap(), "it answers");
    assert_eq!(store.indexes(&kb()).await.unwrap().len(), 2);
    assert_eq!(words(&store, "initial-g1", "one").await, 0);
    assert_eq!(words(&store, "initial-g3", "anew").await, 1);
    assert_eq!(store.vector_garbage(&kb(), 99).await.unwrap(), None, "the collection went as a whole");
    let store = store.reopen();
    assert_eq!(words(&store, "initial-g3", "anew").await, 1);
    store.delete_kb(&kb()).await.unwrap();
    let tables = store
        .read(|connection| {
            let sql = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'words_%'";
            Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?)
        })
        .await
        .unwrap();
    assert_eq!(tables, 0);
}

#[tokio::test]
async fn a_comparison_survives_and_recent_questions_come_once() {
    let store = TestStore::with_kb().await;
    let hit = |text: &str| SwapHit { document: "a.md".into(), text: text.into(), score: 0.5 };
    let report = SwapReport {
        questions: vec![SwapQuestion {
            question: "锚链多长？".into(),
            before: vec![hit("三倍水深"), hit("x")],
            after: vec![],
            kept: 0,
            error: Some("plugin p 1.0.0: trapped".into()),
        }],
        changed: 1,
        millis_before: 1.5,
        millis_after: 2.5,
        chunks_before: 3,
        chunks_after: 4,
        edits_lost: 5,
    };
    let staged = store.stage_generation(&kb(), &new(&store, "chunk-other", true).await).await.unwrap();
    store.ready_generation(&kb(), staged.number, &report).await.unwrap();
    let store = store.reopen();
    let kept = store.generations(&kb(), 9).await.unwrap();
    assert_eq!((kept[0].report.as_ref(), kept[0].number, kept[1].number), (Some(&report), 2, 1));
    assert_eq!(kept[0].parts.chunker.digest.as_deref(), Some("d1"));
    for question in ["first?", "second?", "first?"] {
        let turn = Turn { question: question.into(), answer: "a".into() };
        store.append_turn("c", &kb(), &turn).await.unwrap();
    }
    assert_eq!(store.recent_questions(&kb(), 9).await.unwrap(), ["first?", "second?"]);
    assert_eq!(store.recent_questions(&kb(), 1).await.unwrap(), ["first?"]);
}

#[tokio::test]
async fn each_index_has_an_encoder_of_its_own() {
    let store = TestStore::with_kb().await;
    Sample::ingested(&store, "a.txt", &["一\n"]).await;
    let embedded = |identity: &str, dim| Embedded { identity: identity.to_owned(), dim };
    store.set_embedder(&kb(), "initial-g1", &embedded("e5@1", 384)).await.unwrap();
    let mut anew = new(&store, "chunk-sentence", true).await;
    let choice = EncoderChoice { name: "bge-m3".to_owned(), identity: Some("bge-m3@2".to_owned()) };
    anew.parts.encoder = Some(choice.clone());
    let staged = store.stage_generation(&kb(), &anew).await.unwrap();
    let job = store.enqueue(&kb(), &JobKind::Reindex(staged.number)).await.unwrap();
    assert_eq!(staged.embedder, None);
    store.set_embedder(&kb(), &staged.collection, &embedded("bge-m3@2", 1024)).await.unwrap();
    fill(&store, &staged, &job).await;
    assert_eq!(store.kb(&kb()).await.unwrap().embedder, Some(embedded("e5@1", 384)));
    ready(&store, &staged).await;
    store.publish_generation(&kb(), staged.number, 0).await.unwrap();
    let live = store.kb(&kb()).await.unwrap();
    assert_eq!(live.embedder, Some(embedded("bge-m3@2", 1024)));
    assert_eq!(live.settings.encoder, Some(choice));
    let held = store.generation(&kb(), 1).await.unwrap().embedder;
    assert_eq!(held, Some(embedded("e5@1", 384)));

    store.roll_back(&kb(), live.generation, "back", false).await.unwrap();
    let back = store.kb(&kb()).await.unwrap();
    assert_eq!((back.embedder, back.settings.encoder), (Some(embedded("e5@1", 384)), None));
}
