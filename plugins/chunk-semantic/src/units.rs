//! What is compared with its neighbours? Sentences, or runs of them where a section has too many.

use std::ops::Range;

use guest_chunk::prose::{Prose, SENTENCES};
use guest_chunk::recurse::Separators;
use guest_chunk::{Kind, Section};

/// Units of one section: what a model embeds in a few seconds.
pub const UNITS_MAX: usize = 1_024;

/// A piece of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// In bytes, neither blank nor with white space at its ends.
    pub range: Range<usize>,
    /// Whether it begins a heading.
    pub heading: bool,
}

/// The sentences of a section in order, at most [`UNITS_MAX`]; together they cover what is not white space.
pub fn units(section: &Section<'_>, prose: &Prose<'_>) -> Vec<Unit> {
    let all = 0..section.text.len();
    let mut cuts: Vec<usize> = (0..=SENTENCES).flat_map(|level| prose.cuts(level, all.clone())).collect();
    cuts.extend([all.start, all.end]);
    cuts.sort_unstable();
    cuts.dedup();
    let ends = cuts.iter().skip(1);
    let pieces = cuts.iter().zip(ends).filter_map(|(start, end)| prose.trimmed(*start..*end));
    let sentences: Vec<Unit> =
        pieces.map(|range| Unit { heading: is_heading(section, range.start), range }).collect();
    let run = sentences.len().div_ceil(UNITS_MAX).max(1);
    let joined = |run: &[Unit]| match run {
        [] => None,
        [first, .., last] => Some(Unit { range: first.range.start..last.range.end, ..*first }),
        [only] => Some(only.clone()),
    };
    sentences.chunks(run).filter_map(joined).collect()
}

/// Runs of units between changes; `changes` are places in `units` before which one begins. A heading begins a run too,
/// unless only headings stand before it.
pub fn parts(units: &[Unit], changes: &[usize]) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut only_headings = true;
    for (at, unit) in units.iter().enumerate() {
        let begins = unit.heading || changes.binary_search(&at).is_ok();
        match parts.last_mut() {
            Some(part) if !begins || only_headings => part.end = unit.range.end,
            _ => {
                parts.push(unit.range.clone());
                only_headings = true;
            }
        }
        only_headings &= unit.heading;
    }
    parts
}

fn is_heading(section: &Section<'_>, start: usize) -> bool {
    let at = section.blocks.partition_point(|block| block.end <= start);
    section.blocks.get(at).is_some_and(|block| block.start <= start && matches!(block.kind, Kind::Heading(_)))
}
