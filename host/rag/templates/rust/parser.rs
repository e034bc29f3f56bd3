//! A parser: UTF-8 text, one block a line. Change `MEDIA_TYPES` and `lines`; the rest is what every parser needs.

/// What it reads; the manifest says the same.
pub const MEDIA_TYPES: [&str; 1] = ["text/x-lines"];

/// The lines that are not blank, each with its number and where it stands, without control characters.
pub fn lines(text: &str) -> Vec<(u32, usize, String)> {
    let mut found = Vec::new();
    let mut start = 0;
    for (line, row) in text.split_inclusive('\n').zip(1..) {
        let body: String = line.trim().chars().filter(|c| !c.is_control() || *c == '\t').collect();
        if !body.is_empty() {
            found.push((row, start + line.len() - line.trim_start().len(), body));
        }
        start += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_know_their_place() {
        let found = lines("甲\n\n  b\r\n");
        assert_eq!(found, [(1, 0, "甲".to_owned()), (3, 7, "b".to_owned())]);
    }
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    wit_bindgen::generate!({ path: "wit", world: "parser-plugin", generate_all });

    use std::cell::RefCell;

    use exports::ragkit::plugin::{info, parser};
    use ragkit::host::{blob::Blob, config};
    use ragkit::types::types::{Block, BlockKind, ByteRange, Error, ErrorCode, Location};

    /// Bytes read at once, and of a whole file.
    const WINDOW: u32 = 1 << 20;
    const FILE_BYTES_MAX: u64 = 64 << 20;

    struct Plugin;
    export!(Plugin);

    fn error(code: ErrorCode, message: String) -> Error {
        Error { code, message, retryable: false }
    }

    impl info::Guest for Plugin {
        fn describe() -> info::Info {
            info::Info {
                id: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
            }
        }
    }

    /// Blocks that the host has not pulled yet.
    struct Session(RefCell<std::vec::IntoIter<Block>>);

    impl parser::Guest for Plugin {
        type Session = Session;

        fn accepts() -> Vec<String> {
            super::MEDIA_TYPES.map(str::to_owned).to_vec()
        }

        fn open(source: Blob) -> Result<parser::Session, Error> {
            let settings = config::settings();
            if settings.trim() != "{}" {
                let message = format!("this parser has no settings; it was given {settings}");
                return Err(error(ErrorCode::InvalidInput, message));
            }
            if source.size() > FILE_BYTES_MAX {
                return Err(error(ErrorCode::Quota, format!("a file of more than {FILE_BYTES_MAX} bytes")));
            }
            let mut bytes = Vec::new();
            loop {
                let more = source.read_at(bytes.len() as u64, WINDOW)?;
                if more.is_empty() {
                    break;
                }
                bytes.extend(more);
            }
            let text = String::from_utf8(bytes)
                .map_err(|_| error(ErrorCode::Unsupported, "the file is not UTF-8 text".to_owned()))?;
            let block = |(row, start, text): (u32, usize, String)| Block {
                kind: BlockKind::Paragraph,
                level: 0,
                location: Location {
                    page: None,
                    part: None,
                    row: Some(row),
                    area: None,
                    source: Some(ByteRange { start: start as u64, end: (start + text.len()) as u64 }),
                },
                text,
            };
            let blocks: Vec<Block> = super::lines(&text).into_iter().map(block).collect();
            Ok(parser::Session::new(Session(RefCell::new(blocks.into_iter()))))
        }
    }

    impl parser::GuestSession for Session {
        fn next(&self, max_bytes: u32) -> Result<Option<Vec<Block>>, Error> {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while bytes < max_bytes as usize
                && let Some(block) = self.0.borrow_mut().next()
            {
                bytes += block.text.len();
                batch.push(block);
            }
            Ok(if batch.is_empty() { None } else { Some(batch) })
        }

        fn summary(&self) -> parser::Parsed {
            parser::Parsed { title: None, language: None, attributes: Vec::new() }
        }
    }
}
