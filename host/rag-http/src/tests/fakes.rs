//! Ports in memory, small enough to be seen to be right.

mod generations;
mod models;
mod parts;
mod people;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use rag_core::document::{
    BlobHash, Block, BlockKind, Chunk, ChunkId, ChunkSpan, DocumentId, Location, ParsedSummary, Section,
    Vectors,
};
use rag_core::kb::{Embedded, Kb, KbName, KbSettings, PluginChoice};
use rag_core::ports::*;
use rag_core::search::{
    Evidence, Filter, Hit, Passage, RankedChunk, Retrieval, RetrieveRequest, TraceStep, Turn,
};
use rag_core::{Error, Result};
use sha2::{Digest, Sha256};

pub(crate) use parts::{Models, Plugins};

/// Everything that is kept, and what a test ordered to go wrong.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) kbs: BTreeMap<KbName, Kb>,
    pub(crate) documents: BTreeMap<DocumentId, DocumentInfo>,
    pub(crate) texts: BTreeMap<DocumentId, String>,
    pub(crate) chunks: Vec<(DocumentId, Chunk)>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) turns: Vec<(String, Turn)>,
    pub(crate) blobs: BTreeMap<BlobHash, Bytes>,
    pub(crate) keys: Vec<(String, Principal)>,
    pub(crate) conversations: Vec<records::KeptConversation>,
    /// Disabled chunks.
    pub(crate) disabled: BTreeSet<ChunkId>,
    /// Each with its password.
    pub(crate) users: Vec<(User, String)>,
    pub(crate) models: Vec<ModelEntry>,
    pub(crate) chosen_model: Option<String>,
    pub(crate) pulls: Vec<Pull>,
    pub(crate) audit: Vec<AuditEntry>,
    pub(crate) sets: Vec<(QuestionSet, Vec<Question>)>,
    pub(crate) runs: Vec<(Run, Vec<Outcome>)>,
    pub(crate) swaps: Vec<Generation>,
    /// Files of the server, by path below the root `papers`.
    pub(crate) files: BTreeMap<String, String>,
    /// Passages that were embedded.
    pub(crate) embedded: usize,
    /// Every call of the catalogue fails with this.
    pub(crate) broken: Option<Error>,
}

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) kept: Mutex<Kept>,
    /// Uploads and generations that were begun and not yet dropped.
    pub(crate) writers: Arc<AtomicUsize>,
    pub(crate) generations: Arc<AtomicUsize>,
    pub(crate) prompts: Mutex<Vec<GenerateRequest>>,
    /// The catalogue panics.
    pub(crate) panics: AtomicBool,
}

impl Fake {
    pub(crate) fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    fn catalog(&self) -> Result<std::sync::MutexGuard<'_, Kept>> {
        assert!(!self.panics.load(Ordering::SeqCst), "a secret assertion");
        let kept = self.kept();
        match &kept.broken {
            Some(error) => Err(error.clone()),
            None => Ok(kept),
        }
    }
}

fn missing(what: &'static str, name: &str) -> Error {
    Error::NotFound { what, name: name.to_owned() }
}

pub(crate) fn info(id: &str) -> PluginInfo {
    PluginInfo {
        id: id.into(),
        version: "0.1.0".into(),
        description: format!("about {id}"),
        digest: "00".into(),
    }
}

#[async_trait]
impl Catalog for Fake {
    async fn create_kb(&self, name: &KbName, settings: &KbSettings) -> Result<Kb> {
        let mut kept = self.catalog()?;
        if kept.kbs.contains_key(name) {
            return Err(Error::Conflict { message: format!("knowledge base '{name}' exists already") });
        }
        let kb = Kb {
            name: name.clone(),
            settings: settings.clone(),
            collection: format!("{name}-g1"),
            generation: 1,
            embedder: None,
            created_ms: 1_700_000_000_000,
            documents: 0,
            chunks: 0,
        };
        kept.kbs.insert(name.clone(), kb.clone());
        Ok(kb)
    }
    async fn begin_import(&self, name: &KbName, settings: &KbSettings) -> Result<Kb> {
        self.create_kb(name, settings).await
    }
    async fn end_import(&self, name: &KbName) -> Result<Kb> {
        self.kb(name).await
    }
    async fn imports(&self) -> Result<Vec<KbImport>> {
        Ok(Vec::new())
    }
    async fn kb(&self, name: &KbName) -> Result<Kb> {
        self.catalog()?.kbs.get(name).cloned().ok_or_else(|| missing("knowledge base", name.as_str()))
    }
    async fn kbs(&self) -> Result<Vec<Kb>> {
        Ok(self.catalog()?.kbs.values().cloned().collect())
    }
    async fn update_kb(&self, name: &KbName, settings: &KbSettings) -> Result<Kb> {
        let mut kept = self.catalog()?;
        let kb = kept.kbs.get_mut(name).ok_or_else(|| missing("knowledge base", name.as_str()))?;
        // Its plugins change with a generation.
        kb.settings = settings.clone().with_parts(kb.settings.parts());
        Ok(kb.clone())
    }
    async fn set_embedder(&self, name: &KbName, _: &str, embedder: &Embedded) -> Result<()> {
        if let Some(kb) = self.catalog()?.kbs.get_mut(name) {
            kb.embedder = Some(embedder.clone());
        }
        Ok(())
    }
    async fn delete_kb(&self, name: &KbName) -> Result<Vec<BlobHash>> {
        let mut kept = self.catalog()?;
        kept.kbs.remove(name);
        kept.documents.retain(|_, document| document.kb != *name);
        Ok(Vec::new())
    }
    async fn open_document(&self, document: &NewDocument) -> Result<Opened> {
        let mut kept = self.catalog()?;
        if kept.documents.get(&document.id).is_some_and(|found| found.state == DocumentState::Ready) {
            if let (Some(folder), Some(found)) = (&document.folder, kept.documents.get_mut(&document.id)) {
                found.folder = Some(folder.clone());
            }
            return Ok(Opened::Unchanged);
        }
        let info = DocumentInfo {
            id: document.id.clone(),
            kb: document.kb.clone(),
            name: document.name.clone(),
            title: None,
            language: None,
            blob: document.blob.clone(),
            size: document.size,
            media_type: document.media_type.clone(),
            state: DocumentState::Pending,
            chunks: 0,
            text_bytes: 0,
            disabled: false,
            attributes: Vec::new(),
            metadata: Vec::new(),
            folder: document.folder.clone(),
            pipeline: document.pipeline.clone(),
            created_ms: 1_700_000_000_000,
        };
        kept.documents.insert(document.id.clone(), info);
        Ok(Opened::Fresh)
    }
    async fn put_section(&self, id: &DocumentId, _: u64, text: &str, chunks: &[Chunk]) -> Result<()> {
        let mut kept = self.catalog()?;
        kept.texts.entry(id.clone()).or_default().push_str(text);
        kept.chunks.extend(chunks.iter().map(|chunk| (id.clone(), chunk.clone())));
        Ok(())
    }
    async fn commit_document(
        &self,
        id: &DocumentId,
        summary: &ParsedSummary,
        job: &JobId,
    ) -> Result<Vec<BlobHash>> {
        let mut guard = self.catalog()?;
        let kept = &mut *guard;
        let document = kept.documents.get_mut(id).ok_or_else(|| missing("document", &id.0))?;
        document.state = DocumentState::Ready;
        document.title = summary.title.clone();
        document.chunks = kept.chunks.iter().filter(|(owner, _)| owner == id).count() as u64;
        document.text_bytes = kept.texts.get(id).map_or(0, |text| text.len() as u64);
        let (kb, chunks, name) = (document.kb.clone(), document.chunks, document.name.clone());
        kept.documents.retain(|other, found| other == id || found.kb != kb || found.name != name);
        if let Some(kb) = kept.kbs.get_mut(&kb) {
            kb.documents += 1;
            kb.chunks += chunks;
        }
        if let Some(job) = kept.jobs.iter_mut().find(|found| found.id == *job) {
            job.state = JobState::Done { document: Some(id.clone()), unchanged: false };
        }
        Ok(Vec::new())
    }
    async fn delete_document(&self, id: &DocumentId) -> Result<Vec<BlobHash>> {
        let mut kept = self.catalog()?;
        kept.chunks.retain(|(owner, _)| owner != id);
        let gone = kept.documents.remove(id);
        Ok(gone.filter(|gone| gone.state == DocumentState::Ready).map(|gone| gone.blob).into_iter().collect())
    }
    async fn delete_chunk(&self, id: &ChunkId) -> Result<()> {
        self.catalog()?.chunks.retain(|(_, chunk)| chunk.id != *id);
        Ok(())
    }
    async fn document(&self, id: &DocumentId) -> Result<DocumentInfo> {
        self.catalog()?.documents.get(id).cloned().ok_or_else(|| missing("document", &id.0))
    }
    async fn documents(&self, kb: &KbName, after: Option<&str>, limit: u32) -> Result<Vec<DocumentInfo>> {
        let kept = self.catalog()?;
        let mut found: Vec<_> = kept.documents.values().filter(|found| found.kb == *kb).cloned().collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.retain(|found| after.is_none_or(|after| found.name.as_str() > after));
        found.truncate(limit as usize);
        Ok(found)
    }
    async fn document_text(&self, id: &DocumentId, start: u64, end: u64) -> Result<String> {
        let kept = self.catalog()?;
        let text = kept.texts.get(id).cloned().unwrap_or_default();
        let (mut start, mut end) = (start as usize, end as usize);
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        while !text.is_char_boundary(end) {
            end += 1;
        }
        Ok(text[start..end].to_owned())
    }
    async fn chunks(&self, document: &DocumentId, after: Option<u32>, limit: u32) -> Result<Vec<Stored>> {
        let kept = self.catalog()?;
        let own = kept.chunks.iter().filter(|(owner, _)| owner == document);
        let rest = own.filter(|(_, chunk)| after.is_none_or(|after| chunk.ordinal > after));
        let stored = rest.map(|(owner, chunk)| Stored {
            chunk: chunk.clone(),
            document: owner.clone(),
            disabled: kept.disabled.contains(&chunk.id),
            edited: chunk.span.end - chunk.span.start != chunk.text.len() as u64,
        });
        Ok(stored.take(limit as usize).collect())
    }
    async fn vector_garbage(&self, _: &KbName, _: u32) -> Result<Option<VectorGarbage>> {
        Ok(None)
    }
    async fn forget_vectors(&self, _: &VectorGarbage) -> Result<()> {
        Ok(())
    }
    async fn passages(&self, kb: &KbName, chunks: &[ChunkId]) -> Result<Vec<Passage>> {
        let kept = self.catalog()?;
        let found = chunks.iter().filter_map(|id| {
            let (owner, chunk) = kept.chunks.iter().find(|(_, chunk)| chunk.id == *id)?;
            let document = kept.documents.get(owner).filter(|document| document.kb == *kb)?;
            if document.disabled || kept.disabled.contains(id) {
                return None;
            }
            Some(Passage {
                chunk: chunk.id.clone(),
                document: owner.clone(),
                document_name: document.name.clone(),
                text: chunk.text.clone(),
                span: chunk.span,
                parent: None,
                heading: chunk.heading.clone(),
                page: chunk.page,
                source: None,
            })
        });
        Ok(found.collect())
    }
    async fn lexical(&self, _: &KbName, _: &str, _: &str, _: u32, _: Option<&Filter>) -> Result<Vec<Hit>> {
        Ok(Vec::new())
    }
    async fn enqueue(&self, kb: &KbName, kind: &JobKind) -> Result<Job> {
        let mut kept = self.catalog()?;
        let job = Job {
            id: JobId(format!("job{:04}", kept.jobs.len())),
            kb: kb.clone(),
            kind: kind.clone(),
            state: JobState::Queued,
            progress: Progress { stage: Stage::Queued, done: 0, total: 0, percent: 0 },
            priority: 0,
            attempts: 0,
            reason: None,
            not_before_ms: None,
            started_ms: None,
            created_ms: 1_700_000_000_000,
            updated_ms: 1_700_000_000_000,
        };
        kept.jobs.push(job.clone());
        Ok(job)
    }
    async fn begin(&self, kb: &KbName, kind: &JobKind) -> Result<Job> {
        let job = self.enqueue(kb, kind).await?;
        self.finish(&job.id, &JobState::Running).await?;
        self.job(&job.id).await
    }

    async fn claim(&self) -> Result<Option<Job>> {
        let mut kept = self.catalog()?;
        let queued = kept.jobs.iter_mut().find(|job| job.state == JobState::Queued);
        Ok(queued.map(|job| {
            job.state = JobState::Running;
            job.clone()
        }))
    }
    async fn upcoming(&self) -> Result<Option<Job>> {
        Ok(self.catalog()?.jobs.iter().find(|job| job.state == JobState::Queued).cloned())
    }
    async fn progress(&self, id: &JobId, progress: Progress) -> Result<()> {
        if let Some(job) = self.catalog()?.jobs.iter_mut().find(|job| job.id == *id) {
            job.progress = progress;
        }
        Ok(())
    }
    async fn finish(&self, id: &JobId, state: &JobState) -> Result<()> {
        if let Some(job) = self.catalog()?.jobs.iter_mut().find(|job| job.id == *id) {
            job.state = state.clone();
        }
        Ok(())
    }
    async fn job(&self, id: &JobId) -> Result<Job> {
        let kept = self.catalog()?;
        kept.jobs.iter().find(|job| job.id == *id).cloned().ok_or_else(|| missing("job", &id.0))
    }
    async fn jobs(&self, kb: Option<&KbName>, limit: u32) -> Result<Vec<Job>> {
        let kept = self.catalog()?;
        let found = kept.jobs.iter().rev().filter(|job| kb.is_none_or(|kb| job.kb == *kb));
        Ok(found.take(limit as usize).cloned().collect())
    }
    async fn append_turn(&self, conversation: &str, _: &KbName, turn: &Turn) -> Result<()> {
        self.catalog()?.turns.push((conversation.to_owned(), turn.clone()));
        Ok(())
    }
    async fn turns(&self, conversation: &str, rounds: usize) -> Result<Vec<Turn>> {
        let kept = self.catalog()?;
        let own: Vec<_> = kept.turns.iter().filter(|(name, _)| name == conversation).collect();
        Ok(own.iter().rev().take(rounds).rev().map(|(_, turn)| turn.clone()).collect())
    }
}

/// Counts as open until it is dropped, whatever became of it.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Open(counter.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The blob store: content by hash.
pub(crate) struct Blobs(pub(crate) Arc<Fake>);

struct Writer {
    store: Arc<Fake>,
    bytes: Vec<u8>,
    _open: Open,
}

struct Original {
    bytes: Bytes,
    name: String,
    media_type: String,
}

#[async_trait]
impl BlobStore for Blobs {
    async fn create(&self) -> Result<Box<dyn BlobWriter>> {
        Ok(Box::new(Writer { store: self.0.clone(), bytes: Vec::new(), _open: Open::new(&self.0.writers) }))
    }
    async fn open(&self, hash: &BlobHash, name: &str, media_type: &str) -> Result<Arc<dyn Blob>> {
        let bytes = self.0.kept().blobs.get(hash).cloned().ok_or_else(|| missing("original", &hash.0))?;
        Ok(Arc::new(Original { bytes, name: name.to_owned(), media_type: media_type.to_owned() }))
    }
    async fn remove(&self, hash: &BlobHash) -> Result<()> {
        self.0.kept().blobs.remove(hash);
        Ok(())
    }
}

#[async_trait]
impl BlobWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }
    async fn finish(self: Box<Self>) -> Result<(BlobHash, u64)> {
        let hash = BlobHash(Sha256::digest(&self.bytes).iter().map(|byte| format!("{byte:02x}")).collect());
        let size = self.bytes.len() as u64;
        self.store.kept().blobs.insert(hash.clone(), self.bytes.into());
        Ok((hash, size))
    }
}

#[async_trait]
impl Blob for Original {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn media_type(&self) -> &str {
        &self.media_type
    }
    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes> {
        let start = (offset as usize).min(self.bytes.len());
        let end = (start + len as usize).min(self.bytes.len());
        Ok(self.bytes.slice(start..end))
    }
}

#[async_trait]
impl Keys for Fake {
    async fn create(&self, name: &str, role: Role, kbs: Option<&[KbName]>) -> Result<(String, Principal)> {
        let mut kept = self.kept();
        let key_id = format!("k{}", kept.keys.len());
        let principal = Principal {
            key_id,
            name: name.to_owned(),
            rights: Rights { role, kbs: kbs.map(<[_]>::to_vec), of_kbs: Vec::new() },
            created_ms: 1,
        };
        let secret = format!("secret-{name}");
        kept.keys.push((secret.clone(), principal.clone()));
        Ok((secret, principal))
    }
    async fn verify(&self, secret: &str) -> Result<Option<Principal>> {
        Ok(self.kept().keys.iter().find(|(known, _)| known == secret).map(|(_, principal)| principal.clone()))
    }
    async fn list(&self) -> Result<Vec<Principal>> {
        Ok(self.kept().keys.iter().map(|(_, principal)| principal.clone()).collect())
    }
    async fn revoke(&self, key_id: &str) -> Result<()> {
        let mut kept = self.kept();
        let at = kept.keys.iter().position(|(_, principal)| principal.key_id == key_id);
        kept.keys.remove(at.ok_or_else(|| missing("key", key_id))?);
        Ok(())
    }
}
