//! Which values belong together? Those of an element of the outermost array; outside arrays those of one member.

use guest_doc::{Block, DocError, Kind, Result};
use json_event_parser::JsonEvent;

/// Objects and arrays within each other.
const DEPTH_MAX: usize = 256;
/// Bytes after which a record goes on in another block.
const RECORD_BYTES: usize = 24 << 10;
/// Characters of a record that stands on one line.
const LINE_CHARS: usize = 300;
/// Characters of the place of a value.
const PATH_CHARS_MAX: usize = 400;

/// What is open.
#[derive(Debug)]
enum Open {
    Object(String),
    Array(u64),
}

/// Takes the events of a file and makes blocks of them.
#[derive(Debug, Default)]
pub(crate) struct Records {
    stack: Vec<Open>,
    /// How much was open where the record at hand began, and its place.
    record: Option<(usize, String)>,
    /// Names with their values, in the order of the file.
    pairs: Vec<(String, String)>,
    bytes: usize,
    row: Option<u32>,
    count: u64,
}

impl Records {
    /// Records so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// What comes next is a record on a line of its own.
    pub(crate) fn begin_line(&mut self, number: u32) {
        self.row = Some(number);
        self.record = Some((0, String::new()));
        self.count += 1;
    }

    pub(crate) fn event(&mut self, event: JsonEvent<'_>, blocks: &mut Vec<Block>) -> Result<()> {
        match event {
            JsonEvent::StartObject => self.enter(Open::Object(String::new()), blocks)?,
            JsonEvent::StartArray => self.enter(Open::Array(0), blocks)?,
            JsonEvent::EndObject | JsonEvent::EndArray => self.leave(blocks),
            JsonEvent::ObjectKey(key) => {
                if let Some(Open::Object(name)) = self.stack.last_mut() {
                    *name = key.into_owned();
                }
            }
            JsonEvent::String(text) | JsonEvent::Number(text) => self.value(&text, blocks),
            JsonEvent::Boolean(value) => self.value(if value { "true" } else { "false" }, blocks),
            JsonEvent::Null => self.next(),
            JsonEvent::Eof => {}
        }
        Ok(())
    }

    /// Gives what is left.
    pub(crate) fn finish(&mut self, blocks: &mut Vec<Block>) {
        self.flush(blocks);
        self.record = None;
    }

    fn enter(&mut self, opened: Open, blocks: &mut Vec<Block>) -> Result<()> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(DocError::too_large(format!(
                "JSON is nested deeper than {DEPTH_MAX} objects and arrays"
            )));
        }
        if self.record.is_none() {
            if matches!(self.stack.last(), Some(Open::Array(_))) {
                self.flush(blocks);
                self.record = Some((self.stack.len(), self.path(true)));
                self.count += 1;
            } else if self.stack.len() == 1 {
                self.flush(blocks);
            }
        }
        self.stack.push(opened);
        Ok(())
    }

    fn leave(&mut self, blocks: &mut Vec<Block>) {
        self.stack.pop();
        let ends_record =
            self.row.is_none() && self.record.as_ref().is_some_and(|(depth, _)| *depth == self.stack.len());
        if ends_record {
            self.flush(blocks);
            self.record = None;
        } else if self.record.is_none() && self.stack.len() == 1 {
            self.flush(blocks);
        }
        self.next();
    }

    /// One more element of the open array is done.
    fn next(&mut self) {
        if let Some(Open::Array(index)) = self.stack.last_mut() {
            *index += 1;
        }
    }

    fn value(&mut self, text: &str, blocks: &mut Vec<Block>) {
        let in_array = matches!(self.stack.last(), Some(Open::Array(_)));
        let path = self.path(false);
        self.next();
        if text.trim().is_empty() {
            return;
        }
        if self.bytes > RECORD_BYTES {
            self.flush(blocks);
        }
        self.bytes += text.len();
        match self.pairs.last_mut().filter(|(name, _)| in_array && *name == path) {
            Some((_, values)) => {
                values.push('、');
                values.push_str(text.trim());
            }
            None => {
                self.bytes += path.len();
                self.pairs.push((path, text.trim().to_owned()));
            }
        }
    }

    /// Where the next value stands: names joined by dots, with the places of objects in arrays within a record. With
    /// `all` the places of every array.
    fn path(&self, all: bool) -> String {
        let first = self.record.as_ref().map_or(usize::MAX, |(depth, _)| *depth);
        let mut path = String::new();
        for (at, open) in self.stack.iter().enumerate() {
            match open {
                Open::Object(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                }
                // That of the record itself, and of the last array, would be in the way of reading.
                Open::Array(index) if all || at >= first && at + 1 < self.stack.len() => {
                    path.push_str(&format!("[{index}]"));
                }
                Open::Array(_) => {}
            }
            if path.len() > PATH_CHARS_MAX * 4 {
                break;
            }
        }
        path.chars().take(PATH_CHARS_MAX).collect()
    }

    fn flush(&mut self, blocks: &mut Vec<Block>) {
        let pairs = std::mem::take(&mut self.pairs);
        self.bytes = 0;
        if pairs.is_empty() {
            return;
        }
        let shown: Vec<String> = pairs
            .iter()
            .map(|(name, value)| if name.is_empty() { value.clone() } else { format!("{name}：{value}") })
            .collect();
        let chars: usize = shown.iter().map(|pair| pair.chars().count()).sum();
        let short = chars <= LINE_CHARS && !shown.iter().any(|pair| pair.contains('\n'));
        let text = shown.join(if short { "；" } else { "\n" });
        let part = self.record.as_ref().map(|(_, path)| path.clone()).filter(|path| !path.is_empty());
        blocks.push(Block { part, row: self.row, ..Block::new(Kind::Paragraph, text) });
    }
}
