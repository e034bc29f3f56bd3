//! In: a checked file becomes a knowledge base, which nobody sees before it is whole; whatever fails on the way takes all
//! of it back, and the next start what a dead process left.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::document::{BlobHash, Chunk, ChunkId, DocumentId, ParsedSummary, Span, Vectors};
use crate::encoders::embedded;
use crate::error::{Error, Result};
use crate::ingest::{embed_text, store_fields};
use crate::jobs::collect_garbage;
use crate::kb::{Kb, KbName, KbSettings};
use crate::limits;
use crate::ports::{
    Binding, BlobWriter, BundleChunk, BundleDocument, BundleHead, BundlePart, BundleReader, BundleUpload,
    IngestSource, JobId, JobKind, JobState, NewDocument, Opened, Purpose, StoreBatch, VectorCollection,
};
use crate::rag::Rag;
use crate::search::Metric;

/// What came of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    pub kb: Kb,
    /// Chunks that were embedded, because the file did not hold this encoder's vectors of them.
    pub embedded: u64,
    /// Plugins that are here in another version only, which is bound instead.
    pub exchanged: Vec<String>,
}

impl Rag {
    /// Makes a knowledge base of a file, under its own name or another. The file is checked before anything is kept,
    /// and what fails later takes the knowledge base out again. Run it to its end: dropped halfway it is in the way until
    /// it is deleted, or until the next start.
    pub async fn import_kb(&self, upload: Box<dyn BundleUpload>, name: Option<&str>) -> Result<Imported> {
        let mut reader = upload.open().await?;
        let head = match reader.next().await? {
            Some(BundlePart::Head(head)) => *head,
            _ => return Err(disordered()),
        };
        let name = match name {
            Some(name) => KbName::parse(name)?,
            None => head.kb.clone(),
        };
        let (settings, exchanged) = self.known_plugins(&head.settings);
        let settings = self.checked(&name, settings).await?;
        let kb = self.catalog.begin_import(&name, &settings).await?;
        let mut unnamed = Vec::new();
        match self.filled(&kb, &head, reader.as_mut(), &mut unnamed).await {
            Ok((kb, embedded)) => Ok(Imported { kb, embedded, exchanged }),
            Err(error) => {
                // What cannot be removed now is at the next start; nobody sees it before.
                let _ = self.remove_kb(&kb).await;
                for original in &unnamed {
                    let _ = self.blobs.remove(original).await;
                }
                Err(error)
            }
        }
    }

    async fn filled(
        &self,
        kb: &Kb,
        head: &BundleHead,
        reader: &mut dyn BundleReader,
        unnamed: &mut Vec<BlobHash>,
    ) -> Result<(Kb, u64)> {
        let embedded = self.fill(kb, head, reader, unnamed).await?;
        Ok((self.catalog.end_import(&kb.name).await?, embedded))
    }

    /// The settings with plugins that are installed: the very versions, else what is offered under the same name.
    fn known_plugins(&self, settings: &KbSettings) -> (KbSettings, Vec<String>) {
        let installed = self.bindings.installed();
        let (mut settings, mut exchanged) = (settings.clone(), Vec::new());
        let parts = [&mut settings.chunker, &mut settings.store, &mut settings.retriever];
        for choice in parts.into_iter().chain(&mut settings.parsers) {
            let here = |digest: &String| installed.iter().any(|(_, plugin)| plugin.digest == *digest);
            if choice.digest.as_ref().is_some_and(|digest| !here(digest)) {
                choice.digest = None;
                exchanged.push(choice.id.clone());
            }
        }
        // A parser that is not here at all was chosen by media type, and so will another.
        settings.parsers.retain(|parser| installed.iter().any(|(_, plugin)| plugin.id == parser.id));
        (settings, exchanged)
    }

    /// `unnamed`: originals that are kept, or may be, and that no document names yet.
    async fn fill(
        &self,
        kb: &Kb,
        head: &BundleHead,
        reader: &mut dyn BundleReader,
        unnamed: &mut Vec<BlobHash>,
    ) -> Result<u64> {
        let binding = self.bindings.bind(kb).await?;
        let same = head.embedder.as_deref() == Some(binding.embedder.identity());
        self.catalog.set_embedder(&kb.name, &kb.collection, &embedded(&*binding.embedder)).await?;
        let shape = VectorCollection {
            name: kb.collection.clone(),
            dim: binding.embedder.dim(),
            metric: Metric::Cosine,
        };
        binding.store.create(&shape).await?;
        let mut work = Work {
            rag: self,
            binding,
            was: head.embedder.clone().filter(|_| !same),
            embedded: 0,
            open: None,
        };
        let mut original: Option<(BlobHash, Box<dyn BlobWriter>)> = None;
        while let Some(part) = reader.next().await? {
            if !matches!(part, BundlePart::Piece(_))
                && let Some((hash, writer)) = original.take()
            {
                unnamed.push(hash.clone());
                let (written, _) = writer.finish().await?;
                if written != hash {
                    unnamed.push(written);
                    return Err(Error::invalid(format!("original {hash} is another file")));
                }
            }
            match part {
                BundlePart::Head(_) => return Err(disordered()),
                BundlePart::Original(hash) => original = Some((hash, self.upload().await?)),
                BundlePart::Piece(bytes) => {
                    let Some((_, writer)) = &mut original else { return Err(disordered()) };
                    writer.write(bytes).await?;
                }
                BundlePart::Document(document) => {
                    work.commit().await?;
                    let original = document.blob.clone();
                    work.document(*document).await?;
                    unnamed.retain(|hash| *hash != original);
                }
                BundlePart::Section { text, chunks } => work.section(&text, chunks).await?,
            }
        }
        work.commit().await?;
        collect_garbage(self, &work.binding).await?;
        Ok(work.embedded)
    }
}

fn disordered() -> Error {
    Error::invalid("the parts of the file are not in order")
}

/// Vectors of a file by the chunks that they belong to here.
type Held = BTreeMap<ChunkId, Vec<f32>>;

struct Work<'a> {
    rag: &'a Rag,
    binding: Arc<Binding>,
    /// The encoder whose vectors are in the file and that is not ours.
    was: Option<String>,
    embedded: u64,
    open: Option<Open>,
}

/// The document that is being written.
struct Open {
    new: NewDocument,
    job: JobId,
    document: BundleDocument,
    text_bytes: u64,
    ordinal: u32,
    /// Chunks whose text was changed, in their place: the id before, the chunk after.
    edited: Vec<(ChunkId, Chunk)>,
    disabled: Vec<ChunkId>,
}

impl Work<'_> {
    async fn document(&mut self, document: BundleDocument) -> Result<()> {
        let kb = &self.binding.kb;
        let name = crate::media::document_name(&document.name)?;
        let ours = self.binding.embedder.identity();
        let pipeline = match self.was.as_ref().and_then(|was| document.pipeline.strip_suffix(was.as_str())) {
            Some(rest) => format!("{rest}{ours}"),
            None => document.pipeline.clone(),
        };
        let new = NewDocument {
            id: DocumentId::of(kb.name.as_str(), &name, &document.blob, &pipeline),
            kb: kb.name.clone(),
            name: name.clone(),
            blob: document.blob.clone(),
            size: document.size,
            media_type: document.media_type.clone(),
            pipeline,
            collection: kb.collection.clone(),
            folder: document.origin.folder.clone(),
        };
        // Refuses a document whose original is not in the file.
        let original = self.rag.blobs.open(&new.blob, &new.name, &new.media_type).await?;
        if original.size() != document.size {
            return Err(Error::invalid(format!("the original of '{name}' has another size")));
        }
        if self.rag.catalog.open_document(&new).await? == Opened::Unchanged {
            return Err(Error::invalid(format!("'{name}' is in the file twice")));
        }
        let source = IngestSource {
            blob: new.blob.clone(),
            size: new.size,
            name,
            media_type: new.media_type.clone(),
            chunker: None,
            origin: document.origin.clone(),
            alone: true,
        };
        let job = self.rag.catalog.begin(&kb.name, &JobKind::Ingest(source)).await?.id;
        let (edited, disabled) = (Vec::new(), Vec::new());
        self.open = Some(Open { new, job, document, text_bytes: 0, ordinal: 0, edited, disabled });
        Ok(())
    }

    async fn section(&mut self, text: &str, held: Vec<BundleChunk>) -> Result<()> {
        let Some(open) = &mut self.open else { return Err(disordered()) };
        let start = open.text_bytes;
        let (chunks, mut vectors) = open.take(text, held)?;
        self.rag.catalog.put_section(&open.new.id, start, text, &chunks).await?;
        if open.document.disabled {
            return Ok(());
        }
        // What is searched is what people made of it.
        let mut searched: Vec<Chunk> = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let edit = open.edited.iter().rev().find(|(old, _)| *old == chunk.id).map(|(_, new)| new.clone());
            if let Some(new) = &edit {
                self.rag.records.keep_vectors(std::slice::from_ref(&new.id)).await?;
            }
            let chunk = edit.unwrap_or(chunk);
            if !open.disabled.contains(&chunk.id) {
                searched.push(chunk);
            }
        }
        let (document, name) = (open.new.id.clone(), open.new.name.clone());
        for batch in searched.chunks(limits::EMBED_BATCH) {
            let vectors = self.vectors(batch, &mut vectors).await?;
            let batch = StoreBatch {
                ids: batch.iter().map(|chunk| chunk.id.clone()).collect(),
                vectors,
                texts: batch.iter().map(|chunk| chunk.text.clone()).collect(),
                fields: batch.iter().map(|chunk| store_fields(&document, &name, chunk)).collect(),
            };
            self.binding.store.upsert(&self.binding.kb.collection, batch).await?;
        }
        Ok(())
    }

    /// Those of the file when they are our encoder's and all there; else made anew.
    async fn vectors(&mut self, batch: &[Chunk], held: &mut Held) -> Result<Vectors> {
        let dim = self.binding.embedder.dim();
        let given: Vec<Vec<f32>> = batch.iter().filter_map(|chunk| held.remove(&chunk.id)).collect();
        let fit =
            given.iter().all(|vector| vector.len() == dim && vector.iter().all(|value| value.is_finite()));
        if self.was.is_none() && given.len() == batch.len() && fit {
            return Ok(Vectors { dim, data: given.concat() });
        }
        self.embedded += batch.len() as u64;
        self.binding.embedder.embed(batch.iter().map(embed_text).collect(), Purpose::Passage).await
    }

    /// Makes the open document searchable, with what people changed about it.
    async fn commit(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let Open { new, job, document, edited, disabled, .. } = open;
        let (rag, records) = (self.rag, &self.rag.records);
        let summary = ParsedSummary {
            title: document.title,
            language: document.language,
            attributes: document.attributes,
        };
        if let Err(error) = rag.catalog.commit_document(&new.id, &summary, &job).await {
            rag.catalog.finish(&job, &JobState::Failed { message: error.to_string() }).await?;
            return Err(error);
        }
        for (old, chunk) in &edited {
            records.replace_chunk(old, chunk).await?;
        }
        for id in &disabled {
            records.disable_chunk(id).await?;
        }
        if !document.metadata.is_empty() {
            records.set_metadata(&new.id, &document.metadata).await?;
        }
        if document.disabled {
            records.disable_document(&new.id).await?;
        }
        Ok(())
    }
}

impl Open {
    /// The section's chunks as they were cut, with ids of this knowledge base, and their vectors. Notes what people
    /// changed about them.
    fn take(&mut self, text: &str, held: Vec<BundleChunk>) -> Result<(Vec<Chunk>, Held)> {
        let (start, name) = (self.text_bytes, &self.document.name);
        let cut = |span: Span| {
            let place = |at: u64| at.checked_sub(start).and_then(|at| usize::try_from(at).ok());
            text.get(place(span.start)?..place(span.end)?)
        };
        let mut ids = BTreeMap::new();
        let mut texts = Vec::with_capacity(held.len());
        for (ordinal, row) in (self.ordinal..).zip(&held) {
            let slice = cut(row.chunk.span)
                .filter(|slice| !slice.is_empty() && (row.edited || *slice == row.chunk.text))
                .ok_or_else(|| Error::invalid(format!("a chunk of '{name}' is not part of its text")))?;
            ids.insert(row.chunk.id.clone(), ChunkId::of(&self.new.id, ordinal, slice));
            texts.push(slice);
        }
        let mut vectors = BTreeMap::new();
        let mut chunks = Vec::with_capacity(held.len());
        for (row, slice) in held.into_iter().zip(texts) {
            let ordinal = self.ordinal;
            self.ordinal += 1;
            let parent = row.chunk.parent.as_ref().and_then(|parent| ids.get(parent).cloned());
            let id = ChunkId::of(&self.new.id, ordinal, slice);
            let mut shown = id.clone();
            let chunk =
                Chunk { id: id.clone(), ordinal, text: slice.to_owned(), parent, ..row.chunk.clone() };
            if row.edited {
                shown = ChunkId::of(&self.new.id, ordinal, &row.chunk.text);
                let new = Chunk { id: shown.clone(), text: row.chunk.text, ..chunk.clone() };
                self.edited.push((id, new));
            }
            if row.disabled {
                self.disabled.push(shown.clone());
            }
            vectors.extend(row.vector.map(|vector| (shown, vector)));
            chunks.push(chunk);
        }
        self.text_bytes += text.len() as u64;
        Ok((chunks, vectors))
    }
}
