//! Sheets of a workbook: values as people see them, dates as dates, merged cells filled downwards.

use std::collections::HashMap;
use std::fmt::Display;
use std::io::Cursor;
use std::rc::Rc;

use calamine::{Data, DataRef, DataType, Dimensions, ExcelDateTime, Ods, Range, Reader, Xls, Xlsx};
use guest_archive::Archive;
use guest_doc::{Block, DocError, Document, File, Ocr, Result, Summary, read_all};

use crate::grid::{Grid, Row};
use crate::settings::Settings;

/// A workbook is held in memory, and so are its texts.
const WORKBOOK_BYTES_MAX: u64 = 96 << 20;
/// Cells of one sheet, and rows that one merged region fills.
const CELLS_MAX: usize = 8_000_000;
const MERGED_ROWS_MAX: u32 = 10_000;
const SHEETS_MAX: usize = 1_000;

type Bytes = Cursor<Vec<u8>>;

enum Book {
    Xlsx(Box<Xlsx<Bytes>>),
    Xls(Box<Xls<Bytes>>),
    Ods(Box<Ods<Bytes>>),
}

/// Opens a workbook by its first bytes and media type.
#[expect(clippy::needless_pass_by_value, reason = "every format is opened alike, and most keep the file")]
pub fn open(file: Rc<dyn File>, _: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    let settings = Settings::parse(settings)?;
    let head = file.read_at(0, 8)?;
    let media_type = file.media_type();
    let book = if head.starts_with(b"PK") {
        check_parts(Rc::clone(&file))?;
        let bytes = Cursor::new(read_all(file.as_ref(), WORKBOOK_BYTES_MAX)?);
        if media_type.contains("opendocument") {
            Book::Ods(Box::new(Ods::new(bytes).map_err(damaged)?))
        } else {
            Book::Xlsx(Box::new(Xlsx::new(bytes).map_err(damaged)?))
        }
    } else if head.starts_with(b"\xd0\xcf\x11\xe0") && media_type == "application/vnd.ms-excel" {
        let bytes = Cursor::new(read_all(file.as_ref(), WORKBOOK_BYTES_MAX)?);
        Book::Xls(Box::new(Xls::new(bytes).map_err(damaged)?))
    } else if head.starts_with(b"\xd0\xcf\x11\xe0") {
        return Err(DocError::unsupported(
            "the workbook is encrypted and opens only with a password; save it without one",
        ));
    } else {
        return Err(DocError::unsupported("the file is not a workbook (xlsx, xls or ods)"));
    };
    let names = match &book {
        Book::Xlsx(book) => book.sheet_names(),
        Book::Xls(book) => book.sheet_names(),
        Book::Ods(book) => book.sheet_names(),
    };
    if names.len() > SHEETS_MAX {
        return Err(DocError::too_large(format!("the workbook has more than {SHEETS_MAX} sheets")));
    }
    let mut summary = Summary::default();
    summary.add("sheets", &names.join(", "));
    Ok(Box::new(Workbook { book, names, next: 0, settings, summary }))
}

/// Expands every part once within limits: the library that reads the sheets has none.
fn check_parts(file: Rc<dyn File>) -> Result<()> {
    let mut archive = Archive::open(file)?;
    for (at, entry) in archive.entries()?.iter().enumerate() {
        // Pictures are never expanded.
        if entry.name.ends_with(".xml") || entry.name.ends_with(".rels") {
            let head = archive.check(at, 4096)?;
            if head.windows(9).any(|window| window == b"<!DOCTYPE") {
                return Err(DocError::invalid(
                    "the workbook's XML declares a document type: it may hide a bomb",
                ));
            }
        }
    }
    Ok(())
}

fn damaged(error: impl Display) -> DocError {
    let message = error.to_string();
    if message.to_lowercase().contains("password") {
        return DocError::unsupported("the workbook is encrypted with a password; save it without one");
    }
    DocError::invalid(format!("the workbook is damaged: {message}"))
}

struct Workbook {
    book: Book,
    names: Vec<String>,
    next: usize,
    settings: Settings,
    summary: Summary,
}

impl Document for Workbook {
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        let Some(name) = self.names.get(self.next).cloned() else { return Ok(false) };
        self.next += 1;
        let mut grid = Grid::new(self.settings.mode, Some(self.next as u32), Some(name.clone()));
        match &mut self.book {
            Book::Xlsx(book) => {
                let merged = book.merge_cells_by_sheet_name(&name).unwrap_or_default();
                streamed(book, &name, &merged, &mut grid, blocks)?;
            }
            Book::Xls(book) => {
                let merged = book.merge_cells_by_sheet_name(&name).unwrap_or_default();
                ranged(&book.worksheet_range(&name).map_err(damaged)?, &merged, &mut grid, blocks);
            }
            Book::Ods(book) => ranged(&book.worksheet_range(&name).map_err(damaged)?, &[], &mut grid, blocks),
        }
        grid.finish(blocks);
        Ok(self.next < self.names.len())
    }

    fn summary(&self) -> Summary {
        self.summary.clone()
    }
}

/// Cells of an xlsx one by one: one far away makes no sheet of empty ones.
fn streamed(
    book: &mut Xlsx<Bytes>,
    name: &str,
    merged: &[Dimensions],
    grid: &mut Grid,
    blocks: &mut Vec<Block>,
) -> Result<()> {
    let mut cells = match book.worksheet_cells_reader(name) {
        Ok(cells) => cells,
        // Charts are sheets without cells.
        Err(calamine::XlsxError::NotAWorksheet(_)) => return Ok(()),
        Err(error) => return Err(damaged(error)),
    };
    let mut merged = Merged::new(merged);
    let (mut row, mut number, mut count) = (Row::new(), 0, 0_usize);
    while let Some(cell) = cells.next_cell().map_err(damaged)? {
        count += 1;
        if count > CELLS_MAX {
            return Err(DocError::too_large(format!(
                "sheet '{name}' has more than {CELLS_MAX} cells; split it"
            )));
        }
        let (at, column) = cell.get_position();
        if at != number {
            merged.fill(number, &mut row);
            grid.row(number + 1, std::mem::take(&mut row), blocks);
            number = at;
        }
        let value = shown(cell.get_value());
        if !value.is_empty() {
            row.push((column, value));
        }
    }
    merged.fill(number, &mut row);
    grid.row(number + 1, row, blocks);
    Ok(())
}

fn ranged(range: &Range<Data>, merged: &[Dimensions], grid: &mut Grid, blocks: &mut Vec<Block>) {
    let (first, left) = range.start().unwrap_or((0, 0));
    let mut merged = Merged::new(merged);
    for (at, cells) in (first..).zip(range.rows()) {
        let values = (left..).zip(cells).map(|(column, value)| (column, shown(&borrowed(value))));
        let mut row: Row = values.filter(|(_, value)| !value.is_empty()).collect();
        merged.fill(at, &mut row);
        grid.row(at + 1, row, blocks);
    }
}

/// Regions that were merged downwards: each of their rows gets their value.
#[derive(Debug)]
struct Merged {
    regions: Vec<Dimensions>,
    /// Values of open regions by column, with the last row that they reach.
    open: HashMap<u32, (u32, String)>,
}

impl Merged {
    fn new(regions: &[Dimensions]) -> Self {
        let tall = |region: &&Dimensions| {
            region.end.0 > region.start.0 && region.end.0 - region.start.0 < MERGED_ROWS_MAX
        };
        Merged { regions: regions.iter().filter(tall).copied().collect(), open: HashMap::new() }
    }

    fn fill(&mut self, number: u32, row: &mut Row) {
        if self.regions.is_empty() {
            return;
        }
        for region in self.regions.iter().filter(|region| region.start.0 == number) {
            if let Some((_, value)) = row.iter().find(|(column, _)| *column == region.start.1) {
                self.open.insert(region.start.1, (region.end.0, value.clone()));
            }
        }
        self.open.retain(|_, (last, _)| *last >= number);
        // A row without a value of its own stays empty.
        if !row.is_empty() {
            for (column, (_, value)) in &self.open {
                if !row.iter().any(|(at, _)| at == column) {
                    row.push((*column, value.clone()));
                }
            }
            row.sort_by_key(|(column, _)| *column);
        }
    }
}

fn borrowed(value: &Data) -> DataRef<'_> {
    match value {
        Data::Int(number) => DataRef::Int(*number),
        Data::Float(number) => DataRef::Float(*number),
        Data::String(text) => DataRef::SharedString(text),
        Data::Bool(value) => DataRef::Bool(*value),
        Data::DateTime(time) => DataRef::DateTime(*time),
        Data::DateTimeIso(text) => DataRef::DateTimeIso(text.clone()),
        Data::DurationIso(text) => DataRef::DurationIso(text.clone()),
        Data::Error(error) => DataRef::Error(error.clone()),
        Data::Empty => DataRef::Empty,
    }
}

/// A value as people see it.
fn shown(value: &DataRef<'_>) -> String {
    match value {
        DataRef::Empty => String::new(),
        DataRef::Int(number) => number.to_string(),
        DataRef::Float(number) => decimal(*number),
        DataRef::Bool(value) => if *value { "TRUE" } else { "FALSE" }.to_owned(),
        DataRef::DateTime(time) => date(*time),
        DataRef::Error(error) => error.to_string(),
        DataRef::SharedString(text) => text.trim().to_owned(),
        other => other.as_string().unwrap_or_default().trim().to_owned(),
    }
}

/// Without the noise of binary fractions: fifteen digits are what sheets keep.
fn decimal(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return (number as i64).to_string();
    }
    let shortest = number.to_string();
    let digits = shortest.trim_start_matches(['-', '0', '.']).bytes().filter(u8::is_ascii_digit).count();
    if digits <= 15 {
        return shortest;
    }
    let rounded: f64 = format!("{number:.14e}").parse().unwrap_or(number);
    rounded.to_string()
}

/// ISO 8601, without a time where there is none.
fn date(time: ExcelDateTime) -> String {
    if time.is_duration() {
        let seconds = (time.as_f64() * 86_400.0).round() as i64;
        return format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    }
    let (year, month, day, hour, minute, second, _) = time.to_ymd_hms_milli();
    let clock = format!("{hour:02}:{minute:02}:{second:02}");
    if time.as_f64() < 1.0 {
        return clock;
    }
    let day = format!("{year:04}-{month:02}-{day:02}");
    if (hour, minute, second) == (0, 0, 0) { day } else { format!("{day} {clock}") }
}
