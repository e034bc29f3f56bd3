//! The catalogue: knowledge bases, documents, chunks, jobs, conversations.
//!
//! A document is written in steps that survive a crash anywhere: `open_document` → any number of `put_section`
//! (chunks are *pending*: not found by any search) → vectors upserted → `commit_document` (one transaction makes the
//! chunks citable and retires the document's earlier version). What a crash leaves behind is listed by
//! `vector_garbage` until `forget_vectors` confirms that the vector store dropped it.

use std::fmt;

use async_trait::async_trait;

use crate::document::{BlobHash, Chunk, ChunkId, DocumentId, ParsedSummary};
use crate::error::Result;
use crate::kb::{Embedded, Kb, KbName, KbSettings, PluginChoice};
use crate::search::{Filter, Hit, Passage, Turn};

/// A job's id: opaque, sortable by creation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub String);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a job is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum JobKind {
    Ingest(IngestSource),
    DeleteDocument(DocumentId),
    /// Embeds a disabled document again and makes it searchable.
    EnableDocument(DocumentId),
    /// Tries a question set: the run of this id.
    Evaluate(String),
    /// Fills the index of a staged generation, by its number.
    Reindex(u64),
    /// Reads pages of the web and queues each as an ingest of its own.
    Crawl(CrawlOrder),
}

/// Which pages of the web to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrawlOrder {
    pub url: String,
    /// Links followed one after the other; 0 reads the one page.
    pub depth: u32,
    /// Pages saved at most.
    pub pages_max: u32,
    /// Whether it stays on the server of the first page.
    pub same_host: bool,
}

/// A file to ingest: stored already, so that a job needs nothing but the data folder.
#[derive(Debug, Clone, PartialEq)]
pub struct IngestSource {
    pub blob: BlobHash,
    pub size: u64,
    /// The document's name within its knowledge base; ingesting the same name again replaces it.
    pub name: String,
    pub media_type: String,
    /// Cuts this document instead of the knowledge base's chunker.
    pub chunker: Option<PluginChoice>,
    pub origin: Origin,
    /// What it holds, such as a mail's attachments, is queued already.
    pub alone: bool,
}

/// Where a document came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// Where it was found on the web.
    pub url: Option<String>,
    /// The folder that it is kept in step with, as whoever reads that folder calls it.
    pub folder: Option<String>,
}

/// Where an ingest stands; the order of the variants is the order of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    Queued,
    Parse,
    Chunk,
    Embed,
    Commit,
    Done,
}

/// How far a job is. `done` and `total` count units of the stage (bytes for parse, chunks else); total 0 is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub stage: Stage,
    pub done: u64,
    pub total: u64,
    /// Of the whole job, 0 to 100; never goes back.
    pub percent: u8,
}

/// A job's state. `Failed` and `Cancelled` jobs keep their source and can be queued again.
#[derive(Debug, Clone, PartialEq)]
pub enum JobState {
    Queued,
    /// Held back until somebody resumes it.
    Paused,
    Running,
    /// `unchanged` when the same document was there already.
    Done {
        document: Option<DocumentId>,
        unchanged: bool,
    },
    Failed {
        message: String,
    },
    Cancelled,
}

/// A job as the catalogue keeps it. Times are milliseconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub id: JobId,
    pub kb: KbName,
    pub kind: JobKind,
    pub state: JobState,
    pub progress: Progress,
    /// Higher runs earlier; 0 unless somebody changed it.
    pub priority: i32,
    /// Tries that failed for a reason that may pass.
    pub attempts: u32,
    /// Why the last of them failed.
    pub reason: Option<String>,
    /// When the next try may begin.
    pub not_before_ms: Option<i64>,
    /// When the present or last try began.
    pub started_ms: Option<i64>,
    pub created_ms: i64,
    pub updated_ms: i64,
}

/// A knowledge base that is being made of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct KbImport {
    pub kb: Kb,
    /// Left by a process that died; to be deleted.
    pub broken: bool,
}

/// A document about to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDocument {
    pub id: DocumentId,
    pub kb: KbName,
    pub name: String,
    pub blob: BlobHash,
    pub size: u64,
    pub media_type: String,
    /// See `DocumentId::of`.
    pub pipeline: String,
    /// The collection that its vectors go to.
    pub collection: String,
    /// See `Origin::folder`.
    pub folder: Option<String>,
}

/// What `open_document` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// The same document is committed: nothing to do. A folder that is named now is its folder from now on.
    Unchanged,
    /// Write it; chunks of an unfinished attempt are gone from the catalogue (their vectors are garbage unless the
    /// same chunk ids are written again).
    Fresh,
}

/// How a document stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentState {
    Pending,
    Ready,
    Deleting,
}

/// A document as the catalogue keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentInfo {
    pub id: DocumentId,
    pub kb: KbName,
    pub name: String,
    pub title: Option<String>,
    pub language: Option<String>,
    pub blob: BlobHash,
    pub size: u64,
    pub media_type: String,
    pub state: DocumentState,
    pub chunks: u64,
    /// Bytes of its text.
    pub text_bytes: u64,
    /// Out of every search until it is enabled.
    pub disabled: bool,
    /// What the parser found, e.g. the author.
    pub attributes: Vec<(String, String)>,
    /// What people noted.
    pub metadata: Vec<(String, String)>,
    /// See `Origin::folder`.
    pub folder: Option<String>,
    /// See `DocumentId::of`.
    pub pipeline: String,
    pub created_ms: i64,
}

/// A chunk as listed for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub chunk: Chunk,
    pub document: DocumentId,
    /// Out of every search until it is enabled.
    pub disabled: bool,
    /// Its text is no longer that of the document.
    pub edited: bool,
}

/// Vectors that no committed chunk refers to, by collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorGarbage {
    pub collection: String,
    pub chunks: Vec<ChunkId>,
}

/// The catalogue. Implemented by `rag-store`; every method is one transaction.
#[async_trait]
pub trait Catalog: Send + Sync {
    // Knowledge bases.
    /// `Conflict` when the name is taken (ASCII case ignored).
    async fn create_kb(&self, name: &KbName, settings: &KbSettings) -> Result<Kb>;
    /// As `create_kb`, for one that is filled from a file: until `end_import` it is in no list, and `Conflict` for all
    /// that people ask of it. What an import calls works: `set_embedder`, `begin`, `open_document` and what follows it,
    /// garbage, indexes, the host's vectors, `delete_kb`.
    async fn begin_import(&self, name: &KbName, settings: &KbSettings) -> Result<Kb>;
    /// It is whole: a knowledge base like any other.
    async fn end_import(&self, name: &KbName) -> Result<Kb>;
    async fn imports(&self) -> Result<Vec<KbImport>>;
    async fn kb(&self, name: &KbName) -> Result<Kb>;
    async fn kbs(&self) -> Result<Vec<Kb>>;
    /// Changes how it answers; its plugins change only with a generation (`Generations`).
    async fn update_kb(&self, name: &KbName, settings: &KbSettings) -> Result<Kb>;
    /// Records what an index's vectors are; `Conflict` when it holds others. One without documents may change.
    async fn set_embedder(&self, name: &KbName, collection: &str, embedder: &Embedded) -> Result<()>;
    /// Removes the knowledge base with everything in it from the catalogue. Call after its collection was dropped.
    /// Returns originals that nothing refers to any more.
    async fn delete_kb(&self, name: &KbName) -> Result<Vec<BlobHash>>;

    // Documents, in the order in which an ingest calls them.
    async fn open_document(&self, document: &NewDocument) -> Result<Opened>;
    /// Appends a section's text and its pending chunks (ordinals continue). `text_start` is the section's first byte
    /// in the document's text; sections arrive in order.
    async fn put_section(&self, id: &DocumentId, text_start: u64, text: &str, chunks: &[Chunk])
    -> Result<()>;
    /// One transaction: chunks become citable and searchable by words, the earlier version of the same name in the
    /// same index goes, the job is done unless it fills an index. Returns originals that nothing refers to any more.
    async fn commit_document(
        &self,
        id: &DocumentId,
        summary: &ParsedSummary,
        job: &JobId,
    ) -> Result<Vec<BlobHash>>;
    /// Takes a document out of every search at once; its vectors become garbage. Returns originals that nothing
    /// refers to any more. Deleting twice is no error.
    async fn delete_document(&self, id: &DocumentId) -> Result<Vec<BlobHash>>;
    /// Likewise for one chunk; the document's other chunks and its text stay.
    async fn delete_chunk(&self, id: &ChunkId) -> Result<()>;
    async fn document(&self, id: &DocumentId) -> Result<DocumentInfo>;
    /// Ready documents by name after `after`, at most `limit`.
    async fn documents(&self, kb: &KbName, after: Option<&str>, limit: u32) -> Result<Vec<DocumentInfo>>;
    /// Bytes [start, end) of the document's text, widened to character boundaries.
    async fn document_text(&self, id: &DocumentId, start: u64, end: u64) -> Result<String>;
    async fn chunks(
        &self,
        document: &DocumentId,
        after_ordinal: Option<u32>,
        limit: u32,
    ) -> Result<Vec<Stored>>;
    /// Up to `limit` vectors to drop from stores, of one collection of one knowledge base.
    async fn vector_garbage(&self, kb: &KbName, limit: u32) -> Result<Option<VectorGarbage>>;
    /// The vector store confirmed that these are gone.
    async fn forget_vectors(&self, garbage: &VectorGarbage) -> Result<()>;

    // Search. Only committed chunks are ever found.
    async fn passages(&self, kb: &KbName, chunks: &[ChunkId]) -> Result<Vec<Passage>>;
    /// By words, in one index of the knowledge base; nothing is found in one that is gone.
    async fn lexical(
        &self,
        kb: &KbName,
        collection: &str,
        query: &str,
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Hit>>;

    // Jobs.
    /// `Busy` when the configured number of jobs waits already.
    async fn enqueue(&self, kb: &KbName, kind: &JobKind) -> Result<Job>;
    /// As `enqueue`, for a job that its caller does at once: it is running, and `claim` never gives it out.
    async fn begin(&self, kb: &KbName, kind: &JobKind) -> Result<Job>;
    /// Takes the oldest of the queued jobs with the highest priority whose wait is over, and marks it running; jobs
    /// left running by a dead process were queued again when the catalogue was opened. One that fills an index is taken
    /// before the others, but never twice in a row while others wait.
    async fn claim(&self) -> Result<Option<Job>>;
    /// The job that `claim` would take now, left in the queue; one that fills an index is passed over.
    async fn upcoming(&self) -> Result<Option<Job>>;
    async fn progress(&self, id: &JobId, progress: Progress) -> Result<()>;
    /// Ends a job in `Done`, `Failed` or `Cancelled`, taking out what it left pending; `Queued` reopens a failed or
    /// cancelled one. The first end stands.
    async fn finish(&self, id: &JobId, state: &JobState) -> Result<()>;
    async fn job(&self, id: &JobId) -> Result<Job>;
    /// Newest first.
    async fn jobs(&self, kb: Option<&KbName>, limit: u32) -> Result<Vec<Job>>;

    // Conversations.
    /// Appends a round to a conversation, creating it when new.
    async fn append_turn(&self, conversation: &str, kb: &KbName, turn: &Turn) -> Result<()>;
    /// The last `rounds` rounds, oldest first; empty for an unknown conversation.
    async fn turns(&self, conversation: &str, rounds: usize) -> Result<Vec<Turn>>;
}
