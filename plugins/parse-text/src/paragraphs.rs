//! Which paragraphs does a text file have? Lines up to a blank one; very long ones in pieces.

use guest_settings::Settings;
use guest_text::{ENCODINGS, Encoding, Lines, Piece, Source, TextError, Traced};

/// Bytes of a paragraph's text after which it is cut at the end of a line.
const PARAGRAPH_BYTES_MAX: usize = 32 << 10;

/// The encoding named in the settings; none for `auto`. The error names the key and what it may be.
pub fn parse_encoding(json: &str) -> Result<Option<Encoding>, String> {
    let settings = Settings::parse(json, &["encoding"])?;
    let named = ENCODINGS.iter().map(|(name, encoding)| (*name, Some(*encoding)));
    let choices: Vec<_> = [("auto", None)].into_iter().chain(named).collect();
    settings.choice("encoding", &choices, None)
}

/// The paragraphs of a file, from first to last.
#[derive(Debug)]
pub struct Paragraphs<S> {
    lines: Lines<S>,
    /// Whether a paragraph was found.
    found: bool,
}

impl<S: Source> Paragraphs<S> {
    /// With `encoding` none it is guessed.
    pub fn open(source: S, encoding: Option<Encoding>) -> Result<Self, TextError<S::Error>> {
        Ok(Paragraphs { lines: Lines::open(source, encoding)?, found: false })
    }

    /// The encoding of what was read so far.
    pub fn encoding(&self) -> Encoding {
        self.lines.encoding()
    }

    /// Paragraphs worth about `bytes_max` bytes, at least one; none at the end. A file without any is an error.
    pub fn next(&mut self, bytes_max: usize) -> Result<Option<Vec<Piece>>, TextError<S::Error>> {
        let mut pieces = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max || pieces.is_empty() {
            let Some(piece) = self.paragraph(PARAGRAPH_BYTES_MAX.min(bytes_max))? else { break };
            bytes += piece.text.len();
            pieces.push(piece);
        }
        self.found |= !pieces.is_empty();
        if !self.found {
            return Err(TextError::Damaged("the file holds nothing but white space".to_owned()));
        }
        Ok((!pieces.is_empty()).then_some(pieces))
    }

    /// The next paragraph; cut at the end of a line once it has `bytes_max` bytes.
    fn paragraph(&mut self, bytes_max: usize) -> Result<Option<Piece>, TextError<S::Error>> {
        let mut text = Traced::default();
        while let Some(line) = self.lines.next()? {
            let ends = line.ends;
            let is_blank = line.is_blank();
            if !is_blank {
                text.push(line);
            }
            // A piece of a line too long for memory is a paragraph of its own.
            let complete = if text.is_empty() { false } else { is_blank || !ends };
            if complete || text.text().len() >= bytes_max {
                break;
            }
        }
        Ok(text.piece(0..text.text().len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Memory<'a>(&'a [u8]);

    impl Source for Memory<'_> {
        type Error = ();
        fn size(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_at(&self, offset: u64, len: u32) -> Result<Vec<u8>, ()> {
            let rest = &self.0[offset as usize..];
            Ok(rest[..rest.len().min(len as usize)].to_vec())
        }
    }

    fn read(bytes: &[u8], bytes_max: usize) -> Result<Vec<Piece>, TextError<()>> {
        let mut paragraphs = Paragraphs::open(Memory(bytes), None)?;
        let mut all = Vec::new();
        while let Some(pieces) = paragraphs.next(bytes_max)? {
            all.extend(pieces);
        }
        Ok(all)
    }

    #[test]
    fn blank_lines_part_paragraphs() {
        let text =
            "\n第一段第一行\n  第一段第二行。\n \t\n\nSecond paragraph.\r\nIts second line.\r\n\r\n　末段";
        let found = read(text.as_bytes(), 1 << 20).unwrap();
        let texts: Vec<(&str, u32)> = found.iter().map(|piece| (piece.text.as_str(), piece.row)).collect();
        assert_eq!(
            texts,
            [("第一段第一行\n  第一段第二行。", 2), ("Second paragraph.\nIts second line.", 6), ("末段", 9),]
        );
        for piece in &found {
            let source = piece.source.clone().unwrap();
            let raw = &text[source.start as usize..source.end as usize];
            assert_eq!(raw.replace("\r\n", "\n"), piece.text);
        }
        assert_eq!(read(text.as_bytes(), 1).unwrap().len(), 5, "cut at every line");
    }

    #[test]
    fn a_long_paragraph_is_cut_between_lines_and_a_long_line_within() {
        let text = "一行诗，没有空行。\n".repeat(5_000);
        let found = read(text.as_bytes(), 1 << 20).unwrap();
        assert!(found.len() > 3);
        assert!(found.iter().all(|piece| piece.text.ends_with("空行。") && piece.text.len() < 33_000));
        let text = "无换行。".repeat(50_000);
        let found = read(text.as_bytes(), 1 << 20).unwrap();
        assert!(found.len() > 10 && found.iter().all(|piece| piece.row == 1));
        assert_eq!(found.iter().map(|piece| piece.text.as_str()).collect::<String>(), text);
    }

    #[test]
    fn empty_and_blank_files_are_errors() {
        for (bytes, words) in
            [(&b""[..], "empty"), (b" \n\r\n\t\n", "white space"), (b"\xef\xbb\xbf", "white space")]
        {
            let Err(TextError::Damaged(message)) = read(bytes, 1 << 20) else { panic!("{words}") };
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn settings_name_an_encoding() {
        assert_eq!(parse_encoding("{}"), Ok(None));
        assert_eq!(parse_encoding(r#"{"encoding": "auto"}"#), Ok(None));
        assert_eq!(parse_encoding(r#"{"encoding": "big5"}"#), Ok(Some(Encoding::Big5)));
        let error = parse_encoding(r#"{"encoding": "latin"}"#).unwrap_err();
        assert!(error.contains("'encoding' must be one of auto, utf-8"), "{error}");
        assert!(parse_encoding(r#"{"charset": "big5"}"#).unwrap_err().contains("'charset'"));
    }
}
