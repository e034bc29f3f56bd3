//! Rows of cells as Markdown tables, each part of a long one under the header again.

/// Bytes of a table's part after which its next row begins another.
pub const TABLE_BYTES_MAX: usize = 16 << 10;

/// Appends a Markdown row: `| a | b |`, with pipes escaped and line ends as spaces.
fn push_row(text: &mut String, cells: &[impl AsRef<str>], columns: usize) {
    text.push('|');
    for at in 0..columns.max(1) {
        text.push(' ');
        push_cell(text, cells.get(at).map_or("", AsRef::as_ref));
        text.push_str(" |");
    }
}

/// The header row and the line below it.
fn header(cells: &[impl AsRef<str>], columns: usize) -> String {
    let mut text = String::new();
    push_row(&mut text, cells, columns);
    text.push_str("\n|");
    text.push_str(&" --- |".repeat(columns.max(1)));
    text
}

/// Tables of `rows`, the first of which is the header. Rows without any text are left out.
pub fn tables<C: AsRef<str>>(rows: &[Vec<C>]) -> Vec<String> {
    let full: Vec<&Vec<_>> =
        rows.iter().filter(|row| row.iter().any(|cell| !cell.as_ref().trim().is_empty())).collect();
    let columns = full.iter().map(|row| row.len()).max().unwrap_or(0);
    let Some((first, rest)) = full.split_first() else { return Vec::new() };
    let head = header(first, columns);
    let mut tables = Vec::new();
    let mut part = head.clone();
    for cells in rest {
        if part.len() > TABLE_BYTES_MAX {
            tables.push(std::mem::replace(&mut part, head.clone()));
        }
        part.push('\n');
        push_row(&mut part, cells, columns);
    }
    tables.push(part);
    tables
}

/// Appends a cell's text within a Markdown row.
fn push_cell(row: &mut String, text: &str) {
    // Most cells are a number or a short word.
    if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'|') {
        return row.push_str(text);
    }
    for (at, word) in text.split_whitespace().enumerate() {
        if at > 0 {
            row.push(' ');
        }
        for (at, part) in word.split('|').enumerate() {
            if at > 0 {
                row.push_str("\\|");
            }
            row.push_str(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn rows_become_markdown() {
        let rows =
            [strings(&["版本", "代号"]), strings(&["12", "a|b\nc"]), strings(&["", " "]), strings(&["13"])];
        assert_eq!(tables(&rows), ["| 版本 | 代号 |\n| --- | --- |\n| 12 | a\\|b c |\n| 13 |  |"]);
        assert!(tables::<&str>(&[]).is_empty());
    }

    #[test]
    fn a_long_table_keeps_its_header_in_every_part() {
        let mut rows = vec![strings(&["名称", "值"])];
        rows.extend((0..2_000).map(|at| strings(&["甲乙丙丁戊己庚辛", &at.to_string()])));
        let parts = tables(&rows);
        assert!(parts.len() > 2);
        assert!(parts.iter().all(|part| part.starts_with("| 名称 | 值 |\n| --- | --- |\n")));
        let count: usize = parts.iter().map(|part| part.lines().count() - 2).sum();
        assert_eq!(count, 2_000);
    }
}
