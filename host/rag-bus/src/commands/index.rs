//! The index service: RWKV-RAG's collections are knowledge bases, each of its texts a document of one chunk.
//!
//! So what a Python client indexes is cited, listed and deleted like everything else, and a text that came twice is
//! there once. Vectors come with the request (RWKV-RAG since November 2024) or are computed here (before).

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use md5::{Digest, Md5};
use rag_core::document::{Chunk, ChunkId, DocumentId, ParsedSummary, Span, Vectors};
use rag_core::encoders::embedded;
use rag_core::kb::{Embedded, Kb, KbName};
use rag_core::ports::{
    Binding, IngestSource, Job, JobKind, JobState, NewDocument, Opened, Purpose, Site, StoreBatch,
    VectorCollection,
};
use rag_core::search::{Hit, Metric};
use rag_core::time::utc;
use rag_core::{Error, ErrorCode, Rag, Result};
use tokio::sync::Mutex;

use super::{optional_text, text, texts, unsupported, vectors};
use crate::envelope::Hello;
use crate::value::Value;
use crate::wire::Request;
use crate::worker::{Service, Sink};

/// Passages of an answer when the client names no number; RWKV-RAG's own number.
const NEAREST: u32 = 3;
const NEAREST_MAX: u32 = 100;
const MEDIA_TYPE: &str = "text/plain";

/// Answers from the knowledge bases of this process.
#[expect(missing_debug_implementations, reason = "its parts are other crates")]
pub struct IndexService {
    pub name: String,
    /// Requests taken at once.
    pub capacity: u32,
    pub rag: Arc<Rag>,
    /// The page and the HTTP API, for web roles; none refuses them.
    pub site: Option<Arc<dyn Site>>,
    /// For `INDEX_CONFIG`; nothing secret.
    pub config: Value,
    /// One text is written at a time, so that the same text twice at once is one document.
    pub writing: Mutex<()>,
}

#[async_trait]
impl Service for IndexService {
    fn hello(&self) -> Hello {
        Hello { service: "index".to_owned(), capacity: self.capacity, name: self.name.clone() }
    }

    async fn legacy(&self, request: Request) -> Result<Value> {
        match request.cmd.as_str() {
            "INDEX_CONFIG" => Ok(self.config.clone()),
            "INDEX_TEXTS" => self.index_texts(&request).await,
            "SEARCH_NEARBY" => self.search_nearby(&request).await,
            "SHOW_COLLECTIONS" => {
                let mut kbs = self.rag.catalog.kbs().await?;
                kbs.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(Value::Array(kbs.iter().map(shown).collect()))
            }
            "CREATE_COLLECTION" => {
                let name = text(&request, "collection_name")?;
                match self.rag.create_kb(name, None).await {
                    // RWKV-RAG gets or creates.
                    Err(error) if error.code() == ErrorCode::Conflict => Ok(true.into()),
                    created => created.map(|_| true.into()),
                }
            }
            "DELETE_COLLECTION" => {
                self.rag.delete_kb(text(&request, "collection_name")?).await?;
                Ok(true.into())
            }
            "HAS_COLLECTION" => match self.rag.kb(text(&request, "collection_name")?).await {
                Ok(_) => Ok(true.into()),
                Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidInput) => {
                    Ok(false.into())
                }
                Err(error) => Err(error),
            },
            _ => Err(unsupported()),
        }
    }

    async fn call(&self, operation: &str, arguments: &Value, sink: &mut Sink) -> Result<Value> {
        match (operation, &self.site) {
            (crate::site::HTTP, Some(site)) => crate::site::answer(site.as_ref(), arguments, sink).await,
            (crate::site::HTTP, None) => {
                Err(Error::Unsupported { message: "this process answers web roles by itself".to_owned() })
            }
            (other, _) => {
                Err(Error::Unsupported { message: format!("the index service has no operation '{other}'") })
            }
        }
    }
}

/// A text on its way into a knowledge base.
struct Text<'a> {
    key: &'a str,
    text: &'a str,
    vector: &'a [f32],
    /// Which model made the vector.
    embedder: &'a Embedded,
}

impl IndexService {
    /// The ids, where the client brought vectors; true, where it left them to us, as the older service answered.
    async fn index_texts(&self, request: &Request) -> Result<Value> {
        let texts = texts(request, "texts")?;
        if let Some(at) = texts.iter().position(|text| text.trim().is_empty()) {
            return Err(Error::invalid(format!("text {} is blank", at + 1)));
        }
        let keys = match request.field("keys") {
            None => texts.iter().map(|text| md5(text)).collect(),
            Some(_) => super::texts(request, "keys")?,
        };
        let binding = self.rag.binding(text(request, "collection_name")?).await?;
        let given = request.field("embeddings").is_some();
        let vectors = if given {
            vectors(request, "embeddings")?
        } else {
            binding.embedder.embed(texts.clone(), Purpose::Passage).await?
        };
        for (what, count) in [("keys", keys.len()), ("embeddings", vectors.rows())] {
            if count != texts.len() {
                return Err(Error::invalid(format!("{count} {what} for {} texts", texts.len())));
            }
        }
        // Vectors of the right length are taken for ours: RWKV-RAG's clients get them from the llm service.
        let embedder = if vectors.dim == binding.embedder.dim() {
            embedded(&*binding.embedder)
        } else {
            let identity = format!("vectors of clients, {} values", vectors.dim);
            Embedded { identity, dim: vectors.dim }
        };
        let _one_at_a_time = self.writing.lock().await;
        for ((key, text), vector) in keys.iter().zip(&texts).zip(vectors.iter()) {
            self.write(&binding, Text { key, text, vector, embedder: &embedder }).await?;
        }
        Ok(if given { Value::list(keys) } else { true.into() })
    }

    async fn write(&self, binding: &Binding, text: Text<'_>) -> Result<()> {
        let rag = &self.rag;
        let mut writer = rag.upload().await?;
        writer.write(Bytes::copy_from_slice(text.text.as_bytes())).await?;
        let (blob, size) = writer.finish().await?;
        let pipeline = format!("rwkv-rag {}", text.embedder.identity);
        let document = NewDocument {
            id: DocumentId::of(binding.kb.name.as_str(), text.key, &blob, &pipeline),
            kb: binding.kb.name.clone(),
            name: text.key.to_owned(),
            blob: blob.clone(),
            size,
            media_type: MEDIA_TYPE.to_owned(),
            pipeline,
            collection: binding.kb.collection.clone(),
            folder: None,
        };
        if rag.catalog.open_document(&document).await? == Opened::Unchanged {
            return Ok(());
        }
        rag.catalog.set_embedder(&binding.kb.name, &document.collection, text.embedder).await?;
        let source = IngestSource {
            blob,
            size,
            name: text.key.to_owned(),
            media_type: MEDIA_TYPE.to_owned(),
            chunker: None,
            origin: rag_core::ports::Origin::default(),
            alone: false,
        };
        let job = rag.catalog.begin(&binding.kb.name, &JobKind::Ingest(source)).await?;
        match self.commit(binding, &document, &text, &job).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let failed = JobState::Failed { message: error.to_string() };
                rag.catalog.finish(&job.id, &failed).await?;
                Err(error)
            }
        }
    }

    async fn commit(
        &self,
        binding: &Binding,
        document: &NewDocument,
        text: &Text<'_>,
        job: &Job,
    ) -> Result<()> {
        let rag = &self.rag;
        let dim = text.vector.len();
        let collection = VectorCollection { name: document.collection.clone(), dim, metric: Metric::Cosine };
        binding.store.create(&collection).await?;
        let span = Span { start: 0, end: text.text.len() as u64 };
        let chunk = Chunk {
            id: ChunkId::of(&document.id, 0, text.text),
            ordinal: 0,
            text: text.text.to_owned(),
            span,
            parent: None,
            context: None,
            heading: None,
            page: None,
            source: Some(span),
        };
        let batch = StoreBatch {
            ids: vec![chunk.id.clone()],
            vectors: Vectors { dim, data: text.vector.to_vec() },
            texts: vec![chunk.text.clone()],
            fields: vec![vec![
                ("document".to_owned(), rag_core::search::Value::Text(document.id.0.clone())),
                ("name".to_owned(), rag_core::search::Value::Text(document.name.clone())),
                ("ordinal".to_owned(), rag_core::search::Value::Integer(0)),
            ]],
        };
        rag.catalog.put_section(&document.id, 0, text.text, std::slice::from_ref(&chunk)).await?;
        binding.store.upsert(&document.collection, batch).await?;
        let unused = rag.catalog.commit_document(&document.id, &ParsedSummary::default(), &job.id).await?;
        for blob in unused {
            rag.blobs.remove(&blob).await?;
        }
        Ok(())
    }

    /// Texts alone for a client that sends `embeddings`; for one that sends `text`, ids, distances and documents as
    /// Chroma gives them.
    async fn search_nearby(&self, request: &Request) -> Result<Value> {
        let binding = self.rag.binding(text(request, "collection_name")?).await?;
        let k = super::whole(request, "n_results", NEAREST, 1..=NEAREST_MAX)?;
        let question = optional_text(request, "text")?;
        let query = match (request.field("embeddings"), question) {
            (Some(_), _) => vectors(request, "embeddings")?,
            (None, Some(question)) => {
                binding.embedder.embed(vec![question.to_owned()], Purpose::Query).await?
            }
            (None, None) => return Err(super::missing(request, "embeddings", "a vector, or 'text'")),
        };
        if query.rows() != 1 {
            return Err(Error::invalid(format!("a search takes one vector, not {}", query.rows())));
        }
        let found = self.nearest(&binding, &query, k).await?;
        if request.field("embeddings").is_some() {
            return Ok(Value::list(found.into_iter().map(|found| found.text)));
        }
        let column = |values: Vec<Value>| Value::Array(vec![Value::Array(values)]);
        Ok(Value::map([
            ("ids", column(found.iter().map(|found| found.name.as_str().into()).collect())),
            ("distances", column(found.iter().map(|found| (1.0 - found.score).into()).collect())),
            ("documents", column(found.iter().map(|found| found.text.as_str().into()).collect())),
            ("metadatas", column(found.iter().map(|_| Value::Nil).collect())),
            ("embeddings", Value::Nil),
        ]))
    }

    /// Best first; only what is committed.
    async fn nearest(&self, binding: &Binding, query: &Vectors, k: u32) -> Result<Vec<Found>> {
        let kb: &KbName = &binding.kb.name;
        let hits = match binding.store.query(&binding.kb.collection, query, k, None).await {
            Ok(rows) => rows.into_iter().next().unwrap_or_default(),
            // The first text creates the collection: before it there is nothing to find.
            Err(error) if error.code() == ErrorCode::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let ids: Vec<ChunkId> = hits.iter().map(|hit| hit.chunk.clone()).collect();
        let passages = self.rag.catalog.passages(kb, &ids).await?;
        let score =
            |id: &ChunkId| hits.iter().find(|hit: &&Hit| hit.chunk == *id).map_or(0.0, |hit| hit.score);
        Ok(passages
            .into_iter()
            .map(|passage| Found {
                score: score(&passage.chunk),
                name: passage.document_name,
                text: passage.text,
            })
            .collect())
    }
}

struct Found {
    name: String,
    text: String,
    score: f32,
}

/// The id of a text in RWKV-RAG since November 2024.
pub(super) fn md5(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `[name, metadata]`.
fn shown(kb: &Kb) -> Value {
    let metadata = Value::map([("hnsw:space", "cosine".into()), ("create_time", utc(kb.created_ms).into())]);
    Value::Array(vec![kb.name.as_str().into(), metadata])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_the_id_that_rwkv_rag_gives_it() {
        assert_eq!(md5("知识"), "6b80d642bb8048fba27816efd8b1bc7f");
        assert_eq!(md5("abc"), "900150983cd24fb0d6963f7d28e17f72");
    }
}
