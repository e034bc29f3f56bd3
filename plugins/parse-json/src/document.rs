//! A JSON file from its lines to blocks, without ever holding more of it than a record.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::rc::Rc;

use guest_doc::{Block, DocError, Document, File, FileLines, Ocr, Result, Summary, lines};
use guest_settings::Settings;
use guest_text::Line;
use json_event_parser::{JsonEvent, JsonParseError, ReaderJsonParser, SliceJsonParser};

use crate::records::Records;

/// Bytes of one value, and of one line of JSON lines.
const VALUE_BYTES_MAX: usize = 8 << 20;
/// Bytes looked at to tell JSON lines that are called JSON.
const AHEAD_BYTES: usize = 256 << 10;

/// Opens a file of JSON or JSON lines.
pub fn open(file: Rc<dyn File>, _: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    Settings::parse(settings, &[]).map_err(DocError::Invalid)?;
    let named = file.media_type() == "application/jsonl";
    let mut input = Input { lines: lines(file)?, held: VecDeque::new() };
    if named || input.is_json_lines()? {
        return Ok(Box::new(JsonLines { input, records: Records::default() }));
    }
    let encoding = input.lines.encoding().name();
    let failure = Rc::default();
    let reader = LineReader { input, line: Vec::new(), at: 0, failure: Rc::clone(&failure) };
    let parser = ReaderJsonParser::new(reader).with_max_buffer_size(VALUE_BYTES_MAX);
    Ok(Box::new(Json { parser, failure, records: Records::default(), encoding }))
}

/// Lines, some of which were looked at already.
struct Input {
    lines: FileLines,
    held: VecDeque<Line>,
}

impl Input {
    fn next(&mut self) -> Result<Option<Line>> {
        match self.held.pop_front() {
            Some(line) => Ok(Some(line)),
            None => Ok(self.lines.next()?),
        }
    }

    /// Whether the first line is a value of its own and another one follows.
    fn is_json_lines(&mut self) -> Result<bool> {
        let (mut first, mut bytes, mut complete) = (String::new(), 0, false);
        let mut follows = false;
        while bytes < AHEAD_BYTES && !follows {
            let Some(line) = self.lines.next()? else { break };
            bytes += line.text.len() + 1;
            if complete {
                follows = line.text.trim_start().starts_with(['{', '[']);
                complete = line.is_blank();
            } else {
                first.push_str(&line.text);
                complete = line.ends && !first.trim().is_empty();
            }
            let stop = !complete && !follows && !first.trim().is_empty() && line.ends;
            self.held.push_back(line);
            if stop {
                break;
            }
        }
        Ok(follows && first.trim_start().starts_with(['{', '[']) && serves(&first))
    }

    /// A whole line with its number; none at the end.
    fn record(&mut self) -> Result<Option<(u32, String)>> {
        let Some(mut line) = self.next()? else { return Ok(None) };
        let mut text = std::mem::take(&mut line.text);
        let mut ends = line.ends;
        while !ends {
            let Some(more) = self.next()? else { break };
            text.push_str(&more.text);
            ends = more.ends;
            if text.len() > VALUE_BYTES_MAX {
                return Err(DocError::too_large(format!(
                    "line {} has more than {} MiB; JSON lines keep a record on each",
                    line.number,
                    VALUE_BYTES_MAX >> 20
                )));
            }
        }
        Ok(Some((line.number, text)))
    }
}

/// Whether a text is one JSON value.
fn serves(text: &str) -> bool {
    let mut parser = SliceJsonParser::new(text.as_bytes());
    loop {
        match parser.parse_next() {
            Ok(JsonEvent::Eof) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// The decoded text as bytes, line by line.
struct LineReader {
    input: Input,
    line: Vec<u8>,
    at: usize,
    /// Why reading failed, which `io::Error` cannot carry.
    failure: Rc<RefCell<Option<DocError>>>,
}

impl Read for LineReader {
    /// Fills the buffer: a value that is not complete is looked at from its start again after each read.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            if self.at >= self.line.len() && !self.next_line()? {
                break;
            }
            let rest = self.line.get(self.at..).unwrap_or_default();
            let count = rest.len().min(buffer.len() - filled);
            if let (Some(to), Some(from)) = (buffer.get_mut(filled..filled + count), rest.get(..count)) {
                to.copy_from_slice(from);
            }
            self.at += count;
            filled += count;
        }
        Ok(filled)
    }
}

impl LineReader {
    /// Takes the next line; false at the end.
    fn next_line(&mut self) -> io::Result<bool> {
        match self.input.next() {
            Ok(Some(line)) => {
                self.at = 0;
                self.line = line.text.into_bytes();
                if line.ends {
                    self.line.push(b'\n');
                }
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                let message = error.to_string();
                *self.failure.borrow_mut() = Some(error);
                Err(io::Error::other(message))
            }
        }
    }
}

struct Json {
    parser: ReaderJsonParser<LineReader>,
    failure: Rc<RefCell<Option<DocError>>>,
    records: Records,
    encoding: &'static str,
}

impl Document for Json {
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        while blocks.is_empty() {
            match self.parser.parse_next() {
                Ok(JsonEvent::Eof) => {
                    self.records.finish(blocks);
                    return Ok(false);
                }
                Ok(event) => self.records.event(event, blocks)?,
                Err(JsonParseError::Io(error)) => {
                    let failure = self.failure.borrow_mut().take();
                    // Without one it is the parser's own buffer that is full.
                    return Err(failure.unwrap_or_else(|| {
                        DocError::too_large(format!(
                            "a value has more than {} MiB: {error}",
                            VALUE_BYTES_MAX >> 20
                        ))
                    }));
                }
                Err(JsonParseError::Syntax(error)) => {
                    return Err(DocError::invalid(format!("the file is not valid JSON: {error}")));
                }
            }
        }
        Ok(true)
    }

    fn summary(&self) -> Summary {
        summary(&self.records, self.encoding)
    }
}

struct JsonLines {
    input: Input,
    records: Records,
}

impl Document for JsonLines {
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        let Some((number, text)) = self.input.record()? else { return Ok(false) };
        if text.trim().is_empty() {
            return Ok(true);
        }
        self.records.begin_line(number);
        let mut parser = SliceJsonParser::new(text.as_bytes());
        loop {
            match parser.parse_next() {
                Ok(JsonEvent::Eof) => break,
                Ok(event) => self.records.event(event, blocks)?,
                Err(error) => {
                    return Err(DocError::invalid(format!("line {number} is not valid JSON: {error}")));
                }
            }
        }
        self.records.finish(blocks);
        Ok(true)
    }

    fn summary(&self) -> Summary {
        summary(&self.records, self.input.lines.encoding().name())
    }
}

fn summary(records: &Records, encoding: &str) -> Summary {
    let mut summary = Summary::default();
    if records.count() > 0 {
        summary.add("records", &records.count().to_string());
    }
    summary.add("encoding", encoding);
    summary
}

#[cfg(test)]
mod tests;
