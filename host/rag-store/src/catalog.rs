//! The catalogue port: which step of which transaction answers each call.
//!
//! The steps themselves stand in the modules below, one kind of thing in each.

mod chunks;
mod conversations;
mod curation;
mod documents;
mod evaluations;
mod generations;
mod generations_port;
mod imports;
mod indexes;
mod jobs;
mod kbs;
mod queue;
mod records;
mod retire;
mod swap_report;
mod turns;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod curation_tests;
#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod generations_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod records_tests;
#[cfg(test)]
mod swap_crash_tests;
#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;
use rag_core::Result;
use rag_core::document::{BlobHash, Chunk, ChunkId, DocumentId, ParsedSummary};
use rag_core::kb::{Embedded, Kb, KbName, KbSettings};
use rag_core::ports::{
    Catalog, DocumentInfo, Job, JobId, JobKind, JobState, KbImport, NewDocument, Opened, Progress, Stored,
    VectorGarbage,
};
use rag_core::search::{Filter, Hit, Passage, Turn};
use rusqlite::Transaction;

use crate::fault::Step;
use crate::store::Store;
use crate::{blobs, words};

pub(crate) use conversations::delete_of as delete_conversations_of;
pub(crate) use kbs::{any_row_of as any_kb_row, row_of as kb_row};
pub(crate) use retire::blob_is_used;

/// Puts right what a dead process left behind: runs once, when the store is opened.
pub(crate) fn recover(transaction: &Transaction<'_>) -> Step<()> {
    imports::break_off(transaction)?;
    jobs::requeue_running(transaction)?;
    retire::abandon_all_pending(transaction)?;
    retire::release_taken_garbage(transaction)
}

#[async_trait]
impl Catalog for Store {
    async fn create_kb(&self, name: &KbName, settings: &KbSettings) -> Result<Kb> {
        let (name, settings) = (name.clone(), settings.clone());
        self.grow(move |transaction| kbs::create(transaction, &name, &settings)).await
    }

    async fn kb(&self, name: &KbName) -> Result<Kb> {
        let name = name.clone();
        self.read(move |connection| kbs::get(connection, &name)).await
    }

    async fn kbs(&self) -> Result<Vec<Kb>> {
        self.read(kbs::all).await
    }

    async fn begin_import(&self, name: &KbName, settings: &KbSettings) -> Result<Kb> {
        let (name, settings) = (name.clone(), settings.clone());
        self.grow(move |transaction| imports::begin(transaction, &name, &settings)).await
    }

    async fn end_import(&self, name: &KbName) -> Result<Kb> {
        let name = name.clone();
        self.write(move |transaction| imports::end(transaction, &name)).await
    }

    async fn imports(&self) -> Result<Vec<KbImport>> {
        self.read(imports::all).await
    }

    async fn update_kb(&self, name: &KbName, settings: &KbSettings) -> Result<Kb> {
        let (name, settings) = (name.clone(), settings.clone());
        self.write(move |transaction| kbs::update(transaction, &name, &settings)).await
    }

    async fn set_embedder(&self, name: &KbName, collection: &str, embedder: &Embedded) -> Result<()> {
        let (name, collection, embedder) = (name.clone(), collection.to_owned(), embedder.clone());
        self.write(move |transaction| kbs::set_embedder(transaction, &name, &collection, &embedder)).await
    }

    async fn delete_kb(&self, name: &KbName) -> Result<Vec<BlobHash>> {
        let name = name.clone();
        let cache = self.vector_cache.clone();
        self.with_writer(move |writer| {
            let (unused, collections) = writer.transact(|transaction| kbs::delete(transaction, &name))?;
            writer.erased();
            cache.forget(&collections);
            Ok(unused)
        })
        .await
    }

    async fn open_document(&self, document: &NewDocument) -> Result<Opened> {
        let document = document.clone();
        self.grow(move |transaction| documents::open(transaction, &document)).await
    }

    async fn put_section(
        &self,
        id: &DocumentId,
        text_start: u64,
        text: &str,
        chunks: &[Chunk],
    ) -> Result<()> {
        let (id, text, chunks) = (id.clone(), text.to_owned(), chunks.to_vec());
        self.grow(move |transaction| chunks::put_section(transaction, &id, text_start, &text, &chunks)).await
    }

    async fn commit_document(
        &self,
        id: &DocumentId,
        summary: &ParsedSummary,
        job: &JobId,
    ) -> Result<Vec<BlobHash>> {
        let (id, summary, job) = (id.clone(), summary.clone(), job.clone());
        self.with_writer(move |writer| {
            writer.folder.check_room()?;
            let (unused, replaced) =
                writer.transact(|transaction| documents::commit(transaction, &id, &summary, &job))?;
            if replaced {
                writer.erased();
            }
            Ok(unused)
        })
        .await
    }

    async fn delete_document(&self, id: &DocumentId) -> Result<Vec<BlobHash>> {
        let id = id.clone();
        self.erase(move |transaction| retire::delete_document(transaction, &id)).await
    }

    async fn delete_chunk(&self, id: &ChunkId) -> Result<()> {
        let id = id.clone();
        self.erase(move |transaction| retire::delete_chunk(transaction, &id)).await
    }

    async fn document(&self, id: &DocumentId) -> Result<DocumentInfo> {
        let id = id.clone();
        self.read(move |connection| documents::get(connection, &id)).await
    }

    async fn documents(&self, kb: &KbName, after: Option<&str>, limit: u32) -> Result<Vec<DocumentInfo>> {
        let (kb, after) = (kb.clone(), after.map(str::to_owned));
        self.read(move |connection| documents::list(connection, &kb, after.as_deref(), limit)).await
    }

    async fn document_text(&self, id: &DocumentId, start: u64, end: u64) -> Result<String> {
        let id = id.clone();
        self.read(move |connection| documents::text(connection, &id, start, end)).await
    }

    async fn chunks(
        &self,
        document: &DocumentId,
        after_ordinal: Option<u32>,
        limit: u32,
    ) -> Result<Vec<Stored>> {
        let document = document.clone();
        self.read(move |connection| chunks::list(connection, &document, after_ordinal, limit)).await
    }

    async fn vector_garbage(&self, kb: &KbName, limit: u32) -> Result<Option<VectorGarbage>> {
        let kb = kb.clone();
        self.write(move |transaction| retire::take_garbage(transaction, &kb, limit)).await
    }

    async fn forget_vectors(&self, garbage: &VectorGarbage) -> Result<()> {
        let garbage = garbage.clone();
        self.write(move |transaction| retire::forget(transaction, &garbage)).await
    }

    async fn passages(&self, kb: &KbName, chunks: &[ChunkId]) -> Result<Vec<Passage>> {
        let (kb, ids) = (kb.clone(), chunks.to_vec());
        self.read(move |connection| chunks::passages(connection, &kb, &ids)).await
    }

    async fn lexical(
        &self,
        kb: &KbName,
        collection: &str,
        query: &str,
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Hit>> {
        let (kb, collection, query) = (kb.clone(), collection.to_owned(), query.to_owned());
        let filter = filter.cloned();
        self.read(move |connection| {
            words::search::lexical(connection, &kb, &collection, &query, k, filter.as_ref())
        })
        .await
    }

    async fn enqueue(&self, kb: &KbName, kind: &JobKind) -> Result<Job> {
        let (kb, kind) = (kb.clone(), kind.clone());
        let config = self.config.clone();
        self.grow(move |transaction| {
            if let JobKind::Ingest(source) = &kind {
                blobs::must_exist(&config.dir, &source.blob)?;
            }
            jobs::enqueue(transaction, &kb, &kind, &config)
        })
        .await
    }

    async fn begin(&self, kb: &KbName, kind: &JobKind) -> Result<Job> {
        let (kb, kind) = (kb.clone(), kind.clone());
        let config = self.config.clone();
        self.grow(move |transaction| {
            if let JobKind::Ingest(source) = &kind {
                blobs::must_exist(&config.dir, &source.blob)?;
            }
            let queued = jobs::enqueue(transaction, &kb, &kind, &config)?;
            jobs::start(transaction, &queued.id)
        })
        .await
    }

    async fn claim(&self) -> Result<Option<Job>> {
        let turn = self.index_turn.load(Relaxed);
        let job = self.write(move |transaction| jobs::claim(transaction, turn)).await?;
        if let Some(job) = &job {
            self.index_turn.store(!matches!(job.kind, JobKind::Reindex(_)), Relaxed);
        }
        Ok(job)
    }

    async fn upcoming(&self) -> Result<Option<Job>> {
        self.read(jobs::upcoming).await
    }

    async fn progress(&self, id: &JobId, progress: Progress) -> Result<()> {
        let id = id.clone();
        self.write(move |transaction| jobs::progress(transaction, &id, progress)).await
    }

    async fn finish(&self, id: &JobId, state: &JobState) -> Result<()> {
        let (id, state) = (id.clone(), state.clone());
        self.write(move |transaction| jobs::finish(transaction, &id, &state)).await
    }

    async fn job(&self, id: &JobId) -> Result<Job> {
        let id = id.clone();
        self.read(move |connection| jobs::get(connection, &id)).await
    }

    async fn jobs(&self, kb: Option<&KbName>, limit: u32) -> Result<Vec<Job>> {
        let kb = kb.cloned();
        self.read(move |connection| jobs::list(connection, kb.as_ref(), limit)).await
    }

    async fn append_turn(&self, conversation: &str, kb: &KbName, turn: &Turn) -> Result<()> {
        let (conversation, kb, turn) = (conversation.to_owned(), kb.clone(), turn.clone());
        self.grow(move |transaction| turns::append(transaction, &conversation, &kb, &turn)).await
    }

    async fn turns(&self, conversation: &str, rounds: usize) -> Result<Vec<Turn>> {
        let conversation = conversation.to_owned();
        self.read(move |connection| turns::last(connection, &conversation, rounds)).await
    }
}
