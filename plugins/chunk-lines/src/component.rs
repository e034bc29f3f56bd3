//! The exports of the component, over the plain functions beside it.

#![expect(unsafe_code, reason = "generated bindings call imports and lay out exports")]

wit_bindgen::generate!({ path: "../../wit", world: "chunker-plugin", generate_all });

use exports::ragkit::plugin::{chunker, info};
use guest_settings::Settings;
use ragkit::host::config;
use ragkit::types::types::{Error, ErrorCode, Span};

use crate::lines::lines;

struct ChunkLines;
export!(ChunkLines);

impl info::Guest for ChunkLines {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl chunker::Guest for ChunkLines {
    fn split(document: chunker::Document) -> Result<Vec<chunker::Chunk>, Error> {
        Settings::parse(&config::settings(), &[]).map_err(|message| Error {
            code: ErrorCode::InvalidInput,
            message,
            retryable: false,
        })?;
        let found = lines(&document.text);
        check(found.len())?;
        let chunk = |(start, end): (usize, usize)| chunker::Chunk {
            span: Span { start: start as u32, end: end as u32 },
            parent: None,
            context: None,
        };
        Ok(found.into_iter().map(chunk).collect())
    }
}

/// Chunks of one section that a host takes.
const CHUNKS_MAX: usize = 20_000;

fn check(chunks: usize) -> Result<(), Error> {
    if chunks <= CHUNKS_MAX {
        return Ok(());
    }
    let message = format!(
        "{chunks} chunks in one section, more than {CHUNKS_MAX}: use chunk-sentence for a text of so many short lines"
    );
    Err(Error { code: ErrorCode::Quota, message, retryable: false })
}
