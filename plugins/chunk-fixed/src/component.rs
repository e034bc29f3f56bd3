//! The exports of the component, over the plain functions beside it.

#![expect(unsafe_code, reason = "generated bindings call imports and lay out exports")]

wit_bindgen::generate!({ path: "../../wit", world: "chunker-plugin", generate_all });

use exports::ragkit::plugin::{chunker, info};
use ragkit::host::config;
use ragkit::types::types::{Error, ErrorCode, Span};

use crate::windows::{Options, windows};

struct ChunkFixed;
export!(ChunkFixed);

impl info::Guest for ChunkFixed {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl chunker::Guest for ChunkFixed {
    fn split(document: chunker::Document) -> Result<Vec<chunker::Chunk>, Error> {
        let options = Options::parse(&config::settings()).map_err(|message| Error {
            code: ErrorCode::InvalidInput,
            message,
            retryable: false,
        })?;
        let found = windows(&document.text, options);
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
    let message = format!("{chunks} chunks in one section, more than {CHUNKS_MAX}: raise the setting 'size'");
    Err(Error { code: ErrorCode::Quota, message, retryable: false })
}
