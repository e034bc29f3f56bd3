//! The first flow: a file becomes citable chunks.
//!
//! parse → section → chunk → embed → upsert, section by section, then one commit. While a section is embedded, the next
//! is read. A chunk is found by a search only after the commit; whatever dies on the way, running the job again ends in
//! the same index.

use std::sync::Arc;
use std::time::Duration;

use crate::ahead::Ahead;
use crate::document::{BlobHash, Chunk, ChunkId, ChunkSpan, DocumentId, Heading, Location, Span, Vectors};
use crate::encoders;
use crate::error::{Error, ErrorCode, Result};
use crate::kb::{KbName, PluginChoice};
use crate::limits;
use crate::ports::{
    Binding, DocumentInfo, IngestSource, Job, JobKind, NewDocument, Opened, Origin, Parse, Progress, Purpose,
    Stage, StoreBatch, VectorCollection,
};
use crate::rag::Rag;
use crate::reading::{CutSection, Reading, both};
use crate::search::{Metric, Value};
use crate::section::{PlacedSection, open_heading};

/// Tries of a batch against a full queue, and the wait before each further one.
const BUSY_TRIES: u32 = 60;
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// Attribute of documents that came from the web: where they were found.
const URL_ATTRIBUTE: &str = "url";

/// What reads a document of the catalogue anew. Where it was found on the web is kept with it as every attribute.
pub(crate) fn source_of(document: &DocumentInfo, chunker: Option<PluginChoice>) -> IngestSource {
    let url = document.attributes.iter().find(|(key, _)| key == URL_ATTRIBUTE);
    IngestSource {
        blob: document.blob.clone(),
        size: document.size,
        name: document.name.clone(),
        media_type: document.media_type.clone(),
        chunker,
        origin: Origin { url: url.map(|(_, url)| url.clone()), folder: document.folder.clone() },
        alone: true,
    }
}

/// What an ingest ended in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingested {
    pub document: DocumentId,
    /// The same document was there already: nothing was parsed or embedded.
    pub unchanged: bool,
    /// Originals of replaced documents that nothing refers to any more.
    pub unused: Vec<BlobHash>,
}

/// Runs an ingest job to its commit. `Error::Cancelled` when somebody cancelled the job meanwhile.
pub(crate) async fn ingest(
    rag: &Rag,
    job: &Job,
    source: &IngestSource,
    ahead: Option<Ahead>,
) -> Result<Ingested> {
    let binding = binding_for(rag, job, source).await?;
    let outcome = ingest_with(rag, &binding, job, source, ahead).await;
    match &outcome {
        Err(error) if rag.struck(&binding, &source.blob.0, error).await? => {
            // The plugins before took over: they may well read it.
            let binding = binding_for(rag, job, source).await?;
            ingest_with(rag, &binding, job, source, None).await
        }
        _ => outcome,
    }
}

/// The same with given parts, into their index.
pub(crate) async fn ingest_with(
    rag: &Rag,
    binding: &Binding,
    job: &Job,
    source: &IngestSource,
    ahead: Option<Ahead>,
) -> Result<Ingested> {
    let parser = parser_for(binding, source)?;
    let document = new_document(binding, parser.as_ref(), source);
    if rag.catalog.open_document(&document).await? == Opened::Unchanged {
        return Ok(Ingested { document: document.id, unchanged: true, unused: Vec::new() });
    }
    open_index(rag, binding).await?;

    let mut work = Work { rag, binding, job, document: &document, ordinal: 0, text_done: 0 };
    work.report(Stage::Parse, 0, source.size).await?;
    let (mut reading, mut next) = match ahead.filter(|ahead| ahead.document == document.id) {
        Some(ahead) => (ahead.reading, ahead.first),
        None => open(rag, binding, parser.as_ref(), source).await?,
    };
    while let Some(section) = next {
        ((), next) = both(work.section(section), reading.next()).await?;
    }
    let mut summary = reading.summary().await?;
    if let Some(url) = &source.origin.url {
        summary.attributes.retain(|(key, _)| key != URL_ATTRIBUTE);
        summary.attributes.push((URL_ATTRIBUTE.to_owned(), url.clone()));
    }
    if work.ordinal == 0 {
        return Err(Error::invalid(format!("'{}' holds no text", source.name)));
    }
    work.report(Stage::Commit, 0, 0).await?;
    let unused = rag.catalog.commit_document(&document.id, &summary, &job.id).await?;
    Ok(Ingested { document: document.id, unchanged: false, unused })
}

/// Opens the document of a job that is still queued, unless it is there already or is no document.
pub(crate) async fn open_ahead(rag: &Rag, job: &Job) -> Result<Option<Ahead>> {
    let JobKind::Ingest(source) = &job.kind else { return Ok(None) };
    let binding = binding_for(rag, job, source).await?;
    let parser = parser_for(&binding, source)?;
    if parser.sends_out() {
        return Ok(None);
    }
    let document = new_document(&binding, parser.as_ref(), source).id;
    if rag.catalog.document(&document).await.is_ok() {
        return Ok(None);
    }
    let (reading, first) = open(rag, &binding, parser.as_ref(), source).await?;
    Ok(Some(Ahead { document, reading, first }))
}

async fn open(
    rag: &Rag,
    binding: &Binding,
    parser: &dyn Parse,
    source: &IngestSource,
) -> Result<(Reading, Option<CutSection>)> {
    let blob = rag.blobs.open(&source.blob, &source.name, &source.media_type).await?;
    let mut reading = Reading::open(parser, Arc::clone(&binding.chunker), blob).await?;
    let first = reading.next().await?;
    Ok((reading, first))
}

/// Sees to it that the index takes vectors of the bound encoder, and no others.
pub(crate) async fn open_index(rag: &Rag, binding: &Binding) -> Result<()> {
    let kb = &binding.kb;
    // Asks for nothing: one that is missing says so before the document is read.
    binding.embedder.embed(Vec::new(), Purpose::Passage).await?;
    rag.catalog.set_embedder(&kb.name, &kb.collection, &encoders::embedded(&*binding.embedder)).await?;
    let collection =
        VectorCollection { name: kb.collection.clone(), dim: binding.embedder.dim(), metric: Metric::Cosine };
    match binding.store.create(&collection).await {
        // Everything was deleted from it, and another encoder is for all since: only its shape is left.
        Err(error) if error.code() == ErrorCode::Conflict && kb.embedder.is_none() => {
            binding.store.drop_collection(&collection.name).await?;
            binding.store.create(&collection).await
        }
        created => created,
    }
}

/// The knowledge base's parts, with the document's own chunker when it has one.
async fn binding_for(rag: &Rag, job: &Job, source: &IngestSource) -> Result<Arc<Binding>> {
    let mut kb = rag.catalog.kb(&job.kb).await?;
    if let Some(chunker) = &source.chunker {
        kb.settings.chunker = chunker.clone();
    }
    rag.bindings.bind(&kb).await
}

/// The document that this job would write: its id tells whether it is there already.
fn new_document(binding: &Binding, parser: &dyn Parse, source: &IngestSource) -> NewDocument {
    let kb = &binding.kb;
    let mut pipeline = format!(
        "{} {} {} {}",
        parser.identity(),
        binding.chunker.info().digest,
        kb.settings.chunker.settings,
        binding.embedder.identity()
    );
    // Two indexes may hold the same document at a time; ids in the first are those of before there were others.
    if kb.collection != first_index(&kb.name) {
        pipeline = format!("{pipeline} {}", kb.collection);
    }
    NewDocument {
        id: DocumentId::of(kb.name.as_str(), &source.name, &source.blob, &pipeline),
        kb: kb.name.clone(),
        name: source.name.clone(),
        blob: source.blob.clone(),
        size: source.size,
        media_type: source.media_type.clone(),
        pipeline,
        collection: kb.collection.clone(),
        folder: source.origin.folder.clone(),
    }
}

/// The index that a knowledge base begins with.
fn first_index(kb: &KbName) -> String {
    format!("{kb}-g1")
}

/// The first parser that reads the media type.
fn parser_for(binding: &Binding, source: &IngestSource) -> Result<Arc<dyn Parse>> {
    if source.size == 0 {
        return Err(Error::invalid(format!("'{}' is empty", source.name)));
    }
    let found = binding.parsers.iter().find(|parser| parser.accepts().contains(&source.media_type));
    found.cloned().ok_or_else(|| {
        let mut readable: Vec<&str> =
            binding.parsers.iter().flat_map(|parser| parser.accepts()).map(String::as_str).collect();
        readable.sort_unstable();
        Error::Unsupported {
            message: format!(
                "'{}' is {}, which no installed parser reads; readable are {}",
                source.name,
                source.media_type,
                readable.join(", ")
            ),
        }
    })
}

/// One document on its way.
struct Work<'a> {
    rag: &'a Rag,
    binding: &'a Binding,
    job: &'a Job,
    document: &'a NewDocument,
    /// Of the next chunk.
    ordinal: u32,
    /// Bytes of text whose chunks are embedded and stored.
    text_done: u64,
}

impl Work<'_> {
    /// Keeps a section as pending, then embeds and upserts its chunks.
    async fn section(&mut self, CutSection { placed, spans }: CutSection) -> Result<()> {
        if spans.len() > limits::SECTION_CHUNKS_MAX {
            return Err(Error::TooLarge {
                what: "a section's number of chunks".into(),
                size: spans.len() as u64,
                limit: limits::SECTION_CHUNKS_MAX as u64,
                unit: "chunks",
                setting: "the chunker's size",
            });
        }
        let chunks = self.chunks(&placed, &spans);
        self.ordinal += chunks.len() as u32;
        self.report(Stage::Chunk, 0, chunks.len() as u64).await?;
        self.rag.catalog.put_section(&self.document.id, placed.start, &placed.section.text, &chunks).await?;
        for batch in chunks.chunks(limits::EMBED_BATCH) {
            let vectors = self.embed(batch).await?;
            self.binding.store.upsert(&self.document.collection, self.store_batch(batch, vectors)).await?;
            self.text_done = batch.last().map_or(self.text_done, |chunk| chunk.span.end);
            let done = u64::from(batch.last().map_or(0, |chunk| chunk.ordinal + 1));
            self.report(Stage::Embed, done, u64::from(self.ordinal)).await?;
        }
        Ok(())
    }

    fn chunks(&self, placed: &PlacedSection, spans: &[ChunkSpan]) -> Vec<Chunk> {
        let text = &placed.section.text;
        let slice = |span: &ChunkSpan| &text[span.span.start as usize..span.span.end as usize];
        let ids: Vec<ChunkId> = (self.ordinal..)
            .zip(spans)
            .map(|(ordinal, span)| ChunkId::of(&self.document.id, ordinal, slice(span)))
            .collect();
        let places = places(placed, spans);
        let chunk = |((at, span), place): ((usize, &ChunkSpan), Place)| Chunk {
            id: ids[at].clone(),
            ordinal: self.ordinal + at as u32,
            text: slice(span).to_owned(),
            span: Span { start: placed.start + span.span.start, end: placed.start + span.span.end },
            parent: span.parent.and_then(|parent| ids.get(parent as usize).cloned()),
            context: span.context.clone(),
            heading: place.heading,
            page: place.page,
            source: place.source,
        };
        spans.iter().enumerate().zip(places).map(chunk).collect()
    }

    /// Waits for its turn when the queue is full: questions go first, and an ingest has time.
    async fn embed(&self, batch: &[Chunk]) -> Result<Vectors> {
        let texts: Vec<String> = batch.iter().map(embed_text).collect();
        let mut tries = 0;
        loop {
            match self.binding.embedder.embed(texts.clone(), Purpose::Passage).await {
                Err(Error::Busy { .. }) if tries < BUSY_TRIES => {
                    tries += 1;
                    (self.rag.pause)(BUSY_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    fn store_batch(&self, batch: &[Chunk], vectors: Vectors) -> StoreBatch {
        let fields = |chunk: &Chunk| store_fields(&self.document.id, &self.document.name, chunk);
        StoreBatch {
            ids: batch.iter().map(|chunk| chunk.id.clone()).collect(),
            vectors,
            texts: batch.iter().map(|chunk| chunk.text.clone()).collect(),
            fields: batch.iter().map(fields).collect(),
        }
    }

    /// Tells how far the job is, and stops it when somebody cancelled it.
    async fn report(&self, stage: Stage, done: u64, total: u64) -> Result<()> {
        // Text and original differ in size, but the share of one is a fair guess at the share of the other.
        let share = self.text_done.min(self.document.size) * 96 / self.document.size.max(1);
        let percent = if stage == Stage::Commit { 99 } else { 1 + share as u8 };
        self.rag.catalog.progress(&self.job.id, Progress { stage, done, total, percent }).await
    }
}

/// What is embedded for a chunk.
pub(crate) fn embed_text(chunk: &Chunk) -> String {
    match &chunk.context {
        Some(context) if !context.is_empty() => format!("{context}\n{}", chunk.text),
        _ => chunk.text.clone(),
    }
}

/// The fields that every chunk's row in a vector store has.
pub(crate) fn store_fields(document: &DocumentId, name: &str, chunk: &Chunk) -> Vec<(String, Value)> {
    let mut fields = vec![
        ("document".to_owned(), Value::Text(document.0.clone())),
        ("name".to_owned(), Value::Text(name.to_owned())),
        ("ordinal".to_owned(), Value::Integer(i64::from(chunk.ordinal))),
    ];
    fields.extend(chunk.page.map(|page| ("page".to_owned(), Value::Integer(i64::from(page)))));
    fields
}

/// Where a chunk stands, as people look for it.
#[derive(Debug, Default)]
struct Place {
    heading: Option<String>,
    page: Option<u32>,
    source: Option<Span>,
}

/// One place per chunk; walks blocks and chunks once, since both are sorted by start.
fn places(placed: &PlacedSection, spans: &[ChunkSpan]) -> Vec<Place> {
    let blocks = &placed.section.blocks;
    let mut open: Vec<Heading> = placed.section.outline.clone();
    let mut next_block = 0;
    let mut found = Vec::with_capacity(spans.len());
    for span in spans.iter().map(|chunk| chunk.span) {
        while let Some(block) = blocks.get(next_block).filter(|block| block.span.start <= span.start) {
            if block.level > 0 {
                let text = &placed.section.text[block.span.start as usize..block.span.end as usize];
                open_heading(&mut open, block.level, text);
            }
            next_block += 1;
        }
        let path: Vec<&str> = open.iter().map(|heading| heading.text.as_str()).collect();
        let touched: Vec<usize> = (next_block.saturating_sub(1)..blocks.len())
            .take_while(|&at| blocks[at].span.start < span.end)
            .filter(|&at| blocks[at].span.end > span.start)
            .collect();
        found.push(Place {
            heading: (!path.is_empty()).then(|| path.join(" › ")),
            page: touched.first().and_then(|&at| blocks[at].page),
            source: source(placed, &touched, span),
        });
    }
    found
}

/// Bytes of the original from the first touched block to the last; exact to the byte where a block's text and its
/// source have the same length, to the block elsewhere.
fn source(placed: &PlacedSection, touched: &[usize], span: Span) -> Option<Span> {
    let (&first, &last) = (touched.first()?, touched.last()?);
    let exact = |location: &Location, block: Span| {
        location.source.is_some_and(|source| source.end - source.start == block.end - block.start)
    };
    let (first_block, last_block) = (placed.section.blocks[first].span, placed.section.blocks[last].span);
    let (from, to) = (placed.locations[first].source?, placed.locations[last].source?);
    let lead = if exact(&placed.locations[first], first_block) {
        span.start.max(first_block.start) - first_block.start
    } else {
        0
    };
    let tail = if exact(&placed.locations[last], last_block) {
        last_block.end - span.end.min(last_block.end)
    } else {
        0
    };
    Some(Span { start: from.start + lead, end: to.end - tail })
}
