//! The host's side of every kind in memory, plain enough to be trusted, and able to fail when asked to.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rag_core::document::{ChunkId, DocumentId, Span, Vectors};
use rag_core::ports::{
    Blob, Embed, Http, HttpRequest, HttpResponse, KbSearch, KeyValue, Purpose, StoredVectors,
    VectorCollection, VectorIndex,
};
use rag_core::search::{Filter, Hit, Metric, Passage, Value};
use rag_core::{Error, Result};

use crate::filters::{Fields, passes};

/// Of the vectors of the embedder below.
pub const DIM: usize = 16;
/// Tokens that the embedder below reads.
pub const TOKENS_MAX: usize = 510;

/// Fails the calls whose numbers were asked for, counting from 1.
#[derive(Debug, Default)]
pub struct Failing {
    calls: AtomicU64,
    /// 0 never fails.
    pub at: AtomicU64,
}

impl Failing {
    /// From now on the call of this number fails; 0: none.
    pub fn set(&self, at: u64) {
        self.calls.store(0, Ordering::SeqCst);
        self.at.store(at, Ordering::SeqCst);
    }

    /// Calls since it was set.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn check(&self) -> Result<()> {
        let call = 1 + self.calls.fetch_add(1, Ordering::SeqCst);
        if call == self.at.load(Ordering::SeqCst) { Err(out_of_order()) } else { Ok(()) }
    }
}

/// How a double fails.
pub fn out_of_order() -> Error {
    Error::Unavailable { message: "out of order".to_owned() }
}

/// Vectors from hashed characters and pairs of characters: texts that share them are near.
#[derive(Debug, Default)]
pub struct HashEmbedder {
    pub failing: Failing,
}

/// One for a Han or other character, one for four letters.
pub fn tokens(text: &str) -> usize {
    let letters = text.chars().filter(char::is_ascii_alphanumeric).count();
    let others = text.chars().filter(|c| !c.is_ascii_alphanumeric() && !c.is_whitespace()).count();
    letters.div_ceil(4) + others
}

/// As the embedder below makes it, of unit length.
pub fn vector(text: &str) -> Vec<f32> {
    let mut row = [0.01; DIM];
    let chars: Vec<char> = text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    for pair in chars.windows(2) {
        let hash =
            (pair[0] as usize).wrapping_mul(31).wrapping_add(pair[1] as usize).wrapping_mul(2_654_435_761);
        row[(hash >> 7) % DIM] += 1.0;
    }
    let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
    row.iter().map(|value| value / length).collect()
}

#[async_trait]
impl Embed for HashEmbedder {
    fn identity(&self) -> &str {
        "hash"
    }
    fn dim(&self) -> usize {
        DIM
    }
    fn tokens_max(&self) -> usize {
        TOKENS_MAX
    }
    fn count_tokens(&self, texts: &[String]) -> Vec<u32> {
        texts.iter().map(|text| tokens(text) as u32).collect()
    }
    async fn embed(&self, texts: Vec<String>, _: Purpose) -> Result<Vectors> {
        self.failing.check()?;
        Ok(Vectors { dim: DIM, data: texts.iter().flat_map(|text| vector(text)).collect() })
    }
}

/// A file in memory, or a pattern repeated to any size.
#[derive(Debug)]
pub struct MemoryBlob {
    pattern: Vec<u8>,
    size: u64,
    name: String,
    media_type: &'static str,
    pub bytes_read: AtomicU64,
    pub failing: Failing,
}

impl MemoryBlob {
    /// A file of these bytes.
    pub fn new(bytes: &[u8], media_type: &'static str) -> Arc<Self> {
        Self::repeated(bytes, bytes.len() as u64, media_type)
    }

    /// A file of this size.
    pub fn repeated(pattern: &[u8], size: u64, media_type: &'static str) -> Arc<Self> {
        Arc::new(MemoryBlob {
            pattern: pattern.to_vec(),
            size,
            name: "document".to_owned(),
            media_type,
            bytes_read: AtomicU64::new(0),
            failing: Failing::default(),
        })
    }
}

#[async_trait]
impl Blob for MemoryBlob {
    fn size(&self) -> u64 {
        self.size
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn media_type(&self) -> &str {
        self.media_type
    }
    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes> {
        self.failing.check()?;
        let start = offset.min(self.size);
        let end = (start + u64::from(len)).min(self.size);
        self.bytes_read.fetch_add(end - start, Ordering::SeqCst);
        let mut bytes = Vec::with_capacity((end - start) as usize);
        let mut at = start;
        while at < end {
            let within = &self.pattern[(at % self.pattern.len() as u64) as usize..];
            let taken = within.len().min((end - at) as usize);
            bytes.extend_from_slice(&within[..taken]);
            at += taken as u64;
        }
        Ok(bytes.into())
    }
}

/// Rows in a map, searched one by one.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    collections: Mutex<BTreeMap<String, Collection>>,
    pub failing: Failing,
}

#[derive(Debug)]
struct Collection {
    shape: VectorCollection,
    rows: BTreeMap<String, (Vec<f32>, Fields)>,
}

/// Higher is nearer.
pub fn score(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    match metric {
        Metric::Dot => dot(a, b),
        Metric::Cosine => dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt()).max(f32::MIN_POSITIVE),
        Metric::Euclidean => -a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt(),
    }
}

/// Best first, ties by id, at most `k`.
pub fn ranked(mut hits: Vec<Hit>, k: u32) -> Vec<Hit> {
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.chunk.cmp(&b.chunk)));
    hits.truncate(k as usize);
    hits
}

impl MemoryIndex {
    fn with<T>(&self, name: &str, work: impl FnOnce(&mut Collection) -> Result<T>) -> Result<T> {
        self.failing.check()?;
        let mut collections = self.collections.lock().unwrap_or_else(PoisonError::into_inner);
        let absent = || Error::NotFound { what: "vector collection", name: name.to_owned() };
        work(collections.get_mut(name).ok_or_else(absent)?)
    }
}

#[async_trait]
impl VectorIndex for MemoryIndex {
    async fn create(&self, collection: &VectorCollection) -> Result<()> {
        self.failing.check()?;
        let mut collections = self.collections.lock().unwrap_or_else(PoisonError::into_inner);
        let made = collections
            .entry(collection.name.clone())
            .or_insert_with(|| Collection { shape: collection.clone(), rows: BTreeMap::new() });
        if made.shape == *collection {
            return Ok(());
        }
        Err(Error::Conflict { message: format!("'{}' has another shape", collection.name) })
    }
    async fn drop_collection(&self, name: &str) -> Result<()> {
        self.failing.check()?;
        self.collections.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }
    async fn list(&self) -> Result<Vec<VectorCollection>> {
        self.failing.check()?;
        Ok(self
            .collections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .map(|collection| collection.shape.clone())
            .collect())
    }
    async fn count(&self, name: &str) -> Result<u64> {
        self.with(name, |collection| Ok(collection.rows.len() as u64))
    }
    async fn upsert(&self, name: &str, rows: StoredVectors, fields: Vec<Vec<(String, Value)>>) -> Result<()> {
        self.with(name, |collection| {
            if rows.vectors.dim != collection.shape.dim {
                return Err(Error::invalid(format!("vectors of dimension {}", rows.vectors.dim)));
            }
            for ((id, row), fields) in rows.ids.iter().zip(rows.vectors.iter()).zip(fields) {
                collection.rows.insert(id.0.clone(), (row.to_vec(), fields));
            }
            Ok(())
        })
    }
    async fn delete(&self, name: &str, ids: &[ChunkId]) -> Result<()> {
        self.with(name, |collection| {
            for id in ids {
                collection.rows.remove(&id.0);
            }
            Ok(())
        })
    }
    async fn query(
        &self,
        name: &str,
        queries: &Vectors,
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        self.with(name, |collection| {
            if queries.dim != collection.shape.dim {
                return Err(Error::invalid(format!("queries of dimension {}", queries.dim)));
            }
            let metric = collection.shape.metric;
            let rows = collection.rows.iter().filter(|(_, (_, fields))| passes(filter, fields));
            let rows: Vec<_> = rows.collect();
            let hits = |query: &[f32]| {
                let hit = |(id, (row, _)): &(&String, &(Vec<f32>, Fields))| Hit {
                    chunk: ChunkId((*id).clone()),
                    score: score(metric, query, row),
                };
                ranked(rows.iter().map(hit).collect(), k)
            };
            Ok(queries.iter().map(hits).collect())
        })
    }
    async fn scan(&self, name: &str, after: Option<&ChunkId>, limit: u32) -> Result<StoredVectors> {
        self.with(name, |collection| {
            let after = after.map_or("", |id| id.0.as_str());
            let rows = collection.rows.iter().filter(|(id, _)| id.as_str() > after).take(limit as usize);
            let (ids, data): (Vec<_>, Vec<_>) =
                rows.map(|(id, (row, _))| (ChunkId(id.clone()), row.clone())).unzip();
            Ok(StoredVectors { ids, vectors: Vectors { dim: collection.shape.dim, data: data.concat() } })
        })
    }
    async fn vectors_of(&self, name: &str, ids: &[ChunkId]) -> Result<StoredVectors> {
        self.with(name, |collection| {
            let found: Vec<_> =
                ids.iter().filter(|id| collection.rows.contains_key(&id.0)).cloned().collect();
            let data = found.iter().flat_map(|id| collection.rows[&id.0].0.clone()).collect();
            Ok(StoredVectors { ids: found, vectors: Vectors { dim: collection.shape.dim, data } })
        })
    }
}

/// Keys in a map.
#[derive(Debug, Default)]
pub struct MemoryKeys(Mutex<BTreeMap<String, Vec<u8>>>);

#[async_trait]
impl KeyValue for MemoryKeys {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }
    async fn set(&self, key: &str, value: Vec<u8>) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), value);
        Ok(())
    }
    async fn delete(&self, key: &str) -> Result<bool> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key).is_some())
    }
    async fn keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = keys.keys().filter(|key| key.starts_with(prefix) && Some(key.as_str()) > after);
        Ok(wanted.take(limit as usize).cloned().collect())
    }
}

/// Chunks that can be searched both ways.
#[derive(Debug, Default)]
pub struct Corpus {
    pub chunks: BTreeMap<String, (String, Fields)>,
    pub dense_failing: Failing,
    pub lexical_failing: Failing,
    /// The last question that the words were searched for.
    pub searched: Mutex<String>,
}

fn terms(text: &str) -> HashMap<String, u32> {
    let chars: Vec<char> = text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    let mut terms = HashMap::new();
    for pair in chars.windows(2) {
        *terms.entry(pair.iter().collect()).or_default() += 1;
    }
    terms
}

#[async_trait]
impl KbSearch for Corpus {
    async fn dense(&self, query: &Vectors, k: u32, filter: Option<&Filter>) -> Result<Vec<Hit>> {
        self.dense_failing.check()?;
        let wanted = self.chunks.iter().filter(|(_, (_, fields))| passes(filter, fields));
        let hit = |(id, (text, _)): (&String, &(String, Fields))| Hit {
            chunk: ChunkId(id.clone()),
            score: score(Metric::Cosine, &query.data, &vector(text)),
        };
        Ok(ranked(wanted.map(hit).collect(), k))
    }
    async fn lexical(&self, query: &str, k: u32, filter: Option<&Filter>) -> Result<Vec<Hit>> {
        self.lexical_failing.check()?;
        query.clone_into(&mut self.searched.lock().unwrap_or_else(PoisonError::into_inner));
        let asked = terms(query);
        let wanted = self.chunks.iter().filter(|(_, (_, fields))| passes(filter, fields));
        let hits = wanted.filter_map(|(id, (text, _))| {
            let own = terms(text);
            let shared: u32 = asked.keys().filter_map(|term| own.get(term)).sum();
            let score = shared as f32 / (1.0 + own.len() as f32).sqrt();
            (shared > 0).then(|| Hit { chunk: ChunkId(id.clone()), score })
        });
        Ok(ranked(hits.collect(), k))
    }
    async fn passages(&self, chunks: &[ChunkId]) -> Result<Vec<Passage>> {
        let found = chunks.iter().filter_map(|id| self.chunks.get(&id.0).map(|(text, _)| (id, text)));
        Ok(found
            .map(|(id, text)| Passage {
                chunk: id.clone(),
                document: DocumentId("d".to_owned()),
                document_name: "d.txt".to_owned(),
                text: text.clone(),
                span: Span { start: 0, end: text.len() as u64 },
                parent: None,
                heading: None,
                page: None,
                source: None,
            })
            .collect())
    }
    async fn vectors_of(&self, chunks: &[ChunkId]) -> Result<Vectors> {
        let found = chunks.iter().filter_map(|id| self.chunks.get(&id.0));
        Ok(Vectors { dim: DIM, data: found.flat_map(|(text, _)| vector(text)).collect() })
    }
}

/// Where no server answers.
#[derive(Debug)]
pub struct NoServer;

#[async_trait]
impl Http for NoServer {
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse> {
        Err(Error::Unavailable { message: format!("{} does not answer", request.url) })
    }
}
