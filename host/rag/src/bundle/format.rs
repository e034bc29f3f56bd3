//! What stands in the lines of such a file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rag_core::document::{BlobHash, Chunk, ChunkId, Span};
use rag_core::kb::KbName;
use rag_core::ports::{BundleChunk, BundleDocument, BundleHead, Origin};
use rag_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version that this program writes. 1 was a folder (`commands/kb.rs` reads it).
pub(super) const FORMAT: u32 = 2;

/// Only the version, which is looked at first: what else there is may be another's.
#[derive(Deserialize)]
pub(super) struct FormatJson {
    pub(super) format: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct HeadJson {
    format: u32,
    /// What wrote it.
    program: String,
    kb: String,
    embedder: Option<String>,
    documents: u64,
    created_ms: i64,
    settings: Value,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DocumentJson {
    name: String,
    media_type: String,
    pub(super) sha256: String,
    size: u64,
    pipeline: String,
    title: Option<String>,
    language: Option<String>,
    attributes: Vec<(String, String)>,
    metadata: Vec<(String, String)>,
    url: Option<String>,
    folder: Option<String>,
    #[serde(default)]
    disabled: bool,
}

/// A piece of a document's text.
#[derive(Serialize, Deserialize)]
pub(super) struct SectionJson {
    text: String,
    chunks: Vec<ChunkJson>,
}

#[derive(Serialize, Deserialize)]
struct ChunkJson {
    id: String,
    /// Bytes of the document's text.
    start: u64,
    end: u64,
    /// Only where somebody changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heading: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page: Option<u32>,
    /// Bytes of the original.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<(u64, u64)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
    /// Little-endian f32 in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector: Option<String>,
}

impl HeadJson {
    pub(super) fn of(head: &BundleHead) -> Result<Self> {
        let settings = rag_store::settings_to_json(&head.settings)?;
        Ok(HeadJson {
            format: FORMAT,
            program: concat!("rwkv-rag ", env!("CARGO_PKG_VERSION")).to_owned(),
            kb: head.kb.to_string(),
            embedder: head.embedder.clone(),
            documents: head.documents,
            created_ms: head.created_ms,
            settings: serde_json::from_str(&settings).map_err(|error| unwritable(&error))?,
        })
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|error| unwritable(&error))
    }

    pub(super) fn into_head(self) -> Result<BundleHead> {
        Ok(BundleHead {
            kb: KbName::parse(&self.kb)?,
            settings: rag_store::settings_from_json(&self.settings.to_string())?,
            embedder: self.embedder,
            documents: self.documents,
            created_ms: self.created_ms,
        })
    }
}

impl From<BundleDocument> for DocumentJson {
    fn from(document: BundleDocument) -> Self {
        DocumentJson {
            name: document.name,
            media_type: document.media_type,
            sha256: document.blob.0,
            size: document.size,
            pipeline: document.pipeline,
            title: document.title,
            language: document.language,
            attributes: document.attributes,
            metadata: document.metadata,
            url: document.origin.url,
            folder: document.origin.folder,
            disabled: document.disabled,
        }
    }
}

impl From<DocumentJson> for BundleDocument {
    fn from(document: DocumentJson) -> Self {
        BundleDocument {
            name: document.name,
            media_type: document.media_type,
            blob: BlobHash(document.sha256),
            size: document.size,
            pipeline: document.pipeline,
            title: document.title,
            language: document.language,
            attributes: document.attributes,
            metadata: document.metadata,
            origin: Origin { url: document.url, folder: document.folder },
            disabled: document.disabled,
        }
    }
}

impl DocumentJson {
    pub(super) fn to_line(&self) -> Result<Vec<u8>> {
        line(self)
    }
}

impl SectionJson {
    pub(super) fn new(text: String, chunks: Vec<BundleChunk>) -> Self {
        SectionJson { text, chunks: chunks.into_iter().map(ChunkJson::from).collect() }
    }

    pub(super) fn to_line(&self) -> Result<Vec<u8>> {
        line(self)
    }

    /// The text and its chunks, for a piece that begins at a byte of the document's text.
    pub(super) fn into_parts(self, start: u64) -> Result<(String, Vec<BundleChunk>)> {
        let SectionJson { text, chunks } = self;
        let chunks = chunks.into_iter().map(|chunk| chunk.into_chunk(&text, start)).collect::<Result<_>>()?;
        Ok((text, chunks))
    }
}

impl From<BundleChunk> for ChunkJson {
    fn from(held: BundleChunk) -> Self {
        let BundleChunk { chunk, disabled, edited, vector } = held;
        let bytes = |vector: Vec<f32>| vector.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
        ChunkJson {
            id: chunk.id.0,
            start: chunk.span.start,
            end: chunk.span.end,
            text: edited.then_some(chunk.text),
            parent: chunk.parent.map(|parent| parent.0),
            context: chunk.context,
            heading: chunk.heading,
            page: chunk.page,
            source: chunk.source.map(|span| (span.start, span.end)),
            disabled,
            vector: vector.map(|vector| STANDARD.encode(bytes(vector))),
        }
    }
}

impl ChunkJson {
    fn into_chunk(self, text: &str, start: u64) -> Result<BundleChunk> {
        let edited = self.text.is_some();
        let place = |at: u64| at.checked_sub(start).and_then(|at| usize::try_from(at).ok());
        let cut = || text.get(place(self.start)?..place(self.end)?).map(str::to_owned);
        let own = match &self.text {
            Some(text) => Some(text.clone()),
            None => cut(),
        };
        let own = own.ok_or_else(|| Error::invalid("a chunk is not part of its document's text"))?;
        Ok(BundleChunk {
            chunk: Chunk {
                id: ChunkId(self.id),
                // Counted anew where it is imported.
                ordinal: 0,
                text: own,
                span: Span { start: self.start, end: self.end },
                parent: self.parent.map(ChunkId),
                context: self.context,
                heading: self.heading,
                page: self.page,
                source: self.source.map(|(start, end)| Span { start, end }),
            },
            disabled: self.disabled,
            edited,
            vector: self.vector.as_deref().map(vector).transpose()?,
        })
    }
}

fn vector(text: &str) -> Result<Vec<f32>> {
    let bytes = STANDARD.decode(text).map_err(|_| Error::invalid("a vector is not base64"))?;
    let (values, rest) = bytes.as_chunks::<4>();
    if rest.is_empty() {
        Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
    } else {
        Err(Error::invalid("a vector is cut off"))
    }
}

fn line<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value).map_err(|error| unwritable(&error))?;
    line.push(b'\n');
    Ok(line)
}

fn unwritable(error: &serde_json::Error) -> Error {
    Error::internal(format!("the file cannot be written: {error}"))
}
