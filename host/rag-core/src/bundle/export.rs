//! Out: every live document with its original, its text in pieces that no chunk straddles, and its vectors.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::document::ChunkId;
use crate::error::{Error, ErrorCode, Result};
use crate::ingest;
use crate::kb::Kb;
use crate::ports::{
    Blob, BundleBytes, BundleChunk, BundleDocument, BundleHead, BundlePart, BundleWriter, DocumentInfo,
    Stored, VectorIndex,
};
use crate::rag::Rag;

/// Documents and chunks asked for at once.
const DOCUMENTS: u32 = 100;
const CHUNKS: u32 = 256;
/// Bytes of an original read at once.
const PIECE_BYTES: u32 = 256 << 10;
/// Bytes of text after which a piece ends at the next place that no chunk straddles.
const SECTION_BYTES: u64 = 64 << 10;

impl Rag {
    /// The knowledge base as a file that is written while it is read, by the future that comes with it. Documents that
    /// come or go meanwhile may or may not be in it.
    pub async fn export_kb(
        self: Arc<Self>,
        kb: &str,
    ) -> Result<(BundleBytes, impl Future<Output = ()> + Send + 'static)> {
        let kb = self.kb(kb).await?;
        let (mut writer, bytes) = self.bundles.write();
        let writing = async move {
            match write(&self, &kb, writer.as_mut()).await {
                // Whoever reads the file sees how it ends.
                Ok(()) => drop(writer.finish().await),
                Err(error) => writer.fail(error).await,
            }
        };
        Ok((bytes, writing))
    }
}

async fn write(rag: &Rag, kb: &Kb, to: &mut dyn BundleWriter) -> Result<()> {
    let head = BundleHead {
        kb: kb.name.clone(),
        settings: kb.settings.clone(),
        embedder: kb.embedder.as_ref().map(|embedded| embedded.identity.clone()),
        documents: kb.documents,
        created_ms: kb.created_ms,
    };
    to.put(BundlePart::Head(Box::new(head))).await?;
    let vectors = rag.bindings.vectors_of(kb);
    let (mut after, mut written) = (None, BTreeSet::new());
    loop {
        let page = rag.catalog.documents(&kb.name, after.as_deref(), DOCUMENTS).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.name.clone());
        for document in page {
            if written.insert(document.blob.clone()) {
                original(rag, &document, to).await?;
            }
            to.put(BundlePart::Document(Box::new(described(kb, &document)))).await?;
            let mut work = Work { rag, kb, document: &document, vectors: vectors.as_deref(), to };
            work.sections().await?;
        }
    }
}

async fn original(rag: &Rag, document: &DocumentInfo, to: &mut dyn BundleWriter) -> Result<()> {
    let blob: Arc<dyn Blob> = rag.blobs.open(&document.blob, &document.name, &document.media_type).await?;
    to.put(BundlePart::Original(document.blob.clone())).await?;
    let mut at = 0;
    while at < blob.size() {
        let piece = blob.read_at(at, PIECE_BYTES).await?;
        if piece.is_empty() {
            return Err(Error::internal(format!("the original of '{}' is cut off", document.name)));
        }
        at += piece.len() as u64;
        to.put(BundlePart::Piece(piece)).await?;
    }
    Ok(())
}

fn described(kb: &Kb, document: &DocumentInfo) -> BundleDocument {
    let pipeline = document.pipeline.strip_suffix(&format!(" {}", kb.collection));
    BundleDocument {
        name: document.name.clone(),
        media_type: document.media_type.clone(),
        blob: document.blob.clone(),
        size: document.size,
        pipeline: pipeline.unwrap_or(&document.pipeline).to_owned(),
        title: document.title.clone(),
        language: document.language.clone(),
        attributes: document.attributes.clone(),
        metadata: document.metadata.clone(),
        origin: ingest::source_of(document, None).origin,
        disabled: document.disabled,
    }
}

/// One document on its way out.
struct Work<'a> {
    rag: &'a Rag,
    kb: &'a Kb,
    document: &'a DocumentInfo,
    vectors: Option<&'a dyn VectorIndex>,
    to: &'a mut dyn BundleWriter,
}

impl Work<'_> {
    async fn sections(&mut self) -> Result<()> {
        let mut ahead: VecDeque<Stored> = VecDeque::new();
        let (mut after, mut ended) = (None, false);
        let mut start = 0;
        let mut held: Vec<Stored> = Vec::new();
        loop {
            if ahead.is_empty() && !ended {
                let page = self.rag.catalog.chunks(&self.document.id, after, CHUNKS).await?;
                after = page.last().map(|stored| stored.chunk.ordinal);
                ended = page.is_empty();
                ahead.extend(page);
            }
            let Some(next) = ahead.pop_front() else { break };
            // Up to here no chunk of those held reaches beyond.
            let reached = held.iter().map(|stored| stored.chunk.span.end).max().unwrap_or(start);
            if reached - start >= SECTION_BYTES && next.chunk.span.start >= reached {
                self.section(start, reached, std::mem::take(&mut held)).await?;
                start = reached;
            }
            held.push(next);
        }
        // Text behind the last chunk is blank, yet part of the document.
        if self.document.text_bytes > start {
            self.section(start, self.document.text_bytes, held).await?;
        }
        Ok(())
    }

    async fn section(&mut self, start: u64, end: u64, stored: Vec<Stored>) -> Result<()> {
        let text = self.rag.catalog.document_text(&self.document.id, start, end).await?;
        if text.len() as u64 != end - start {
            return Err(Error::Conflict {
                message: format!("'{}' changed while it was exported; export again", self.document.name),
            });
        }
        let mut vectors = self.vectors_of(&stored).await?;
        let chunks = stored
            .into_iter()
            .map(|stored| BundleChunk {
                vector: vectors.remove(&stored.chunk.id),
                chunk: stored.chunk,
                disabled: stored.disabled,
                edited: stored.edited,
            })
            .collect();
        self.to.put(BundlePart::Section { text, chunks }).await
    }

    /// The vectors that the host itself keeps; none for those that lie elsewhere.
    async fn vectors_of(&self, stored: &[Stored]) -> Result<BTreeMap<ChunkId, Vec<f32>>> {
        let Some(index) = self.vectors else { return Ok(BTreeMap::new()) };
        let ids: Vec<ChunkId> = stored.iter().map(|stored| stored.chunk.id.clone()).collect();
        let mut found = BTreeMap::new();
        for ids in ids.chunks(CHUNKS as usize) {
            match index.vectors_of(&self.kb.collection, ids).await {
                Ok(rows) => {
                    let vectors = rows.vectors.iter().map(<[f32]>::to_vec);
                    found.extend(rows.ids.into_iter().zip(vectors));
                }
                Err(error) if error.code() == ErrorCode::NotFound => return Ok(BTreeMap::new()),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}
