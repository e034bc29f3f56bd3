//! What a full disk, a damaged file, a newer program and a caller who leaves do: a clear error and nothing half done.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use fs_err as fs;
use rag_core::Error;
use rag_core::document::{ParsedSummary, Vectors};
use rag_core::kb::{KbName, KbSettings};
use rag_core::ports::{BlobStore, Catalog, JobKind, Keys, Role, StoredVectors, VectorCollection};
use rag_core::search::{Metric, Turn};
use rusqlite::Connection;

use crate::testing::{Sample, TestStore, config, found, kb, put_blob};
use crate::{Store, StoreConfig};

fn says_full<T: std::fmt::Debug>(outcome: &rag_core::Result<T>) {
    assert!(matches!(outcome, Err(Error::Storage { message }) if message.contains("full")), "{outcome:?}");
}

#[tokio::test]
async fn below_the_free_space_limit_nothing_is_added_but_all_is_read_and_deleted() {
    let store = TestStore::with_kb().await;
    let first = Sample::ingested(&store, "a.txt", &["一\n"]).await;
    let second = Sample::new(&store, "b.txt", &["二\n"]).await;
    let collection = VectorCollection { name: "c".into(), dim: 1, metric: Metric::Dot };
    store.vector_index(&kb()).create(&collection).await.unwrap();
    let TestStore { store, dir } = store;
    drop(store);
    let full = StoreConfig { disk_free_min_bytes: u64::MAX, ..config(&dir) };
    let store = TestStore { store: Store::open(full).unwrap(), dir };

    says_full(&store.create_kb(&KbName::parse("more").unwrap(), &KbSettings::default()).await);
    says_full(&store.open_document(&second.new).await);
    says_full(&store.put_section(second.id(), 0, "二\n", &second.sections[0].chunks).await);
    says_full(&store.commit_document(second.id(), &ParsedSummary::default(), &second.job.id).await);
    says_full(&store.enqueue(&kb(), &JobKind::DeleteDocument(first.id().clone())).await);
    says_full(&store.append_turn("c", &kb(), &Turn { question: String::new(), answer: String::new() }).await);
    says_full(&Keys::create(&**store, "k", Role::Admin, None).await);
    says_full(&BlobStore::create(&**store).await.map(|_| ()));
    says_full(&store.key_value(&kb(), "p").set("k", Vec::new()).await);
    let index = store.vector_index(&kb());
    says_full(&index.create(&VectorCollection { name: "d".into(), ..collection }).await);
    let rows = StoredVectors { ids: Vec::new(), vectors: Vectors { dim: 1, data: Vec::new() } };
    says_full(&index.upsert("c", rows, Vec::new()).await);

    assert_eq!(found(&store, "一").await, ["一"]);
    assert!(store.claim().await.unwrap().is_some(), "a job can be run and end");
    store.delete_document(first.id()).await.unwrap();
    index.drop_collection("c").await.unwrap();
    assert!(found(&store, "一").await.is_empty());
}

#[tokio::test]
async fn a_database_at_its_limit_keeps_what_was_committed_and_goes_on_once_there_is_room() {
    let store = TestStore::with(|config| config.database_bytes_max = Some(1 << 20));
    store.create_kb(&kb(), &KbSettings::default()).await.unwrap();
    let line = |at: usize| format!("line{at} {}\n", "文字内容".repeat(200));
    let mut whole = Vec::new();
    let stopped = loop {
        let at = whole.len();
        let sample = Sample::new(&store, &format!("{at}.txt"), &[&line(at), &line(at)]).await;
        let written = write(&store, &sample).await;
        match written {
            Ok(()) => whole.push(sample),
            Err(error) => {
                says_full::<()>(&Err(error));
                break sample;
            }
        }
        assert!(whole.len() < 1_000, "the limit holds");
    };
    assert!(whole.len() > 3, "{}", whole.len());
    assert_eq!(store.documents(&kb(), None, 999).await.unwrap().len(), whole.len());
    assert_eq!(found(&store, "line0").await.len(), 2);
    let store = store.reopen();
    assert_eq!(store.documents(&kb(), None, 999).await.unwrap().len(), whole.len());
    assert_eq!(store.claim().await.unwrap().map(|job| job.id), Some(stopped.job.id.clone()));
    write(&store, &stopped).await.unwrap();
    assert_eq!(store.documents(&kb(), None, 999).await.unwrap().len(), whole.len() + 1);
    let sound: String = store
        .read(|connection| Ok(connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(sound, "ok");
}

async fn write(store: &Store, sample: &Sample) -> rag_core::Result<()> {
    store.open_document(&sample.new).await?;
    for section in &sample.sections {
        store.put_section(sample.id(), section.start, &section.text, &section.chunks).await?;
    }
    store.commit_document(sample.id(), &ParsedSummary::default(), &sample.job.id).await?;
    Ok(())
}

#[tokio::test]
async fn a_caller_who_leaves_leaves_all_or_nothing() {
    let store = TestStore::with_kb().await;
    for at in 0..20 {
        let sample = Sample::new(&store, &format!("{at}.txt"), &["甲乙\n丙丁\n"]).await;
        sample.write(&store).await;
        let summary = ParsedSummary::default();
        let mut commit = store.commit_document(sample.id(), &summary, &sample.job.id);
        poll_once(&mut commit).await;
        drop(commit);
        let info = store.document(sample.id()).await.unwrap();
        let listed = store.chunks(sample.id(), None, 9).await.unwrap();
        // The writer may not have come to it yet, or be done with it.
        assert!(listed.is_empty() || listed.len() == 2, "{info:?}");
        sample.commit(&store).await;
        assert_eq!(store.chunks(sample.id(), None, 9).await.unwrap().len(), 2);
    }
    assert_eq!(found(&store, "甲乙").await.len(), 20);
}

async fn poll_once<F: Future + ?Sized>(future: &mut Pin<Box<F>>) {
    std::future::poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn a_damaged_foreign_or_newer_file_is_refused_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.sqlite");
    fs::write(&path, "this is no database, only text that is long enough to be looked at as one".repeat(100))
        .unwrap();
    let damaged = Store::open(config(&dir)).unwrap_err();
    assert!(matches!(&damaged, Error::Storage { message } if message.contains("damaged")), "{damaged}");

    fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let foreign = Store::open(config(&dir)).unwrap_err();
    assert!(
        matches!(&foreign, Error::Conflict { message } if message.contains("another program")),
        "{foreign}"
    );

    fs::remove_file(&path).unwrap();
    drop(Store::open(config(&dir)).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let newer = Store::open(config(&dir)).unwrap_err();
    assert!(matches!(&newer, Error::Conflict { message } if message.contains("newer version")), "{newer}");
}

#[tokio::test]
async fn what_is_deleted_is_in_no_file() {
    let store = TestStore::with_kb().await;
    let secret = "zyxwvut 绝密计划 qponmlk";
    let kept = Sample::ingested(&store, "kept.txt", &["留下的文字\n"]).await;
    let gone = Sample::ingested(&store, "gone.txt", &[&format!("{secret}\n")]).await;
    let chunk = Sample::ingested(&store, "chunk.txt", &["无关\nzyxwvut\n"]).await;
    // Enough others that the words stand in more than one segment.
    for at in 0..40 {
        Sample::ingested(&store, &format!("{at}.txt"), &[&format!("无关 {at}\n").repeat(20)]).await;
    }
    assert!(!holding(&store, "zyxwvut").is_empty());
    for blob in store.delete_document(gone.id()).await.unwrap() {
        BlobStore::remove(&**store, &blob).await.unwrap();
    }
    store.delete_chunk(&chunk.chunk_ids()[1]).await.unwrap();
    // The document's text stays until it goes as a whole.
    for blob in store.delete_document(chunk.id()).await.unwrap() {
        BlobStore::remove(&**store, &blob).await.unwrap();
    }
    store.purge().await.unwrap();
    for trace in ["zyxwvut", "yxwvut", "绝密", "计划", "qponmlk"] {
        assert_eq!(holding(&store, trace), Vec::<String>::new(), "{trace}");
    }
    assert_eq!(found(&store, "留下").await.len(), 1);
    assert!(!holding(&store, "留下的文字").is_empty());
    BlobStore::open(&**store, &kept.new.blob, "kept.txt", "text/plain").await.unwrap();
}

#[tokio::test]
async fn a_deleted_knowledge_base_is_in_no_file() {
    let store = TestStore::with_kb().await;
    Sample::ingested(&store, "gone.txt", &["zyxwvut 绝密\n"]).await;
    store
        .append_turn("c", &kb(), &Turn { question: "qponmlk".into(), answer: "ihgfedc".into() })
        .await
        .unwrap();
    store.key_value(&kb(), "p").set("k", b"lkjhgfds".to_vec()).await.unwrap();
    for blob in store.delete_kb(&kb()).await.unwrap() {
        BlobStore::remove(&**store, &blob).await.unwrap();
    }
    store.purge().await.unwrap();
    for trace in ["zyxwvut", "绝密", "qponmlk", "ihgfedc", "lkjhgfds"] {
        assert_eq!(holding(&store, trace), Vec::<String>::new(), "{trace}");
    }
    put_blob(&store, "the store goes on").await;
}

/// Files below the data folder that hold some bytes.
fn holding(store: &TestStore, trace: &str) -> Vec<String> {
    fn walk(dir: &std::path::Path, trace: &[u8], found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, trace, found);
            } else if fs::read(&path).unwrap().windows(trace.len()).any(|window| window == trace) {
                found.push(path.display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(store.dir.path(), trace.as_bytes(), &mut found);
    found
}
