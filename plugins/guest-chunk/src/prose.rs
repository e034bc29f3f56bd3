//! Where may Chinese and English prose be cut? Between paragraphs, lines, sentences, clauses.

use std::ops::Range;

use crate::Section;
use crate::cut::trimmed;
use crate::recurse::Separators;

/// Level that cuts between sentences.
pub const SENTENCES: usize = 2;

/// The separators of prose; below clauses come spaces and characters.
#[derive(Debug, Clone, Copy)]
pub struct Prose<'s> {
    pub section: &'s Section<'s>,
}

impl Separators for Prose<'_> {
    fn levels(&self) -> usize {
        4
    }

    fn cuts(&self, level: usize, range: Range<usize>) -> Vec<usize> {
        let text = self.section.text.get(range.clone()).unwrap_or_default();
        let mut cuts = match level {
            0 => paragraphs(text),
            1 => text.match_indices('\n').map(|(at, line)| at + line.len()).collect(),
            SENTENCES => {
                ends(text, |c| matches!(c, '。' | '！' | '？' | '｡' | '…'), |c| matches!(c, '.' | '!' | '?'))
            }
            _ => ends(text, |c| matches!(c, '；' | '，' | '：' | '、'), |c| matches!(c, ';' | ',' | ':')),
        };
        cuts.iter_mut().for_each(|at| *at += range.start);
        if level == 0 {
            let inside = self.section.blocks.iter().map(|block| block.start);
            cuts.extend(inside.filter(|at| self.section.text.is_char_boundary(*at)));
            cuts.sort_unstable();
            cuts.dedup();
        }
        cuts.retain(|at| range.start < *at && *at < range.end);
        cuts
    }

    fn trimmed(&self, range: Range<usize>) -> Option<Range<usize>> {
        trimmed(self.section.text, range)
    }
}

/// After every blank line.
fn paragraphs(text: &str) -> Vec<usize> {
    let (mut cuts, mut at) = (Vec::new(), 0);
    for line in text.split_inclusive('\n') {
        at += line.len();
        if line.trim().is_empty() {
            cuts.push(at);
        }
    }
    cuts
}

/// After every run of marks with the quotes and brackets that close it; a `spaced` mark ends only before white space.
fn ends(text: &str, mark: impl Fn(char) -> bool, spaced: impl Fn(char) -> bool) -> Vec<usize> {
    let mut cuts = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((_, c)) = chars.next() {
        if !mark(c) && !spaced(c) {
            continue;
        }
        let mut strong = mark(c);
        while let Some((_, next)) = chars.next_if(|(_, c)| mark(*c) || spaced(*c) || is_closing(*c)) {
            strong |= mark(next);
        }
        match chars.peek() {
            Some((at, next)) if strong || next.is_whitespace() => cuts.push(*at),
            _ => {}
        }
    }
    cuts
}

fn is_closing(c: char) -> bool {
    matches!(c, '”' | '’' | '」' | '』' | '）' | '】' | '》' | '〉' | '"' | '\'' | ')' | ']' | '»')
}
