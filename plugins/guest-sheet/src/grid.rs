//! How do rows of a sheet become blocks? The first row with two values or more is the header; what stands above is
//! text.

use guest_doc::{Block, Kind, table};

use crate::settings::Mode;

/// Values of a row by column, in the order of columns, none blank.
pub(crate) type Row = Vec<(u32, String)>;

/// Takes rows one by one and makes blocks of them.
#[derive(Debug)]
pub(crate) struct Grid {
    mode: Mode,
    /// Sheet number and name.
    page: Option<u32>,
    part: Option<String>,
    header: Option<Row>,
    /// Rows of the open table, with the number of its first and its size in bytes.
    rows: Vec<Row>,
    first: u32,
    bytes: usize,
}

impl Grid {
    pub(crate) fn new(mode: Mode, page: Option<u32>, part: Option<String>) -> Self {
        Grid { mode, page, part, header: None, rows: Vec::new(), first: 0, bytes: 0 }
    }

    /// Adds a row by its number, from 1.
    pub(crate) fn row(&mut self, number: u32, mut row: Row, blocks: &mut Vec<Block>) {
        if row.is_empty() {
            return;
        }
        if !row.is_sorted_by(|(a, _), (b, _)| a < b) {
            row.sort_by_key(|(column, _)| *column);
            row.dedup_by_key(|(column, _)| *column);
        }
        let Some(header) = &self.header else {
            match row.as_slice() {
                // A title above the table.
                [(_, text)] => blocks.push(self.block(Kind::Paragraph, text.clone(), number)),
                _ => (self.header, self.first) = (Some(row), number),
            }
            return;
        };
        let named = |column: u32, value: &str| match header
            .binary_search_by_key(&column, |(at, _)| *at)
            .map(|at| &header[at])
        {
            Ok((_, name)) => format!("{name}：{value}"),
            Err(_) => value.to_owned(),
        };
        match self.mode {
            Mode::Table => {
                if self.rows.is_empty() {
                    self.first = number;
                }
                self.bytes += row.iter().map(|(_, value)| value.len() + 3).sum::<usize>();
                self.rows.push(row);
                if self.bytes > table::TABLE_BYTES_MAX {
                    self.flush(blocks);
                }
            }
            Mode::Row => {
                let values: Vec<String> = row.iter().map(|(column, value)| named(*column, value)).collect();
                blocks.push(self.block(Kind::Paragraph, values.join("；"), number));
            }
            Mode::Cell => {
                for (column, value) in &row {
                    blocks.push(self.block(Kind::Paragraph, named(*column, value), number));
                }
            }
        }
    }

    /// Ends the open table; a header alone is a row too.
    pub(crate) fn finish(&mut self, blocks: &mut Vec<Block>) {
        let header_alone = self.rows.is_empty() && self.bytes == 0;
        if let (true, Some(header)) = (header_alone, &self.header) {
            if self.first > 0 && self.mode == Mode::Table {
                let values: Vec<String> = header.iter().map(|(_, value)| value.clone()).collect();
                blocks.push(self.block(Kind::Paragraph, values.join(" "), self.first));
            }
            return;
        }
        self.flush(blocks);
    }

    fn flush(&mut self, blocks: &mut Vec<Block>) {
        let rows = std::mem::take(&mut self.rows);
        let Some(header) = self.header.as_ref().filter(|_| !rows.is_empty()) else { return };
        // Only columns that hold anything: a value far to the right makes no thousand empty ones.
        let mut columns: Vec<u32> = Vec::new();
        for (column, _) in rows.iter().chain([header]).flatten() {
            if let Err(at) = columns.binary_search(column) {
                columns.insert(at, *column);
            }
        }
        let all: Vec<Vec<&str>> =
            std::iter::once(header).chain(&rows).map(|row| dense(row, &columns)).collect();
        for part in table::tables(&all) {
            blocks.push(self.block(Kind::Table, part, self.first));
        }
        // Not zero: the header has been used.
        self.bytes = 1;
    }

    fn block(&self, kind: Kind, text: String, row: u32) -> Block {
        Block { page: self.page, part: self.part.clone(), ..Block::new(kind, text).at_row(row) }
    }
}

/// A row's value in each of the columns, blank where it has none; both are in order.
fn dense<'r>(row: &'r Row, columns: &[u32]) -> Vec<&'r str> {
    let mut values = row.iter().peekable();
    let value = |column: &u32| values.next_if(|(at, _)| at == column).map_or("", |(_, value)| value.as_str());
    columns.iter().map(value).collect()
}
