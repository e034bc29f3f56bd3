//! The exports of a parser's component, over [`Document`].

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;

use self::bindings::exports::ragkit::plugin::info;
use self::bindings::exports::ragkit::plugin::parser::{Guest, GuestSession, Parsed, Session as Handle};
use self::bindings::ragkit::host::blob::Blob;
use self::bindings::ragkit::host::{config, ocr};
use self::bindings::ragkit::types::types as wit;
use crate::{Block, DocError, Document, File, HostError, Image, Kind, Ocr, OcrLine, Result, Session};

/// As `wit-bindgen` makes them.
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "parser-plugin",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "guest_doc::bindings",
    });
}

/// Who a parser is and how it opens a file.
pub trait Exports: 'static {
    const ID: &'static str;
    const VERSION: &'static str;
    const DESCRIPTION: &'static str;
    const ACCEPTS: &'static [&'static str];

    fn open(file: Rc<dyn File>, ocr: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>>;
}

/// The component of a parser.
#[derive(Debug)]
pub struct Component<P>(PhantomData<P>);

impl<P: Exports> info::Guest for Component<P> {
    fn describe() -> info::Info {
        info::Info {
            id: P::ID.to_owned(),
            version: P::VERSION.to_owned(),
            description: P::DESCRIPTION.to_owned(),
        }
    }
}

impl<P: Exports> Guest for Component<P> {
    type Session = Opened;

    fn accepts() -> Vec<String> {
        P::ACCEPTS.iter().map(|media_type| (*media_type).to_owned()).collect()
    }

    fn open(source: Blob) -> Result<Handle, wit::Error> {
        let document =
            P::open(Rc::new(Original(source)), Rc::new(HostOcr), &config::settings()).map_err(failed)?;
        Ok(Handle::new(Opened(RefCell::new(Session::new(document)))))
    }
}

/// A document being read.
#[expect(missing_debug_implementations, reason = "holds a parser")]
pub struct Opened(RefCell<Session>);

impl GuestSession for Opened {
    fn next(&self, max_bytes: u32) -> Result<Option<Vec<wit::Block>>, wit::Error> {
        let blocks = self.0.borrow_mut().next(max_bytes as usize).map_err(failed)?;
        Ok(blocks.map(|blocks| blocks.into_iter().map(block).collect()))
    }

    fn summary(&self) -> Parsed {
        let crate::Summary { title, language, attributes } = self.0.borrow().summary();
        Parsed { title, language, attributes }
    }
}

struct Original(Blob);

impl File for Original {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn name(&self) -> String {
        self.0.name()
    }

    fn media_type(&self) -> String {
        self.0.media_type()
    }

    fn read_at(&self, offset: u64, len: u32) -> Result<Vec<u8>, HostError> {
        self.0.read_at(offset, len).map_err(host_error)
    }
}

struct HostOcr;

impl Ocr for HostOcr {
    fn recognize(&self, image: Image) -> Result<Vec<OcrLine>, HostError> {
        let image = match image {
            Image::Encoded(bytes) => ocr::Image::Encoded(bytes),
            Image::Grey { width, height, pixels } => ocr::Image::Grey((width, height, pixels)),
        };
        let lines = ocr::recognize(&image, &[]).map_err(host_error)?;
        let line = |line: ocr::Line| OcrLine {
            text: line.text,
            area: crate::Area {
                x: line.area.x,
                y: line.area.y,
                width: line.area.width,
                height: line.area.height,
            },
            confidence: line.confidence,
        };
        Ok(lines.into_iter().map(line).collect())
    }
}

fn block(block: Block) -> wit::Block {
    let (kind, level) = match block.kind {
        Kind::Title => (wit::BlockKind::Title, 0),
        Kind::Heading(level) => (wit::BlockKind::Heading, level.max(1)),
        Kind::Paragraph => (wit::BlockKind::Paragraph, 0),
        Kind::ListItem => (wit::BlockKind::ListItem, 0),
        Kind::Table => (wit::BlockKind::Table, 0),
        Kind::Code => (wit::BlockKind::Code, 0),
        Kind::Quote => (wit::BlockKind::Quote, 0),
        Kind::Caption => (wit::BlockKind::Caption, 0),
        Kind::Footnote => (wit::BlockKind::Footnote, 0),
        Kind::Image => (wit::BlockKind::Image, 0),
    };
    let area =
        block.area.map(|area| wit::Rect { x: area.x, y: area.y, width: area.width, height: area.height });
    let source = block.source.map(|range| wit::ByteRange { start: range.start, end: range.end });
    let location = wit::Location { page: block.page, part: block.part, row: block.row, area, source };
    wit::Block { kind, level, text: block.text, location }
}

/// In the order of `ragkit:types/error-code`.
const CODES: [wit::ErrorCode; 8] = [
    wit::ErrorCode::InvalidInput,
    wit::ErrorCode::Unsupported,
    wit::ErrorCode::NotFound,
    wit::ErrorCode::Conflict,
    wit::ErrorCode::Quota,
    wit::ErrorCode::Unavailable,
    wit::ErrorCode::Timeout,
    wit::ErrorCode::Internal,
];

fn host_error(error: wit::Error) -> HostError {
    let code = CODES.iter().position(|code| *code == error.code).unwrap_or(CODES.len() - 1);
    HostError { code: code as u8, message: error.message, retryable: error.retryable }
}

fn failed(error: DocError) -> wit::Error {
    let typed = |code, message| wit::Error { code, message, retryable: false };
    match error {
        DocError::Host(error) => wit::Error {
            code: CODES.get(usize::from(error.code)).copied().unwrap_or(wit::ErrorCode::Internal),
            message: error.message,
            retryable: error.retryable,
        },
        DocError::Unsupported(message) => typed(wit::ErrorCode::Unsupported, message),
        DocError::Invalid(message) => typed(wit::ErrorCode::InvalidInput, message),
        DocError::TooLarge(message) => typed(wit::ErrorCode::Quota, message),
    }
}
