//! How fast the store searches: vectors and words, on data made here from a fixed seed.
//!
//! Vectors are either random, the hardest case for a scan over few bits, since nothing stands out; or like those of texts:
//! topics of uneven size, documents of 40 chunks, and much that all have in common. The texts have Zipf's law.

use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use rag_core::document::{BlobHash, Chunk, ChunkId, DocumentId, ParsedSummary, Span, Vectors};
use rag_core::kb::{KbName, KbSettings};
use rag_core::ports::{
    BlobStore, Catalog, IngestSource, JobId, JobKind, NewDocument, StoredVectors, VectorCollection,
    VectorIndex,
};
use rag_core::search::{CompareOp, Filter, FilterNode, Hit, Metric, Value};
use rag_core::{Result, limits};

use crate::vectors::exact_score;
use crate::{Store, StoreConfig};

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub struct SearchBench {
    /// Vectors in the collection.
    pub rows: usize,
    /// Like those of texts, not random.
    pub topics: bool,
    pub dim: usize,
    /// Searches of each kind.
    pub queries: usize,
    /// Chunks of text of 300 Han characters.
    pub chunks: usize,
}

impl Default for SearchBench {
    fn default() -> Self {
        SearchBench { rows: 100_000, topics: false, dim: 384, queries: 1_000, chunks: 20_000 }
    }
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
}

/// Measures in an empty folder, which the caller removes. Searches run one after the other.
pub async fn search(dir: &Path, size: SearchBench) -> Result<Vec<Figure>> {
    let store = Store::open(StoreConfig::new(dir))?;
    let kb = KbName::parse("bench")?;
    store.create_kb(&kb, &KbSettings::default()).await?;
    let mut figures = Vec::new();
    let mut bench = Bench { store: &store, kb: &kb, size, random: Random(1), figures: &mut figures };
    bench.vectors(store.vector_index(&kb).as_ref()).await?;
    bench.words().await?;
    Ok(figures)
}

const COLLECTION: &str = "bench-g1";
/// Results of each search.
const K: u32 = 10;
/// Searches whose results are compared with the exact ones.
const QUERIES_COMPARED: usize = 200;
/// One row in so many passes the filter.
const FILTER_SHARE: usize = 10;

struct Bench<'a> {
    store: &'a Store,
    kb: &'a KbName,
    size: SearchBench,
    random: Random,
    figures: &'a mut Vec<Figure>,
}

impl Bench<'_> {
    fn add(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.figures.push(Figure { name, value, unit });
    }

    fn rate(&mut self, name: &'static str, count: usize, begun: Instant) {
        self.add(name, count as f64 / begun.elapsed().as_secs_f64(), "1/s");
    }

    async fn vectors(&mut self, index: &dyn VectorIndex) -> Result<()> {
        let SearchBench { rows, dim, queries, .. } = self.size;
        index.create(&VectorCollection { name: COLLECTION.to_owned(), dim, metric: Metric::Cosine }).await?;
        let (all, asked) = if self.size.topics {
            self.random.texts(rows, queries, dim)
        } else {
            (self.random.unit_vectors(rows, dim), self.random.unit_vectors(queries, dim))
        };
        let begun = Instant::now();
        for from in (0..rows).step_by(limits::STORE_BATCH_MAX) {
            let to = rows.min(from + limits::STORE_BATCH_MAX);
            let vectors = Vectors { dim, data: all[from * dim..to * dim].to_vec() };
            let ids = (from..to).map(vector_id).collect();
            let fields = (from..to)
                .map(|at| vec![("part".to_owned(), Value::Integer((at % FILTER_SHARE) as i64))])
                .collect();
            index.upsert(COLLECTION, StoredVectors { ids, vectors }, fields).await?;
        }
        self.rate("vector rows written", rows, begun);

        let one = |at: usize| Vectors { dim, data: asked[at * dim..(at + 1) * dim].to_vec() };
        let begun = Instant::now();
        index.query(COLLECTION, &one(0), K, None).await?;
        self.add("vector load at the first search", begun.elapsed().as_secs_f64() * 1000.0, "ms");
        self.add("vector memory", self.store.vector_cache.bytes() as f64 / f64::from(1 << 20), "MiB");

        let ask = async |from: usize, to: usize| -> Result<Vec<Vec<Hit>>> {
            let mut found = Vec::with_capacity(to - from);
            for at in from..to {
                found.push(index.query(COLLECTION, &one(at), K, None).await?.pop().unwrap_or_default());
            }
            Ok(found)
        };
        let (begun, used) = (Instant::now(), cpu_seconds());
        let found = ask(0, queries).await?;
        self.rate("vector searches", queries, begun);
        if let (Some(used), Some(now)) = (used, cpu_seconds()) {
            self.add("vector searches per second of processor time", queries as f64 / (now - used), "1/s");
        }
        let begun = Instant::now();
        let (first, second) = both(ask(0, queries / 2), ask(queries / 2, queries)).await;
        first.and(second)?;
        self.rate("vector searches, two at a time", queries, begun);
        let mut right = 0;
        let compared = queries.min(QUERIES_COMPARED);
        for (at, hits) in found.iter().enumerate().take(compared) {
            let nearest = exact(&all, dim, &asked[at * dim..(at + 1) * dim]);
            right += hits.iter().filter(|hit| nearest.contains(&hit.chunk)).count();
        }
        self.add("vector recall@10 against f32", right as f64 / (compared * K as usize) as f64, "");

        let part =
            FilterNode::Compare { field: "part".to_owned(), op: CompareOp::Eq, value: Value::Integer(3) };
        let filter = Filter { nodes: vec![part] };
        let begun = Instant::now();
        for at in 0..queries {
            index.query(COLLECTION, &one(at), K, Some(&filter)).await?;
        }
        self.rate("vector searches with a filter that one row in 10 passes", queries, begun);
        Ok(())
    }

    async fn words(&mut self) -> Result<()> {
        let SearchBench { chunks, queries, .. } = self.size;
        let (blob, job) = self.job().await?;
        let texts: Vec<String> = (0..chunks).map(|_| self.random.text(WORDS_OF_A_CHUNK)).collect();
        let begun = Instant::now();
        let mut documents = Vec::new();
        for (at, texts) in texts.chunks(CHUNKS_OF_A_DOCUMENT).enumerate() {
            documents.push(self.document(&blob, &job, at, texts).await?);
        }
        self.rate("chunks written and indexed by words", chunks, begun);
        let asked: Vec<String> = (0..queries).map(|_| self.random.text(WORDS_OF_A_QUESTION)).collect();
        let begun = Instant::now();
        for question in &asked {
            self.store.lexical(self.kb, &format!("{}-g1", self.kb), question, K, None).await?;
        }
        self.rate("searches by words", queries, begun);
        let file = fs_err::metadata(self.store.config.dir.join("catalog.sqlite"));
        let bytes = file.map_or(0, |file| file.len());
        self.add("database file", bytes as f64 / f64::from(1 << 20), "MiB");
        let removed = &documents[..documents.len().min(20)];
        let begun = Instant::now();
        for document in removed {
            self.store.delete_document(document).await?;
        }
        self.rate("chunks deleted", removed.len() * CHUNKS_OF_A_DOCUMENT, begun);
        Ok(())
    }

    async fn job(&self) -> Result<(BlobHash, JobId)> {
        let mut writer = BlobStore::create(self.store).await?;
        writer.write(bytes::Bytes::from_static(b"original")).await?;
        let (blob, size) = writer.finish().await?;
        let (name, media_type) = ("bench".to_owned(), "text/plain".to_owned());
        let source = IngestSource {
            blob: blob.clone(),
            size,
            name,
            media_type,
            chunker: None,
            origin: rag_core::ports::Origin::default(),
            alone: false,
        };
        let job = self.store.enqueue(self.kb, &JobKind::Ingest(source)).await?;
        Ok((blob, job.id))
    }

    async fn document(
        &self,
        blob: &BlobHash,
        job: &JobId,
        at: usize,
        texts: &[String],
    ) -> Result<DocumentId> {
        let name = format!("{at:06}");
        let document = NewDocument {
            id: DocumentId::of(self.kb.as_str(), &name, blob, ""),
            kb: self.kb.clone(),
            name,
            blob: blob.clone(),
            size: 0,
            media_type: "text/plain".to_owned(),
            pipeline: String::new(),
            collection: COLLECTION.to_owned(),
            folder: None,
        };
        let mut chunks = Vec::with_capacity(texts.len());
        let mut start = 0;
        for (ordinal, text) in (0_u32..).zip(texts) {
            let end = start + text.len() as u64;
            chunks.push(Chunk {
                id: ChunkId::of(&document.id, ordinal, text),
                ordinal,
                text: text.clone(),
                span: Span { start, end },
                parent: None,
                context: None,
                heading: None,
                page: None,
                source: None,
            });
            start = end;
        }
        self.store.open_document(&document).await?;
        self.store.put_section(&document.id, 0, &texts.concat(), &chunks).await?;
        self.store.commit_document(&document.id, &ParsedSummary::default(), job).await?;
        Ok(document.id)
    }
}

const CHUNKS_OF_A_DOCUMENT: usize = 100;
/// Of two characters each.
const WORDS_OF_A_CHUNK: usize = 150;
const WORDS_OF_A_QUESTION: usize = 6;
/// Distinct words.
const LEXICON: f64 = 20_000.0;

fn vector_id(at: usize) -> ChunkId {
    ChunkId(format!("{at:08}"))
}

/// The nearest by exact scores, as the index orders them.
fn exact(all: &[f32], dim: usize, query: &[f32]) -> Vec<ChunkId> {
    let scored = all.chunks_exact(dim).map(|vector| exact_score(Metric::Cosine, query, vector));
    let mut scored: Vec<(f32, usize)> = scored.zip(0..).collect();
    scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.into_iter().take(K as usize).map(|(_, at)| vector_id(at)).collect()
}

/// Processor time of this process so far, where the system tells it: in hundredths of a second.
fn cpu_seconds() -> Option<f64> {
    let stat = fs_err::read_to_string("/proc/self/stat").ok()?;
    // The name, in brackets, may hold spaces; behind it are user and system time as the 12th and 13th field.
    let fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(2);
    Some(fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0 + 0.005)
}

/// Waits for both.
async fn both<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) -> (T, T) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut one, mut other) = (None, None);
    poll_fn(|context| {
        if one.is_none()
            && let Poll::Ready(value) = first.as_mut().poll(context)
        {
            one = Some(value);
        }
        if other.is_none()
            && let Poll::Ready(value) = second.as_mut().poll(context)
        {
            other = Some(value);
        }
        match (one.take(), other.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            pending => {
                (one, other) = pending;
                Poll::Pending
            }
        }
    })
    .await
}

/// Topics of the vectors that are like those of texts.
const TOPICS: usize = 200;
/// Vectors that share a document.
const VECTORS_OF_A_DOCUMENT: usize = 40;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// In [0, 1).
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Box and Muller's method.
    fn normal(&mut self) -> f64 {
        let (a, b) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    fn unit_vectors(&mut self, rows: usize, dim: usize) -> Vec<f32> {
        let mut all = Vec::with_capacity(rows * dim);
        for _ in 0..rows {
            let vector: Vec<f64> = (0..dim).map(|_| self.normal()).collect();
            let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
            all.extend(vector.into_iter().map(|value| (value / length) as f32));
        }
        all
    }

    /// Vectors as of texts, and as of questions to some of them. What all have in common makes up half of a text's squared
    /// length, its topic an eighth.
    fn texts(&mut self, rows: usize, questions: usize, dim: usize) -> (Vec<f32>, Vec<f32>) {
        let common = self.unit_vectors(1, dim);
        let topics = self.unit_vectors(TOPICS, dim);
        let mut all = Vec::with_capacity(rows * dim);
        let mut document = Vec::new();
        while all.len() < rows * dim {
            if all.len() % (VECTORS_OF_A_DOCUMENT * dim) == 0 {
                // Small topics are rare: the nth of 200 has a share that falls like the root of n.
                let topic = (self.uniform().powi(2) * TOPICS as f64) as usize;
                document = mixed(&[(1.2, &common), (0.6, &topics[topic * dim..(topic + 1) * dim])]);
                document = mixed(&[(1.0, &document), (0.5, &self.unit_vectors(1, dim))]);
            }
            let mut own = mixed(&[(1.0, &document), (0.5, &self.unit_vectors(1, dim))]);
            unit(&mut own);
            all.extend(own);
        }
        let mut asked = Vec::with_capacity(questions * dim);
        for _ in 0..questions {
            let at = (self.uniform() * rows as f64) as usize * dim;
            let mut own = mixed(&[(1.0, &all[at..at + dim]), (0.6, &self.unit_vectors(1, dim))]);
            unit(&mut own);
            asked.extend(own);
        }
        (all, asked)
    }

    /// Words of two Han characters, the nth as frequent as 1/n.
    fn text(&mut self, words: usize) -> String {
        let mut text = String::with_capacity(words * 6);
        for _ in 0..words {
            let rank = LEXICON.powf(self.uniform()) as u32;
            let first = char::from_u32(0x4e00 + rank * 7 % 3_000).unwrap_or('字');
            let second = char::from_u32(0x4e00 + rank * 13 % 3_001).unwrap_or('字');
            text.extend([first, second]);
        }
        text
    }
}

fn mixed(parts: &[(f32, &[f32])]) -> Vec<f32> {
    let mut sum = vec![0.0; parts.first().map_or(0, |(_, part)| part.len())];
    for (share, part) in parts {
        sum.iter_mut().zip(*part).for_each(|(sum, value)| *sum += share * value);
    }
    sum
}

fn unit(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|value| *value /= length);
}

/// Bytes that SQLite holds in this process: pages in the caches of all connections, statements, rows on their way.
#[expect(unsafe_code, reason = "rusqlite has no call for this")]
pub fn database_bytes() -> u64 {
    // SAFETY: SQLite reads a counter of its own, under its own lock.
    let bytes = unsafe { rusqlite::ffi::sqlite3_memory_used() };
    u64::try_from(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_small_run_gives_every_figure_and_full_recall() {
        let dir = tempfile::tempdir().unwrap();
        let size = SearchBench { rows: 600, topics: true, dim: 16, queries: 5, chunks: 250 };
        let figures = search(dir.path(), size).await.unwrap();
        let names: Vec<&str> = figures.iter().map(|figure| figure.name).collect();
        assert!(names.contains(&"vector searches, two at a time") && names.len() >= 11, "{names:?}");
        assert!(figures.iter().all(|figure| figure.value > 0.0), "{figures:?}");
        let recall = figures.iter().find(|figure| figure.name.contains("recall")).unwrap();
        assert!((recall.value - 1.0).abs() < f64::EPSILON);
    }
}
