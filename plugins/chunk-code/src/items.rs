//! Where may source code be cut? Between its items, from the outermost indentation inwards, else between lines.

use std::ops::Range;

use guest_chunk::cut::trimmed;
use guest_chunk::recurse::Separators;

use crate::lines::Lines;

/// Depths of indentation at which items are told apart.
const DEPTHS: usize = 6;

/// The separators of source code; below lines come spaces and characters.
#[derive(Debug, Clone, Copy)]
pub struct Items<'l, 't> {
    pub lines: &'l Lines<'t>,
}

impl Separators for Items<'_, '_> {
    fn levels(&self) -> usize {
        DEPTHS + 2
    }

    fn cuts(&self, level: usize, range: Range<usize>) -> Vec<usize> {
        let lines = self.lines.within(&range);
        let starts: Vec<usize> = match level {
            0..DEPTHS => {
                let mut indents: Vec<usize> = lines.iter().map(|line| line.indent).collect();
                indents.sort_unstable();
                indents.dedup();
                indents.get(level).map(|indent| self.items(&range, *indent)).unwrap_or_default()
            }
            DEPTHS => lines.iter().filter(|line| line.apart).map(|line| line.start).collect(),
            _ => lines.iter().map(|line| line.start).collect(),
        };
        starts.into_iter().filter(|at| range.start < *at && *at < range.end).collect()
    }

    /// Blank lines go, the indentation of the first line stays.
    fn trimmed(&self, range: Range<usize>) -> Option<Range<usize>> {
        let bare = trimmed(self.lines.text, range.clone())?;
        let before = self.lines.text.get(range.start..bare.start).unwrap_or_default();
        let start = before.rfind('\n').map_or(range.start, |at| range.start + at + 1);
        Some(start..bare.end)
    }
}

impl Items<'_, '_> {
    /// Lines of at most `indent` that begin an item: after a blank line, or after something deeper or closing.
    fn items(&self, range: &Range<usize>, indent: usize) -> Vec<usize> {
        let lines = self.lines.within(range);
        let pairs = lines.iter().zip(lines.iter().skip(1));
        let begins = pairs.filter(|(above, line)| {
            let ended = line.apart || above.indent > line.indent || above.closes;
            line.indent <= indent && !line.closes && ended
        });
        begins.map(|(_, line)| line.start).collect()
    }
}
