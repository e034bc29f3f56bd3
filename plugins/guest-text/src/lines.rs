//! The lines of a file, decoded; long ones in pieces.

use crate::encoding::Encoding;
use crate::pause::pause;
use crate::sniff::{self, Head};
use crate::{Source, TextError};

/// Bytes of a line, or of a piece of one, at most.
pub const LINE_BYTES_MAX: usize = 32 << 10;
/// Bytes read at once.
const WINDOW_BYTES: u32 = 256 << 10;
/// Bytes that the encoding is judged by.
const SAMPLE_BYTES: usize = 64 << 10;

/// A line without its end, or a piece of a line that is too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    /// From 1.
    pub number: u32,
    /// Byte of the file where it begins.
    pub start: u64,
    /// Its bytes, unless they are those of `text`.
    pub(crate) raw: Option<Vec<u8>>,
    pub(crate) encoding: Encoding,
    /// Whether it is the beginning of a line, and whether its end.
    pub begins: bool,
    pub ends: bool,
}

impl Line {
    /// Whether there is nothing to see in it.
    pub fn is_blank(&self) -> bool {
        self.text.chars().all(|c| c.is_whitespace() || c.is_control() || c == '\u{feff}')
    }
}

/// Reads lines from first to last.
#[derive(Debug)]
pub struct Lines<S> {
    source: S,
    /// None while every byte was ASCII.
    encoding: Option<Encoding>,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are done with, and the place of `buffer` in the file.
    used: usize,
    buffer_start: u64,
    number: u32,
    begins: bool,
    /// No byte before this place of the file is beyond ASCII, while `encoding` is none.
    ascii_end: u64,
}

impl<S: Source> Lines<S> {
    /// Looks at the first bytes. With `encoding` given nothing is guessed, but a byte order mark is skipped.
    pub fn open(source: S, encoding: Option<Encoding>) -> Result<Self, TextError<S::Error>> {
        if source.size() == 0 {
            return Err(TextError::Damaged("the file is empty".to_owned()));
        }
        let buffer = Vec::new();
        let (used, buffer_start, ascii_end) = (0, 0, 0);
        let mut lines =
            Lines { source, encoding, buffer, used, buffer_start, number: 1, begins: true, ascii_end };
        lines.fill(SAMPLE_BYTES)?;
        let sample = lines.buffer.get(..SAMPLE_BYTES).unwrap_or(&lines.buffer);
        match sniff::head(sample) {
            Head::Marked(marked, width) => {
                if encoding.is_none_or(|given| given == marked) {
                    lines.encoding = Some(marked);
                    lines.used = width;
                }
            }
            Head::Utf16(found) => lines.encoding = Some(encoding.unwrap_or(found)),
            Head::AsciiBased => {}
            // Any bytes may begin UTF-16; with it given, decoding tells what is none.
            Head::Binary(_) if encoding.is_some_and(|given| given.unit() == 2) => {}
            Head::Binary(what) => {
                return Err(TextError::NotText(format!("the file is not text: it is {what}")));
            }
        }
        Ok(lines)
    }

    /// The encoding; UTF-8 as long as only ASCII was seen.
    pub fn encoding(&self) -> Encoding {
        self.encoding.unwrap_or(Encoding::Utf8)
    }

    /// The next line; none at the end of the file.
    #[expect(clippy::should_implement_trait, reason = "it may fail, and its failure must not be skipped")]
    pub fn next(&mut self) -> Result<Option<Line>, TextError<S::Error>> {
        self.fill(LINE_BYTES_MAX + 4)?;
        self.settle()?;
        let encoding = self.encoding();
        let at_end = self.at_end();
        let rest = self.buffer.get(self.used..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let (raw, line_end) = match line_end(rest, encoding, at_end) {
            Some((length, end)) => (rest.get(..length).unwrap_or_default(), end),
            None if rest.len() <= LINE_BYTES_MAX => (rest, 0),
            None => (rest.get(..whole_chars(rest, encoding, LINE_BYTES_MAX)).unwrap_or_default(), 0),
        };
        let is_piece = line_end == 0 && raw.len() < rest.len();
        let start = self.buffer_start + self.used as u64;
        if encoding.unit() == 1
            && let Some(at) = raw.iter().position(|byte| *byte == 0)
        {
            let at = start + at as u64;
            return Err(TextError::NotText(format!(
                "the file is not text: it is binary data (a zero at byte {at})"
            )));
        }
        let mut text = encoding.decode(raw).ok_or_else(|| malformed(encoding, raw, start))?;
        let mut length = raw.len();
        if is_piece {
            text.truncate(pause(&text));
            length = raw_length(raw, &text, encoding);
        }
        let raw = (encoding != Encoding::Utf8).then(|| raw.get(..length).unwrap_or_default().to_vec());
        self.used += length + line_end;
        let ends = !is_piece;
        let line = Line { text, number: self.number, start, raw, encoding, begins: self.begins, ends };
        self.begins = ends;
        self.number = self.number.saturating_add(u32::from(ends));
        Ok(Some(line))
    }

    /// Decides the encoding at the first byte beyond ASCII of the coming line.
    fn settle(&mut self) -> Result<(), TextError<S::Error>> {
        if self.encoding.is_some() {
            return Ok(());
        }
        let soon = self.buffer.get(self.used..).unwrap_or_default();
        let soon = soon.get(..LINE_BYTES_MAX + 4).unwrap_or(soon);
        // What an earlier line looked at already is not looked at again.
        let start = self.buffer_start + self.used as u64;
        let known = self.ascii_end.saturating_sub(start) as usize;
        let ahead = soon.iter().enumerate().skip(known);
        let Some((at, _)) = ahead.into_iter().find(|(_, byte)| !byte.is_ascii()) else {
            self.ascii_end = start + soon.len() as u64;
            return Ok(());
        };
        self.fill(at + SAMPLE_BYTES)?;
        let sample = self.buffer.get(self.used + at..).unwrap_or_default();
        let sample = sample.get(..SAMPLE_BYTES).unwrap_or(sample);
        let Some(encoding) = sniff::encoding(sample) else {
            let at = self.buffer_start + (self.used + at) as u64;
            return Err(TextError::Damaged(format!(
                "the text is in no known encoding: from byte {at} on it is neither UTF-8 nor GB18030, Big5 or another \
                 that fits; name it with the setting 'encoding' or save the file as UTF-8"
            )));
        };
        self.encoding = Some(encoding);
        Ok(())
    }

    /// Reads on until `wanted` bytes lie ahead or the file ends.
    fn fill(&mut self, wanted: usize) -> Result<(), TextError<S::Error>> {
        while self.buffer.len() - self.used < wanted && !self.at_end() {
            self.buffer.drain(..self.used);
            self.buffer_start += self.used as u64;
            self.used = 0;
            let at = self.buffer_start + self.buffer.len() as u64;
            let bytes = self.source.read_at(at, WINDOW_BYTES).map_err(TextError::Source)?;
            if bytes.is_empty() {
                let size = self.source.size();
                return Err(TextError::Damaged(format!("the file ends at byte {at} of {size}")));
            }
            self.buffer.extend_from_slice(&bytes);
        }
        Ok(())
    }

    /// Whether `buffer` reaches to the end of the file.
    fn at_end(&self) -> bool {
        self.buffer_start + self.buffer.len() as u64 >= self.source.size()
    }
}

/// Bytes of the line that `bytes` begins with and of its end (`\n`, `\r\n` or `\r`), if it is no longer than a piece.
fn line_end(bytes: &[u8], encoding: Encoding, at_end: bool) -> Option<(usize, usize)> {
    let unit = encoding.unit();
    let within = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let is_break = |unit: u16| unit == 10 || unit == 13;
    let at = if unit == 1 {
        within.iter().position(|byte| is_break(u16::from(*byte)))?
    } else {
        within.chunks_exact(unit).position(|pair| is_break(encoding.unit_at(pair)))? * unit
    };
    let here = encoding.unit_at(bytes.get(at..)?);
    let after = bytes.get(at + unit..).unwrap_or_default();
    // At least four more bytes are ahead unless the file ends.
    let pair = here == 13 && after.len() >= unit && encoding.unit_at(after) == 10;
    debug_assert!(at_end || !after.is_empty());
    Some((at, if pair { 2 * unit } else { unit }))
}

/// The longest run of whole characters of at most `max` bytes.
fn whole_chars(bytes: &[u8], encoding: Encoding, max: usize) -> usize {
    if encoding == Encoding::Utf8 {
        let is_start = |at: &usize| bytes.get(*at).is_none_or(|byte| (byte & 0xc0) != 0x80);
        return (max.saturating_sub(4)..=max).rev().find(is_start).unwrap_or(max);
    }
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let next = at + encoding.width(rest);
        if next > max {
            break;
        }
        at = next;
    }
    at
}

/// Bytes of `raw` that decode to `text`, a beginning of what all of it decodes to.
pub(crate) fn raw_length(raw: &[u8], text: &str, encoding: Encoding) -> usize {
    if encoding == Encoding::Utf8 {
        return text.len();
    }
    let wanted = text.chars().count();
    let (mut at, mut chars) = (0, 0);
    while chars < wanted && at < raw.len() {
        let rest = raw.get(at..).unwrap_or_default();
        chars += encoding.decoded_chars(rest);
        at += encoding.width(rest);
    }
    at
}

fn malformed<E>(encoding: Encoding, raw: &[u8], start: u64) -> TextError<E> {
    let at = start + encoding.first_malformed(raw) as u64;
    TextError::Damaged(format!(
        "byte {at} is not valid {}; repair the file or name its encoding with the setting 'encoding'",
        encoding.name()
    ))
}
