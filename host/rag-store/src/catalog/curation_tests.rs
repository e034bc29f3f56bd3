//! Disabled, edited and tagged documents: words, passages and vectors always agree with what people ordered.

use rag_core::document::{Chunk, ChunkId};
use rag_core::ports::{Catalog, Curation, DocumentQuery, JobKind};
use rag_core::search::{CompareOp, Filter, FilterNode, Value};
use rag_core::{Error, limits};

use crate::testing::{Sample, TestStore, found, kb};

async fn garbage(store: &TestStore) -> Vec<ChunkId> {
    let taken = store.vector_garbage(&kb(), 100).await.unwrap();
    let Some(taken) = taken else { return Vec::new() };
    store.forget_vectors(&taken).await.unwrap();
    taken.chunks
}

async fn enable(store: &TestStore, sample: &Sample) {
    let kind = JobKind::EnableDocument(sample.id().clone());
    let job = store.enqueue(&kb(), &kind).await.unwrap();
    assert_eq!(store.claim().await.unwrap().unwrap().kind, kind);
    store.keep_vectors(&sample.chunk_ids()).await.unwrap();
    store.enable_document(sample.id(), &job.id).await.unwrap();
}

#[tokio::test]
async fn a_disabled_document_is_found_by_nothing_until_it_is_enabled() {
    let store = TestStore::with_kb().await;
    let sample = Sample::ingested(&store, "a.md", &["大熊猫吃竹子\n第二行 panda\n"]).await;
    let ids = sample.chunk_ids();
    store.disable_document(sample.id()).await.unwrap();
    store.disable_document(sample.id()).await.unwrap();
    assert!(found(&store, "熊猫").await.is_empty());
    assert!(store.passages(&kb(), &ids).await.unwrap().is_empty());
    assert!(store.document(sample.id()).await.unwrap().disabled);
    let store = store.reopen();
    assert!(found(&store, "panda").await.is_empty(), "nor after a restart");
    let mut dropped = garbage(&store).await;
    dropped.sort();
    let mut all = ids.clone();
    all.sort();
    assert_eq!(dropped, all, "its vectors went");

    enable(&store, &sample).await;
    assert_eq!(found(&store, "熊猫").await, ["大熊猫吃竹子"]);
    assert_eq!(store.passages(&kb(), &ids).await.unwrap().len(), 2);
    assert!(garbage(&store).await.is_empty());
}

#[tokio::test]
async fn vectors_that_are_just_being_dropped_cannot_be_kept() {
    let store = TestStore::with_kb().await;
    let sample = Sample::ingested(&store, "a.md", &["one\n"]).await;
    store.disable_document(sample.id()).await.unwrap();
    let taken = store.vector_garbage(&kb(), 100).await.unwrap().unwrap();
    let refused = store.keep_vectors(&sample.chunk_ids()).await;
    assert!(matches!(&refused, Err(error) if error.retryable()), "{refused:?}");
    store.forget_vectors(&taken).await.unwrap();
    store.keep_vectors(&sample.chunk_ids()).await.unwrap();
}

#[tokio::test]
async fn the_next_version_of_a_disabled_document_is_disabled_and_keeps_its_tags() {
    let store = TestStore::with_kb().await;
    let first = Sample::ingested(&store, "a.md", &["old words\n"]).await;
    let tags = [("tag".to_owned(), "合同".to_owned())];
    store.set_metadata(first.id(), &tags).await.unwrap();
    store.disable_document(first.id()).await.unwrap();
    let second = Sample::ingested(&store, "a.md", &["new words\n"]).await;
    let document = store.document(second.id()).await.unwrap();
    assert!(document.disabled);
    assert_eq!(document.metadata, tags);
    assert!(found(&store, "words").await.is_empty());
    assert!(garbage(&store).await.contains(&second.chunk_ids()[0]));
    enable(&store, &second).await;
    assert_eq!(found(&store, "words").await, ["new words"]);
}

#[tokio::test]
async fn one_chunk_goes_and_comes_while_the_others_stay() {
    let store = TestStore::with_kb().await;
    let sample = Sample::ingested(&store, "a.md", &["alpha words\nbeta words\n"]).await;
    let ids = sample.chunk_ids();
    store.disable_chunk(&ids[0]).await.unwrap();
    assert_eq!(found(&store, "words").await, ["beta words"]);
    assert_eq!(garbage(&store).await, ids[..1]);
    let listed = store.chunks(sample.id(), None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|row| row.disabled).collect::<Vec<_>>(), [true, false]);

    // The document's switch does not turn the chunk's own.
    store.disable_document(sample.id()).await.unwrap();
    garbage(&store).await;
    store.enable_chunk(&ids[0]).await.unwrap();
    assert!(found(&store, "words").await.is_empty());
    store.disable_chunk(&ids[0]).await.unwrap();
    garbage(&store).await;
    enable(&store, &sample).await;
    assert_eq!(found(&store, "words").await, ["beta words"]);
    store.enable_chunk(&ids[0]).await.unwrap();
    assert_eq!(found(&store, "alpha").await, ["alpha words"]);
    store.delete_chunk(&ids[0]).await.unwrap();
    assert!(matches!(store.chunk(&kb(), &ids[0]).await, Err(Error::NotFound { what: "chunk", .. })));
}

#[tokio::test]
async fn an_edited_chunk_is_found_by_its_new_words_alone() {
    let store = TestStore::with_kb().await;
    let sample = Sample::ingested(&store, "a.md", &["alpha words\nbeta words\n"]).await;
    let old = store.chunk(&kb(), &sample.chunk_ids()[0]).await.unwrap().chunk;
    let new = Chunk { id: ChunkId("new".into()), text: "伽马射线".into(), ..old.clone() };
    store.keep_vectors(std::slice::from_ref(&new.id)).await.unwrap();
    store.replace_chunk(&old.id, &new).await.unwrap();
    assert!(found(&store, "alpha").await.is_empty());
    assert_eq!(found(&store, "伽马").await, ["伽马射线"]);
    assert_eq!(garbage(&store).await, std::slice::from_ref(&old.id));
    let stored = store.chunk(&kb(), &new.id).await.unwrap();
    assert!(stored.edited && !stored.disabled);
    assert_eq!((stored.chunk.span, stored.chunk.ordinal), (old.span, old.ordinal));
    // And back: the vector of the old words is wanted again.
    store.keep_vectors(std::slice::from_ref(&old.id)).await.unwrap();
    store.replace_chunk(&new.id, &old).await.unwrap();
    assert_eq!(garbage(&store).await, [new.id]);
    assert_eq!(found(&store, "alpha").await, ["alpha words"]);
}

fn compare(field: &str, op: CompareOp, value: &str) -> FilterNode {
    FilterNode::Compare { field: field.into(), op, value: Value::Text(value.into()) }
}

#[tokio::test]
async fn filters_know_metadata_and_attributes_for_words_and_for_vectors() {
    let store = TestStore::with_kb().await;
    let a = Sample::ingested(&store, "a.md", &["words of a\n"]).await;
    let b = Sample::ingested(&store, "b.md", &["words of b\n"]).await;
    let tags = [("tag".to_owned(), "合同".to_owned()), ("year".to_owned(), "2024".to_owned())];
    store.set_metadata(a.id(), &tags).await.unwrap();
    let check = async |nodes: Vec<FilterNode>, want: &[&str]| {
        let filter = Filter { nodes };
        let hits = store.lexical(&kb(), "initial-g1", "words", 10, Some(&filter)).await.unwrap();
        let resolved = store.resolve_filter(&kb(), "initial-g1", &filter).await.unwrap();
        let again = store.lexical(&kb(), "initial-g1", "words", 10, Some(&resolved)).await.unwrap();
        assert_eq!(hits, again, "{resolved:?}");
        let ids: Vec<ChunkId> = hits.into_iter().map(|hit| hit.chunk).collect();
        let mut names: Vec<String> =
            store.passages(&kb(), &ids).await.unwrap().into_iter().map(|p| p.document_name).collect();
        names.sort();
        assert_eq!(names, want, "{filter:?}");
        for node in &resolved.nodes {
            if let FilterNode::Compare { field, .. }
            | FilterNode::OneOf { field, .. }
            | FilterNode::Exists { field } = node
            {
                assert!(["document", "name", "page", "ordinal"].contains(&field.as_str()), "{field}");
            }
        }
    };
    check(vec![compare("tag", CompareOp::Eq, "合同")], &["a.md"]).await;
    check(vec![compare("author", CompareOp::Eq, "李白")], &["a.md", "b.md"]).await;
    check(vec![compare("tag", CompareOp::Eq, "other")], &[]).await;
    check(vec![compare("tag", CompareOp::Eq, "合同"), FilterNode::NoneOf(vec![0])], &["b.md"]).await;
    check(
        vec![
            FilterNode::Exists { field: "year".into() },
            compare("name", CompareOp::Eq, "b.md"),
            FilterNode::AnyOf(vec![0, 1]),
        ],
        &["a.md", "b.md"],
    )
    .await;
    check(
        vec![FilterNode::OneOf {
            field: "year".into(),
            values: vec![Value::Text("2023".into()), Value::Text("2024".into())],
        }],
        &["a.md"],
    )
    .await;
    let listed = DocumentQuery { tagged: Some(tags[1].clone()), limit: 9, ..DocumentQuery::default() };
    assert_eq!(store.find_documents(&kb(), &listed).await.unwrap()[0].id, *a.id());
    let listed = DocumentQuery { words: Some("B.M".into()), limit: 9, ..DocumentQuery::default() };
    assert_eq!(store.find_documents(&kb(), &listed).await.unwrap()[0].id, *b.id());
    let listed = DocumentQuery { duplicates: true, limit: 9, ..DocumentQuery::default() };
    assert!(store.find_documents(&kb(), &listed).await.unwrap().is_empty());
    let empty = Filter { nodes: Vec::new() };
    assert!(store.resolve_filter(&kb(), "initial-g1", &empty).await.is_err());
}

#[tokio::test]
async fn metadata_is_bounded_and_never_stands_in_for_the_programs_own() {
    let store = TestStore::with_kb().await;
    let sample = Sample::ingested(&store, "a.md", &["words\n"]).await;
    let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    let long = "x".repeat(limits::METADATA_BYTES_MAX + 1);
    for bad in [pair("", "v"), pair("document", "v"), pair(&long, "v"), pair("k", &long)] {
        let refused = store.set_metadata(sample.id(), &bad).await;
        assert!(matches!(refused, Err(Error::InvalidInput { .. })), "{refused:?}");
    }
    let many = vec![("k".to_owned(), "v".to_owned()); limits::METADATA_PAIRS_MAX + 1];
    assert!(store.set_metadata(sample.id(), &many).await.is_err());
}
