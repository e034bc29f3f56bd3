//! Which lines of a JSON Lines file hold a text, and what is wrong with those that do not.

use std::fmt;
use std::io::{BufRead, Read};

use serde_json::Value;

use super::{DatasetError, END_OF_DOCUMENT, LINE_BYTES_MAX, LISTED_ERRORS_MAX, TOKENS_MAX};

/// One bad line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// From 1.
    pub line: usize,
    pub fault: LineFault,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineFault {
    TooLong,
    NotUtf8,
    /// With the parser's own words.
    NotJson(String),
    NotAnObject,
    NoText,
    TextIsNotAString,
    TextIsEmpty,
    /// The tokenizer gave an id outside 1 to 65535.
    Token(u32),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.fault {
            LineFault::TooLong => write!(f, "longer than {LINE_BYTES_MAX} bytes"),
            LineFault::NotUtf8 => f.write_str("not UTF-8"),
            LineFault::NotJson(message) => write!(f, "not JSON: {message}"),
            LineFault::NotAnObject => f.write_str("not a JSON object"),
            LineFault::NoText => f.write_str("no \"text\""),
            LineFault::TextIsNotAString => f.write_str("\"text\" is not a string"),
            LineFault::TextIsEmpty => f.write_str("\"text\" is empty"),
            LineFault::Token(id) => write!(f, "token {id} is outside 1 to 65535"),
        }
    }
}

/// The token ids of every document, each with its end. All bad lines are found before an error is returned.
pub(super) fn documents(
    mut source: impl BufRead,
    tokenize: &dyn Fn(&str) -> Vec<u32>,
) -> Result<Vec<Vec<u16>>, DatasetError> {
    let mut documents = Vec::new();
    let (mut listed, mut total) = (Vec::new(), 0);
    let (mut tokens, mut number) = (0_usize, 0);
    let mut line = Vec::new();
    while read_line(&mut source, &mut line)? {
        number += 1;
        match document(&line, tokenize) {
            Ok(None) => {}
            Ok(Some(document)) => {
                tokens += document.len();
                if tokens > TOKENS_MAX {
                    return Err(DatasetError::TooLarge);
                }
                documents.push(document);
            }
            Err(fault) => {
                total += 1;
                if listed.len() < LISTED_ERRORS_MAX {
                    listed.push(LineError { line: number, fault });
                }
            }
        }
    }
    match (total, documents.len()) {
        (0, 0) => Err(DatasetError::Empty),
        (0, _) => Ok(documents),
        _ => Err(DatasetError::Lines { listed, total }),
    }
}

/// Reads a line without its end; of one that is too long only the beginning is kept. False at the end of the source.
fn read_line(source: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, DatasetError> {
    line.clear();
    let limit = LINE_BYTES_MAX as u64 + 1;
    if source.by_ref().take(limit).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.len() > LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        source.skip_until(b'\n')?;
    }
    Ok(true)
}

fn document(line: &[u8], tokenize: &dyn Fn(&str) -> Vec<u32>) -> Result<Option<Vec<u16>>, LineFault> {
    if line.len() > LINE_BYTES_MAX {
        return Err(LineFault::TooLong);
    }
    let line = std::str::from_utf8(line).map_err(|_| LineFault::NotUtf8)?.trim();
    // A byte order mark is how some editors begin a UTF-8 file.
    let line = line.strip_prefix('\u{feff}').unwrap_or(line);
    if line.is_empty() {
        return Ok(None);
    }
    let value: Value = serde_json::from_str(line).map_err(|error| LineFault::NotJson(error.to_string()))?;
    let object = value.as_object().ok_or(LineFault::NotAnObject)?;
    let text = object.get("text").ok_or(LineFault::NoText)?.as_str().ok_or(LineFault::TextIsNotAString)?;
    if text.trim().is_empty() {
        return Err(LineFault::TextIsEmpty);
    }
    let ids = tokenize(text).into_iter().chain([u32::from(END_OF_DOCUMENT)]);
    let mut tokens = Vec::new();
    for id in ids {
        tokens.push(u16::try_from(id).map_err(|_| LineFault::Token(id))?);
    }
    match tokens.split_last() {
        Some((_, text)) if text.contains(&END_OF_DOCUMENT) => Err(LineFault::Token(0)),
        _ => Ok(Some(tokens)),
    }
}
