//! Which blocks does a segment of Markdown hold?

use std::ops::Range;

use guest_text::Traced;
use pulldown_cmark::{Event, OffsetIter, Options, Parser, Tag, TagEnd};

use crate::document::{Block, Kind};
use crate::html;

/// Bytes of a table above which it is given in parts, each with the header.
const TABLE_BYTES_MAX: usize = 128 << 10;

/// The blocks of a segment, and its first heading of level 1 as plain text.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) blocks: Vec<Block>,
    pub(crate) title: Option<String>,
}

/// Reads a segment.
pub(crate) fn find(segment: &Traced) -> Found {
    let options = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES;
    let events = Parser::new_ext(segment.text(), options).into_offset_iter();
    let mut reader = Reader { segment, events, items: Vec::new(), inline: None, found: Found::default() };
    reader.read();
    reader.found
}

struct Reader<'s> {
    segment: &'s Traced,
    events: OffsetIter<'s>,
    /// Where each open list item begins, until its first text is found.
    items: Vec<Option<usize>>,
    /// Text directly within a list item.
    inline: Option<Inline>,
    found: Found,
}

/// A run of text with the comments within it.
#[derive(Debug, Default)]
struct Inline {
    range: Range<usize>,
    comments: Vec<Range<usize>>,
    plain: String,
}

impl Inline {
    fn add(&mut self, event: &Event<'_>, range: &Range<usize>) {
        if self.range.is_empty() {
            self.range = range.clone();
        }
        self.range.end = self.range.end.max(range.end);
        match event {
            Event::InlineHtml(html) if html.starts_with("<!--") => self.comments.push(range.clone()),
            Event::Text(text) | Event::Code(text) => self.plain.push_str(text),
            Event::SoftBreak | Event::HardBreak => self.plain.push(' '),
            _ => {}
        }
    }
}

impl Reader<'_> {
    fn read(&mut self) {
        while let Some((event, range)) = self.events.next() {
            if is_inline(&event) {
                self.inline.get_or_insert_default().add(&event, &range);
                continue;
            }
            self.end_inline();
            match event {
                Event::Start(Tag::Heading { level, .. }) => self.heading(level as u8),
                Event::Start(Tag::Paragraph) => self.paragraph(),
                Event::Start(Tag::Item) => self.items.push(Some(range.start)),
                Event::End(TagEnd::Item) => {
                    self.items.pop();
                }
                Event::Start(Tag::List(_)) | Event::End(TagEnd::List(_)) | Event::Rule => {}
                Event::Start(tag) => self.container(&tag, range),
                _ => {}
            }
        }
        self.end_inline();
    }

    /// A block that is kept whole.
    fn container(&mut self, tag: &Tag<'_>, range: Range<usize>) {
        self.skip();
        let kind = match tag {
            Tag::CodeBlock(_) => Kind::Code,
            Tag::Table(_) => return self.table(range),
            Tag::BlockQuote(_) => Kind::Quote,
            Tag::FootnoteDefinition(_) => Kind::Footnote,
            Tag::HtmlBlock => return self.html(range),
            _ => Kind::Paragraph,
        };
        self.open_item();
        self.push(kind, range);
    }

    /// Leaves the block whose start was read.
    fn skip(&mut self) {
        let mut depth = 1;
        while depth > 0 {
            match self.events.next() {
                Some((Event::Start(_), _)) => depth += 1,
                Some((Event::End(_), _)) => depth -= 1,
                Some(_) => {}
                None => break,
            }
        }
    }

    /// The text up to the end of the block whose start was read.
    fn text(&mut self) -> Inline {
        let mut inline = Inline::default();
        let mut depth = 1;
        for (event, range) in self.events.by_ref() {
            match &event {
                Event::Start(_) => depth += 1,
                Event::End(_) => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            inline.add(&event, &range);
        }
        inline
    }

    fn heading(&mut self, level: u8) {
        let inline = self.text();
        self.open_item();
        let title = inline.plain.split_whitespace().collect::<Vec<_>>().join(" ");
        if level == 1 && self.found.title.is_none() && !title.is_empty() {
            self.found.title = Some(title.chars().filter(|c| !c.is_control()).take(300).collect());
        }
        self.push_without(Kind::Heading(level), inline.range, &inline.comments);
    }

    fn paragraph(&mut self) {
        let inline = self.text();
        match self.open_item() {
            Some(start) => self.push_without(Kind::ListItem, start..inline.range.end, &inline.comments),
            None => self.push_without(Kind::Paragraph, inline.range, &inline.comments),
        }
    }

    /// Ends the text that stands directly within a list item.
    fn end_inline(&mut self) {
        if let Some(inline) = self.inline.take() {
            let item = self.open_item();
            let kind = if self.items.is_empty() { Kind::Paragraph } else { Kind::ListItem };
            let start = item.unwrap_or(inline.range.start);
            self.push_without(kind, start..inline.range.end, &inline.comments);
        }
    }

    /// Where the innermost open list item begins, once.
    fn open_item(&mut self) -> Option<usize> {
        self.items.last_mut().and_then(Option::take)
    }

    fn html(&mut self, range: Range<usize>) {
        let raw = self.segment.text().get(range.clone()).unwrap_or_default();
        let comments = html::comments(raw);
        let mut visible = raw.to_owned();
        for comment in comments.iter().rev() {
            visible.replace_range(comment.clone(), "");
        }
        if html::has_text(&visible) {
            let comments: Vec<_> =
                comments.into_iter().map(|c| range.start + c.start..range.start + c.end).collect();
            self.push_without(Kind::Paragraph, range, &comments);
        }
    }

    /// A table; when it is very long, parts of its rows below its header.
    fn table(&mut self, range: Range<usize>) {
        self.open_item();
        if range.len() <= TABLE_BYTES_MAX {
            return self.push(Kind::Table, range);
        }
        let Some(whole) = self.segment.piece(range.clone()) else { return };
        let mut ends = whole.text.match_indices('\n').map(|(at, _)| at);
        let (Some(_), Some(header_end)) = (ends.next(), ends.next()) else {
            return self.push(Kind::Table, range);
        };
        let (header, rows) = whole.text.split_at(header_end);
        let mut part = String::new();
        let parts = rows.split_inclusive('\n').filter(|row| !row.trim().is_empty());
        let mut finish = |part: &mut String| {
            let text = format!("{header}\n{}", std::mem::take(part).trim_end());
            self.found.blocks.push(Block { kind: Kind::Table, text, row: whole.row, source: None });
        };
        for row in parts {
            if !part.is_empty() && part.len() + row.len() > TABLE_BYTES_MAX {
                finish(&mut part);
            }
            part.push_str(row);
        }
        if !part.is_empty() {
            finish(&mut part);
        }
    }

    fn push(&mut self, kind: Kind, range: Range<usize>) {
        if let Some(piece) = self.segment.piece(range) {
            self.found.blocks.push(Block { kind, text: piece.text, row: piece.row, source: piece.source });
        }
    }

    /// Pushes a block without the comments within it.
    fn push_without(&mut self, kind: Kind, range: Range<usize>, comments: &[Range<usize>]) {
        if comments.is_empty() {
            return self.push(kind, range);
        }
        let mut text = String::new();
        let mut at = range.start;
        for comment in comments {
            text.push_str(self.segment.text().get(at..comment.start).unwrap_or_default());
            at = comment.end;
        }
        text.push_str(self.segment.text().get(at..range.end).unwrap_or_default());
        let Some(piece) = self.segment.piece(range) else { return };
        let text: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
        let text = text.trim();
        if !text.is_empty() {
            self.found.blocks.push(Block { kind, text: text.to_owned(), row: piece.row, source: None });
        }
    }
}

/// Text, and marks around it, rather than the start or end of a block.
fn is_inline(event: &Event<'_>) -> bool {
    match event {
        Event::Start(tag) => matches!(
            tag,
            Tag::Emphasis
                | Tag::Strong
                | Tag::Strikethrough
                | Tag::Superscript
                | Tag::Subscript
                | Tag::Link { .. }
                | Tag::Image { .. }
        ),
        Event::End(tag) => matches!(
            tag,
            TagEnd::Emphasis
                | TagEnd::Strong
                | TagEnd::Strikethrough
                | TagEnd::Superscript
                | TagEnd::Subscript
                | TagEnd::Link
                | TagEnd::Image
        ),
        Event::Rule | Event::Html(_) => false,
        _ => true,
    }
}
