//! The vectors of an encoder's tokens: in 4 bits in memory, or read from the mapped file as they are needed.

use std::fmt;

use crate::pth::{Dtype, to_f32_into};
use crate::rwkv::Weights;

/// Weights that share a scale.
pub(crate) const BLOCK: usize = 32;

/// `[rows, width]`. A text touches few rows.
pub(crate) enum WordTable {
    Nibbles {
        width: usize,
        /// `[rows, width / 2]`.
        nibbles: Vec<u8>,
        /// `[rows, width / BLOCK]`.
        scales: Vec<f32>,
    },
    /// The tensor `name` of an open file.
    Stored { width: usize, file: Box<dyn Weights>, name: String },
}

impl WordTable {
    /// The table, if its parts fit each other.
    pub(crate) fn nibbles(width: usize, nibbles: Vec<u8>, scales: Vec<f32>) -> Result<Self, String> {
        let whole = nibbles.len().is_multiple_of(width / 2);
        if whole && scales.len() * BLOCK == nibbles.len() * 2 {
            return Ok(WordTable::Nibbles { width, nibbles, scales });
        }
        Err(format!("the word table has {} bytes and {} scales", nibbles.len(), scales.len()))
    }

    /// The tensor `name`, `[rows, width]`, left in its file.
    pub(crate) fn stored(width: usize, file: Box<dyn Weights>, name: String) -> Result<Self, String> {
        let fits =
            file.raw(&name).is_some_and(|(dtype, bytes)| bytes.len().is_multiple_of(width * dtype.size()));
        if !fits || file.shape(&name).is_none_or(|shape| shape.last() != Some(&width)) {
            return Err(format!("'{name}' is not stored as rows of {width}"));
        }
        Ok(WordTable::Stored { width, file, name })
    }

    /// Rows that there are.
    pub(crate) fn rows(&self) -> usize {
        match self {
            WordTable::Nibbles { width, nibbles, .. } => nibbles.len() / (width / 2),
            WordTable::Stored { width, file, name } => {
                file.raw(name).map_or(0, |(dtype, bytes)| bytes.len() / (width * dtype.size()))
            }
        }
    }

    /// Fills `row` with the vector of `id`, which is below `rows`.
    pub(crate) fn read(&self, id: u32, row: &mut [f32]) {
        let id = id as usize;
        match self {
            WordTable::Nibbles { width, nibbles, scales } => {
                let (half, blocks) = (width / 2, width / BLOCK);
                unpack(&nibbles[id * half..][..half], &scales[id * blocks..][..blocks], row);
            }
            WordTable::Stored { width, file, name } => {
                let (dtype, bytes): (Dtype, &[u8]) = file.raw(name).unwrap_or((Dtype::F32, &[]));
                let size = width * dtype.size();
                to_f32_into(dtype, &bytes[id * size..][..size], row);
            }
        }
    }
}

impl fmt::Debug for WordTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WordTable({} rows)", self.rows())
    }
}

/// Weights of Q4_0 blocks: `(nibble - 8) · scale`; the low nibbles of a block's 16 bytes come first.
pub(crate) fn unpack(nibbles: &[u8], scales: &[f32], values: &mut [f32]) {
    let blocks = nibbles.chunks_exact(BLOCK / 2).zip(scales).zip(values.chunks_exact_mut(BLOCK));
    for ((bytes, scale), values) in blocks {
        let (low, high) = values.split_at_mut(BLOCK / 2);
        for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
            *low = (f32::from(byte & 15) - 8.0) * scale;
            *high = (f32::from(byte >> 4) - 8.0) * scale;
        }
    }
}
