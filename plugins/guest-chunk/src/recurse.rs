//! Which pieces does a text fall into at the coarsest separators that make them fit, and how are they packed?

use std::ops::Range;

use crate::chars;
use crate::cut::cut;
use crate::options::{Options, Unit};
use crate::{Models, Result};

/// Where a text may be cut, coarsest first.
pub trait Separators {
    /// How many levels there are; below the last, pieces are halved at commas, spaces and characters.
    fn levels(&self) -> usize;
    /// Bytes strictly inside `range`, ascending, on character boundaries, at which level `level` cuts.
    fn cuts(&self, level: usize, range: Range<usize>) -> Vec<usize>;
    /// `range` without what need not be kept at its ends: white space only; none when nothing is left.
    fn trimmed(&self, range: Range<usize>) -> Option<Range<usize>>;
}

/// A piece that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    range: Range<usize>,
    length: usize,
    /// Pieces of one group are packed together: what one coarser piece fell into.
    group: usize,
}

/// Texts and bytes counted at once at most.
const COUNT_TEXTS_MAX: usize = 16_384;
const COUNT_BYTES_MAX: usize = 4 << 20;
/// A piece of more characters than this many times the size in tokens is cut without counting.
const TOKEN_CHARS_MAX: usize = 4;

/// Cuts and packs one text.
#[derive(Debug)]
pub struct Recursion<'t, M, S> {
    pub text: &'t str,
    pub models: &'t M,
    pub separators: &'t S,
    pub options: Options,
}

impl<M: Models, S: Separators> Recursion<'_, M, S> {
    /// Chunks of the text within `range`: sorted by start, not blank, together covering it, none longer than
    /// `options.size` unless a single character as a reader sees it is.
    pub fn chunks(&self, range: Range<usize>) -> Result<Vec<Range<usize>>> {
        let mut groups = 1;
        let mut open: Vec<(Range<usize>, usize)> =
            self.separators.trimmed(range).into_iter().map(|range| (range, 0)).collect();
        let mut fitting: Vec<Piece> = Vec::new();
        for level in 0..=self.separators.levels() {
            let lengths = self.measure(open.iter().map(|(range, _)| range))?;
            let mut finer = Vec::new();
            for ((range, group), length) in open.into_iter().zip(lengths) {
                if let Some(length) = length.filter(|length| *length <= self.options.size) {
                    fitting.push(Piece { range, length, group });
                } else if level < self.separators.levels() {
                    let pieces = self.split(level, range);
                    // What does not fall apart here stays in its group, to be packed with its neighbours.
                    let group = if pieces.len() > 1 { groups } else { group };
                    groups += 1;
                    finer.extend(pieces.into_iter().map(|piece| (piece, group)));
                } else {
                    self.halve(range, groups, &mut fitting)?;
                    groups += 1;
                }
            }
            open = finer;
        }
        fitting.sort_by_key(|piece| piece.range.start);
        Ok(self.packed(&fitting))
    }

    fn split(&self, level: usize, range: Range<usize>) -> Vec<Range<usize>> {
        let cuts = self.separators.cuts(level, range.clone());
        let starts = std::iter::once(range.start).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([range.end]);
        starts.zip(ends).filter_map(|(start, end)| self.separators.trimmed(start..end)).collect()
    }

    fn halve(&self, range: Range<usize>, group: usize, fitting: &mut Vec<Piece>) -> Result<()> {
        let fits = |ranges: &[Range<usize>]| -> Result<Vec<bool>> {
            let lengths = self.measure(ranges.iter())?;
            Ok(lengths.into_iter().map(|l| l.is_some_and(|length| length <= self.options.size)).collect())
        };
        let pieces = cut(self.text, range, fits)?;
        let lengths = self.measure(pieces.iter())?;
        for (range, length) in pieces.into_iter().zip(lengths) {
            fitting.push(Piece { range, length: length.unwrap_or(usize::MAX), group });
        }
        Ok(())
    }

    /// Neighbours of one group together as long as they fit, each chunk beginning with the last pieces of the one
    /// before within `overlap`.
    fn packed(&self, pieces: &[Piece]) -> Vec<Range<usize>> {
        let places = self.places(pieces);
        let length = |run: Range<usize>| match places.get(run).unwrap_or_default() {
            [] => 0,
            [only] => only.len(),
            [first, .., last] => last.end.saturating_sub(first.start),
        };
        let mut chunks = Vec::new();
        let mut first = 0;
        while let Some(start) = pieces.get(first) {
            let mut end = first + 1;
            while pieces
                .get(end)
                .is_some_and(|next| next.group == start.group && length(first..end + 1) <= self.options.size)
            {
                end += 1;
            }
            let last = pieces.get(end - 1).map_or(start.range.end, |piece| piece.range.end);
            chunks.push(start.range.start..last);
            let next = pieces.get(end).filter(|next| next.group == start.group);
            let mut repeated = end;
            while next.is_some()
                && repeated > first + 1
                && length(repeated - 1..end) <= self.options.overlap
                && length(repeated - 1..end + 1) <= self.options.size
            {
                repeated -= 1;
            }
            first = repeated;
        }
        chunks
    }

    /// Where each piece begins and ends, in the unit from the start of the text, so that the length of any run is known
    /// at once.
    fn places(&self, pieces: &[Piece]) -> Vec<Range<usize>> {
        let (mut at, mut length) = (0, 0usize);
        let place = |piece: &Piece| {
            if self.options.unit == Unit::Characters {
                let gap = self.text.get(at..piece.range.start).unwrap_or_default();
                length = length.saturating_add(chars::count(gap));
            }
            at = piece.range.end;
            let start = length;
            length = length.saturating_add(piece.length);
            start..length
        };
        pieces.iter().map(place).collect()
    }

    /// Lengths of pieces; none for one that is surely too long.
    fn measure<'r>(&self, ranges: impl Iterator<Item = &'r Range<usize>>) -> Result<Vec<Option<usize>>> {
        let texts = ranges.map(|range| self.text.get(range.clone()).unwrap_or_default());
        let size = self.options.size;
        match self.options.unit {
            Unit::Characters => Ok(texts.map(|text| Some(chars::count(text))).collect()),
            Unit::Tokens => {
                let texts: Vec<&str> = texts.collect();
                let short = |text: &str| text.chars().take(size * TOKEN_CHARS_MAX + 1).count();
                let short: Vec<bool> =
                    texts.iter().map(|text| short(text) <= size * TOKEN_CHARS_MAX).collect();
                let counted: Vec<&str> =
                    texts.iter().zip(&short).filter(|(_, short)| **short).map(|(text, _)| *text).collect();
                let mut counts = self.count(&counted)?.into_iter();
                Ok(short.into_iter().map(|short| if short { counts.next() } else { None }).collect())
            }
        }
    }

    fn count(&self, texts: &[&str]) -> Result<Vec<usize>> {
        let mut counts = Vec::with_capacity(texts.len());
        let mut rest = texts;
        while !rest.is_empty() {
            let mut bytes = 0;
            let within = rest.iter().take(COUNT_TEXTS_MAX).take_while(|text| {
                bytes += text.len();
                bytes <= COUNT_BYTES_MAX
            });
            let (batch, later) = rest.split_at(within.count().max(1));
            counts.extend(self.models.count(batch)?.into_iter().map(|tokens| tokens as usize));
            rest = later;
        }
        Ok(counts)
    }
}
