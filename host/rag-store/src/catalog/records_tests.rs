//! Steered jobs, kept conversations and question sets.

use rag_core::Error;
use rag_core::document::ChunkId;
use rag_core::kb::{KbName, PluginChoice};
use rag_core::ports::{
    Catalog, ConversationKey, ConversationQuery, Conversations, Evaluations, Expected, IngestSource, Job,
    JobKind, JobState, Mark, NewRound, Outcome, Progress, Question, Queue, RunHit, RunSettings, Scores,
    Stage,
};

use crate::testing::{Sample, TestStore, kb, put_blob};

async fn enqueue(store: &TestStore, name: &str) -> Job {
    let blob = put_blob(store, name).await;
    let chunker = PluginChoice::any("chunk-lines", "{\"n\": 1}");
    let source = IngestSource {
        blob,
        size: 4,
        name: name.into(),
        media_type: "text/plain".into(),
        chunker: (name == "b").then_some(chunker),
        origin: rag_core::ports::Origin {
            url: (name == "b").then(|| "http://example.org/b".to_owned()),
            folder: (name == "b").then(|| "server:docs".to_owned()),
        },
        alone: name == "b",
    };
    store.enqueue(&kb(), &JobKind::Ingest(source)).await.unwrap()
}

async fn claimed(store: &TestStore) -> Option<String> {
    let job = store.claim().await.unwrap()?;
    let JobKind::Ingest(source) = job.kind else { unreachable!("only ingests here") };
    Some(source.name)
}

const STEP: Progress = Progress { stage: Stage::Embed, done: 1, total: 2, percent: 50 };

#[tokio::test]
async fn jobs_run_by_priority_then_by_arrival() {
    let store = TestStore::with_kb().await;
    let (a, b, c) = (enqueue(&store, "a").await, enqueue(&store, "b").await, enqueue(&store, "c").await);
    assert_eq!(store.job(&b.id).await.unwrap().kind, b.kind, "with its own chunker");
    store.set_priority(&c.id, 7).await.unwrap();
    store.set_priority(&a.id, -1).await.unwrap();
    assert!(store.set_priority(&a.id, 101).await.is_err());
    for want in [Some("c"), Some("b"), Some("a"), None] {
        assert_eq!(claimed(&store).await.as_deref(), want);
    }
    store.finish(&a.id, &JobState::Cancelled).await.unwrap();
    assert!(matches!(store.set_priority(&a.id, 1).await, Err(Error::Conflict { .. })));
}

#[tokio::test]
async fn a_paused_job_stops_and_starts_over_when_resumed() {
    let store = TestStore::with_kb().await;
    let sample = Sample::new(&store, "a", &["one\n"]).await;
    let id = &sample.job.id;
    sample.write(&store).await;
    assert!(sample.job.started_ms.is_some());
    assert_eq!(store.pause(id).await.unwrap().state, JobState::Paused);
    assert!(matches!(store.progress(id, STEP).await, Err(Error::Cancelled)));
    let commit = store.commit_document(sample.id(), &Default::default(), id).await;
    assert!(matches!(commit, Err(Error::Cancelled)), "{commit:?}");
    // Its runner has not noticed yet: nobody else may take it.
    store.resume(id).await.unwrap();
    assert_eq!(store.claim().await.unwrap(), None);
    store.pause(id).await.unwrap();
    store.interrupted(id).await.unwrap();
    assert_eq!(store.job(id).await.unwrap().state, JobState::Paused);
    assert_eq!(store.claim().await.unwrap(), None);
    assert!(store.vector_garbage(&kb(), 9).await.unwrap().is_some(), "what it had written goes");
    store.resume(id).await.unwrap();
    assert_eq!(store.claim().await.unwrap().unwrap().id, *id);
    // A pause that was taken back before it was noticed changes nothing.
    store.pause(id).await.unwrap();
    store.resume(id).await.unwrap();
    store.progress(id, STEP).await.unwrap();
    assert_eq!(store.job(id).await.unwrap().state, JobState::Running);
    store.finish(id, &JobState::Done { document: None, unchanged: true }).await.unwrap();
    assert!(matches!(store.pause(id).await, Err(Error::Conflict { .. })));
}

#[tokio::test]
async fn a_postponed_job_waits_and_a_restart_forgets_no_pause() {
    let store = TestStore::with_kb().await;
    let a = enqueue(&store, "a").await;
    store.claim().await.unwrap().unwrap();
    store.postpone(&a.id, "the encoder is offline", 3_600_000).await.unwrap();
    let job = store.job(&a.id).await.unwrap();
    assert_eq!(
        (&job.state, job.attempts, job.reason.as_deref()),
        (&JobState::Queued, 1, Some("the encoder is offline"))
    );
    assert!(job.not_before_ms.unwrap() > job.updated_ms);
    assert_eq!(store.claim().await.unwrap(), None, "not yet");
    store.postpone(&a.id, "again", 0).await.unwrap();
    assert_eq!(claimed(&store).await.as_deref(), Some("a"));
    store.pause(&a.id).await.unwrap();
    let store = store.reopen();
    assert_eq!(store.job(&a.id).await.unwrap().state, JobState::Paused);
    store.resume(&a.id).await.unwrap();
    assert_eq!(claimed(&store).await.as_deref(), Some("a"));
    store.finish(&a.id, &JobState::Failed { message: "no".into() }).await.unwrap();
    store.finish(&a.id, &JobState::Queued).await.unwrap();
    let job = store.job(&a.id).await.unwrap();
    assert_eq!((job.attempts, job.reason, job.started_ms), (0, None, None), "a retry by hand begins anew");
}

fn key(owner: &str, id: &str) -> ConversationKey {
    ConversationKey { owner: owner.into(), kb: kb(), id: id.into() }
}

fn round(question: &str, refused: bool) -> NewRound {
    NewRound {
        question: question.into(), answer: "因为 Because".into(), refused, detail: "{\"a\":1}".into()
    }
}

#[tokio::test]
async fn conversations_are_listed_searched_renamed_and_deleted() {
    let store = TestStore::with_kb().await;
    for (owner, id, question) in
        [("a", "1", "为什么天是蓝的？"), ("a", "2", "Why?\nreally"), ("b", "1", "secret")]
    {
        store.append_round(&key(owner, id), &round(question, false)).await.unwrap();
    }
    let last = store.append_round(&key("a", "1"), &round("nothing", true)).await.unwrap();
    let query = |words: Option<&str>| ConversationQuery {
        owner: "a".into(),
        kb: None,
        words: words.map(str::to_owned),
        skip: 0,
        limit: 10,
    };
    let titles = async |words: Option<&str>| -> Vec<String> {
        store.conversations(&query(words)).await.unwrap().into_iter().map(|found| found.title).collect()
    };
    let mut all = titles(None).await;
    all.sort();
    assert_eq!(all, ["Why? really", "为什么天是蓝的？"]);
    assert_eq!(titles(Some("天是")).await, ["为什么天是蓝的？"]);
    assert_eq!(titles(Some("WHY")).await, ["Why? really"]);
    assert_eq!(titles(Some("because")).await.len(), 2);
    assert!(titles(Some("secret")).await.is_empty() && titles(Some("%")).await.is_empty());
    assert_eq!(store.turns(&key("a", "1").name(), 9).await.unwrap().len(), 1, "a refusal is no turn");
    let rounds = store.rounds(&key("a", "1"), None, 9).await.unwrap();
    assert_eq!(rounds.iter().map(|round| round.round.refused).collect::<Vec<_>>(), [false, true]);
    assert_eq!(rounds[0].round.detail, "{\"a\":1}");
    assert_eq!(store.rounds(&key("a", "1"), Some(last), 9).await.unwrap().len(), 1);
    assert_eq!(store.rounds(&key("a", "1"), None, 1).await.unwrap()[0].id, last);

    let marked = store.mark_round(&key("a", "1"), last, Some(Mark::Bad), Some("错")).await.unwrap();
    assert_eq!((marked.mark, marked.note.as_deref()), (Some(Mark::Bad), Some("错")));
    assert!(store.mark_round(&key("b", "1"), last, Some(Mark::Good), None).await.is_err(), "another's");
    assert_eq!(store.marked_rounds(&kb(), None, 9).await.unwrap(), [marked]);
    assert!(
        store.mark_round(&key("a", "1"), last, Some(Mark::Good), Some(&"x".repeat(5_000))).await.is_err()
    );

    assert_eq!(store.rename_conversation(&key("a", "1"), " 天空 ").await.unwrap().title, "天空");
    for bad in ["", "a\nb", &"x".repeat(81)] {
        assert!(store.rename_conversation(&key("a", "1"), bad).await.is_err());
    }
    store.delete_conversation(&key("a", "1")).await.unwrap();
    store.delete_conversation(&key("a", "1")).await.unwrap();
    assert!(matches!(store.conversation(&key("a", "1")).await, Err(Error::NotFound { .. })));
    assert!(store.turns(&key("a", "1").name(), 9).await.unwrap().is_empty());
    assert_eq!(store.rounds(&key("b", "1"), None, 9).await.unwrap().len(), 1);
}

fn questions() -> Vec<Question> {
    let chunk = Expected::Chunk(ChunkId("c".into()));
    vec![
        Question { question: "哪里？".into(), expected: vec![Expected::Document("a.md".into()), chunk] },
        Question { question: "What?".into(), expected: vec![Expected::Text("一段 文字".into())] },
    ]
}

#[tokio::test]
async fn question_sets_and_runs_come_back_as_they_were_saved() {
    let store = TestStore::with_kb().await;
    let set = store.create_question_set(&kb(), " 基本 ", &questions()).await.unwrap();
    assert_eq!((set.name.as_str(), set.questions), ("基本", 2));
    assert_eq!(store.questions(&set.id).await.unwrap(), questions());
    let settings = RunSettings {
        label: "dense".into(),
        k: 5,
        retriever: Some(PluginChoice::any("retrieve-dense", "{}")),
        rerank: Some(false),
    };
    let run = store.create_run(&set.id, &settings).await.unwrap();
    let job = store.enqueue(&kb(), &JobKind::Evaluate(run.id.clone())).await.unwrap();
    assert_eq!(store.job(&job.id).await.unwrap().kind, JobKind::Evaluate(run.id.clone()));
    let run = store.assign_run(&run.id, &job.id).await.unwrap();
    assert_eq!((&run.settings, &run.job, &run.scores), (&settings, &Some(job.id), &None));
    let hit = RunHit { chunk: ChunkId("c".into()), document: "a.md".into(), score: 0.25, relevant: true };
    let outcome =
        Outcome { question: "哪里？".into(), rank: Some(1), ndcg: 0.5, millis: 3, hits: vec![hit] };
    let scores = Scores { questions: 1, hit_at: vec![(1, 1.0), (5, 1.0)], mrr: 1.0, ndcg: 0.5, millis: 3.0 };
    for _ in 0..2 {
        store.finish_run(&run.id, &scores, std::slice::from_ref(&outcome)).await.unwrap();
    }
    assert_eq!(store.outcomes(&run.id).await.unwrap(), [outcome]);
    assert_eq!(store.runs(&set.id).await.unwrap()[0].scores, Some(scores));
    let changed = store.replace_question_set(&set.id, "neu", &questions()[..1]).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.questions), ("neu", 1));
    assert!(store.replace_question_set(&set.id, "neu", &[]).await.is_err());

    let other = KbName::parse("other").unwrap();
    store.create_kb(&other, &Default::default()).await.unwrap();
    store.create_question_set(&other, "there", &questions()).await.unwrap();
    store.delete_kb(&other).await.unwrap();
    store.delete_question_set(&set.id).await.unwrap();
    assert!(matches!(store.run(&run.id).await, Err(Error::NotFound { what: "run", .. })));
    assert!(store.question_sets(&kb()).await.unwrap().is_empty());
}
