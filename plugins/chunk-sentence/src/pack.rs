//! Which atoms share a chunk?

use std::ops::Range;

use crate::atoms::{Atom, AtomKind, Lengths};
use crate::document::Heading;
use crate::options::Options;

/// Runs of atoms, one a chunk, sorted by start; together they hold every atom.
///
/// A heading begins a chunk unless it is deeper than the one before and there is room for it and for what follows.
/// Within a region between headings, chunks are about equally long and end with a block where that wastes less than
/// half a chunk.
pub(crate) fn pack(
    atoms: &[Atom],
    lengths: &Lengths,
    options: &Options,
    outline: &[Heading],
) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut level = outline.last().map_or(0, |heading| heading.level);
    let mut start = 0;
    while start < atoms.len() {
        let end = region_end(atoms, start, &mut level);
        pack_region(atoms, lengths, options, start..end, &mut runs);
        start = end;
    }
    runs
}

/// Where the region that begins at `start` ends: before a heading of the same or a higher level than the one in
/// force, which `level` follows.
fn region_end(atoms: &[Atom], start: usize, level: &mut u8) -> usize {
    for (at, atom) in atoms.iter().enumerate().skip(start) {
        if let AtomKind::Heading(next) = atom.kind {
            // Pieces of one long heading stay together.
            let continues =
                at.checked_sub(1).and_then(|last| atoms.get(last)).is_some_and(|a| a.block == atom.block);
            if at > start && next <= *level && !continues {
                return at;
            }
            *level = next;
        }
    }
    atoms.len()
}

fn pack_region(
    atoms: &[Atom],
    lengths: &Lengths,
    options: &Options,
    region: Range<usize>,
    runs: &mut Vec<Range<usize>>,
) {
    let mut start = region.start;
    // First atom that no chunk holds yet.
    let mut fresh = region.start;
    while fresh < region.end {
        let left = lengths.of(start..region.end);
        let chunks = left.div_ceil(options.size).max(1);
        // Equal parts, with some room so that the last does not spill over.
        let goal = (left / chunks + options.size / 8).min(options.size);
        let mut end = fresh + 1;
        while end < region.end {
            let next = group_end(atoms, end, region.end);
            let long = lengths.of(start..next);
            let deeper =
                next > end + 1 || matches!(atoms.get(end).map(|a| &a.kind), Some(AtomKind::Heading(_)));
            let enough = deeper && has_body(atoms, fresh..end) && lengths.of(start..end) >= options.size / 2;
            let heading_waits = !has_body(atoms, fresh..end);
            if enough || long > options.size || (long > goal && !heading_waits) {
                break;
            }
            end = next;
        }
        if end < region.end {
            end = block_end(atoms, lengths, options, start, fresh..end);
        }
        runs.push(start..end);
        fresh = end;
        start = repeated(atoms, lengths, options, start, end, region.end);
    }
}

/// One past the atom at `at`, or past the headings there and what follows them.
fn group_end(atoms: &[Atom], at: usize, region_end: usize) -> usize {
    let is_heading = |at: usize| matches!(atoms.get(at).map(|atom| &atom.kind), Some(AtomKind::Heading(_)));
    let mut end = at;
    while end < region_end && is_heading(end) {
        end += 1;
    }
    (end + 1).min(region_end)
}

fn has_body(atoms: &[Atom], run: Range<usize>) -> bool {
    atoms.get(run).unwrap_or_default().iter().any(|atom| !matches!(atom.kind, AtomKind::Heading(_)))
}

/// The end of the last whole block in `fresh` when at least half a chunk lies before it, else `fresh.end`.
fn block_end(
    atoms: &[Atom],
    lengths: &Lengths,
    options: &Options,
    start: usize,
    fresh: Range<usize>,
) -> usize {
    let block = |at: usize| atoms.get(at).map(|atom| atom.block);
    let mut end = fresh.end;
    while end > fresh.start + 1 && lengths.of(start..end) >= options.size / 2 {
        if block(end) != block(end - 1) && has_body(atoms, fresh.start..end) && !ends_with_heading(atoms, end)
        {
            return end;
        }
        end -= 1;
    }
    fresh.end
}

fn ends_with_heading(atoms: &[Atom], end: usize) -> bool {
    let last = end.checked_sub(1).and_then(|last| atoms.get(last));
    last.is_some_and(|atom| matches!(atom.kind, AtomKind::Heading(_)))
}

/// Where the next chunk begins: at `end`, or as many whole sentences before it as the overlap allows.
fn repeated(
    atoms: &[Atom],
    lengths: &Lengths,
    options: &Options,
    start: usize,
    end: usize,
    region_end: usize,
) -> usize {
    let mut first = end;
    let next = group_end(atoms, end, region_end);
    while first > start + 1
        && atoms.get(first - 1).is_some_and(|atom| atom.kind == AtomKind::Sentence)
        && atoms.get(end).is_some_and(|atom| atom.kind == AtomKind::Sentence)
        && lengths.of(first - 1..end) <= options.overlap
        && lengths.of(first - 1..next) <= options.size
    {
        first -= 1;
    }
    first
}
