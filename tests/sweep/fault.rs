//! Ports that fail at the n-th call: before it took effect, or after.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use rag_core::document::{
    BlobHash, Block, Chunk, ChunkId, ChunkSpan, DocumentId, ParsedSummary, Section, Vectors,
};
use rag_core::kb::{Embedded, Kb, KbName, KbSettings};
use rag_core::ports::{
    Blob, BlobStore, BlobWriter, Catalog, DocumentInfo, Embed, Job, JobId, JobKind, JobState, KbImport,
    NewDocument, Opened, Parse, ParseSession, PluginInfo, Progress, Purpose, StoreBatch, Stored,
    VectorCollection, VectorGarbage, VectorStore,
};
use rag_core::search::{Filter, Hit, Passage, Turn};
use rag_core::{Error, Result};
use tokio::sync::Notify;

/// Counts calls and fails one of them. `dead` fails all that follow too, as when the process is gone.
#[derive(Debug, Default)]
pub struct Fault {
    pub calls: AtomicUsize,
    pub fail_at: AtomicUsize,
    pub dead: AtomicBool,
    /// Never comes back from the call instead of failing it, and tells so: who waits then drops everything, as a power
    /// cut would.
    pub freezes: AtomicBool,
    pub frozen: Notify,
}

impl Fault {
    /// Two places where a call may fail: before it, and after it took effect.
    pub async fn step<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.pass().await?;
        let value = call.await?;
        self.pass().await?;
        Ok(value)
    }

    async fn pass(&self) -> Result<()> {
        let next = self.calls.load(Ordering::Relaxed) + 1;
        if self.freezes.load(Ordering::Relaxed) && next == self.fail_at.load(Ordering::Relaxed) {
            self.calls.fetch_add(1, Ordering::Relaxed);
            self.frozen.notify_one();
            std::future::pending::<()>().await;
        }
        self.tick()
    }

    fn tick(&self) -> Result<()> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let fail_at = self.fail_at.load(Ordering::Relaxed);
        let dead = self.dead.load(Ordering::Relaxed) && call > fail_at;
        let freezes = self.freezes.load(Ordering::Relaxed);
        if fail_at > 0 && !freezes && (call == fail_at || dead) {
            return Err(Error::internal(format!("call {call} fails")));
        }
        Ok(())
    }
}

/// A port behind a fault.
pub struct Faulty<T: ?Sized> {
    pub inner: Arc<T>,
    pub fault: Arc<Fault>,
}

macro_rules! forward {
    ($self:ident . $method:ident ( $($argument:expr),* )) => {
        $self.fault.step($self.inner.$method($($argument),*)).await
    };
}

#[async_trait]
impl Catalog for Faulty<dyn Catalog> {
    async fn create_kb(&self, name: &KbName, settings: &KbSettings) -> Result<Kb> {
        forward!(self.create_kb(name, settings))
    }
    async fn begin_import(&self, name: &KbName, settings: &KbSettings) -> Result<Kb> {
        forward!(self.begin_import(name, settings))
    }
    async fn end_import(&self, name: &KbName) -> Result<Kb> {
        forward!(self.end_import(name))
    }
    async fn imports(&self) -> Result<Vec<KbImport>> {
        forward!(self.imports())
    }
    async fn kb(&self, name: &KbName) -> Result<Kb> {
        forward!(self.kb(name))
    }
    async fn kbs(&self) -> Result<Vec<Kb>> {
        forward!(self.kbs())
    }
    async fn update_kb(&self, name: &KbName, settings: &KbSettings) -> Result<Kb> {
        forward!(self.update_kb(name, settings))
    }
    async fn set_embedder(&self, name: &KbName, collection: &str, embedder: &Embedded) -> Result<()> {
        forward!(self.set_embedder(name, collection, embedder))
    }
    async fn delete_kb(&self, name: &KbName) -> Result<Vec<BlobHash>> {
        forward!(self.delete_kb(name))
    }
    async fn open_document(&self, document: &NewDocument) -> Result<Opened> {
        forward!(self.open_document(document))
    }
    async fn put_section(
        &self,
        id: &DocumentId,
        text_start: u64,
        text: &str,
        chunks: &[Chunk],
    ) -> Result<()> {
        forward!(self.put_section(id, text_start, text, chunks))
    }
    async fn commit_document(
        &self,
        id: &DocumentId,
        summary: &ParsedSummary,
        job: &JobId,
    ) -> Result<Vec<BlobHash>> {
        forward!(self.commit_document(id, summary, job))
    }
    async fn delete_document(&self, id: &DocumentId) -> Result<Vec<BlobHash>> {
        forward!(self.delete_document(id))
    }
    async fn delete_chunk(&self, id: &ChunkId) -> Result<()> {
        forward!(self.delete_chunk(id))
    }
    async fn document(&self, id: &DocumentId) -> Result<DocumentInfo> {
        forward!(self.document(id))
    }
    async fn documents(&self, kb: &KbName, after: Option<&str>, limit: u32) -> Result<Vec<DocumentInfo>> {
        forward!(self.documents(kb, after, limit))
    }
    async fn document_text(&self, id: &DocumentId, start: u64, end: u64) -> Result<String> {
        forward!(self.document_text(id, start, end))
    }
    async fn chunks(&self, document: &DocumentId, after: Option<u32>, limit: u32) -> Result<Vec<Stored>> {
        forward!(self.chunks(document, after, limit))
    }
    async fn vector_garbage(&self, kb: &KbName, limit: u32) -> Result<Option<VectorGarbage>> {
        forward!(self.vector_garbage(kb, limit))
    }
    async fn forget_vectors(&self, garbage: &VectorGarbage) -> Result<()> {
        forward!(self.forget_vectors(garbage))
    }
    async fn passages(&self, kb: &KbName, chunks: &[ChunkId]) -> Result<Vec<Passage>> {
        forward!(self.passages(kb, chunks))
    }
    async fn lexical(
        &self,
        kb: &KbName,
        collection: &str,
        query: &str,
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Hit>> {
        forward!(self.lexical(kb, collection, query, k, filter))
    }
    async fn enqueue(&self, kb: &KbName, kind: &JobKind) -> Result<Job> {
        forward!(self.enqueue(kb, kind))
    }
    async fn begin(&self, kb: &KbName, kind: &JobKind) -> Result<Job> {
        forward!(self.begin(kb, kind))
    }
    async fn claim(&self) -> Result<Option<Job>> {
        forward!(self.claim())
    }
    async fn upcoming(&self) -> Result<Option<Job>> {
        forward!(self.upcoming())
    }
    async fn progress(&self, id: &JobId, progress: Progress) -> Result<()> {
        forward!(self.progress(id, progress))
    }
    async fn finish(&self, id: &JobId, state: &JobState) -> Result<()> {
        forward!(self.finish(id, state))
    }
    async fn job(&self, id: &JobId) -> Result<Job> {
        forward!(self.job(id))
    }
    async fn jobs(&self, kb: Option<&KbName>, limit: u32) -> Result<Vec<Job>> {
        forward!(self.jobs(kb, limit))
    }
    async fn append_turn(&self, conversation: &str, kb: &KbName, turn: &Turn) -> Result<()> {
        forward!(self.append_turn(conversation, kb, turn))
    }
    async fn turns(&self, conversation: &str, rounds: usize) -> Result<Vec<Turn>> {
        forward!(self.turns(conversation, rounds))
    }
}

#[async_trait]
impl BlobStore for Faulty<dyn BlobStore> {
    async fn create(&self) -> Result<Box<dyn BlobWriter>> {
        forward!(self.create())
    }
    async fn open(&self, hash: &BlobHash, name: &str, media_type: &str) -> Result<Arc<dyn Blob>> {
        let inner = forward!(self.open(hash, name, media_type))?;
        Ok(Arc::new(Faulty { inner, fault: self.fault.clone() }))
    }
    async fn remove(&self, hash: &BlobHash) -> Result<()> {
        forward!(self.remove(hash))
    }
}

#[async_trait]
impl Blob for Faulty<dyn Blob> {
    fn size(&self) -> u64 {
        self.inner.size()
    }
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn media_type(&self) -> &str {
        self.inner.media_type()
    }
    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes> {
        forward!(self.read_at(offset, len))
    }
}

#[async_trait]
impl VectorStore for Faulty<dyn VectorStore> {
    fn info(&self) -> &PluginInfo {
        self.inner.info()
    }
    async fn create(&self, collection: &VectorCollection) -> Result<()> {
        forward!(self.create(collection))
    }
    async fn drop_collection(&self, name: &str) -> Result<()> {
        forward!(self.drop_collection(name))
    }
    async fn list(&self) -> Result<Vec<VectorCollection>> {
        forward!(self.list())
    }
    async fn count(&self, name: &str) -> Result<u64> {
        forward!(self.count(name))
    }
    async fn upsert(&self, name: &str, batch: StoreBatch) -> Result<()> {
        forward!(self.upsert(name, batch))
    }
    async fn delete(&self, name: &str, ids: &[ChunkId]) -> Result<()> {
        forward!(self.delete(name, ids))
    }
    async fn query(
        &self,
        name: &str,
        queries: &Vectors,
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        forward!(self.query(name, queries, k, filter))
    }
    async fn ping(&self) -> Result<String> {
        forward!(self.ping())
    }
}

#[async_trait]
impl Embed for Faulty<dyn Embed> {
    fn identity(&self) -> &str {
        self.inner.identity()
    }
    fn dim(&self) -> usize {
        self.inner.dim()
    }
    fn tokens_max(&self) -> usize {
        self.inner.tokens_max()
    }
    fn count_tokens(&self, texts: &[String]) -> Vec<u32> {
        self.inner.count_tokens(texts)
    }
    async fn embed(&self, texts: Vec<String>, purpose: Purpose) -> Result<Vectors> {
        forward!(self.embed(texts, purpose))
    }
}

#[async_trait]
impl rag_core::ports::Chunk for Faulty<dyn rag_core::ports::Chunk> {
    fn info(&self) -> &PluginInfo {
        self.inner.info()
    }
    async fn split(&self, section: Section) -> Result<Vec<ChunkSpan>> {
        forward!(self.split(section))
    }
}

#[async_trait]
impl Parse for Faulty<dyn Parse> {
    fn info(&self) -> &PluginInfo {
        self.inner.info()
    }
    fn accepts(&self) -> &[String] {
        self.inner.accepts()
    }
    async fn open(&self, blob: Arc<dyn Blob>) -> Result<Box<dyn ParseSession>> {
        let inner = forward!(self.open(blob))?;
        Ok(Box::new(FaultySession { inner, fault: self.fault.clone() }))
    }
}

struct FaultySession {
    inner: Box<dyn ParseSession>,
    fault: Arc<Fault>,
}

#[async_trait]
impl ParseSession for FaultySession {
    async fn next(&mut self, bytes_max: u32) -> Result<Option<Vec<Block>>> {
        self.fault.step(self.inner.next(bytes_max)).await
    }
    async fn summary(&mut self) -> Result<ParsedSummary> {
        self.fault.step(self.inner.summary()).await
    }
}
