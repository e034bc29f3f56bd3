//! Rows of a csv file in any of the usual encodings, read line by line; the separator is found out.

use std::rc::Rc;

use guest_doc::{Block, DocError, Document, File, FileLines, Ocr, Result, Summary, lines};

use crate::grid::{Grid, Row};
use crate::settings::Settings;

/// Bytes of one record: a quote that is never closed would swallow the file.
const RECORD_BYTES_MAX: usize = 1 << 20;
/// Records that the separator is judged by.
const SAMPLE_RECORDS: usize = 20;

/// Opens a csv file.
pub fn open(file: Rc<dyn File>, _: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    let settings = Settings::parse(settings)?;
    let lines = lines(file)?;
    let grid = Grid::new(settings.mode, None, None);
    let mut csv = Csv { lines, grid, waiting: Vec::new(), separator: ',' };
    while csv.waiting.len() < SAMPLE_RECORDS {
        let Some(record) = csv.record()? else { break };
        csv.waiting.push(record);
    }
    csv.separator = separator(&csv.waiting);
    csv.waiting.reverse();
    Ok(Box::new(csv))
}

struct Csv {
    lines: FileLines,
    grid: Grid,
    /// Records read to judge the separator, the next one last.
    waiting: Vec<(u32, String)>,
    separator: char,
}

impl Document for Csv {
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        let record = match self.waiting.pop() {
            Some(record) => Some(record),
            None => self.record()?,
        };
        let Some((number, record)) = record else {
            self.grid.finish(blocks);
            return Ok(false);
        };
        let row = fields(&record, self.separator);
        self.grid.row(number, row, blocks);
        Ok(true)
    }

    fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        summary.add("encoding", self.lines.encoding().name());
        summary
    }
}

impl Csv {
    /// A record with the number of its line: lines until every quote is closed.
    fn record(&mut self) -> Result<Option<(u32, String)>> {
        let mut record: Option<(u32, String)> = None;
        let mut is_open = false;
        while let Some(line) = self.lines.next()? {
            let (number, text) = record.get_or_insert_with(|| (line.number, String::new()));
            if line.begins && !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&line.text);
            is_open ^= line.text.bytes().filter(|byte| *byte == b'"').count() % 2 == 1;
            if text.len() > RECORD_BYTES_MAX {
                return Err(DocError::invalid(format!(
                    "the record that begins at line {number} has more than {RECORD_BYTES_MAX} bytes: is a quote not closed?"
                )));
            }
            if line.ends && !is_open {
                break;
            }
        }
        Ok(record)
    }
}

/// The character that parts most records into the same number of fields.
fn separator(records: &[(u32, String)]) -> char {
    let score = |separator: &char| {
        let counts: Vec<usize> = records
            .iter()
            .filter(|(_, record)| !record.trim().is_empty())
            .map(|(_, record)| split(record, *separator).len())
            .collect();
        let first = counts.first().copied().unwrap_or(0);
        if first < 2 {
            0
        } else {
            counts.iter().filter(|count| **count == first).count() * 100 + first.min(99)
        }
    };
    [',', '\t', ';', '|']
        .into_iter()
        .max_by_key(|separator| (score(separator), *separator == ','))
        .unwrap_or(',')
}

fn fields(record: &str, separator: char) -> Row {
    let cells = (0_u32..).zip(split(record, separator));
    cells
        .map(|(column, cell)| (column, cell.trim().to_owned()))
        .filter(|(_, cell)| !cell.is_empty())
        .collect()
}

/// Fields of a record as RFC 4180 has them; a quote within an unquoted field is a character.
fn split(record: &str, separator: char) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = record.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(field) = fields.last_mut() else { break };
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.trim().is_empty() => {
                field.clear();
                quoted = true;
            }
            c if c == separator && !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    fields
}
