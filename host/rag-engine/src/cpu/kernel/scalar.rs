//! The kernels in plain Rust: what the vector ones must equal.

use super::super::matrix::{Format, INT8_STEP_BYTES, NF4, NIBBLE_STEP_BYTES, PANEL, STEP};
use super::{Panel, Sums, Tile};
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

pub(super) fn quantised<const T: usize>(panel: Panel<'_>, tile: Tile<'_>) -> Sums<T> {
    let mut sums = [[0.0; PANEL]; T];
    let blocks = panel.levels.chunks_exact(panel.format.block_bytes(panel.block));
    for (b, levels) in blocks.enumerate() {
        for (t, sums) in sums.iter_mut().enumerate() {
            let input = tile.block(t, b);
            let mut dots = [-panel.zero() * input.sum; PANEL];
            let steps = input.levels.as_chunks::<STEP>().0;
            for (step, inputs) in steps.iter().enumerate() {
                add_step(&mut dots, panel.format, levels, step, inputs);
            }
            let input_sum = input.sum as f32 * input.scale;
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum += dots[lane] as f32 * (half_to_f32(panel.scales[b][lane]) * input.scale);
                if let Some(minima) = panel.minima.get(b) {
                    *sum += half_to_f32(minima[lane]) * input_sum;
                }
            }
        }
    }
    sums
}

/// Adds 32 columns of 16 rows; `levels` are those of the block.
fn add_step(dots: &mut [i32; PANEL], format: Format, levels: &[u8], step: usize, inputs: &[i8; STEP]) {
    let inputs = inputs.as_chunks::<4>().0;
    if format == Format::Int8 {
        let levels = &levels[step * INT8_STEP_BYTES..][..INT8_STEP_BYTES];
        return (levels.as_chunks::<64>().0.iter().zip(inputs))
            .for_each(|(group, inputs)| add_group(dots, group, inputs));
    }
    let level = |nibble: u8| if format == Format::Nf4 { NF4[usize::from(nibble)] } else { nibble };
    let levels = &levels[step * NIBBLE_STEP_BYTES..][..NIBBLE_STEP_BYTES];
    for (p, pair) in levels.as_chunks::<64>().0.iter().enumerate() {
        add_group(dots, &pair.map(|byte| level(byte & 15)), &inputs[p]);
        add_group(dots, &pair.map(|byte| level(byte >> 4)), &inputs[p + 4]);
    }
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
