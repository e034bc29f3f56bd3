//! What do the slides of a pptx say? Titles, paragraphs and tables in the order of the slides, each with its notes.

use std::collections::HashMap;
use std::rc::Rc;

use guest_archive::{Archive, Element, Event, Xml};
use guest_doc::{Block, DocError, Document, File, Kind, Ocr, Result, Summary, table};

use crate::package;

/// Slides of one file.
const SLIDES_MAX: usize = 5_000;
/// Name of the part that blocks of speaker notes carry.
const NOTES: &str = "notes";

/// Opens a pptx.
pub fn open(file: Rc<dyn File>, _: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    package::no_settings(settings)?;
    let mut archive = Archive::open(file)?;
    let mut summary = package::summary(&mut archive)?;
    let Some(text) = archive.xml("ppt/presentation.xml")? else {
        return Err(DocError::unsupported("the archive is no pptx file: it has no ppt/presentation.xml"));
    };
    let relations = package::relations(&mut archive, "ppt/presentation.xml")?;
    let slides = slides(&text, &relations)?;
    summary.add("slides", &slides.len().to_string());
    Ok(Box::new(Pptx { archive, slides, next: 0, summary }))
}

/// The slides' parts in their order.
fn slides(text: &str, relations: &HashMap<String, (String, String)>) -> Result<Vec<String>> {
    let mut slides = Vec::new();
    let mut xml = Xml::new(text);
    while let Some(event) = xml.next()? {
        let Event::Start(element) = event else { continue };
        if element.name() != "sldId" {
            continue;
        }
        let target =
            element.prefixed("r:id").and_then(|id| relations.get(&id).map(|(target, _)| target.clone()));
        slides.extend(target);
        if slides.len() > SLIDES_MAX {
            return Err(DocError::too_large(format!("the presentation has more than {SLIDES_MAX} slides")));
        }
    }
    Ok(slides)
}

struct Pptx {
    archive: Archive,
    slides: Vec<String>,
    next: usize,
    summary: Summary,
}

impl Document for Pptx {
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        let Some(part) = self.slides.get(self.next).cloned() else { return Ok(false) };
        self.next += 1;
        let number = self.next as u32;
        if let Some(text) = self.archive.xml(&part)? {
            let found = Slide::read(&text, false)?;
            if self.summary.title.is_none() {
                let title = found.iter().find(|block| block.kind == Kind::Heading(1));
                self.summary.title = title.map(|block| block.text.clone());
            }
            blocks.extend(found.into_iter().map(|block| block.on_page(number)));
        }
        let notes = package::relations(&mut self.archive, &part)?;
        let notes = notes.into_values().find(|(_, kind)| kind == "notesSlide");
        if let Some((part, _)) = notes
            && let Some(text) = self.archive.xml(&part)?
        {
            let found = Slide::read(&text, true)?;
            blocks.extend(found.into_iter().map(|block| block.on_page(number).in_part(NOTES)));
        }
        Ok(self.next < self.slides.len())
    }

    fn summary(&self) -> Summary {
        self.summary.clone()
    }
}

/// A slide being read.
#[derive(Debug, Default)]
struct Slide {
    blocks: Vec<Block>,
    /// Where the first title goes: slides are often stored with it behind the rest.
    title: Option<Block>,
    /// What the open shape is for: `title`, `body`, `sldNum`, …
    shape: String,
    paragraph: String,
    level: u8,
    has_bullet: Option<bool>,
    in_text: bool,
    /// Rows of the open table.
    rows: Option<Vec<Vec<String>>>,
    cell: String,
}

impl Slide {
    fn read(text: &str, notes: bool) -> Result<Vec<Block>> {
        let mut slide = Slide::default();
        let mut xml = Xml::new(text);
        let mut skipped = 0_usize;
        while let Some(event) = xml.next()? {
            match event {
                Event::Start(element) => {
                    if skipped > 0 || element.name() == "Fallback" {
                        skipped += 1;
                        continue;
                    }
                    slide.start(&element);
                }
                Event::End(_) if skipped > 0 => skipped -= 1,
                Event::End(name) => slide.end(&name, notes),
                Event::Text(text) if slide.in_text && skipped == 0 => slide.paragraph.push_str(&text),
                Event::Text(_) => {}
            }
        }
        Ok(slide.title.into_iter().chain(slide.blocks).collect())
    }

    fn start(&mut self, element: &Element<'_>) {
        match element.name() {
            "sp" => self.shape.clear(),
            "ph" => self.shape = element.attribute("type").unwrap_or_else(|| "body".to_owned()),
            "p" => (self.paragraph, self.level, self.has_bullet) = (String::new(), 0, None),
            "pPr" => self.level = element.attribute("lvl").and_then(|level| level.parse().ok()).unwrap_or(0),
            "buNone" => self.has_bullet = Some(false),
            "buChar" | "buAutoNum" => self.has_bullet = Some(true),
            "t" => self.in_text = true,
            "br" => self.paragraph.push('\n'),
            "tbl" => (self.shape, self.rows) = (String::new(), Some(Vec::new())),
            "tr" => {
                if let Some(rows) = self.rows.as_mut() {
                    rows.push(Vec::new());
                }
            }
            "tc" => self.cell.clear(),
            _ => {}
        }
    }

    fn end(&mut self, name: &str, notes: bool) {
        match name {
            "t" => self.in_text = false,
            "sp" => self.shape.clear(),
            "p" => self.end_paragraph(notes),
            "tc" => {
                let cell = std::mem::take(&mut self.cell);
                if let Some(row) = self.rows.as_mut().and_then(|rows| rows.last_mut()) {
                    row.push(cell);
                }
            }
            "tbl" => {
                let rows = self.rows.take().unwrap_or_default();
                self.blocks
                    .extend(table::tables(&rows).into_iter().map(|part| Block::new(Kind::Table, part)));
            }
            _ => {}
        }
    }

    fn end_paragraph(&mut self, notes: bool) {
        let text = std::mem::take(&mut self.paragraph);
        let text = text.trim();
        // Numbers, dates and footers of slides are none of their text; of notes only the body is.
        let is_text = !matches!(self.shape.as_str(), "sldNum" | "dt" | "ftr" | "hdr" | "sldImg");
        if text.is_empty() || !is_text || notes && self.shape != "body" {
            return;
        }
        if self.rows.is_some() {
            if !self.cell.is_empty() {
                self.cell.push(' ');
            }
            self.cell.push_str(text);
            return;
        }
        if matches!(self.shape.as_str(), "title" | "ctrTitle") {
            match &mut self.title {
                Some(title) => {
                    title.text.push(' ');
                    title.text.push_str(text);
                }
                none => *none = Some(Block::new(Kind::Heading(1), text)),
            }
            return;
        }
        let in_list = self.shape == "body" && !notes;
        let is_item = self.has_bullet.unwrap_or(in_list || self.level > 0);
        let kind = if is_item { Kind::ListItem } else { Kind::Paragraph };
        self.blocks.push(Block::new(kind, text));
    }
}
