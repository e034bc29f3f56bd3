//! Ports that hang, fail and panic when asked to.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use rag_core::document::{ChunkId, DocumentId, Span, Vectors};
use rag_core::ports::{
    Blob, Embed, FinishReason, Generate, GenerateRequest, GenerationEvent, GenerationStream, KbSearch,
    KeyValue, Purpose, StoredVectors, Usage, VectorCollection, VectorIndex,
};
use rag_core::search::{Filter, Hit, Passage, Value};
use rag_core::{Error, Result};

/// Dimension of all vectors here.
pub(crate) const DIM: usize = 2;

fn disk_full() -> Error {
    Error::Storage { message: "no space left on device".to_owned() }
}

pub(crate) struct FakeEmbedder;

#[async_trait]
impl Embed for FakeEmbedder {
    fn identity(&self) -> &str {
        "fake"
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn tokens_max(&self) -> usize {
        512
    }

    fn count_tokens(&self, texts: &[String]) -> Vec<u32> {
        texts.iter().map(|text| u32::try_from(text.chars().count()).unwrap()).collect()
    }

    async fn embed(&self, texts: Vec<String>, _: Purpose) -> Result<Vectors> {
        match texts.first().map(String::as_str) {
            Some("hang") => pending().await,
            Some("fail") => Err(disk_full()),
            Some("panic") => panic!("a defect of the host"),
            _ => Ok(Vectors { dim: DIM, data: [1.0, 0.0].repeat(texts.len()) }),
        }
    }
}

pub(crate) struct FakeGenerator;

#[async_trait]
impl Generate for FakeGenerator {
    fn identity(&self) -> String {
        "fake".to_owned()
    }

    fn demonstration(&self) -> bool {
        true
    }

    fn count_tokens(&self, text: &str) -> u32 {
        u32::try_from(text.len()).unwrap()
    }

    async fn generate(&self, request: GenerateRequest) -> Result<GenerationStream> {
        let usage = Usage { prompt_tokens: 1, output_tokens: request.tokens_max };
        let events = vec![
            Ok(GenerationEvent::Text("回答".to_owned())),
            Ok(GenerationEvent::Text(" of the model".to_owned())),
            Ok(GenerationEvent::Done { reason: FinishReason::Length, usage }),
        ];
        Ok(Box::pin(futures_util::stream::iter(events)))
    }
}

/// Rows in a map; a query returns all of them in the order of their ids.
#[derive(Default)]
pub(crate) struct FakeIndex {
    collections: Mutex<BTreeMap<String, Collection>>,
}

struct Collection {
    shape: VectorCollection,
    rows: BTreeMap<String, Vec<f32>>,
}

impl FakeIndex {
    fn with<T>(&self, name: &str, work: impl FnOnce(&mut Collection) -> T) -> Result<T> {
        let mut collections = self.collections.lock().unwrap();
        let absent = || Error::NotFound { what: "vector collection", name: name.to_owned() };
        Ok(work(collections.get_mut(name).ok_or_else(absent)?))
    }
}

#[async_trait]
impl VectorIndex for FakeIndex {
    async fn create(&self, collection: &VectorCollection) -> Result<()> {
        let mut collections = self.collections.lock().unwrap();
        let made = collections
            .entry(collection.name.clone())
            .or_insert_with(|| Collection { shape: collection.clone(), rows: BTreeMap::new() });
        if made.shape == *collection {
            return Ok(());
        }
        Err(Error::Conflict { message: format!("collection '{}' has another shape", collection.name) })
    }

    async fn drop_collection(&self, name: &str) -> Result<()> {
        self.collections.lock().unwrap().remove(name);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<VectorCollection>> {
        Ok(self.collections.lock().unwrap().values().map(|collection| collection.shape.clone()).collect())
    }

    async fn count(&self, name: &str) -> Result<u64> {
        self.with(name, |collection| collection.rows.len() as u64)
    }

    async fn upsert(&self, name: &str, rows: StoredVectors, _: Vec<Vec<(String, Value)>>) -> Result<()> {
        self.with(name, |collection| {
            for (id, vector) in rows.ids.iter().zip(rows.vectors.iter()) {
                collection.rows.insert(id.0.clone(), vector.to_vec());
            }
        })
    }

    async fn delete(&self, name: &str, ids: &[ChunkId]) -> Result<()> {
        self.with(name, |collection| {
            for id in ids {
                collection.rows.remove(&id.0);
            }
        })
    }

    async fn query(
        &self,
        name: &str,
        queries: &Vectors,
        k: u32,
        _: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        self.with(name, |collection| {
            let hits = collection.rows.keys().take(k as usize);
            let hits: Vec<Hit> = hits.map(|id| Hit { chunk: ChunkId(id.clone()), score: 0.5 }).collect();
            vec![hits; queries.rows()]
        })
    }

    async fn scan(&self, name: &str, _: Option<&ChunkId>, _: u32) -> Result<StoredVectors> {
        self.vectors_of(name, &[]).await
    }

    async fn vectors_of(&self, name: &str, _: &[ChunkId]) -> Result<StoredVectors> {
        self.with(name, |collection| StoredVectors {
            ids: collection.rows.keys().cloned().map(ChunkId).collect(),
            vectors: Vectors { dim: DIM, data: collection.rows.values().flatten().copied().collect() },
        })
    }
}

#[derive(Default)]
pub(crate) struct FakeKv(Mutex<BTreeMap<String, Vec<u8>>>);

#[async_trait]
impl KeyValue for FakeKv {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    async fn set(&self, key: &str, value: Vec<u8>) -> Result<()> {
        self.0.lock().unwrap().insert(key.to_owned(), value);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        Ok(self.0.lock().unwrap().remove(key).is_some())
    }

    async fn keys(&self, prefix: &str, _: Option<&str>, _: u32) -> Result<Vec<String>> {
        Ok(self.0.lock().unwrap().keys().filter(|key| key.starts_with(prefix)).cloned().collect())
    }
}

/// One knowledge base with two chunks.
pub(crate) struct FakeSearch;

#[async_trait]
impl KbSearch for FakeSearch {
    async fn dense(&self, _: &Vectors, k: u32, _: Option<&Filter>) -> Result<Vec<Hit>> {
        let hits = [("a", 0.9), ("b", 0.8)].into_iter().take(k as usize);
        Ok(hits.map(|(id, score)| Hit { chunk: ChunkId(id.to_owned()), score }).collect())
    }

    async fn lexical(&self, query: &str, _: u32, _: Option<&Filter>) -> Result<Vec<Hit>> {
        if query == "hang" { pending().await } else { Ok(Vec::new()) }
    }

    async fn passages(&self, chunks: &[ChunkId]) -> Result<Vec<Passage>> {
        let passage = |chunk: &ChunkId| Passage {
            chunk: chunk.clone(),
            document: DocumentId("d".to_owned()),
            document_name: "手册.md".to_owned(),
            text: "text".to_owned(),
            span: Span { start: 0, end: 4 },
            parent: None,
            heading: Some("A › B".to_owned()),
            page: Some(1),
            source: None,
        };
        Ok(chunks.iter().map(passage).collect())
    }

    async fn vectors_of(&self, chunks: &[ChunkId]) -> Result<Vectors> {
        Ok(Vectors { dim: DIM, data: [1.0, 0.0].repeat(chunks.len()) })
    }
}

pub(crate) struct FakeBlob(pub(crate) &'static str);

#[async_trait]
impl Blob for FakeBlob {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn name(&self) -> &str {
        "手册.txt"
    }

    fn media_type(&self) -> &str {
        "text/plain"
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let end = start.saturating_add(len as usize).min(self.0.len());
        Ok(Bytes::from_static(&self.0.as_bytes()[start..end]))
    }
}

pub(crate) fn embedder() -> Arc<dyn Embed> {
    Arc::new(FakeEmbedder)
}
