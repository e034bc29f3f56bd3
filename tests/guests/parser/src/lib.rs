//! A parser that does what its settings name: `{"do": "endless"}`. It reads lines of `name: text`.

wit_bindgen::generate!({ path: "../../../wit", world: "parser-plugin", generate_all });

use std::cell::Cell;
use std::hint::black_box;

use exports::ragkit::plugin::info;
use exports::ragkit::plugin::parser::{self, Blob, Parsed, Session};
use ragkit::host::{config, ocr};
use ragkit::types::types::{Block, BlockKind, ByteRange, Error, ErrorCode, Location};

struct Hostile;
export!(Hostile);

impl info::Guest for Hostile {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl parser::Guest for Hostile {
    type Session = Reading;

    fn accepts() -> Vec<String> {
        vec!["text/plain".to_owned()]
    }

    fn open(source: Blob) -> Result<Session, Error> {
        let settings = config::settings();
        let behaviour = settings.split('"').nth(3).unwrap_or("good").to_owned();
        match behaviour.as_str() {
            "unsupported" => return Err(error(ErrorCode::Unsupported, "this is no text")),
            "trap-in-open" => core::arch::wasm32::unreachable(),
            "sniff" => {
                let about = format!("{} {} {}", source.size(), source.name(), source.media_type());
                return Err(error(ErrorCode::Internal, &about));
            }
            _ => {}
        }
        Ok(Session::new(Reading { source, behaviour, batches: Cell::new(0) }))
    }
}

struct Reading {
    source: Blob,
    behaviour: String,
    batches: Cell<u32>,
}

impl parser::GuestSession for Reading {
    fn next(&self, max_bytes: u32) -> Result<Option<Vec<Block>>, Error> {
        let batch = self.batches.get();
        self.batches.set(batch + 1);
        match self.behaviour.as_str() {
            "good" | "long-title" | "many-attributes" | "trap-in-drop" => self.good(batch),
            "endless" => Ok(Some(vec![block("more")])),
            "endless-empty" => Ok(Some(Vec::new())),
            "too-large-a-batch" => Ok(Some(vec![block(&"x".repeat(20 << 20))])),
            "loop-in-next" => loop {
                black_box(max_bytes);
            },
            "trap-in-second-next" if batch == 1 => core::arch::wasm32::unreachable(),
            "trap-in-second-next" => Ok(Some(vec![block("first")])),
            "control-characters" => Ok(Some(vec![block("bell\u{7}")])),
            "source-out-of-file" => {
                let mut wrong = block("x");
                wrong.location.source = Some(ByteRange { start: 0, end: self.source.size() + 1 });
                Ok(Some(vec![wrong]))
            }
            "read-for-ever" => loop {
                self.source.read_at(0, 1 << 20)?;
            },
            "read-too-much" => self.source.read_at(0, u32::MAX).map(|_| None),
            "read-past-the-end" => {
                let bytes = self.source.read_at(u64::MAX - 1, 10)?;
                Err(error(ErrorCode::Internal, &format!("{} bytes", bytes.len())))
            }
            "ocr" => ocr::recognize(&ocr::Image::Grey((1, 1, vec![0])), &[]).map(|_| None),
            unknown => Err(error(ErrorCode::Internal, &format!("no behaviour '{unknown}'"))),
        }
    }

    fn summary(&self) -> Parsed {
        let title = match self.behaviour.as_str() {
            "long-title" => "x".repeat(1 << 20),
            _ => self.source.name(),
        };
        let attributes = match self.behaviour.as_str() {
            "many-attributes" => vec![("key".to_owned(), "value".to_owned()); 1_000],
            _ => Vec::new(),
        };
        Parsed { title: Some(title), language: None, attributes }
    }
}

impl Reading {
    /// One line a batch.
    fn good(&self, batch: u32) -> Result<Option<Vec<Block>>, Error> {
        let bytes = self.source.read_at(0, 1 << 20)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().nth(batch as usize).map(|line| vec![block(line)]))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.behaviour == "trap-in-drop" {
            core::arch::wasm32::unreachable()
        }
    }
}

fn block(text: &str) -> Block {
    let location = Location { page: None, part: None, row: None, area: None, source: None };
    Block { kind: BlockKind::Paragraph, level: 0, text: text.to_owned(), location }
}

fn error(code: ErrorCode, message: &str) -> Error {
    Error { code, message: message.to_owned(), retryable: false }
}
