//! Which tables hold data, and what stands in their rows? Tables that only arrange a page are read as text.

use guest_doc::text::collapse;

use crate::main_content::is_hidden;
use crate::tree::Tree;

/// Characters of a cell beyond which the table arranges a page.
const CELL_CHARS_MAX: usize = 2_000;
const COLUMNS_MAX: usize = 200;
const SPAN_MAX: usize = 1_000;

/// The rows of a table of data, first the header; none for a table that arranges.
pub(crate) fn rows(tree: &Tree, table: usize) -> Option<Vec<Vec<String>>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    // Cells that reach down into rows to come: column, rows left, text.
    let mut reaching: Vec<(usize, usize, String)> = Vec::new();
    for tr in tree.below(table).filter(|id| tree.name(*id) == "tr") {
        let mut row: Vec<String> = Vec::new();
        let fill = |row: &mut Vec<String>, reaching: &mut Vec<(usize, usize, String)>| {
            while let Some(cell) =
                reaching.iter_mut().find(|(column, left, _)| *column == row.len() && *left > 0)
            {
                cell.1 -= 1;
                row.push(cell.2.clone());
            }
        };
        for cell in tree.children(tr).iter().filter(|id| matches!(tree.name(**id), "td" | "th")) {
            fill(&mut row, &mut reaching);
            if row.len() >= COLUMNS_MAX || tree.below(*cell).any(|id| tree.name(id) == "table") {
                return None;
            }
            let text = text(tree, *cell);
            if text.chars().count() > CELL_CHARS_MAX {
                return None;
            }
            let span = |name: &str| {
                let value = tree.attribute(*cell, name).and_then(|value| value.trim().parse::<usize>().ok());
                value.unwrap_or(1).clamp(1, SPAN_MAX)
            };
            if span("rowspan") > 1 {
                reaching.push((row.len(), span("rowspan") - 1, text.clone()));
            }
            row.push(text);
            let columns = span("colspan").min(COLUMNS_MAX.saturating_sub(row.len()).max(1));
            row.extend((1..columns).map(|_| String::new()));
        }
        fill(&mut row, &mut reaching);
        reaching.retain(|(_, left, _)| *left > 0);
        rows.push(row);
    }
    let full = rows.iter().filter(|row| row.iter().filter(|cell| !cell.is_empty()).count() > 1).count();
    (full >= 2).then_some(rows)
}

/// The text of a cell, its blocks parted by spaces.
fn text(tree: &Tree, root: usize) -> String {
    let mut text = String::new();
    let mut stack = vec![root];
    while let Some(id) = stack.pop() {
        if let Some(piece) = tree.text(id) {
            text.push_str(piece);
        } else if !is_hidden(tree, id) {
            if matches!(tree.name(id), "p" | "div" | "br" | "li" | "td" | "th") {
                text.push(' ');
            }
            stack.extend(tree.children(id).iter().rev());
        }
    }
    collapse(&text)
}
