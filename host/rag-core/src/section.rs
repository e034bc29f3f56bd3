//! How blocks become sections: pieces of a document's text that a chunker takes in one call.

use crate::document::{Block, BlockKind, BlockSpan, Heading, Location, ParsedSummary, Section, Span};
use crate::limits;

/// Every block is followed by a blank line, so that sections join without a seam.
const SEPARATOR: &str = "\n\n";

/// A section with its place in the document's text and its blocks' places in the original.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacedSection {
    /// First byte in the document's text.
    pub start: u64,
    pub section: Section,
    /// One per block of the section.
    pub locations: Vec<Location>,
}

/// Collects blocks and hands out sections of at most `limits::SECTION_BYTES_MAX` bytes.
#[derive(Debug, Default)]
pub struct Sectioner {
    start: u64,
    text: String,
    blocks: Vec<BlockSpan>,
    locations: Vec<Location>,
    /// Headings open at the end of `text`, and at its start.
    open: Vec<Heading>,
    outline: Vec<Heading>,
}

impl Sectioner {
    /// Takes a block; returns the section that it completes, if any. A large section ends before a heading.
    pub fn push(&mut self, block: Block, summary: &ParsedSummary) -> Vec<PlacedSection> {
        let mut complete = Vec::new();
        for piece in split_oversize(block) {
            let full = self.text.len() + piece.text.len() + SEPARATOR.len() > limits::SECTION_BYTES_MAX;
            let seam = piece.kind == BlockKind::Heading && self.text.len() > limits::SECTION_BYTES_MAX / 2;
            if full || seam {
                complete.extend(self.finish(summary));
            }
            self.add(piece);
        }
        complete
    }

    /// The section of what is left.
    pub fn finish(&mut self, summary: &ParsedSummary) -> Option<PlacedSection> {
        if self.blocks.is_empty() {
            return None;
        }
        let section = Section {
            text: std::mem::take(&mut self.text),
            blocks: std::mem::take(&mut self.blocks),
            title: summary.title.clone(),
            language: summary.language.clone(),
            outline: std::mem::replace(&mut self.outline, self.open.clone()),
        };
        let start = self.start;
        self.start += section.text.len() as u64;
        Some(PlacedSection { start, section, locations: std::mem::take(&mut self.locations) })
    }

    fn add(&mut self, block: Block) {
        if block.text.trim().is_empty() {
            return;
        }
        if matches!(block.kind, BlockKind::Heading | BlockKind::Title) {
            open_heading(&mut self.open, block.level.max(1), &block.text);
        }
        let start = self.text.len() as u64;
        self.text.push_str(&block.text);
        let span = Span { start, end: self.text.len() as u64 };
        self.text.push_str(SEPARATOR);
        self.blocks.push(BlockSpan { span, kind: block.kind, level: block.level, page: block.location.page });
        self.locations.push(block.location);
    }
}

/// Closes the headings of the same or a deeper level, then opens this one.
pub fn open_heading(open: &mut Vec<Heading>, level: u8, text: &str) {
    open.retain(|heading| heading.level < level);
    open.push(Heading { level, text: text.trim().to_owned() });
}

/// A block that alone is larger than a section is cut at characters; its pieces have no exact source.
fn split_oversize(block: Block) -> Vec<Block> {
    let piece_max = limits::SECTION_BYTES_MAX - SEPARATOR.len();
    if block.text.len() <= piece_max {
        return vec![block];
    }
    let mut pieces = Vec::new();
    let mut rest = block.text.as_str();
    while !rest.is_empty() {
        let mut end = rest.len().min(piece_max);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let location = Location { source: None, ..block.location.clone() };
        pieces.push(Block { kind: block.kind, level: block.level, text: rest[..end].to_owned(), location });
        rest = &rest[end..];
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(kind: BlockKind, level: u8, text: &str) -> Block {
        Block { kind, level, text: text.into(), location: Location::default() }
    }

    fn sections(blocks: Vec<Block>) -> Vec<PlacedSection> {
        let mut sectioner = Sectioner::default();
        let summary = ParsedSummary::default();
        let mut found: Vec<_> =
            blocks.into_iter().flat_map(|block| sectioner.push(block, &summary)).collect();
        found.extend(sectioner.finish(&summary));
        found
    }

    #[test]
    fn sections_tile_the_text_and_carry_the_open_headings() {
        let long = "长".repeat(limits::SECTION_BYTES_MAX / 6 + 10);
        let found = sections(vec![
            block(BlockKind::Heading, 1, "甲"),
            block(BlockKind::Paragraph, 0, &long),
            block(BlockKind::Heading, 2, "乙"),
            block(BlockKind::Paragraph, 0, &long),
            block(BlockKind::Heading, 2, "丙"),
            block(BlockKind::Paragraph, 0, "end"),
        ]);
        assert_eq!(found.len(), 3);
        assert!(found[1].section.text.starts_with("乙"));
        assert_eq!(found[1].section.outline, vec![Heading { level: 1, text: "甲".into() }]);
        assert_eq!(found[2].section.outline.last().map(|h| h.text.as_str()), Some("乙"));
        for pair in found.windows(2) {
            assert_eq!(pair[0].start + pair[0].section.text.len() as u64, pair[1].start);
        }
        for placed in &found {
            for (block, location) in placed.section.blocks.iter().zip(&placed.locations) {
                assert_eq!(location, &Location::default());
                assert!(!placed.section.text[block.span.start as usize..block.span.end as usize].is_empty());
            }
        }
    }

    #[test]
    fn a_block_larger_than_a_section_is_cut_at_characters() {
        let found = sections(vec![block(BlockKind::Paragraph, 0, &"字".repeat(limits::SECTION_BYTES_MAX))]);
        assert_eq!(found.len(), 4);
        let whole: String = found.iter().map(|placed| placed.section.text.trim_end()).collect();
        assert_eq!(whole.chars().count(), limits::SECTION_BYTES_MAX);
    }

    #[test]
    fn blank_blocks_leave_no_section() {
        assert!(sections(vec![block(BlockKind::Paragraph, 0, " \n ")]).is_empty());
    }
}
