//! What a document is made of: blocks in reading order, each with its place.

use std::ops::Range;

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Title,
    /// Level from 1.
    Heading(u8),
    Paragraph,
    ListItem,
    /// Markdown with its header row.
    Table,
    Code,
    Quote,
    Caption,
    Footnote,
    Image,
}

/// Rectangle on a page in points, origin at the top left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

impl Area {
    /// The smallest one around both.
    pub fn union(self, other: Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.width).max(other.x + other.width);
        let bottom = (self.y + self.height).max(other.y + other.height);
        Area { x, y, width: right - x, height: bottom - y }
    }
}

/// A piece of a document with its place in the original.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    pub kind: Kind,
    pub text: String,
    /// Page, slide or sheet number, from 1.
    pub page: Option<u32>,
    /// Sheet, chapter file or part name.
    pub part: Option<String>,
    /// Row of a sheet, line of a text, from 1.
    pub row: Option<u32>,
    pub area: Option<Area>,
    /// Bytes of the file that hold exactly this text once decoded.
    pub source: Option<Range<u64>>,
}

impl Block {
    /// Without a place.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Block { kind, text: text.into(), page: None, part: None, row: None, area: None, source: None }
    }

    /// On a page, slide or sheet, from 1.
    #[must_use]
    pub fn on_page(self, page: u32) -> Self {
        Block { page: Some(page), ..self }
    }

    /// In a named part.
    #[must_use]
    pub fn in_part(self, part: &str) -> Self {
        Block { part: Some(part.to_owned()), ..self }
    }

    /// In a row or line, from 1.
    #[must_use]
    pub fn at_row(self, row: u32) -> Self {
        Block { row: Some(row), ..self }
    }
}

/// What is known of a document as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub title: Option<String>,
    /// E.g. `zh`.
    pub language: Option<String>,
    /// At most 64 pairs reach the host.
    pub attributes: Vec<(String, String)>,
}

impl Summary {
    /// Adds an attribute unless its value is blank.
    pub fn add(&mut self, key: &str, value: &str) {
        let value = value.trim();
        if !value.is_empty() {
            self.attributes.push((key.to_owned(), value.to_owned()));
        }
    }
}
