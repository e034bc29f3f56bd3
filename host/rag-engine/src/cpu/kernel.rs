//! One panel of 16 rows times a few inputs: the innermost loops, chosen by instruction set.
//!
//! A quantised block gives, for each row, Σ level · input level as an exact integer; the f32 sum over blocks adds
//! `integer · (d · input scale)` in order, without fused operations, so that all instruction sets agree to the bit.

use super::activations::Activations;
use super::matrix::{Format, LEVEL_ZERO, PANEL};
use super::simd::Simd;

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

/// Inputs from `row` on; a kernel takes its `T` of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) input: &'a Activations,
    pub(super) row: usize,
}

/// One panel of a quantised matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel<'a> {
    pub(super) format: Format,
    /// Columns of a block.
    pub(super) block: usize,
    pub(super) levels: &'a [u8],
    pub(super) scales: &'a [[u16; PANEL]],
    /// For int4, else empty.
    pub(super) minima: &'a [[u16; PANEL]],
}

impl Panel<'_> {
    /// The level of the value 0.
    #[inline(always)]
    fn zero(&self) -> i32 {
        if self.format == Format::Int4 { 0 } else { i32::from(LEVEL_ZERO) }
    }

    /// Checks what the kernels take for granted for a tile of `T` inputs.
    #[inline(always)]
    fn check<const T: usize>(&self, tile: Tile<'_>) {
        self.check_rows(tile.input, tile.row + T);
    }

    /// The same for all inputs.
    pub(super) fn check_all(&self, input: &Activations) {
        self.check_rows(input, input.rows);
    }

    /// All parts, and so many inputs, have their full length.
    #[inline(always)]
    fn check_rows(&self, input: &Activations, rows: usize) {
        let blocks = self.scales.len();
        let enough = rows * blocks;
        assert!(
            self.block == input.block
                && input.blocks() == blocks
                && self.levels.len() == blocks * self.format.block_bytes(self.block)
                && (self.format != Format::Int4 || self.minima.len() == blocks)
                && input.levels.len() >= enough * self.block
                && input.scales.len() >= enough
                && input.sums.len() >= enough,
            "inputs of another length"
        );
    }
}

/// What a kernel returns: 16 sums for each input.
type Sums<const T: usize> = [[f32; PANEL]; T];

/// `weights` are [cols][16].
pub(super) fn f32<const T: usize>(simd: Simd, weights: &[f32], tile: Tile<'_>) -> Sums<T> {
    match simd {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Simd` values other than `Scalar` come from run-time detection.
        Simd::Amx | Simd::Avx512 => unsafe { avx512::f32(weights, tile) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Simd::Avx2 => unsafe { avx2::f32(weights, tile) },
        _ => scalar::f32(weights, tile),
    }
}

/// A quantised panel by quantised inputs.
pub(super) fn quantised<const T: usize>(simd: Simd, panel: Panel<'_>, tile: Tile<'_>) -> Sums<T> {
    panel.check::<T>(tile);
    match simd {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as in `f32`; lengths are checked above.
        Simd::Amx | Simd::Avx512 => unsafe { avx512::quantised(panel, tile) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Simd::Avx2 => unsafe { avx2::quantised(panel, tile) },
        _ => scalar::quantised(panel, tile),
    }
}

#[cfg(test)]
mod tests;
