//! What are a page's lines: headings, paragraphs, items of lists, code? By type size, gaps, indents and marks.

use guest_doc::text::{is_wide, join_line};
use guest_doc::{Area, Block, Kind};

use crate::document::{Item, PageText};
use crate::glyphs::Direction;
use crate::lines::Line;

/// How much larger than the body's type a heading's is, and how long it may be.
const HEADING_RATIO: f32 = 1.12;
const HEADING_CHARS_MAX: usize = 160;
/// Bytes of a paragraph after which the next line begins another.
const PARAGRAPH_BYTES_MAX: usize = 8 << 10;

/// Puts lines together, from page to page.
#[derive(Debug)]
pub(crate) struct Layout {
    body: f32,
    /// Type sizes of headings, largest first: their place is their level.
    headings: Vec<f32>,
    open: Option<Open>,
}

/// The block that the next line may belong to.
#[derive(Debug)]
struct Open {
    kind: Kind,
    text: String,
    page: u32,
    area: Area,
    /// Its first and last line.
    first: Line,
    last: Line,
    /// Where lines of its column end.
    right: f32,
}

impl Layout {
    /// The document's type sizes.
    pub(crate) fn of(pages: &[PageText]) -> Self {
        let mut sizes: Vec<(u32, usize)> = Vec::new();
        for line in pages.iter().flat_map(PageText::lines) {
            let step = step(line.size);
            let weight = line.text.chars().count() * if line.mono { 1 } else { 4 };
            match sizes.iter_mut().find(|(known, _)| *known == step) {
                Some((_, chars)) => *chars += weight,
                None => sizes.push((step, weight)),
            }
        }
        let body = sizes.iter().max_by_key(|(_, chars)| *chars).map_or(10.0, |(step, _)| *step as f32 / 4.0);
        let mut headings: Vec<f32> = Vec::new();
        let mut large: Vec<f32> = pages
            .iter()
            .flat_map(PageText::lines)
            .filter(|line| is_heading(line, body))
            .map(|line| line.size)
            .collect();
        large.sort_by(|a, b| b.total_cmp(a));
        for size in large {
            if headings.last().is_none_or(|last| size < last * 0.96) {
                headings.push(size);
            }
        }
        Layout { body, headings, open: None }
    }

    /// Adds a page's lines and tables.
    pub(crate) fn page(&mut self, number: u32, items: Vec<Item>, blocks: &mut Vec<Block>) {
        let ends: Vec<(f32, f32)> = items
            .iter()
            .filter_map(|item| match item {
                Item::Line(line) => Some((line.start, line.end)),
                Item::Table(_) => None,
            })
            .collect();
        for item in items {
            match item {
                Item::Line(line) => {
                    let column =
                        ends.iter().filter(|(start, _)| (start - line.start).abs() < line.size * 4.0);
                    let right = column.map(|(_, end)| *end).fold(line.end, f32::max);
                    self.line(number, line, right, blocks);
                }
                Item::Table(table) => {
                    self.flush(blocks);
                    for part in table.parts {
                        blocks.push(Block {
                            area: Some(table.area),
                            ..Block::new(Kind::Table, part).on_page(number)
                        });
                    }
                }
            }
        }
    }

    /// Ends the open block.
    pub(crate) fn flush(&mut self, blocks: &mut Vec<Block>) {
        if let Some(open) = self.open.take() {
            let text = if open.kind == Kind::Code { open.text } else { shorten_leaders(&open.text) };
            blocks.push(Block { area: Some(open.area), ..Block::new(open.kind, text).on_page(open.page) });
        }
    }

    fn line(&mut self, page: u32, line: Line, right: f32, blocks: &mut Vec<Block>) {
        let kind = self.kind(&line);
        if let Some(open) = self.open.as_mut()
            && open.goes_on(kind, page, &line)
        {
            return open.add(page, line, right);
        }
        self.flush(blocks);
        let area = line.area();
        let text = line.text.clone();
        self.open = Some(Open { kind, text, page, area, first: line.clone(), last: line, right });
    }

    fn kind(&self, line: &Line) -> Kind {
        if is_heading(line, self.body) {
            let level = self.headings.iter().position(|size| line.size > size * 0.96).unwrap_or(5);
            return Kind::Heading(level.min(5) as u8 + 1);
        }
        match () {
            () if line.mono => Kind::Code,
            () if begins_item(&line.text) => Kind::ListItem,
            () => Kind::Paragraph,
        }
    }
}

impl Open {
    fn goes_on(&self, kind: Kind, page: u32, line: &Line) -> bool {
        let size = self.last.size.max(line.size);
        let ratio = line.size / self.last.size;
        let gap = line.base - self.last.base;
        let same_type = (0.85..1.18).contains(&ratio) && line.direction == self.last.direction;
        if self.text.len() > PARAGRAPH_BYTES_MAX || !same_type {
            return false;
        }
        match (self.kind, kind) {
            (Kind::Code, Kind::Code) => page == self.page && gap > 0.0 && gap < size * 3.2,
            (Kind::Heading(a), Kind::Heading(b)) => {
                a == b && page == self.page && gap > 0.0 && gap < size * 1.6 && !begins_number(&line.text)
            }
            (Kind::Paragraph | Kind::ListItem, Kind::Paragraph) => {
                self.paragraph_goes_on(page, line, gap, size)
            }
            _ => false,
        }
    }

    fn paragraph_goes_on(&self, page: u32, line: &Line, gap: f32, size: f32) -> bool {
        let width = (self.right - self.first.start.min(self.last.start)).max(size);
        let short = self.right - self.last.end > (width * 0.12).max(size * 2.0);
        let ended = ends_sentence(&self.last.text);
        let first = line.text.chars().next();
        if has_leaders(&self.last.text) {
            return false;
        }
        if page != self.page || gap < 0.0 {
            // The next page or column: only in the middle of a sentence.
            let lower = first.is_some_and(|c| c.is_lowercase() || is_wide(c));
            return !ended && !short && lower && self.last.direction == Direction::Right;
        }
        if gap > size * 2.1 || gap < size * 0.3 {
            return false;
        }
        if short
            && (ended || !first.is_some_and(char::is_lowercase) && self.right - self.last.end > width * 0.4)
        {
            return false;
        }
        let indent = line.start - self.last.start;
        let is_first = self.first.base == self.last.base;
        // A further paragraph may begin with an indent; below an item's mark its text is indented.
        !(indent > size * 1.2 && self.kind == Kind::Paragraph && (ended || !is_first))
    }

    fn add(&mut self, page: u32, line: Line, right: f32) {
        if self.kind == Kind::Code {
            let pitch = line.size * 1.8;
            let blank = line.base - self.last.base > pitch;
            self.text.push_str(if blank { "\n\n" } else { "\n" });
            // Six tenths of the size is the usual width of monospaced type.
            let indent = ((line.start - self.first.start) / (line.size * 0.6)).round().clamp(0.0, 40.0);
            self.text.push_str(&" ".repeat(indent as usize));
            self.text.push_str(&line.text);
        } else {
            join_line(&mut self.text, &line.text);
        }
        if page == self.page {
            self.area = self.area.union(line.area());
            self.right = self.right.max(right);
        } else {
            self.right = right;
        }
        self.last = line;
    }
}

fn is_heading(line: &Line, body: f32) -> bool {
    let chars = line.text.chars().count();
    line.size >= body * HEADING_RATIO
        && line.direction == Direction::Right
        && (1..=HEADING_CHARS_MAX).contains(&chars)
        && line.text.chars().filter(|c| c.is_alphabetic()).count() * 3 >= chars
        && !has_leaders(&line.text)
}

/// Sizes in quarters of a point.
fn step(size: f32) -> u32 {
    (size.clamp(0.0, 1_000.0) * 4.0).round() as u32
}

fn begins_number(text: &str) -> bool {
    text.chars().next().is_some_and(|c| c.is_ascii_digit())
}

fn ends_sentence(text: &str) -> bool {
    let end = text.trim_end_matches(['”', '’', '"', '\'', '）', ')', '」', '』', '》', ' ']);
    end.ends_with(['。', '！', '？', '；', '：', '.', '!', '?', ';', ':', '…'])
}

/// A bullet, or a number or letter with a point or bracket.
fn begins_item(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars.next();
    if matches!(first, Some('•' | '‣' | '◦' | '▪' | '■' | '●' | '○' | '◆' | '➢' | '✓' | '·'))
    {
        return true;
    }
    if matches!(first, Some('-' | '–' | '—' | '*')) {
        return chars.next() == Some(' ');
    }
    let inner = text.trim_start_matches(['(', '（']);
    let opened = inner.len() < text.len();
    let mark: String = inner.chars().take_while(|c| c.is_alphanumeric()).take(4).collect();
    let after = inner.chars().nth(mark.chars().count());
    let next = inner.chars().nth(mark.chars().count() + 1);
    let numeral = |c: char| c.is_ascii_digit() || "一二三四五六七八九十".contains(c);
    let is_mark = !mark.is_empty()
        && mark.chars().count() <= 3
        && (mark.chars().all(numeral) || mark.len() == 1 && mark.chars().all(|c| c.is_ascii_lowercase()));
    match after {
        Some(')' | '）') => is_mark && (opened || next.is_none_or(|c| c == ' ' || is_wide(c))),
        Some('.' | '．') => is_mark && next.is_some_and(|c| c == ' ' || is_wide(c)),
        Some('、') => is_mark,
        _ => false,
    }
}

/// Dots that lead from an entry of a table of contents to its page.
fn has_leaders(text: &str) -> bool {
    text.contains(". . . .") || text.contains(".....") || text.contains("………")
}

/// Leaders as one mark: they are drawn, not written.
fn shorten_leaders(text: &str) -> String {
    if !has_leaders(text) {
        return text.to_owned();
    }
    let mut short = String::with_capacity(text.len());
    let mut run = String::new();
    let end = |run: &mut String, short: &mut String| {
        if run.chars().filter(|c| matches!(c, '.' | '…')).count() >= 4 {
            short.push_str(" … ");
        } else {
            short.push_str(run);
        }
        run.clear();
    };
    for c in text.chars() {
        if matches!(c, '.' | '…') || (c == ' ' && !run.is_empty()) {
            run.push(c);
        } else {
            end(&mut run, &mut short);
            short.push(c);
        }
    }
    end(&mut run, &mut short);
    short.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_told_by_their_marks() {
        for text in ["• one", "- two", "1. three", "(2) four", "三、五", "a) six", "（一）七", "10．八"]
        {
            assert!(begins_item(text), "{text}");
        }
        for text in ["2024 was a year", "1.5 times", "a word", "一些文字", "-x flag", "no. 3", "e.g. this"]
        {
            assert!(!begins_item(text), "{text}");
        }
    }

    #[test]
    fn leaders_are_shortened() {
        assert_eq!(shorten_leaders("1.1 安装 . . . . . . . . 12"), "1.1 安装 … 12");
        assert_eq!(shorten_leaders("Intro............ 3 Next....... 5"), "Intro … 3 Next … 5");
        assert_eq!(shorten_leaders("An end... then"), "An end... then");
    }
}
