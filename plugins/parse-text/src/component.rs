//! The exports of the component, over the plain functions beside it.

#![expect(unsafe_code, reason = "generated bindings call imports and lay out exports")]

wit_bindgen::generate!({ path: "../../wit", world: "parser-plugin", generate_all });

use std::cell::RefCell;

use exports::ragkit::plugin::info;
use exports::ragkit::plugin::parser::{Guest, GuestSession, Parsed, Session};
use guest_text::{Piece, Source, TextError};
use ragkit::host::blob::Blob;
use ragkit::host::config;
use ragkit::types::types::{Block, BlockKind, ByteRange, Error, ErrorCode, Location};

use crate::paragraphs::{Paragraphs, parse_encoding};

struct ParseText;
export!(ParseText);

impl info::Guest for ParseText {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl Guest for ParseText {
    type Session = TextSession;

    fn accepts() -> Vec<String> {
        vec!["text/plain".to_owned()]
    }

    fn open(source: Blob) -> Result<Session, Error> {
        let encoding = parse_encoding(&config::settings()).map_err(invalid)?;
        let paragraphs = Paragraphs::open(File(source), encoding).map_err(failed)?;
        Ok(Session::new(TextSession(RefCell::new(paragraphs))))
    }
}

struct TextSession(RefCell<Paragraphs<File>>);

impl GuestSession for TextSession {
    fn next(&self, max_bytes: u32) -> Result<Option<Vec<Block>>, Error> {
        let pieces = self.0.borrow_mut().next(max_bytes as usize).map_err(failed)?;
        Ok(pieces.map(|pieces| pieces.into_iter().map(block).collect()))
    }

    fn summary(&self) -> Parsed {
        let encoding = self.0.borrow().encoding().name().to_owned();
        Parsed { title: None, language: None, attributes: vec![("encoding".to_owned(), encoding)] }
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

fn block(piece: Piece) -> Block {
    let source = piece.source.map(|range| ByteRange { start: range.start, end: range.end });
    let location = Location { page: None, part: None, row: Some(piece.row), area: None, source };
    Block { kind: BlockKind::Paragraph, level: 0, text: piece.text, location }
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
