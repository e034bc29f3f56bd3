//! How does a parser's document become batches? Cleaned, cut to size, and refused when nothing is in it.

use std::collections::VecDeque;

use crate::text::{clean, pieces};
use crate::{Block, DocError, Kind, Result, Summary};

/// Bytes of one block's text; longer ones are cut.
const BLOCK_BYTES_MAX: usize = 64 << 10;
/// What the host takes of a title, and of an attribute.
const TITLE_CHARS_MAX: usize = 300;
const VALUE_CHARS_MAX: usize = 1_000;
const ATTRIBUTES_MAX: usize = 64;

/// A document being read.
pub trait Document {
    /// Pushes some further blocks, or none at all; false once there are no more.
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool>;
    /// What is known so far.
    fn summary(&self) -> Summary;
}

/// Hands a document out in batches.
#[expect(missing_debug_implementations, reason = "holds a parser")]
pub struct Session {
    document: Box<dyn Document>,
    ready: VecDeque<Block>,
    at_end: bool,
    /// Whether any block was found.
    found: bool,
}

impl Session {
    pub fn new(document: Box<dyn Document>) -> Self {
        Session { document, ready: VecDeque::new(), at_end: false, found: false }
    }

    /// Blocks worth about `bytes_max` bytes, at least one; none at the end. A document without any is an error.
    pub fn next(&mut self, bytes_max: usize) -> Result<Option<Vec<Block>>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max || batch.is_empty() {
            if let Some(block) = self.ready.pop_front() {
                bytes += block.text.len();
                batch.push(block);
            } else if self.at_end {
                break;
            } else {
                let mut found = Vec::new();
                self.at_end = !self.document.more(&mut found)?;
                self.ready.extend(found.into_iter().flat_map(fit));
            }
        }
        self.found |= !batch.is_empty();
        if !self.found {
            return Err(DocError::invalid("the file holds no text"));
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// What is known so far, within what the host takes.
    pub fn summary(&self) -> Summary {
        let Summary { title, language, attributes } = self.document.summary();
        let line = |text: &str, chars: usize| -> String {
            clean(text).split_whitespace().collect::<Vec<_>>().join(" ").chars().take(chars).collect()
        };
        let title = title.map(|title| line(&title, TITLE_CHARS_MAX)).filter(|title| !title.is_empty());
        let language = language.map(|language| line(&language, 40)).filter(|language| !language.is_empty());
        let attributes = attributes
            .into_iter()
            .take(ATTRIBUTES_MAX)
            .map(|(key, value)| (line(&key, 100), line(&value, VALUE_CHARS_MAX)))
            .filter(|(key, value)| !key.is_empty() && !value.is_empty())
            .collect();
        Summary { title, language, attributes }
    }
}

/// The block as the host takes it; one that is too long in pieces.
fn fit(block: Block) -> Vec<Block> {
    let cleaned = clean(&block.text);
    let trimmed = cleaned.trim();
    let text = match block.kind {
        Kind::Heading(_) | Kind::Title => crate::text::collapse(trimmed),
        Kind::Code if !trimmed.is_empty() => cleaned.into_owned(),
        _ => trimmed.to_owned(),
    };
    // What was cleaned is no longer the file's bytes.
    let source = block.source.clone().filter(|_| text == block.text);
    if text.len() <= BLOCK_BYTES_MAX {
        let keep = !text.is_empty();
        return keep.then_some(Block { text, source, ..block }).into_iter().collect();
    }
    let piece = |piece: &str| Block { text: piece.trim_end().to_owned(), source: None, ..block.clone() };
    pieces(&text, BLOCK_BYTES_MAX)
        .into_iter()
        .map(piece)
        .filter(|block| !block.text.trim().is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Given(Vec<Vec<Block>>);

    impl Document for Given {
        fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
            if self.0.is_empty() {
                return Ok(false);
            }
            blocks.extend(self.0.remove(0));
            Ok(true)
        }
        fn summary(&self) -> Summary {
            let mut summary = Summary { title: Some(" a\u{1}\n b ".repeat(300)), ..Summary::default() };
            summary.add("k\n", "v\u{0}");
            summary.add("blank", " ");
            summary
        }
    }

    #[test]
    fn blocks_are_cleaned_cut_and_batched() {
        let long = "字".repeat(50_000);
        let given = vec![
            vec![Block::new(Kind::Heading(1), " 一\n\u{7}题 ")],
            vec![],
            vec![Block::new(Kind::Paragraph, " \u{0} "), Block::new(Kind::Paragraph, &long)],
        ];
        let mut session = Session::new(Box::new(Given(given)));
        let mut all = Vec::new();
        while let Some(batch) = session.next(10).unwrap() {
            assert_eq!(batch.len(), if all.is_empty() { 2 } else { 1 });
            all.extend(batch);
        }
        assert_eq!(all[0].text, "一 题");
        assert_eq!(all[1..].iter().map(|block| block.text.as_str()).collect::<String>(), long);
        assert!(session.next(10).unwrap().is_none());
        let summary = session.summary();
        assert_eq!(summary.attributes, [("k".to_owned(), "v".to_owned())]);
        assert_eq!(summary.title.unwrap().chars().count(), 300);
    }

    #[test]
    fn nothing_is_an_error() {
        let mut session = Session::new(Box::new(Given(vec![vec![Block::new(Kind::Paragraph, " ")]])));
        assert_eq!(session.next(10), Err(DocError::invalid("the file holds no text")));
    }
}
