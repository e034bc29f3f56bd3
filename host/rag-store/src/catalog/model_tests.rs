//! Any history of ingests, deletions, crashes and collections of garbage agrees with plain maps.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rag_core::document::{ChunkId, DocumentId};
use rag_core::ports::{Catalog, JobState, Opened};

use crate::testing::{Sample, TestStore, found, kb};

#[derive(Debug, Clone)]
enum Step {
    /// Ingests version `.1` of document `.0`; `.2` sections are written, and it is committed when all are.
    Ingest(u8, u8, u8),
    /// How an unfinished ingest ends.
    Fail(u8),
    DeleteDocument(u8),
    DeleteChunk(u8, u8),
    CollectGarbage,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..3_u8, 0..3_u8, 0..5_u8).prop_map(|(name, version, written)| Step::Ingest(name, version, written)),
        1 => (0..3_u8).prop_map(Step::Fail),
        2 => (0..3_u8).prop_map(Step::DeleteDocument),
        2 => (0..3_u8, 0..4_u8).prop_map(|(name, chunk)| Step::DeleteChunk(name, chunk)),
        2 => Just(Step::CollectGarbage),
        1 => Just(Step::Reopen),
    ]
}

/// Two sections of two chunks; every chunk has the word 共, one of its document and one of its own.
fn sections(name: u8, version: u8) -> Vec<String> {
    let line = |chunk: u8| format!("共 doc{name} v{version}c{chunk}\n");
    vec![line(0) + &line(1), line(2) + &line(3)]
}

/// What should be there.
#[derive(Default)]
struct Model {
    /// By name: the committed document and its chunks.
    ready: BTreeMap<u8, (DocumentId, Vec<(ChunkId, String)>)>,
    /// The vector store, as an ingest and the collection of garbage leave it.
    vectors: BTreeSet<ChunkId>,
    unfinished: Vec<Sample>,
}

impl Model {
    async fn ingest(&mut self, store: &TestStore, name: u8, version: u8, written: u8) {
        let sections = sections(name, version);
        let texts: Vec<&str> = sections.iter().map(String::as_str).collect();
        let sample = Sample::new(store, &format!("doc{name}"), &texts).await;
        if store.open_document(&sample.new).await.unwrap() == Opened::Unchanged {
            assert_eq!(self.ready[&name].0, *sample.id());
            let done = JobState::Done { document: Some(sample.id().clone()), unchanged: true };
            return store.finish(&sample.job.id, &done).await.unwrap();
        }
        self.unfinished.retain(|other| other.id() != sample.id());
        for section in sample.sections.iter().take(usize::from(written)) {
            store.put_section(sample.id(), section.start, &section.text, &section.chunks).await.unwrap();
            self.vectors.extend(section.chunks.iter().map(|chunk| chunk.id.clone()));
        }
        if usize::from(written) < sample.sections.len() {
            return self.unfinished.push(sample);
        }
        sample.commit(store).await;
        let chunks = sample.sections.iter().flat_map(|section| &section.chunks);
        let chunks = chunks.map(|chunk| (chunk.id.clone(), chunk.text.clone())).collect();
        self.ready.insert(name, (sample.id().clone(), chunks));
    }

    async fn collect(&mut self, store: &TestStore) {
        while let Some(garbage) = store.vector_garbage(&kb(), 3).await.unwrap() {
            assert!(garbage.chunks.len() <= 3);
            self.vectors.retain(|id| !garbage.chunks.contains(id));
            store.forget_vectors(&garbage).await.unwrap();
        }
    }

    async fn step(&mut self, store: &TestStore, step: &Step) {
        match *step {
            Step::Ingest(name, version, written) => self.ingest(store, name, version, written).await,
            Step::Fail(at) if usize::from(at) < self.unfinished.len() => {
                let sample = self.unfinished.remove(usize::from(at));
                store.finish(&sample.job.id, &JobState::Failed { message: "x".into() }).await.unwrap();
            }
            Step::DeleteDocument(name) => {
                if let Some((id, _)) = self.ready.remove(&name) {
                    store.delete_document(&id).await.unwrap();
                }
            }
            Step::DeleteChunk(name, at) => {
                if let Some((_, chunks)) = self.ready.get_mut(&name)
                    && usize::from(at) < chunks.len()
                {
                    store.delete_chunk(&chunks.remove(usize::from(at)).0).await.unwrap();
                }
            }
            Step::CollectGarbage => self.collect(store).await,
            Step::Fail(_) | Step::Reopen => {}
        }
    }

    async fn check(&self, store: &TestStore) {
        let mut expected: Vec<String> =
            self.ready.values().flat_map(|(_, chunks)| chunks).map(|(_, text)| text.clone()).collect();
        expected.sort();
        let mut seen = found(store, "共").await;
        seen.sort();
        assert_eq!(seen, expected);
        for (id, chunks) in self.ready.values() {
            let texts: Vec<String> = chunks.iter().map(|(_, text)| text.clone()).collect();
            let listed = store.chunks(id, None, 9).await.unwrap();
            assert_eq!(listed.into_iter().map(|stored| stored.chunk.text).collect::<Vec<_>>(), texts);
            assert_eq!(store.document(id).await.unwrap().chunks, texts.len() as u64);
            // Its own words find each chunk, and no retired one.
            for text in texts {
                assert_eq!(
                    found(store, text.split(' ').nth(2).unwrap())
                        .await
                        .iter()
                        .filter(|t| **t == text)
                        .count(),
                    1
                );
            }
        }
        let counts = store.kb(&kb()).await.unwrap();
        assert_eq!((counts.documents, counts.chunks), (self.ready.len() as u64, expected.len() as u64));
        assert_eq!(store.documents(&kb(), None, 99).await.unwrap().len(), self.ready.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_history_agrees_with_plain_maps(steps in proptest::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut store = TestStore::with_kb().await;
            let mut model = Model::default();
            for step in &steps {
                if matches!(step, Step::Reopen) {
                    store = store.reopen();
                    model.unfinished.clear();
                }
                model.step(&store, step).await;
                model.check(&store).await;
            }
            for sample in std::mem::take(&mut model.unfinished) {
                store.finish(&sample.job.id, &JobState::Failed { message: "x".into() }).await.unwrap();
            }
            model.collect(&store).await;
            let live: BTreeSet<ChunkId> =
                model.ready.values().flat_map(|(_, chunks)| chunks).map(|(id, _)| id.clone()).collect();
            assert_eq!(model.vectors, live, "the vector store holds what is citable and nothing else");
        });
    }
}
