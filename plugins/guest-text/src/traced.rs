//! Text put together from lines, and the bytes of the file behind any part of it.

use std::ops::Range;

use crate::lines::{Line, raw_length};

/// Lines joined by `\n`, each with its place in the file.
#[derive(Debug, Clone, Default)]
pub struct Traced {
    text: String,
    marks: Vec<Mark>,
}

#[derive(Debug, Clone)]
struct Mark {
    /// Where the line begins in `text`.
    at: usize,
    line: Line,
}

/// A part of a file's text without white space at either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub text: String,
    /// Line of its first character, from 1.
    pub row: u32,
    /// Bytes of the file that hold exactly this text, line ends apart; none when control characters were dropped.
    pub source: Option<Range<u64>>,
}

impl Traced {
    /// Appends a line.
    pub fn push(&mut self, mut line: Line) {
        if line.begins && !self.text.is_empty() {
            self.text.push('\n');
        }
        let at = self.text.len();
        self.text.push_str(&line.text);
        line.text = String::new();
        self.marks.push(Mark { at, line });
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// The part of the text in `range`; none when it is blank or not on characters.
    pub fn piece(&self, range: Range<usize>) -> Option<Piece> {
        let raw = self.text.get(range.clone())?;
        let is_blank = |c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}';
        let body = raw.trim_start_matches(is_blank);
        let start = range.end - body.len();
        let body = body.trim_end_matches(is_blank);
        if body.is_empty() {
            return None;
        }
        let row = self.mark(start)?.line.number;
        let is_dropped = |c: char| c.is_control() && c != '\n' && c != '\t';
        if body.contains(is_dropped) {
            return Some(Piece { text: body.replace(is_dropped, ""), row, source: None });
        }
        let end = start + body.len();
        Some(Piece { text: body.to_owned(), row, source: Some(self.source(start)?..self.source(end)?) })
    }

    /// Byte of the file behind byte `at` of the text; for the end of a line, the byte after its last.
    pub fn source(&self, at: usize) -> Option<u64> {
        let mark = self.mark(at)?;
        let text = self.text.get(mark.at..at)?;
        let length = match &mark.line.raw {
            Some(raw) => raw_length(raw, text, mark.line.encoding),
            None => text.len(),
        };
        Some(mark.line.start + length as u64)
    }

    /// The line that holds byte `at` of the text.
    fn mark(&self, at: usize) -> Option<&Mark> {
        let after = self.marks.partition_point(|mark| mark.at <= at);
        self.marks.get(after.checked_sub(1)?)
    }
}
