//! The kernels in plain Rust: what the vector ones must equal.

use super::super::matrix::{INT4_BLOCK_BYTES, INT8_BLOCK_BYTES, INT8_ZERO, PANEL};
use super::{Sums, Tile};
use crate::pth::half_to_f32;

pub(super) fn f32<const T: usize>(weights: &[f32], tile: Tile<'_>) -> Sums<T> {
    let mut sums = [[0.0; PANEL]; T];
    for (t, sums) in sums.iter_mut().enumerate() {
        for (column, value) in weights.as_chunks::<PANEL>().0.iter().zip(tile.values(t)) {
            sums.iter_mut().zip(column).for_each(|(sum, weight)| *sum += weight * value);
        }
    }
    sums
}

pub(super) fn int8<const T: usize>(levels: &[u8], scales: &[u16], tile: Tile<'_>) -> Sums<T> {
    let mut sums = [[0.0; PANEL]; T];
    let blocks = levels.as_chunks::<INT8_BLOCK_BYTES>().0.iter().zip(scales.as_chunks::<PANEL>().0);
    for (b, (levels, scales)) in blocks.enumerate() {
        for (t, sums) in sums.iter_mut().enumerate() {
            let mut dots = [-i32::from(INT8_ZERO) * tile.sums(t)[b]; PANEL];
            for (group, inputs) in levels.as_chunks::<64>().0.iter().zip(tile.levels(t)[b].as_chunks::<4>().0)
            {
                add_group(&mut dots, group, inputs);
            }
            let input_scale = tile.scales(t)[b];
            for (sum, (dot, &scale)) in sums.iter_mut().zip(dots.iter().zip(scales)) {
                *sum += *dot as f32 * (half_to_f32(scale) * input_scale);
            }
        }
    }
    sums
}

pub(super) fn int4<const T: usize>(levels: &[u8], scales: &[u16], minima: &[u16], tile: Tile<'_>) -> Sums<T> {
    let mut sums = [[0.0; PANEL]; T];
    let (scales, minima) = (scales.as_chunks::<PANEL>().0, minima.as_chunks::<PANEL>().0);
    for (b, levels) in levels.as_chunks::<INT4_BLOCK_BYTES>().0.iter().enumerate() {
        for (t, sums) in sums.iter_mut().enumerate() {
            let mut dots = [0; PANEL];
            let inputs = tile.levels(t)[b].as_chunks::<4>().0;
            for (p, pair) in levels.as_chunks::<64>().0.iter().enumerate() {
                add_group(&mut dots, &pair.map(|byte| byte & 15), &inputs[p]);
                add_group(&mut dots, &pair.map(|byte| byte >> 4), &inputs[p + 4]);
            }
            let input_scale = tile.scales(t)[b];
            let input_sum = tile.sums(t)[b] as f32 * input_scale;
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum += dots[lane] as f32 * (half_to_f32(scales[b][lane]) * input_scale);
                *sum += half_to_f32(minima[b][lane]) * input_sum;
            }
        }
    }
    sums
}

/// Adds four columns of 16 rows.
fn add_group(dots: &mut [i32; PANEL], group: &[u8; 64], inputs: &[i8; 4]) {
    for (dot, levels) in dots.iter_mut().zip(group.as_chunks::<4>().0) {
        *dot += levels
            .iter()
            .zip(inputs)
            .map(|(&level, &input)| i32::from(level) * i32::from(input))
            .sum::<i32>();
    }
}
