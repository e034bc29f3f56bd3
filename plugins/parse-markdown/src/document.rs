//! What does a Markdown file hold, from its front matter to its last block?

use std::collections::VecDeque;

use guest_settings::Settings;
use guest_text::{ENCODINGS, Encoding, Lines, Source, TextError};

use crate::blocks::{self, Found};
use crate::front::{self, Front};
use crate::segments::Segments;

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Level from 1.
    Heading(u8),
    Paragraph,
    ListItem,
    Table,
    Code,
    Quote,
    Footnote,
}

/// A block with its place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub kind: Kind,
    /// As it stands in the file; of a heading its text alone.
    pub text: String,
    /// Line, from 1.
    pub row: u32,
    /// Bytes of the file that hold exactly this text, line ends apart; none where something was left out of it.
    pub source: Option<std::ops::Range<u64>>,
}

/// What is known of the file as a whole; complete once its last block was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// From the front matter, else the first heading of level 1.
    pub title: Option<String>,
    /// From the front matter, e.g. `zh`.
    pub language: Option<String>,
    /// The front matter and the file's encoding.
    pub attributes: Vec<(String, String)>,
}

/// The encoding named in the settings; none for `auto`. The error names the key and what it may be.
pub fn parse_encoding(json: &str) -> Result<Option<Encoding>, String> {
    let settings = Settings::parse(json, &["encoding"])?;
    let named = ENCODINGS.iter().map(|(name, encoding)| (*name, Some(*encoding)));
    let choices: Vec<_> = [("auto", None)].into_iter().chain(named).collect();
    settings.choice("encoding", &choices, None)
}

/// A Markdown file being read.
#[derive(Debug)]
pub struct Document<S> {
    segments: Segments<S>,
    ready: VecDeque<Block>,
    /// Whether any block was found.
    found: bool,
    front: Front,
    heading_title: Option<String>,
}

impl<S: Source> Document<S> {
    /// Reads the front matter. With `encoding` none it is guessed.
    pub fn open(source: S, encoding: Option<Encoding>) -> Result<Self, TextError<S::Error>> {
        let mut lines = Lines::open(source, encoding)?;
        let (front, others) = front::read(&mut lines)?;
        let segments = Segments::new(lines, others);
        Ok(Document { segments, ready: VecDeque::new(), found: false, front, heading_title: None })
    }

    /// Blocks worth about `bytes_max` bytes, at least one; none at the end. A file without any is an error.
    pub fn next(&mut self, bytes_max: usize) -> Result<Option<Vec<Block>>, TextError<S::Error>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max || batch.is_empty() {
            if self.ready.is_empty() && !self.read_segment()? {
                break;
            }
            if let Some(block) = self.ready.pop_front() {
                bytes += block.text.len();
                batch.push(block);
            }
        }
        self.found |= !batch.is_empty();
        if !self.found {
            return Err(TextError::Damaged("the file holds no text".to_owned()));
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// What is known so far.
    pub fn summary(&self) -> Summary {
        let mut attributes = self.front.attributes.clone();
        attributes.push(("encoding".to_owned(), self.segments.encoding().name().to_owned()));
        Summary {
            title: self.front.title.clone().or_else(|| self.heading_title.clone()),
            language: self.front.language.clone(),
            attributes,
        }
    }

    /// Reads one segment into `ready`; false at the end of the file.
    fn read_segment(&mut self) -> Result<bool, TextError<S::Error>> {
        let Some(segment) = self.segments.next()? else { return Ok(false) };
        let Found { blocks, title } = blocks::find(&segment);
        self.ready.extend(blocks);
        if self.heading_title.is_none() {
            self.heading_title = title;
        }
        Ok(true)
    }
}
