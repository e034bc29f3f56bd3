//! A PDF from its bytes to blocks: every page is read once, then laid out page by page.

use std::rc::Rc;

use guest_doc::{Block, DocError, Document, File, Ocr, Result, Summary, read_all, text};
use hayro_interpret::hayro_syntax::object::Dict;
use hayro_interpret::hayro_syntax::page::Page as PdfPage;
use hayro_interpret::hayro_syntax::{DecryptionError, LoadPdfError, Pdf};
use hayro_interpret::kurbo::{Affine, Rect};
use hayro_interpret::{Context, InterpreterCache, InterpreterSettings, RenderContent, interpret_page};

use crate::blocks::Layout;
use crate::collections::Collections;
use crate::glyphs::Page;
use crate::lines::{self, Line};
use crate::ruled::{self, Table};
use crate::settings::Settings;
use crate::{furniture, order, pictures};

/// A PDF is held in memory: its parts are found from its end.
pub const PDF_BYTES_MAX: u64 = 192 << 20;
/// Pages of one document, and characters of all of them.
const PAGES_MAX: usize = 20_000;
const CHARS_MAX: usize = 40_000_000;
/// Fewer characters, and more picture than this, make a page one to recognise.
const SCAN_CHARS_MAX: usize = 24;
const SCAN_PICTURES_MIN: f32 = 0.3;
/// Pages that are named one by one when they could not be read.
const NAMED_PAGES_MAX: usize = 20;

/// What stands on a page, in reading order.
#[derive(Debug)]
pub(crate) enum Item {
    Line(Line),
    Table(Table),
}

/// A page that was read.
#[derive(Debug)]
pub(crate) struct PageText {
    /// From 1.
    pub(crate) number: u32,
    pub(crate) height: f32,
    pub(crate) items: Vec<Item>,
    /// A picture of text, or text whose characters are not known.
    pub(crate) is_scan: bool,
}

impl PageText {
    pub(crate) fn lines(&self) -> impl Iterator<Item = &Line> {
        self.items.iter().filter_map(|item| match item {
            Item::Line(line) => Some(line),
            Item::Table(_) => None,
        })
    }
}

/// Opens a PDF.
#[expect(clippy::needless_pass_by_value, reason = "every format is opened alike, and most keep the file")]
pub fn open(file: Rc<dyn File>, ocr: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    let settings = Settings::parse(settings)?;
    let bytes = read_all(file.as_ref(), PDF_BYTES_MAX)?;
    let head = bytes.get(..1024).unwrap_or(&bytes);
    if !head.windows(5).any(|window| window == b"%PDF-") {
        return Err(DocError::unsupported("the file is not a PDF: it does not begin with %PDF-"));
    }
    let tail = bytes.get(bytes.len().saturating_sub(64 << 10)..).unwrap_or_default();
    if !tail.windows(5).any(|window| window == b"%%EOF")
        && !tail.windows(9).any(|window| window == b"startxref")
    {
        return Err(DocError::invalid(
            "the PDF ends before its table of contents: it was cut off on its way here",
        ));
    }
    let pdf = Pdf::new(bytes).map_err(refusal)?;
    let pages = pdf.pages().len();
    if pages == 0 {
        return Err(DocError::invalid("the PDF is damaged: it has no pages"));
    }
    if pages > PAGES_MAX {
        return Err(DocError::too_large(format!(
            "the PDF has {pages} pages, more than {PAGES_MAX}; split it"
        )));
    }
    let summary = summary(&pdf);
    Ok(Box::new(PdfDocument {
        pdf,
        ocr,
        settings,
        summary,
        layout: None,
        next: 0,
        pages: Vec::new(),
        unread: Vec::new(),
    }))
}

fn refusal(error: LoadPdfError) -> DocError {
    match error {
        LoadPdfError::Decryption(DecryptionError::PasswordProtected) => {
            DocError::unsupported("the PDF is encrypted and opens only with a password; save it without one")
        }
        LoadPdfError::Decryption(_) => DocError::unsupported(
            "the PDF is encrypted in a way that is not read; save it without encryption",
        ),
        LoadPdfError::Invalid => DocError::invalid("the PDF is damaged: its objects cannot be found"),
    }
}

struct PdfDocument {
    pdf: Pdf,
    ocr: Rc<dyn Ocr>,
    settings: Settings,
    summary: Summary,
    /// None until the pages were read.
    layout: Option<Layout>,
    pages: Vec<PageText>,
    next: usize,
    /// Pages that hold only pictures and were not recognised, with the reason.
    unread: Vec<(u32, String)>,
}

impl Document for PdfDocument {
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        if self.layout.is_none() {
            self.pages = read_pages(&self.pdf)?;
            if !self.settings.page_headers {
                furniture::remove(&mut self.pages);
            }
            self.layout = Some(Layout::of(&self.pages));
        }
        let Some(page) = self.pages.get_mut(self.next) else { return self.finish(blocks) };
        self.next += 1;
        let (number, is_scan) = (page.number, page.is_scan);
        let items = std::mem::take(&mut page.items);
        let Some(layout) = self.layout.as_mut() else { return Ok(false) };
        if is_scan && self.settings.ocr {
            match pictures::recognize(&self.pdf, number, self.ocr.as_ref()) {
                Ok(found) => {
                    layout.flush(blocks);
                    blocks.extend(found);
                    return Ok(true);
                }
                Err(error) => self.unread.push((number, error.message)),
            }
        } else if is_scan {
            self.unread.push((number, "text recognition is switched off for PDF (setting 'ocr')".to_owned()));
        }
        layout.page(number, items, blocks);
        Ok(true)
    }

    fn summary(&self) -> Summary {
        let mut summary = self.summary.clone();
        if let Some((_, reason)) = self.unread.first() {
            let pages: Vec<String> =
                self.unread.iter().take(NAMED_PAGES_MAX).map(|(page, _)| page.to_string()).collect();
            let more = if self.unread.len() > NAMED_PAGES_MAX { " …" } else { "" };
            let count = self.unread.len();
            summary.add("pages_without_text", &format!("{count}: {}{more} ({reason})", pages.join(", ")));
        }
        summary
    }
}

impl PdfDocument {
    fn finish(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        if let Some(layout) = self.layout.as_mut() {
            layout.flush(blocks);
        }
        // Nothing but pictures, and nobody to read them: the reason is worth more than "no text".
        if let Some((_, reason)) = self.unread.first()
            && self.unread.len() == self.pages.len()
        {
            return Err(DocError::unsupported(format!(
                "the PDF holds pictures of its {} pages and no text, and they were not recognised: {reason}",
                self.pages.len()
            )));
        }
        Ok(false)
    }
}

fn read_pages(pdf: &Pdf) -> Result<Vec<PageText>> {
    let cache = InterpreterCache::new();
    let mut pages = Vec::with_capacity(pdf.pages().len());
    let mut chars = 0;
    let mut collections: Option<Rc<Collections>> = None;
    for (number, page) in (1..).zip(pdf.pages().iter()) {
        let mut read = Page::new(page.render_dimensions(), collections.clone());
        interpret(pdf, page, &cache, &mut read);
        if read.unknown > 0 && collections.is_none() {
            let found = Rc::new(Collections::of(pdf));
            if !found.is_empty() {
                read = Page::new(page.render_dimensions(), Some(Rc::clone(&found)));
                interpret(pdf, page, &cache, &mut read);
            }
            collections = Some(found);
        }
        chars += read.known;
        if chars > CHARS_MAX {
            return Err(DocError::too_large(format!(
                "the PDF has more than {CHARS_MAX} characters; split it"
            )));
        }
        pages.push(page_text(number, read));
    }
    Ok(pages)
}

/// Has the page drawn on a device that listens instead.
pub(crate) fn interpret<'a>(
    pdf: &'a Pdf,
    page: &PdfPage<'a>,
    cache: &InterpreterCache<'a>,
    device: &mut impl hayro_interpret::Device<'a>,
) {
    let settings =
        InterpreterSettings { render_content: RenderContent::PAGE, ..InterpreterSettings::default() };
    let (width, height) = page.render_dimensions();
    let bounds = Rect::new(0.0, 0.0, f64::from(width), f64::from(height));
    let initial = Affine::new(page.initial_transform(true).as_coeffs());
    let mut context = Context::new(initial, bounds, cache, pdf.xref(), settings);
    interpret_page(page, &mut context, device);
}

fn page_text(number: u32, mut read: Page) -> PageText {
    let few = read.known <= SCAN_CHARS_MAX;
    let garbled = read.unknown > read.known;
    let is_scan = (few || garbled) && read.pictures >= SCAN_PICTURES_MIN;
    let mut fragments = std::mem::take(&mut read.fragments);
    let gutters = order::arrange(&mut fragments);
    let tables = ruled::take(&mut fragments, &read.rules);
    let mut items = Vec::new();
    let mut from = 0;
    for table in tables {
        let to = table.before.clamp(from, fragments.len());
        let lines = lines::join(fragments.get(from..to).unwrap_or_default(), &gutters);
        items.extend(lines.into_iter().map(Item::Line));
        items.push(Item::Table(table));
        from = to;
    }
    let lines = lines::join(fragments.get(from..).unwrap_or_default(), &gutters);
    items.extend(lines.into_iter().map(Item::Line));
    PageText { number, height: read.height, items, is_scan }
}

fn summary(pdf: &Pdf) -> Summary {
    let mut summary = Summary::default();
    let metadata = pdf.metadata();
    let decoded = |bytes: &Option<Box<[u8]>>| bytes.as_deref().map(decode).unwrap_or_default();
    let title = decoded(&metadata.title);
    summary.title = (!title.trim().is_empty()).then_some(title);
    summary.add("author", &decoded(&metadata.author));
    summary.add("subject", &decoded(&metadata.subject));
    summary.add("keywords", &decoded(&metadata.keywords));
    summary.add("pages", &pdf.pages().len().to_string());
    let catalog = pdf.xref().get::<Dict<'_>>(pdf.xref().root_id());
    let language = catalog
        .and_then(|catalog| {
            catalog.get::<hayro_interpret::hayro_syntax::object::String<'_>>(b"Lang".as_slice())
        })
        .map(|language| decode(language.as_bytes()));
    summary.language = language.filter(|language| language.len() >= 2);
    summary
}

/// A text string outside the pages: UTF-16 or UTF-8 with their marks, else Latin.
fn decode(bytes: &[u8]) -> String {
    let decoded = match bytes {
        [0xfe, 0xff, rest @ ..] => {
            let units: Vec<u16> =
                rest.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        [0xff, 0xfe, rest @ ..] => {
            let units: Vec<u16> =
                rest.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        bytes => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
        },
    };
    text::clean(&decoded).into_owned()
}
