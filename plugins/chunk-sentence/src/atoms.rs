//! Which smallest pieces is a document packed from? Headings, sentences, rows and lines, none longer than a chunk.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::document::{Block, Count, Document, Kind};
use crate::options::{Options, Unit};
use crate::sentences::sentences;
use guest_chunk::chars;
use guest_chunk::cut::{cut, trimmed};

/// A piece that is never cut again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Atom {
    /// Bytes of the text.
    pub(crate) range: Range<usize>,
    /// Which block it came from, counted from 0.
    pub(crate) block: usize,
    pub(crate) kind: AtomKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AtomKind {
    Heading(u8),
    Sentence,
    /// A whole table or listing, or a line of a listing.
    Other,
    /// Rows of a table after its first, with the place of the table's header.
    Row {
        header: Range<usize>,
    },
}

/// Lengths of the atoms, so that the length of any run is known at once.
#[derive(Debug, Clone)]
pub(crate) struct Lengths {
    /// Before each atom's start and at each atom's end, in the unit, counted from the text's start.
    starts: Vec<usize>,
    ends: Vec<usize>,
}

impl Lengths {
    /// Length of a chunk made of the atoms in `run`.
    pub(crate) fn of(&self, run: Range<usize>) -> usize {
        let end = run.end.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
        end.saturating_sub(self.starts.get(run.start).copied().unwrap_or(end))
    }
}

/// Texts and bytes handed to `Count` at once at most.
const COUNT_TEXTS_MAX: usize = 16_384;
const COUNT_BYTES_MAX: usize = 4 << 20;
/// A piece of more characters than this many times the size in tokens is cut without counting.
const TOKEN_CHARS_MAX: usize = 4;

/// Measures and cuts pieces of one document.
pub(crate) struct Ruler<'d, 'c, E> {
    pub(crate) document: Document<'d>,
    pub(crate) options: Options,
    pub(crate) count: Count<'c, E>,
    /// Tokens of pieces by their bytes: most are asked for several times, and counting is what cutting costs.
    counted: BTreeMap<(usize, usize), usize>,
}

impl<'d, 'c, E> Ruler<'d, 'c, E> {
    pub(crate) fn new(document: Document<'d>, options: Options, count: Count<'c, E>) -> Self {
        Ruler { document, options, count, counted: BTreeMap::new() }
    }

    /// The atoms of the document in order, each no longer than `options.size`.
    pub(crate) fn atoms(&mut self) -> Result<Vec<Atom>, E> {
        let mut atoms = Vec::new();
        let blocks = blocks(&self.document);
        for (number, block) in blocks.iter().enumerate() {
            self.whole(number, block, &mut atoms);
        }
        let atoms = self.replace_long(atoms, |text, atom| match &atom.kind {
            AtomKind::Other => lines(text, atom),
            _ => vec![atom.clone()],
        })?;
        let atoms = self.cut_long(atoms, self.options.size)?;
        self.room_for_headings(&atoms)
    }

    /// Lengths of all atoms.
    pub(crate) fn lengths(&mut self, atoms: &[Atom]) -> Result<Lengths, E> {
        let (mut starts, mut ends) = (Vec::with_capacity(atoms.len()), Vec::with_capacity(atoms.len()));
        match self.options.unit {
            Unit::Characters => {
                let (mut at, mut chars) = (0, 0);
                for atom in atoms {
                    chars += self.chars(&(at..atom.range.start));
                    starts.push(chars);
                    chars += self.chars(&atom.range);
                    ends.push(chars);
                    at = atom.range.end;
                }
            }
            Unit::Tokens => {
                let ranges: Vec<_> = atoms.iter().map(|atom| atom.range.clone()).collect();
                let mut tokens = 0;
                for length in self.measure(&ranges)? {
                    starts.push(tokens);
                    tokens += length;
                    ends.push(tokens);
                }
            }
        }
        Ok(Lengths { starts, ends })
    }

    /// A block as one atom, or as its sentences.
    fn whole(&self, number: usize, block: &Block, atoms: &mut Vec<Atom>) {
        let raw = self.document.text.get(block.start..block.end).unwrap_or_default();
        let kind = match block.kind {
            Kind::Heading(level) => AtomKind::Heading(level.max(1)),
            Kind::Table | Kind::Code => AtomKind::Other,
            Kind::Text => {
                let shift = |range: Range<usize>| block.start + range.start..block.start + range.end;
                atoms.extend(sentences(raw).into_iter().map(|range| Atom {
                    range: shift(range),
                    block: number,
                    kind: AtomKind::Sentence,
                }));
                return;
            }
        };
        if let Some(range) = trimmed(self.document.text, block.start..block.end) {
            atoms.push(Atom { range, block: number, kind });
        }
    }

    /// Replaces every atom longer than a chunk by what `parts` makes of it.
    fn replace_long(
        &mut self,
        atoms: Vec<Atom>,
        parts: impl Fn(&str, &Atom) -> Vec<Atom>,
    ) -> Result<Vec<Atom>, E> {
        let ranges: Vec<_> = atoms.iter().map(|atom| atom.range.clone()).collect();
        let fits = self.fits(&ranges, self.options.size)?;
        let text = self.document.text;
        let replaced = atoms.into_iter().zip(fits);
        Ok(replaced.flat_map(|(atom, fits)| if fits { vec![atom] } else { parts(text, &atom) }).collect())
    }

    /// Cuts every atom longer than `size`.
    fn cut_long(&mut self, atoms: Vec<Atom>, size: usize) -> Result<Vec<Atom>, E> {
        let ranges: Vec<_> = atoms.iter().map(|atom| atom.range.clone()).collect();
        let fits = self.fits(&ranges, size)?;
        let mut cut_atoms = Vec::with_capacity(atoms.len());
        for (atom, fits) in atoms.into_iter().zip(fits) {
            if fits {
                cut_atoms.push(atom);
            } else {
                cut_atoms.extend(self.pieces(&atom, size)?);
            }
        }
        Ok(cut_atoms)
    }

    fn pieces(&mut self, atom: &Atom, size: usize) -> Result<Vec<Atom>, E> {
        let text = self.document.text;
        let pieces = cut(text, atom.range.clone(), |ranges| self.fits(ranges, size))?;
        Ok(pieces.into_iter().map(|range| Atom { range, ..atom.clone() }).collect())
    }

    /// Cuts what follows a heading where the two would not fit into one chunk.
    fn room_for_headings(&mut self, atoms: &[Atom]) -> Result<Vec<Atom>, E> {
        let lengths = self.lengths(atoms)?;
        let mut fitting = Vec::with_capacity(atoms.len());
        let mut first_heading = None;
        for (at, atom) in atoms.iter().enumerate() {
            if matches!(atom.kind, AtomKind::Heading(_)) {
                first_heading.get_or_insert(at);
                fitting.push(atom.clone());
                continue;
            }
            match first_heading.take() {
                Some(first) if lengths.of(first..at + 1) > self.options.size => {
                    let room = self.options.size.saturating_sub(lengths.of(first..at) + 2);
                    if room < self.options.size / 4 {
                        fitting.push(atom.clone());
                    } else {
                        fitting.extend(self.pieces(atom, room)?);
                    }
                }
                _ => fitting.push(atom.clone()),
            }
        }
        Ok(fitting)
    }

    /// Whether each piece is at most `size` long.
    fn fits(&mut self, ranges: &[Range<usize>], size: usize) -> Result<Vec<bool>, E> {
        if self.options.unit == Unit::Characters {
            return Ok(ranges.iter().map(|range| self.chars(range) <= size).collect());
        }
        let short: Vec<bool> =
            ranges.iter().map(|range| self.chars(range) <= size * TOKEN_CHARS_MAX).collect();
        let counted: Vec<_> =
            ranges.iter().zip(&short).filter(|(_, short)| **short).map(|(r, _)| r.clone()).collect();
        let mut lengths = self.measure(&counted)?.into_iter();
        Ok(short
            .into_iter()
            .map(|short| short && lengths.next().is_some_and(|length| length <= size))
            .collect())
    }

    /// Tokens of each piece; those not counted before are counted in batches.
    fn measure(&mut self, ranges: &[Range<usize>]) -> Result<Vec<usize>, E> {
        let key = |range: &Range<usize>| (range.start, range.end);
        let fresh: Vec<&Range<usize>> =
            ranges.iter().filter(|range| !self.counted.contains_key(&key(range))).collect();
        let mut rest = fresh.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let within = rest.iter().take(COUNT_TEXTS_MAX).take_while(|range| {
                bytes += range.len();
                bytes <= COUNT_BYTES_MAX
            });
            let (batch, later) = rest.split_at(within.count().max(1));
            let texts: Vec<&str> = batch
                .iter()
                .map(|range| self.document.text.get((*range).clone()).unwrap_or_default())
                .collect();
            let counts = (self.count)(&texts)?;
            self.counted
                .extend(batch.iter().zip(counts).map(|(range, tokens)| (key(range), tokens as usize)));
            rest = later;
        }
        Ok(ranges.iter().map(|range| self.counted.get(&key(range)).copied().unwrap_or(0)).collect())
    }

    fn chars(&self, range: &Range<usize>) -> usize {
        self.document.text.get(range.clone()).map_or(0, chars::count)
    }
}

/// The blocks, and as prose whatever stands between them without being white space.
fn blocks(document: &Document<'_>) -> Vec<Block> {
    let mut blocks = Vec::with_capacity(document.blocks.len());
    let mut at = 0;
    let gap = |range: Range<usize>, blocks: &mut Vec<Block>| {
        if let Some(range) = trimmed(document.text, range) {
            blocks.push(Block { start: range.start, end: range.end, kind: Kind::Text });
        }
    };
    for block in document.blocks {
        if block.start < at || document.text.get(block.start..block.end).is_none() {
            continue;
        }
        gap(at..block.start, &mut blocks);
        blocks.push(*block);
        at = block.end;
    }
    gap(at..document.text.len(), &mut blocks);
    blocks
}

/// The lines of a listing, or the rows of a table, the header with its rule and first row as one.
fn lines(text: &str, atom: &Atom) -> Vec<Atom> {
    let mut lines = Vec::new();
    let mut start = atom.range.start;
    for line in text.get(atom.range.clone()).unwrap_or_default().split_inclusive('\n') {
        lines.extend(trimmed(text, start..start + line.len()));
        start += line.len();
    }
    let is_rule = |range: &Range<usize>| {
        let row = text.get(range.clone()).unwrap_or_default();
        row.contains("--") && row.chars().all(|c| matches!(c, '|' | '-' | ':' | ' ' | '\t'))
    };
    let header = match lines.as_slice() {
        [head, rule, ..] if is_rule(rule) => head.start..rule.end,
        _ => {
            let other = |range| Atom { range, ..atom.clone() };
            return lines.into_iter().map(other).collect();
        }
    };
    let mut rows = lines.into_iter().skip(2);
    let first = header.start..rows.next().map_or(header.end, |row| row.end);
    let mut atoms = vec![Atom { range: first, ..atom.clone() }];
    atoms.extend(rows.map(|range| Atom {
        range,
        block: atom.block,
        kind: AtomKind::Row { header: header.clone() },
    }));
    atoms
}
