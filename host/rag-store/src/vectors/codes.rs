//! How are int8 values kept, so that a first look needs half of each? In two halves of 4 bits, in two places.
//!
//! A code from -128 to 127 is 16 × (high - 8) + low, both from 0 to 15. The high halves lie in blocks of 16 rows in the
//! order in which the scan reads them; the low ones row by row, read only for rows that the first look let through.

use super::kernel::{BLOCK_ROWS, STEP, Simd};

/// What the high half is moved by, to have no sign.
const MOVED: i8 = 8;

/// The codes of some rows.
#[derive(Debug, Clone)]
pub(super) struct Codes {
    /// Components, padded to a multiple of `STEP`.
    width: usize,
    rows: usize,
    high: Vec<u8>,
    low: Vec<u8>,
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
        codes.resize(codes.len().next_multiple_of(STEP), 0);
        let sum = codes.iter().map(|code| i32::from(*code)).sum();
        CodedQuery { codes, sum }
    }

    /// About the product with a whole row, of the sum over its high halves: low halves are 8 on average.
    pub(super) fn about(&self, high: i32) -> i32 {
        16 * (high - i32::from(MOVED) * self.sum) + 8 * self.sum
    }

    /// The product with a whole row, of the sums over both halves.
    fn exact(&self, high: i32, low: i32) -> i32 {
        16 * (high - i32::from(MOVED) * self.sum) + low
    }
}

impl Codes {
    pub(super) fn new(dim: usize, rows: usize) -> Self {
        let width = dim.next_multiple_of(STEP);
        let blocks = rows.div_ceil(BLOCK_ROWS);
        Codes {
            width,
            rows: 0,
            high: Vec::with_capacity(blocks * BLOCK_ROWS * width / 2),
            low: Vec::with_capacity(rows * width / 2),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of one row.
    pub(super) fn row_bytes(dim: usize) -> usize {
        dim.next_multiple_of(STEP)
    }

    pub(super) fn push(&mut self, codes: impl Iterator<Item = i8>) {
        if self.rows.is_multiple_of(BLOCK_ROWS) {
            self.high.resize(self.high.len() + BLOCK_ROWS * self.width / 2, 0);
        }
        self.low.resize(self.low.len() + self.width / 2, 0);
        self.rows += 1;
        self.set(self.rows - 1, codes);
    }

    pub(super) fn set(&mut self, row: usize, codes: impl Iterator<Item = i8>) {
        let half = self.width / 2;
        let block = row / BLOCK_ROWS * BLOCK_ROWS * half;
        let (high, low) = (&mut self.high[block..], &mut self.low[row * half..(row + 1) * half]);
        for (at, code) in codes.chain(std::iter::repeat(0)).take(self.width).enumerate() {
            let (above, below) = (((code >> 4) + MOVED).cast_unsigned(), (code & 15).cast_unsigned());
            put(&mut high[at / 8 * 64 + row % BLOCK_ROWS * 4 + at % 4], above, at % 8 >= 4);
            put(&mut low[at % half], below, at >= half);
        }
    }

    /// The codes of a row, padding included.
    pub(super) fn get(&self, row: usize) -> impl Iterator<Item = i8> {
        let half = self.width / 2;
        let block = row / BLOCK_ROWS * BLOCK_ROWS * half;
        (0..self.width).map(move |at| {
            let high = take(self.high[block + at / 8 * 64 + row % BLOCK_ROWS * 4 + at % 4], at % 8 >= 4);
            let low = take(self.low[row * half + at % half], at >= half);
            ((high - MOVED) << 4) | low
        })
    }

    /// Sums over the high halves of the 16 rows of a block; rows beyond the last give anything.
    pub(super) fn block(&self, simd: Simd, block: usize, query: &CodedQuery) -> [i32; BLOCK_ROWS] {
        let bytes = BLOCK_ROWS * self.width / 2;
        simd.block(&self.high[block * bytes..(block + 1) * bytes], &query.codes)
    }

    /// The product of a row and a query, given the sum over the row's high halves.
    pub(super) fn product(&self, simd: Simd, row: usize, high: i32, query: &CodedQuery) -> i32 {
        let half = self.width / 2;
        let low = simd.row(&self.low[row * half..(row + 1) * half], &query.codes);
        query.exact(high, low)
    }
}

fn put(byte: &mut u8, value: u8, upper: bool) {
    *byte = if upper { (*byte & 15) | (value << 4) } else { (*byte & 0xf0) | value };
}

fn take(byte: u8, upper: bool) -> i8 {
    (if upper { byte >> 4 } else { byte & 15 }).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_back_and_multiplied() {
        for dim in [1, 15, 16, 17, 100] {
            let row = |at: usize| (0..dim).map(move |i| ((at * 37 + i * 91) % 256) as u8 as i8);
            let mut codes = Codes::new(dim, 40);
            (0..37).for_each(|at| codes.push(row(at + 1)));
            codes.set(3, row(99));
            let query = CodedQuery::new(row(7));
            for at in 0..37 {
                let wanted: Vec<i8> = row(if at == 3 { 99 } else { at + 1 }).collect();
                let held: Vec<i8> = codes.get(at).collect();
                assert_eq!(held[..dim], wanted, "{dim} {at}");
                assert!(held[dim..].iter().all(|padding| *padding == 0));
                let plain: i32 = wanted.iter().zip(row(7)).map(|(a, b)| i32::from(*a) * i32::from(b)).sum();
                for simd in Simd::available() {
                    let high = codes.block(simd, at / BLOCK_ROWS, &query)[at % BLOCK_ROWS];
                    assert_eq!(codes.product(simd, at, high, &query), plain, "{dim} {at}");
                    // Each low half is off by 8 at most.
                    let reach: i32 = row(7).map(|code| 8 * i32::from(code).abs()).sum();
                    assert!((query.about(high) - plain).abs() <= reach + 8 * 128 * 16, "{dim} {at}");
                }
            }
        }
    }
}
