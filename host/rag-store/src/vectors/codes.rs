//! How are int8 values kept, so that a search reads few of their bits? In three places: signs, high halves, low halves.
//!
//! A code from -128 to 127 is 16 × (high - 8) + low, both from 0 to 15, and its sign is kept once more. The signs lie in
//! blocks of 16 rows in the order in which the scan reads them; the halves row by row, each read only for rows that
//! what was read before did not rule out.

use super::kernel::{BLOCK_ROWS, LINE_BYTES, LINE_HALVES, LINE_SIGNS, Line, Simd, Tables};

/// What the high half is moved by, to have no sign.
const MOVED: i8 = 8;
/// Bytes of a block's line for each eighth of its components: one a row.
const LANE: usize = BLOCK_ROWS;

/// The codes of some rows.
#[derive(Debug, Clone)]
pub(super) struct Codes {
    /// Lines that the halves of a row take.
    lines: usize,
    rows: usize,
    signs: Vec<Line>,
    high: Vec<Line>,
    low: Vec<Line>,
}

/// A query as it is multiplied with codes.
pub(super) struct CodedQuery {
    codes: Vec<i8>,
    /// Of the codes, to take `MOVED` back.
    sum: i32,
}

impl CodedQuery {
    pub(super) fn new(codes: impl Iterator<Item = i8>) -> Self {
        let mut codes: Vec<i8> = codes.collect();
        codes.resize(codes.len().next_multiple_of(LINE_HALVES), 0);
        let sum = codes.iter().map(|code| i32::from(*code)).sum();
        CodedQuery { codes, sum }
    }

    /// About the product with a whole row, of the sum over its high halves: low halves are 8 on average.
    pub(super) fn about(&self, high: i32) -> i32 {
        16 * (high - i32::from(MOVED) * self.sum) + 8 * self.sum
    }
}

/// A query as it is multiplied with signs: for every four components what each of their 16 cases adds.
pub(super) struct SignQuery {
    pub(super) tables: Vec<Tables>,
    /// What twice the sum of the tables' numbers is too large by.
    pub(super) moved: i32,
}

impl SignQuery {
    /// Largest value of a component, so that eight of them fit into a byte.
    pub(super) const VALUE_MAX: f32 = 31.0;

    pub(super) fn new(values: impl Iterator<Item = i8>) -> Self {
        let mut values: Vec<i32> = values.map(i32::from).collect();
        values.resize(values.len().next_multiple_of(LINE_HALVES), 0);
        let mut moved = 0;
        let mut tables = vec![[Line([0; LINE_BYTES]); 2]; values.len() / LINE_SIGNS];
        for (group, four) in values.as_chunks::<4>().0.iter().enumerate() {
            let (table, half) = (&mut tables[group / 8], group % 2);
            // No number is below 0 when a negative component counts where it is not set.
            let negative: i32 = four.iter().map(|value| value.min(&0)).sum();
            let lane = &mut table[half].0[group % 8 / 2 * LANE..][..16];
            for (case, number) in lane.iter_mut().enumerate() {
                let set = (0..4).filter(|bit| case >> bit & 1 == 1).map(|bit| four[bit]);
                *number = (set.sum::<i32>() - negative) as u8;
            }
            // Signs are worth ±1: twice what is set, less everything.
            moved += four.iter().sum::<i32>() - 2 * negative;
        }
        SignQuery { tables, moved }
    }
}

impl Codes {
    pub(super) fn new(dim: usize, rows: usize) -> Self {
        let lines = dim.div_ceil(LINE_HALVES);
        let blocks = rows.div_ceil(BLOCK_ROWS);
        Codes {
            lines,
            rows: 0,
            signs: Vec::with_capacity(blocks * lines * LINE_HALVES / LINE_SIGNS),
            high: Vec::with_capacity(rows * lines),
            low: Vec::with_capacity(rows * lines),
        }
    }

    /// Bytes of one row.
    pub(super) fn row_bytes(dim: usize) -> usize {
        let width = dim.next_multiple_of(LINE_HALVES);
        width + width / 8
    }

    /// The lines of the signs of all rows, block after block.
    pub(super) fn signs(&self) -> &[Line] {
        &self.signs
    }

    pub(super) fn push(&mut self, codes: &[i8]) {
        if self.rows.is_multiple_of(BLOCK_ROWS) {
            self.signs.resize(self.signs.len() + self.block_lines(), Line([0; LINE_BYTES]));
        }
        self.high.resize(self.high.len() + self.lines, Line([0; LINE_BYTES]));
        self.low.resize(self.low.len() + self.lines, Line([0; LINE_BYTES]));
        self.rows += 1;
        self.set(self.rows - 1, codes);
    }

    pub(super) fn set(&mut self, row: usize, codes: &[i8]) {
        let own = row * self.lines..(row + 1) * self.lines;
        let mut some = [0_i8; LINE_HALVES];
        let block = row / BLOCK_ROWS * self.block_lines();
        let halves = self.high[own.clone()].iter_mut().zip(&mut self.low[own]);
        let signs = self.signs[block..].chunks_exact_mut(LINE_HALVES / LINE_SIGNS);
        for ((codes, (high, low)), signs) in codes.chunks(LINE_HALVES).zip(halves).zip(signs) {
            some.fill(0);
            some[..codes.len()].copy_from_slice(codes);
            let (lower, upper) = some.split_at(LINE_BYTES);
            for (at, (lower, upper)) in lower.iter().zip(upper).enumerate() {
                high.0[at] = above(*lower) | above(*upper) << 4;
                low.0[at] = below(*lower) | below(*upper) << 4;
            }
            for (number, eight) in some.as_chunks::<8>().0.iter().enumerate() {
                let bits = (0..8).fold(0, |bits, bit| bits | u8::from(eight[bit] >= 0) << bit);
                signs[number / 4].0[number % 4 * LANE + row % BLOCK_ROWS] = bits;
            }
        }
    }

    /// The codes of a row, padding included.
    pub(super) fn get(&self, row: usize) -> Vec<i8> {
        let own = row * self.lines..(row + 1) * self.lines;
        let mut codes = Vec::with_capacity(self.lines * LINE_HALVES);
        for (high, low) in self.high[own.clone()].iter().zip(&self.low[own]) {
            for shift in [0, 4] {
                codes.extend(high.0.iter().zip(&low.0).map(|(high, low)| {
                    let (high, low) = ((high >> shift & 15).cast_signed(), (low >> shift & 15).cast_signed());
                    ((high - MOVED) << 4) | low
                }));
            }
        }
        codes
    }

    /// The sum over the high halves of a row.
    pub(super) fn high(&self, simd: Simd, row: usize, query: &CodedQuery) -> i32 {
        simd.row(&self.high[row * self.lines..(row + 1) * self.lines], &query.codes)
    }

    /// The product of a row and a query, given the sum over the row's high halves.
    pub(super) fn product(&self, simd: Simd, row: usize, high: i32, query: &CodedQuery) -> i32 {
        let low = simd.row(&self.low[row * self.lines..(row + 1) * self.lines], &query.codes);
        16 * (high - i32::from(MOVED) * query.sum) + low
    }

    /// The high halves of a row will be read soon.
    pub(super) fn ask_for(&self, simd: Simd, row: usize) {
        simd.ask_for(&self.high[row * self.lines..(row + 1) * self.lines]);
    }

    fn block_lines(&self) -> usize {
        self.lines * LINE_HALVES / LINE_SIGNS
    }
}

fn above(code: i8) -> u8 {
    ((code >> 4) + MOVED).cast_unsigned()
}

fn below(code: i8) -> u8 {
    (code & 15).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::kernel::FirstLook;

    #[test]
    fn codes_are_read_back_and_multiplied() {
        for dim in [1, 15, 16, 100, 128, 129, 300] {
            let row =
                |at: usize| -> Vec<i8> { (0..dim).map(|i| ((at * 37 + i * 91) % 256) as u8 as i8).collect() };
            let mut codes = Codes::new(dim, 40);
            (0..37).for_each(|at| codes.push(&row(at + 1)));
            codes.set(3, &row(99));
            let query = CodedQuery::new(row(7).into_iter());
            let signs = SignQuery::new(row(7).into_iter().map(|value| value / 5));
            let look = FirstLook { tables: &signs.tables, moved: signs.moved, unit: 1.0, reach: 0.0 };
            for simd in Simd::available() {
                let mut looks = Vec::new();
                simd.bounds(codes.signs(), &[1.0; 37], &[0.0; 37], &look, &mut looks);
                assert_eq!(looks.len(), 37);
                for (at, looks) in looks.into_iter().enumerate() {
                    let wanted = row(if at == 3 { 99 } else { at + 1 });
                    let held = codes.get(at);
                    assert_eq!(held[..dim], wanted, "{dim} {at}");
                    assert!(held[dim..].iter().all(|padding| *padding == 0));
                    let pairs = || wanted.iter().zip(row(7)).map(|(a, b)| (i32::from(*a), i32::from(b)));
                    let plain: i32 = pairs().map(|(a, b)| a * b).sum();
                    let high = codes.high(simd, at, &query);
                    assert_eq!(codes.product(simd, at, high, &query), plain, "{dim} {at}");
                    // Each low half is off by 8 at most.
                    let reach: i32 = row(7).into_iter().map(|code| 8 * i32::from(code).abs()).sum();
                    assert!((query.about(high) - plain).abs() <= reach + 8 * 128 * 128, "{dim} {at}");
                    let signs: i32 = pairs().map(|(a, b)| if a < 0 { -(b / 5) } else { b / 5 }).sum();
                    assert_eq!(looks, signs as f32, "{simd:?} {dim} {at}");
                }
            }
        }
    }
}
