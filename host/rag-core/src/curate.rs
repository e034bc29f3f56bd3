//! How a chunk is edited and what was disabled is enabled again: embedded first, searchable after.

use std::sync::Arc;

use crate::document::{Chunk, ChunkId, DocumentId};
use crate::error::{Error, ErrorCode, Result};
use crate::ingest::{embed_text, open_index, store_fields};
use crate::jobs::report;
use crate::kb::KbName;
use crate::limits;
use crate::ports::{
    Binding, DocumentInfo, Job, JobState, Purpose, Stage, StoreBatch, Stored, VectorCollection,
};
use crate::rag::Rag;
use crate::search::Metric;

/// Chunks read from the catalogue and embedded at once.
const BATCH: usize = limits::EMBED_BATCH;

/// Replaces a chunk's text. The document's text stays: citations then point at the whole place that the chunk was cut
/// from. Ingesting the document anew undoes it.
pub(crate) async fn edit_chunk(rag: &Rag, kb: &KbName, id: &ChunkId, text: &str) -> Result<Stored> {
    if text.trim().is_empty() || text.len() > limits::CHUNK_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a chunk's text has 1 to {} bytes and is not blank; delete the chunk instead",
            limits::CHUNK_BYTES_MAX
        )));
    }
    let old = rag.records.chunk(kb, id).await?;
    if old.chunk.text == text {
        return Ok(old);
    }
    let document = rag.catalog.document(&old.document).await?;
    let new = Chunk {
        id: ChunkId::of(&old.document, old.chunk.ordinal, text),
        text: text.to_owned(),
        ..old.chunk.clone()
    };
    let binding = rag.binding(kb.as_str()).await?;
    let searchable = !old.disabled && !document.disabled;
    if searchable {
        rag.records.keep_vectors(std::slice::from_ref(&new.id)).await?;
        upsert(&binding, &document, std::slice::from_ref(&new)).await?;
    }
    rag.records.replace_chunk(id, &new).await?;
    crate::jobs::collect_garbage(rag, &binding).await?;
    rag.records.chunk(kb, &new.id).await
}

/// Makes one chunk searchable again.
pub(crate) async fn enable_chunk(rag: &Rag, kb: &KbName, id: &ChunkId) -> Result<Stored> {
    let stored = rag.records.chunk(kb, id).await?;
    let document = rag.catalog.document(&stored.document).await?;
    // In a disabled document it becomes searchable together with the rest.
    if stored.disabled && !document.disabled {
        let binding = rag.binding(kb.as_str()).await?;
        rag.records.keep_vectors(std::slice::from_ref(id)).await?;
        upsert(&binding, &document, std::slice::from_ref(&stored.chunk)).await?;
    }
    rag.records.enable_chunk(id).await?;
    rag.records.chunk(kb, id).await
}

/// Runs the job that makes a disabled document searchable again.
pub(crate) async fn enable_document(rag: &Rag, job: &Job, id: &DocumentId) -> Result<JobState> {
    let done = JobState::Done { document: Some(id.clone()), unchanged: false };
    let document = rag.catalog.document(id).await?;
    if !document.disabled {
        return Ok(JobState::Done { document: Some(id.clone()), unchanged: true });
    }
    let result = match embed_all(rag, job, &document).await {
        Ok(()) => rag.records.enable_document(id, &job.id).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => Ok(done),
        Err(error) => {
            drop_embedded(rag, id).await?;
            Err(error)
        }
    }
}

/// What an enabling embedded before it was given up is garbage again.
pub(crate) async fn drop_embedded(rag: &Rag, id: &DocumentId) -> Result<()> {
    match rag.catalog.document(id).await {
        Ok(document) if document.disabled => rag.records.disable_document(id).await,
        // It took effect all the same, or the document is gone.
        Ok(_) => Ok(()),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

async fn embed_all(rag: &Rag, job: &Job, document: &DocumentInfo) -> Result<()> {
    let binding = rag.binding(document.kb.as_str()).await?;
    open_index(rag, &binding).await?;
    let mut after = None;
    let mut done = 0;
    loop {
        let rows = rag.catalog.chunks(&document.id, after, BATCH as u32).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some(last.chunk.ordinal);
        done += rows.len() as u64;
        let chunks: Vec<Chunk> = rows.into_iter().filter(|row| !row.disabled).map(|row| row.chunk).collect();
        let ids: Vec<ChunkId> = chunks.iter().map(|chunk| chunk.id.clone()).collect();
        rag.records.keep_vectors(&ids).await?;
        upsert(&binding, document, &chunks).await?;
        report(rag, &job.id, Stage::Embed, done, document.chunks).await?;
    }
}

async fn upsert(binding: &Arc<Binding>, document: &DocumentInfo, chunks: &[Chunk]) -> Result<()> {
    if chunks.is_empty() {
        return Ok(());
    }
    let collection = &binding.kb.collection;
    let vectors = binding.embedder.embed(chunks.iter().map(embed_text).collect(), Purpose::Passage).await?;
    let batch = StoreBatch {
        ids: chunks.iter().map(|chunk| chunk.id.clone()).collect(),
        vectors,
        texts: chunks.iter().map(|chunk| chunk.text.clone()).collect(),
        fields: chunks.iter().map(|chunk| store_fields(&document.id, &document.name, chunk)).collect(),
    };
    match binding.store.upsert(collection, batch.clone()).await {
        // A store that lost the collection gets it anew.
        Err(error) if error.code() == ErrorCode::NotFound => {
            let shape = VectorCollection {
                name: collection.clone(),
                dim: binding.embedder.dim(),
                metric: Metric::Cosine,
            };
            binding.store.create(&shape).await?;
            binding.store.upsert(collection, batch).await
        }
        result => result,
    }
}
