//! One panel of 16 rows times a few inputs: the innermost loops, chosen by instruction set.
//!
//! A quantised block gives, for each row, Σ level · input level as an exact integer; the f32 sum over blocks adds
//! `integer · (d · input scale)` in order, without fused operations, so that all instruction sets agree to the bit.

use super::activations::Activations;
use super::matrix::PANEL;
use super::simd::Simd;

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

/// What a kernel returns: 16 sums for each input.
type Sums<const T: usize> = [[f32; PANEL]; T];

/// `weights` are [cols][16].
pub(super) fn f32<const T: usize>(simd: Simd, weights: &[f32], tile: Tile<'_>) -> Sums<T> {
    match simd {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Simd` values other than `Scalar` come from run-time detection.
        Simd::Avx512 => unsafe { avx512::f32(weights, tile) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Simd::Avx2 => unsafe { avx2::f32(weights, tile) },
        _ => scalar::f32(weights, tile),
    }
}

/// `levels` and `scales` of the panel as `matrix` describes them.
pub(super) fn int8<const T: usize>(simd: Simd, levels: &[u8], scales: &[u16], tile: Tile<'_>) -> Sums<T> {
    match simd {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as in `f32`.
        Simd::Avx512 => unsafe { avx512::int8(levels, scales, tile) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as in `f32`.
        Simd::Avx2 => unsafe { avx2::int8(levels, scales, tile) },
        _ => scalar::int8(levels, scales, tile),
    }
}

/// `levels`, `scales` and `minima` of the panel as `matrix` describes them.
pub(super) fn int4<const T: usize>(
    simd: Simd,
    levels: &[u8],
    scales: &[u16],
    minima: &[u16],
    tile: Tile<'_>,
) -> Sums<T> {
    match simd {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as in `f32`.
        Simd::Avx512 => unsafe { avx512::int4(levels, scales, minima, tile) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as in `f32`.
        Simd::Avx2 => unsafe { avx2::int4(levels, scales, minima, tile) },
        _ => scalar::int4(levels, scales, minima, tile),
    }
}

#[cfg(test)]
mod tests;
