//! Tesseract's table of words becomes lines of text, without the spaces that it puts between Han characters.

use rag_core::document::Rect;
use rag_core::ports::OcrLine;

/// Columns of a row of the table.
const COLUMNS: usize = 12;
/// Confidence of 100 becomes 1.
const CONFIDENCE_SCALE: f32 = 100.0;

/// Lines in the order of the table, which is reading order.
pub(super) fn lines(table: &str) -> Vec<OcrLine> {
    let mut lines: Vec<OcrLine> = Vec::new();
    let mut place = None;
    let mut words = 0.0;
    for row in table.lines() {
        let cells: Vec<&str> = row.splitn(COLUMNS, '\t').collect();
        let [level, page, block, paragraph, line, _, left, top, width, height, confidence, text] = cells[..]
        else {
            continue;
        };
        let text = text.trim();
        let number = |cell: &str| cell.parse::<f32>().ok();
        let (Some(x), Some(y), Some(width), Some(height)) =
            (number(left), number(top), number(width), number(height))
        else {
            continue;
        };
        if level != "5" || text.is_empty() {
            continue;
        }
        let area = Rect { x, y, width, height };
        let confidence = (number(confidence).unwrap_or(0.0) / CONFIDENCE_SCALE).clamp(0.0, 1.0);
        let here = Some((page, block, paragraph, line));
        match lines.last_mut() {
            Some(last) if place == here => {
                let gap = last.text.chars().next_back().is_some_and(is_wide) && text.starts_with(is_wide);
                if !gap {
                    last.text.push(' ');
                }
                last.text.push_str(text);
                last.area = union(last.area, area);
                // The mean of its words.
                words += 1.0;
                last.confidence += (confidence - last.confidence) / words;
            }
            _ => {
                lines.push(OcrLine { text: text.to_owned(), area, confidence });
                words = 1.0;
            }
        }
        place = here;
    }
    for line in &mut lines {
        line.text = without_gaps(&line.text);
    }
    lines
}

/// Without spaces between wide characters, which recognition also puts within a word.
fn without_gaps(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut kept = String::with_capacity(text.len());
    for (at, c) in chars.iter().enumerate() {
        let before = kept.chars().next_back().is_some_and(is_wide);
        let after = chars[at..].iter().find(|c| **c != ' ').is_some_and(|c| is_wide(*c));
        if *c != ' ' || !(before && after) {
            kept.push(*c);
        }
    }
    kept
}

/// Written without spaces between: Han, kana, and their punctuation and full-width forms.
fn is_wide(c: char) -> bool {
    matches!(u32::from(c),
        0x2e80..=0x312f | 0x3190..=0x9fff | 0xf900..=0xfaff | 0xfe30..=0xfe4f | 0xff00..=0xffef | 0x20000..=0x3ffff)
}

fn union(a: Rect, b: Rect) -> Rect {
    let (x, y) = (a.x.min(b.x), a.y.min(b.y));
    let (right, bottom) = ((a.x + a.width).max(b.x + b.width), (a.y + a.height).max(b.y + b.height));
    Rect { x, y, width: right - x, height: bottom - y }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_lines_without_gaps_between_han() {
        let table = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n\
            1\t1\t0\t0\t0\t0\t0\t0\t640\t480\t-1\t\n\
            5\t1\t1\t1\t1\t1\t10\t10\t40\t20\t90\t知识 库\n\
            5\t1\t1\t1\t1\t2\t55\t12\t40\t20\t70\t使用\n\
            5\t1\t1\t1\t1\t3\t99\t11\t60\t20\t80\tRWKV\n\
            5\t1\t1\t1\t1\t4\t170\t11\t60\t20\t80\tmodels\n\
            5\t1\t1\t1\t2\t1\t10\t40\t40\t20\t95\t第二行\n\
            5\t1\t1\t1\t2\t2\t60\t40\t40\t20\t95\t \n\
            5\tbroken row\n";
        let lines = lines(table);
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["知识库使用 RWKV models", "第二行"]);
        assert_eq!(lines[0].area, Rect { x: 10.0, y: 10.0, width: 220.0, height: 22.0 });
        assert!((lines[0].confidence - 0.8).abs() < 1e-6);
        assert!(super::lines("").is_empty());
    }
}
