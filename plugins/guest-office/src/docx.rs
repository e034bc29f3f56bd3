//! What does a docx hold? Paragraphs by their styles, lists, tables, footnotes; deletions and field codes left out.

use std::collections::VecDeque;
use std::rc::Rc;

use guest_archive::{Archive, Element, Event, Xml};
use guest_doc::{Block, DocError, Document, File, Kind, Ocr, Result, Summary, table};

use crate::package;
use crate::styles::Styles;

/// Text of all blocks, in bytes: they are held until the host takes them.
const TEXT_BYTES_MAX: usize = 128 << 20;
/// Columns that a cell may span, and tables within tables.
const SPAN_MAX: usize = 64;
const TABLES_DEEP_MAX: usize = 8;

/// Opens a docx.
pub fn open(file: Rc<dyn File>, _: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    package::no_settings(settings)?;
    let mut archive = Archive::open(file)?;
    let mut summary = package::summary(&mut archive)?;
    let main = main_part(&mut archive)?;
    let Some(text) = archive.xml(&main)? else {
        return Err(DocError::unsupported("the archive is no docx file: it has no word/document.xml"));
    };
    let styles = match archive.xml("word/styles.xml")? {
        Some(text) => Styles::read(&text)?,
        None => Styles::default(),
    };
    let paged = text.contains("lastRenderedPageBreak");
    let mut reader = Body { styles: &styles, page: paged.then_some(1), ..Body::new(&styles) };
    reader.read(&text)?;
    let mut blocks = reader.blocks;
    for notes in ["word/footnotes.xml", "word/endnotes.xml"] {
        if let Some(text) = archive.xml(notes)? {
            let mut reader = Body { note: true, ..Body::new(&styles) };
            reader.read(&text)?;
            blocks.extend(reader.blocks);
        }
    }
    if summary.title.is_none() {
        let title = blocks.iter().find(|block| matches!(block.kind, Kind::Title | Kind::Heading(1)));
        summary.title = title.map(|block| block.text.clone());
    }
    Ok(Box::new(Docx { blocks, summary }))
}

/// The document's own part, wherever its relations say that it is.
fn main_part(archive: &mut Archive) -> Result<String> {
    let relations = package::relations(archive, "")?;
    let main = relations.into_values().find(|(_, kind)| kind == "officeDocument");
    Ok(main.map_or_else(|| "word/document.xml".to_owned(), |(target, _)| target))
}

struct Docx {
    blocks: VecDeque<Block>,
    summary: Summary,
}

impl Document for Docx {
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        blocks.extend(self.blocks.pop_front());
        Ok(!self.blocks.is_empty())
    }

    fn summary(&self) -> Summary {
        self.summary.clone()
    }
}

/// A paragraph being read.
#[derive(Debug, Default)]
struct Paragraph {
    text: String,
    style: String,
    is_item: bool,
    outline: Option<u8>,
}

/// A table being read.
#[derive(Debug, Default)]
struct Table {
    rows: Vec<Vec<String>>,
    /// Paragraphs of the open cell, joined.
    cell: String,
    span: usize,
}

struct Body<'s> {
    styles: &'s Styles,
    blocks: VecDeque<Block>,
    /// Text boxes hold paragraphs within a paragraph.
    paragraphs: Vec<Paragraph>,
    tables: Vec<Table>,
    /// As the program that saved the file last laid it out.
    page: Option<u32>,
    note: bool,
    in_text: bool,
    bytes: usize,
}

impl<'s> Body<'s> {
    fn new(styles: &'s Styles) -> Self {
        Body {
            styles,
            blocks: VecDeque::new(),
            paragraphs: Vec::new(),
            tables: Vec::new(),
            page: None,
            note: false,
            in_text: false,
            bytes: 0,
        }
    }

    fn read(&mut self, text: &str) -> Result<()> {
        let mut xml = Xml::new(text);
        // Elements whose content is another form of what stands beside them, or no text of the document.
        let mut skipped = 0_usize;
        while let Some(event) = xml.next()? {
            match event {
                Event::Start(element) => {
                    let skip =
                        matches!(element.name(), "Fallback" | "del" | "moveFrom" | "instrText" | "sectPr");
                    if skip || skipped > 0 {
                        skipped += 1;
                        continue;
                    }
                    self.start(&element)?;
                }
                Event::End(_) if skipped > 0 => skipped -= 1,
                Event::End(name) => self.end(&name)?,
                Event::Text(text) if self.in_text && skipped == 0 => self.push(&text),
                Event::Text(_) => {}
            }
        }
        Ok(())
    }

    fn push(&mut self, text: &str) {
        if let Some(paragraph) = self.paragraphs.last_mut() {
            paragraph.text.push_str(text);
        }
    }

    fn start(&mut self, element: &Element<'_>) -> Result<()> {
        let value = || element.attribute("val").unwrap_or_default();
        match element.name() {
            "p" => self.paragraphs.push(Paragraph::default()),
            "t" => self.in_text = true,
            "tab" | "ptab" if !self.paragraphs.is_empty() => self.push("\t"),
            "br" | "cr" if element.attribute("type").as_deref() != Some("page") => self.push("\n"),
            "noBreakHyphen" => self.push("-"),
            "lastRenderedPageBreak" => self.page = self.page.map(|page| page + 1),
            "pStyle" => self.paragraph(|paragraph, value| paragraph.style = value, value()),
            "outlineLvl" => {
                self.paragraph(|paragraph, value| paragraph.outline = value.parse().ok(), value())
            }
            "numId" => self.paragraph(|paragraph, value| paragraph.is_item = value != "0", value()),
            "tbl" => {
                if self.tables.len() >= TABLES_DEEP_MAX {
                    return Err(DocError::too_large(format!(
                        "tables are nested deeper than {TABLES_DEEP_MAX}"
                    )));
                }
                self.tables.push(Table::default());
            }
            "tr" => self.table(|table| table.rows.push(Vec::new())),
            "tc" => self.table(|table| (table.span, table.cell) = (1, String::new())),
            "gridSpan" => {
                let span = value().parse::<usize>().unwrap_or(1).clamp(1, SPAN_MAX);
                self.table(|table| table.span = span);
            }
            _ => {}
        }
        Ok(())
    }

    fn paragraph(&mut self, set: impl FnOnce(&mut Paragraph, String), value: String) {
        if let Some(paragraph) = self.paragraphs.last_mut() {
            set(paragraph, value);
        }
    }

    fn table(&mut self, change: impl FnOnce(&mut Table)) {
        if let Some(table) = self.tables.last_mut() {
            change(table);
        }
    }

    fn end(&mut self, name: &str) -> Result<()> {
        match name {
            "t" => self.in_text = false,
            "p" => {
                let Some(paragraph) = self.paragraphs.pop() else { return Ok(()) };
                return self.end_paragraph(&paragraph);
            }
            "tc" => self.table(|table| {
                let cell = std::mem::take(&mut table.cell);
                let span = table.span.max(1);
                if let Some(row) = table.rows.last_mut() {
                    row.push(cell);
                    row.extend((1..span).map(|_| String::new()));
                }
            }),
            "tbl" => return self.end_table(),
            _ => {}
        }
        Ok(())
    }

    fn end_paragraph(&mut self, paragraph: &Paragraph) -> Result<()> {
        let text = paragraph.text.trim_matches(['\n', ' ', '\t', '\u{a0}']);
        if text.is_empty() {
            return Ok(());
        }
        self.bytes += text.len();
        if self.bytes > TEXT_BYTES_MAX {
            return Err(DocError::too_large(format!(
                "the document has more than {} MiB of text",
                TEXT_BYTES_MAX >> 20
            )));
        }
        if let Some(table) = self.tables.last_mut() {
            if !table.cell.is_empty() {
                table.cell.push(' ');
            }
            table.cell.push_str(text);
            return Ok(());
        }
        let kind = match (self.note, paragraph.outline.filter(|level| *level < 9)) {
            (true, _) => Kind::Footnote,
            (false, Some(level)) => Kind::Heading(level + 1),
            (false, None) => match self.styles.kind(&paragraph.style) {
                Kind::Paragraph if paragraph.is_item => Kind::ListItem,
                kind => kind,
            },
        };
        let block = Block { page: self.page, ..Block::new(kind, text) };
        // Lines of code stand in paragraphs of their own.
        match self.blocks.back_mut() {
            Some(last) if kind == Kind::Code && last.kind == Kind::Code => {
                last.text.push('\n');
                last.text.push_str(text);
            }
            _ => self.blocks.push_back(block),
        }
        Ok(())
    }

    fn end_table(&mut self) -> Result<()> {
        let Some(table) = self.tables.pop() else { return Ok(()) };
        if let Some(outer) = self.tables.last_mut() {
            // A table in a cell becomes the cell's text.
            let cells = table.rows.iter().flatten().filter(|cell| !cell.trim().is_empty());
            for cell in cells {
                if !outer.cell.is_empty() {
                    outer.cell.push(' ');
                }
                outer.cell.push_str(cell);
            }
            return Ok(());
        }
        let columns = table.rows.iter().map(Vec::len).max().unwrap_or(0);
        if columns == 1 {
            // A frame around text, not a table.
            for cell in table.rows.iter().flatten().filter(|cell| !cell.trim().is_empty()) {
                self.blocks.push_back(Block { page: self.page, ..Block::new(Kind::Paragraph, cell) });
            }
            return Ok(());
        }
        for part in table::tables(&table.rows) {
            self.blocks.push_back(Block { page: self.page, ..Block::new(Kind::Table, part) });
        }
        Ok(())
    }
}
