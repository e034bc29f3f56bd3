//! The exports of the component, over the plain functions beside it.

#![expect(unsafe_code, reason = "generated bindings call imports and lay out exports")]

wit_bindgen::generate!({ path: "../../wit", world: "chunker-plugin", generate_all });

use exports::ragkit::plugin::{chunker, info};
use ragkit::host::{config, tokens};
use ragkit::types::types::{BlockKind, Error, ErrorCode, Span};

use crate::document::{Block, Document, Heading, Kind};
use crate::options::Options;
use crate::split::split;

struct ChunkSentence;
export!(ChunkSentence);

impl info::Guest for ChunkSentence {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl chunker::Guest for ChunkSentence {
    fn split(document: chunker::Document) -> Result<Vec<chunker::Chunk>, Error> {
        let options = Options::parse(&config::settings(), tokens::limit()).map_err(|message| Error {
            code: ErrorCode::InvalidInput,
            message,
            retryable: false,
        })?;
        let blocks: Vec<Block> = document.blocks.iter().map(block).collect();
        let outline: Vec<Heading> =
            document.outline.into_iter().map(|open| Heading { level: open.level, text: open.text }).collect();
        let section = Document {
            text: &document.text,
            blocks: &blocks,
            title: document.title.as_deref(),
            outline: &outline,
        };
        let mut count = |texts: &[&str]| -> Result<Vec<u32>, Error> {
            let owned: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let counts = tokens::count(&owned)?;
            if counts.len() != texts.len() {
                return Err(Error {
                    code: ErrorCode::Internal,
                    message: format!("the host counted {} of {} texts", counts.len(), texts.len()),
                    retryable: false,
                });
            }
            Ok(counts)
        };
        let chunks = split(section, options, &mut count)?;
        check(chunks.len())?;
        let chunk = |chunk: crate::document::Chunk| chunker::Chunk {
            span: Span { start: chunk.start as u32, end: chunk.end as u32 },
            parent: None,
            context: chunk.context,
        };
        Ok(chunks.into_iter().map(chunk).collect())
    }
}

fn block(block: &chunker::BlockSpan) -> Block {
    let kind = match block.kind {
        BlockKind::Title | BlockKind::Heading => Kind::Heading(block.level.max(1)),
        BlockKind::Table => Kind::Table,
        BlockKind::Code => Kind::Code,
        BlockKind::Paragraph
        | BlockKind::ListItem
        | BlockKind::Quote
        | BlockKind::Caption
        | BlockKind::Footnote
        | BlockKind::Image => Kind::Text,
    };
    Block { start: block.span.start as usize, end: block.span.end as usize, kind }
}

/// Chunks of one section that a host takes.
const CHUNKS_MAX: usize = 20_000;

fn check(chunks: usize) -> Result<(), Error> {
    if chunks <= CHUNKS_MAX {
        return Ok(());
    }
    let message = format!("{chunks} chunks in one section, more than {CHUNKS_MAX}: raise the setting 'size'");
    Err(Error { code: ErrorCode::Quota, message, retryable: false })
}
