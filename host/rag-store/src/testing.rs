//! What the tests share: a store in a folder of its own, and documents to put into it.

use std::sync::Arc;

use bytes::Bytes;
use rag_core::document::{BlobHash, Chunk, ChunkId, DocumentId, ParsedSummary, Span};
use rag_core::kb::{KbName, KbSettings};
use rag_core::ports::{BlobStore, Catalog, IngestSource, Job, JobKind, NewDocument, Opened};

use crate::{Store, StoreConfig};

/// A store whose folder goes with it.
pub(crate) struct TestStore {
    pub(crate) store: Arc<Store>,
    pub(crate) dir: tempfile::TempDir,
}

impl std::ops::Deref for TestStore {
    type Target = Arc<Store>;

    fn deref(&self) -> &Arc<Store> {
        &self.store
    }
}

pub(crate) fn config(dir: &tempfile::TempDir) -> StoreConfig {
    StoreConfig { disk_free_min_bytes: 0, readers: 2, ..StoreConfig::new(dir.path()) }
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut StoreConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir);
        change(&mut config);
        TestStore { store: Store::open(config).unwrap(), dir }
    }

    /// With the knowledge base `kb()`.
    pub(crate) async fn with_kb() -> Self {
        let store = Self::new();
        store.create_kb(&kb(), &KbSettings::default()).await.unwrap();
        store
    }

    /// As a new process finds the folder.
    pub(crate) fn reopen(self) -> Self {
        let TestStore { store, dir } = self;
        drop(store);
        TestStore { store: Store::open(config(&dir)).unwrap(), dir }
    }
}

pub(crate) fn kb() -> KbName {
    KbName::parse("initial").unwrap()
}

pub(crate) async fn put_blob(store: &Store, content: &str) -> BlobHash {
    let mut writer = BlobStore::create(store).await.unwrap();
    writer.write(Bytes::copy_from_slice(content.as_bytes())).await.unwrap();
    writer.finish().await.unwrap().0
}

/// A document whose sections have one chunk for each line.
pub(crate) struct Sample {
    pub(crate) new: NewDocument,
    pub(crate) job: Job,
    pub(crate) sections: Vec<Section>,
}

pub(crate) struct Section {
    pub(crate) start: u64,
    pub(crate) text: String,
    pub(crate) chunks: Vec<Chunk>,
}

impl Sample {
    /// Stores the original and takes the job that ingests it.
    pub(crate) async fn new(store: &Store, name: &str, sections: &[&str]) -> Self {
        let blob = put_blob(store, &format!("{name}\n{}", sections.concat())).await;
        let size = sections.iter().map(|text| text.len() as u64).sum();
        let source = IngestSource {
            blob: blob.clone(),
            size,
            name: name.to_owned(),
            media_type: "text/plain".to_owned(),
            chunker: None,
            origin: rag_core::ports::Origin::default(),
            alone: false,
        };
        let queued = store.enqueue(&kb(), &JobKind::Ingest(source)).await.unwrap();
        loop {
            let job = store.claim().await.unwrap().unwrap();
            if job.id == queued.id {
                return Self::of_job(job, sections);
            }
        }
    }

    /// What a claimed job would write.
    pub(crate) fn of_job(job: Job, sections: &[&str]) -> Self {
        let JobKind::Ingest(source) = &job.kind else { unreachable!("an ingest") };
        let new = NewDocument {
            id: DocumentId::of(kb().as_str(), &source.name, &source.blob, "p1"),
            kb: kb(),
            name: source.name.clone(),
            blob: source.blob.clone(),
            size: source.size,
            media_type: source.media_type.clone(),
            pipeline: "p1".to_owned(),
            collection: "initial-g1".to_owned(),
            folder: None,
        };
        Sample { sections: cut(&new.id, sections), new, job }
    }

    pub(crate) fn id(&self) -> &DocumentId {
        &self.new.id
    }

    pub(crate) fn chunk_ids(&self) -> Vec<ChunkId> {
        self.sections.iter().flat_map(|section| &section.chunks).map(|chunk| chunk.id.clone()).collect()
    }

    /// All but the commit.
    pub(crate) async fn write(&self, store: &Store) {
        assert_eq!(store.open_document(&self.new).await.unwrap(), Opened::Fresh);
        for section in &self.sections {
            store.put_section(self.id(), section.start, &section.text, &section.chunks).await.unwrap();
        }
    }

    pub(crate) async fn commit(&self, store: &Store) -> Vec<BlobHash> {
        let summary = ParsedSummary {
            title: Some("标题".to_owned()),
            language: Some("zh".to_owned()),
            attributes: vec![
                ("author".to_owned(), "李白".to_owned()),
                ("author".to_owned(), "Du Fu".to_owned()),
            ],
        };
        store.commit_document(self.id(), &summary, &self.job.id).await.unwrap()
    }

    /// Written and committed.
    pub(crate) async fn ingested(store: &Store, name: &str, sections: &[&str]) -> Self {
        let sample = Self::new(store, name, sections).await;
        sample.write(store).await;
        sample.commit(store).await;
        sample
    }
}

fn cut(document: &DocumentId, texts: &[&str]) -> Vec<Section> {
    let (mut start, mut ordinal) = (0, 0);
    let mut sections = Vec::new();
    for text in texts {
        let mut chunks = Vec::new();
        let mut line_start = start;
        for line in text.split_inclusive('\n') {
            let line_end = line_start + line.len() as u64;
            let trimmed = line.trim_end();
            chunks.push(Chunk {
                id: ChunkId::of(document, ordinal, trimmed),
                ordinal,
                text: trimmed.to_owned(),
                span: Span { start: line_start, end: line_start + trimmed.len() as u64 },
                parent: None,
                context: Some("context".to_owned()),
                heading: Some("第一章 › 起源".to_owned()),
                page: (ordinal % 2 == 0).then_some(ordinal / 2 + 1),
                source: Some(Span { start: line_start, end: line_end }),
            });
            line_start = line_end;
            ordinal += 1;
        }
        sections.push(Section { start, text: (*text).to_owned(), chunks });
        start = line_start;
    }
    sections
}

/// Names of the chunks' lines that a search by words found.
pub(crate) async fn found(store: &Store, query: &str) -> Vec<String> {
    let hits = store.lexical(&kb(), "initial-g1", query, 100, None).await.unwrap();
    let ids: Vec<ChunkId> = hits.into_iter().map(|hit| hit.chunk).collect();
    store.passages(&kb(), &ids).await.unwrap().into_iter().map(|passage| passage.text).collect()
}
