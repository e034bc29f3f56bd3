//! The exports of the component, over the plain functions beside it.

#![expect(unsafe_code, reason = "generated bindings call imports and lay out exports")]

wit_bindgen::generate!({ path: "../../wit", world: "parser-plugin", generate_all });

use std::cell::RefCell;

use exports::ragkit::plugin::info;
use exports::ragkit::plugin::parser::{Guest, GuestSession, Parsed, Session};
use guest_text::{Source, TextError};
use ragkit::host::blob::Blob;
use ragkit::host::config;
use ragkit::types::types::{Block, BlockKind, ByteRange, Error, ErrorCode, Location};

use crate::document::{self, Document, Kind, parse_encoding};

struct ParseMarkdown;
export!(ParseMarkdown);

impl info::Guest for ParseMarkdown {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl Guest for ParseMarkdown {
    type Session = MarkdownSession;

    fn accepts() -> Vec<String> {
        vec!["text/markdown".to_owned()]
    }

    fn open(source: Blob) -> Result<Session, Error> {
        let encoding = parse_encoding(&config::settings()).map_err(invalid)?;
        let document = Document::open(File(source), encoding).map_err(failed)?;
        Ok(Session::new(MarkdownSession(RefCell::new(document))))
    }
}

struct MarkdownSession(RefCell<Document<File>>);

impl GuestSession for MarkdownSession {
    fn next(&self, max_bytes: u32) -> Result<Option<Vec<Block>>, Error> {
        let blocks = self.0.borrow_mut().next(max_bytes as usize).map_err(failed)?;
        Ok(blocks.map(|blocks| blocks.into_iter().map(block).collect()))
    }

    fn summary(&self) -> Parsed {
        let document::Summary { title, language, attributes } = self.0.borrow().summary();
        Parsed { title, language, attributes }
    }
}

struct File(Blob);

impl Source for File {
    type Error = Error;

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, len: u32) -> Result<Vec<u8>, Error> {
        self.0.read_at(offset, len)
    }
}

fn block(block: document::Block) -> Block {
    let source = block.source.map(|range| ByteRange { start: range.start, end: range.end });
    let location = Location { page: None, part: None, row: Some(block.row), area: None, source };
    let (kind, level) = match block.kind {
        Kind::Heading(level) => (BlockKind::Heading, level),
        Kind::Paragraph => (BlockKind::Paragraph, 0),
        Kind::ListItem => (BlockKind::ListItem, 0),
        Kind::Table => (BlockKind::Table, 0),
        Kind::Code => (BlockKind::Code, 0),
        Kind::Quote => (BlockKind::Quote, 0),
        Kind::Footnote => (BlockKind::Footnote, 0),
    };
    Block { kind, level, text: block.text, location }
}

fn failed(error: TextError<Error>) -> Error {
    match error {
        TextError::Source(error) => error,
        TextError::NotText(message) => Error { code: ErrorCode::Unsupported, message, retryable: false },
        TextError::Damaged(message) => invalid(message),
    }
}

fn invalid(message: String) -> Error {
    Error { code: ErrorCode::InvalidInput, message, retryable: false }
}
