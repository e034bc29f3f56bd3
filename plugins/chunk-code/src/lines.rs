//! How deep is each line, and which lines enclose a place? Told from indentation alone, so for any language.

use std::ops::Range;

/// Columns of a tab.
const TAB: usize = 4;
/// Lines that are said to enclose a place, and characters of each.
const ENCLOSING_MAX: usize = 4;
const ENCLOSING_CHARS_MAX: usize = 80;

/// A line that is not blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Of its first byte, white space included.
    pub start: usize,
    /// Columns of white space before it.
    pub indent: usize,
    /// Whether it only ends or continues what stands before: `}`, `);`, `else`, `end`.
    pub closes: bool,
    /// Whether a blank line stands before it.
    pub apart: bool,
}

/// The lines of a text that are not blank.
#[derive(Debug)]
pub struct Lines<'t> {
    pub text: &'t str,
    lines: Vec<Line>,
}

impl<'t> Lines<'t> {
    pub fn of(text: &'t str) -> Self {
        let (mut lines, mut start, mut apart) = (Vec::new(), 0, true);
        for line in text.split_inclusive('\n') {
            let body = line.trim();
            if body.is_empty() {
                apart = true;
            } else {
                lines.push(Line { start, indent: indent(line), closes: closes(body), apart });
                apart = false;
            }
            start += line.len();
        }
        Lines { text, lines }
    }

    /// Lines that begin within `range`, and the one that it begins in.
    pub fn within(&self, range: &Range<usize>) -> &[Line] {
        let first = self.at(range.start);
        let end = self.lines.partition_point(|line| line.start < range.end);
        self.lines.get(first..end).unwrap_or_default()
    }

    /// The lines of lesser and lesser indentation above byte `start`, outermost first, as a reader sees them.
    pub fn enclosing(&self, start: usize) -> Vec<&'t str> {
        let at = self.at(start);
        let mut indent = self.lines.get(at).map_or(0, |line| line.indent);
        let mut found = Vec::new();
        for (above, line) in self.lines.iter().enumerate().take(at).rev() {
            if indent == 0 || found.len() == ENCLOSING_MAX {
                break;
            }
            if line.indent < indent && !line.closes {
                indent = line.indent;
                found.push(self.shown(above));
            }
        }
        found.reverse();
        found
    }

    /// The line that byte `start` lies in, or the next.
    fn at(&self, start: usize) -> usize {
        let next = self.lines.partition_point(|line| line.start <= start);
        let before = next.saturating_sub(1);
        let holds = self.lines.get(before).is_some_and(|line| {
            let between = self.text.get(line.start..start).unwrap_or_default();
            !between.contains('\n')
        });
        if holds { before } else { next }
    }

    fn shown(&self, at: usize) -> &'t str {
        let start = self.lines.get(at).map_or(self.text.len(), |line| line.start);
        let line = self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let line = line.trim().trim_end_matches(['{', ':', '(']).trim_end();
        let end = line.char_indices().nth(ENCLOSING_CHARS_MAX).map_or(line.len(), |(end, _)| end);
        line.get(..end).unwrap_or(line)
    }
}

fn indent(line: &str) -> usize {
    let columns = |c| match c {
        '\t' => Some(TAB),
        c if c.is_whitespace() => Some(1),
        _ => None,
    };
    line.chars().map_while(columns).sum()
}

/// Words that continue the item above at its own indentation.
const CONTINUES: &[&str] = &[
    "else", "elif", "elsif", "except", "catch", "finally", "rescue", "ensure", "end", "fi", "done", "esac",
    "then",
];

fn closes(body: &str) -> bool {
    if body.starts_with(['}', ')', ']']) || body.starts_with("</") {
        return true;
    }
    let word: &str = body.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
    CONTINUES.contains(&word)
}
