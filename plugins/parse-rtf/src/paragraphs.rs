//! Paragraphs, rows and notes as they are completed.

use guest_doc::{Block, Kind, table};

/// Bytes of a paragraph, and of a table's rows, after which it is handed on.
const PARAGRAPH_BYTES_MAX: usize = 1 << 20;
const ROWS_BYTES_MAX: usize = 256 << 10;

/// How the paragraph at hand is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// Of the heading that it is.
    pub(crate) heading: Option<u8>,
    pub(crate) in_table: bool,
    /// Number of its style.
    pub(crate) number: i32,
}

/// Text being put together.
#[derive(Debug, Default)]
pub(crate) struct Paragraphs {
    /// Of the paragraph at hand.
    pub(crate) text: String,
    /// Whether a number or bullet stands before it.
    pub(crate) is_item: bool,
    cell: String,
    row: Vec<String>,
    rows: Vec<Vec<String>>,
    rows_bytes: usize,
    /// Notes of the paragraph at hand.
    notes: Vec<Block>,
    pub(crate) blocks: Vec<Block>,
}

impl Paragraphs {
    /// Whether the text at hand is too long to wait for its end.
    pub(crate) fn is_full(&self) -> bool {
        self.text.len() > PARAGRAPH_BYTES_MAX
    }

    /// Ends the paragraph.
    pub(crate) fn end(&mut self, style: Style) {
        let text = std::mem::take(&mut self.text);
        let is_item = std::mem::take(&mut self.is_item);
        if style.in_table {
            if !self.cell.is_empty() {
                self.cell.push(' ');
            }
            self.cell.push_str(text.trim());
            return;
        }
        let text = text.trim();
        if !text.is_empty() {
            self.end_table();
            let kind = match style.heading {
                Some(level) => Kind::Heading(level),
                None if is_item => Kind::ListItem,
                None => Kind::Paragraph,
            };
            self.blocks.push(Block::new(kind, text));
        }
        self.blocks.append(&mut self.notes);
    }

    /// Ends a cell of the row at hand.
    pub(crate) fn end_cell(&mut self, style: Style) {
        self.end(Style { in_table: true, ..style });
        self.row.push(std::mem::take(&mut self.cell));
    }

    /// Ends the row at hand.
    pub(crate) fn end_row(&mut self) {
        let row = std::mem::take(&mut self.row);
        self.rows_bytes += row.iter().map(String::len).sum::<usize>();
        self.rows.push(row);
        if self.rows_bytes > ROWS_BYTES_MAX {
            self.end_table();
        }
    }

    /// Gives the table at hand.
    pub(crate) fn end_table(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        self.rows_bytes = 0;
        let parts = table::tables(&rows);
        self.blocks.extend(parts.into_iter().map(|part| Block::new(Kind::Table, part)));
    }

    /// Adds a note; it follows the paragraph that refers to it.
    pub(crate) fn note(&mut self, text: &str) {
        self.notes.push(Block::new(Kind::Footnote, text.trim()));
    }

    /// Gives everything that is left.
    pub(crate) fn finish(&mut self) {
        if !self.cell.is_empty() || !self.row.is_empty() {
            self.end_cell(Style::default());
            self.end_row();
        }
        self.end(Style::default());
        self.end_table();
    }
}
