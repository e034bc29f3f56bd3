//! Turns rows of f32 into the levels, scales and minima of a format.

use super::inputs::{Inputs, Row};
use super::{Format, LEVEL_ZERO, NF4, PANEL, Quantised, Values, int8_place, nibble_place};
use crate::pth::{f32_to_half, half_to_f32};

/// Packs whole panels (the last one may lack rows).
pub(super) fn pack_rows(
    values: &[f32],
    cols: usize,
    format: Format,
    block: usize,
    inputs: Option<&Inputs>,
) -> Values {
    let rows = values.len() / cols.max(1);
    let panels = rows.div_ceil(PANEL);
    let row = |r: usize| &values[r * cols..(r + 1) * cols];
    if format == Format::F32 {
        let mut out = vec![0.0; panels * PANEL * cols];
        for (r, lane) in (0..rows).map(|r| (r, r % PANEL)) {
            let panel = &mut out[r / PANEL * PANEL * cols..][..PANEL * cols];
            row(r).iter().enumerate().for_each(|(c, &value)| panel[c * PANEL + lane] = value);
        }
        return Values::F32(out);
    }
    let (blocks, bytes) = (cols.div_ceil(block), format.block_bytes(block));
    // What is padded counts nothing: its level is that of 0, or its inputs are 0.
    let padding = if format == Format::Int8 { LEVEL_ZERO } else { 0 };
    let mut levels = vec![padding; panels * blocks * bytes];
    let mut scales = vec![0; panels * blocks * PANEL];
    let mut minima = if format == Format::Int4 { scales.clone() } else { Vec::new() };
    let mut known = inputs.map(Row::new);
    for r in 0..rows {
        if let Some(known) = &mut known {
            known.begin();
        }
        for (b, values) in row(r).chunks(block).enumerate() {
            let at = r / PANEL * blocks + b;
            let (out, lane) = (&mut levels[at * bytes..(at + 1) * bytes], r % PANEL);
            let half = at * PANEL + lane;
            match format {
                Format::Int4 => (scales[half], minima[half]) = quantise_int4(values, lane, out),
                Format::Nf4 => {
                    let known = known.as_mut().map(|known| (known, b * block));
                    scales[half] = quantise_nf4(values, known, lane, out);
                }
                Format::Int8 | Format::F32 => scales[half] = quantise_int8(values, lane, out),
            }
        }
    }
    Values::Quantised(Quantised { format, block, levels, scales, minima })
}

/// Writes a block's levels and returns its scale: the largest magnitude gets level ±127.
fn quantise_int8(block: &[f32], lane: usize, out: &mut [u8]) -> u16 {
    let scale = f32_to_half(largest(block) / 127.0);
    let inverse = inverse(half_to_f32(scale));
    for (c, value) in block.iter().enumerate() {
        let level = round(value * inverse).clamp(-127.0, 127.0);
        out[int8_place(c, lane)] = (level as i32 + i32::from(LEVEL_ZERO)) as u8;
    }
    scale
}

/// Columns of a block of nf4 at most.
const NF4_BLOCK_MAX: usize = 64;
/// Scales that are tried, of the one that gives the largest magnitude level ±127, either way round: the levels are not
/// symmetric. Smaller ones cost the largest values and serve the many.
const SCALES: [f32; 8] = [1.05, 1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7];

/// Writes the names of a block's levels and returns its scale: the one of least (weighted) squared error among some,
/// each fitted to the levels that it gives. `known` comes with the block's first column.
fn quantise_nf4(block: &[f32], mut known: Option<(&mut Row<'_>, usize)>, lane: usize, out: &mut [u8]) -> u16 {
    let (mut values, mut weights) = ([0.0; NF4_BLOCK_MAX], [1.0; NF4_BLOCK_MAX]);
    let (values, weights) = (&mut values[..block.len()], &mut weights[..block.len()]);
    values.copy_from_slice(block);
    if let Some((row, first)) = &known {
        for (i, (value, weight)) in values.iter_mut().zip(&mut *weights).enumerate() {
            (*value, *weight) = (row.target(first + i, *value), row.weight(first + i));
        }
    }
    let top = largest(values) / 127.0;
    let mut best = (0.0, top);
    for scale in SCALES.into_iter().flat_map(|factor| [factor * top, -factor * top]) {
        let inverse = inverse(scale);
        let (mut products, mut squares) = (0.0, 0.0);
        for (value, weight) in values.iter().zip(&*weights) {
            let level = nf4_level(nf4_name(value * inverse));
            products += weight * value * level;
            squares += weight * level * level;
        }
        // How much of the sum of squares the fitted scale explains.
        let explained = products * products / squares;
        if explained > best.0 {
            best = (explained, products / squares);
        }
    }
    let half = f32_to_half(best.1);
    let scale = half_to_f32(half);
    let inverse = inverse(scale);
    for (c, &value) in block.iter().enumerate() {
        let target = known.as_ref().map_or(value, |(row, first)| row.target(first + c, value));
        let name = nf4_name(target * inverse);
        if let Some((row, first)) = &mut known {
            row.became(*first + c, scale * nf4_level(name), target);
        }
        let (place, shift) = nibble_place(c, lane);
        out[place] |= (name as u8) << shift;
    }
    half
}

fn nf4_level(name: usize) -> f32 {
    f32::from(NF4[name]) - f32::from(LEVEL_ZERO)
}

/// Which of `NF4` is nearest to a value in steps of 1/127 of the largest.
fn nf4_name(steps: f32) -> usize {
    // Half steps are enough: levels are whole.
    let twice = round((2.0 * (steps + f32::from(LEVEL_ZERO))).clamp(0.0, 511.0));
    usize::from(NF4_NAMES[twice as usize & 511])
}

/// The name of the level nearest to each half step.
static NF4_NAMES: [u8; 512] = {
    let mut names = [0; 512];
    let (mut twice, mut name) = (0, 0);
    while twice < names.len() {
        if name + 1 < NF4.len() && twice > NF4[name] as usize + NF4[name + 1] as usize {
            name += 1;
        }
        names[twice] = name as u8;
        twice += 1;
    }
    names
};

fn largest(block: &[f32]) -> f32 {
    block.iter().fold(0f32, |largest, value| largest.max(value.abs()))
}

/// Writes a block's levels and returns its scale and minimum, those of least squared error among some candidates.
fn quantise_int4(block: &[f32], lane: usize, out: &mut [u8]) -> (u16, u16) {
    let low = block.iter().fold(f32::INFINITY, |low, &value| low.min(value));
    let high = block.iter().fold(f32::NEG_INFINITY, |high, &value| high.max(value));
    let mut best = (f32::INFINITY, 0, 0);
    // Cutting a little off both ends costs the extremes and serves the many: up to a tenth at each.
    for shrink in 0..8 {
        let cut = (high - low) * shrink as f32 * 0.0125;
        let scale = (high - low - 2.0 * cut) / 15.0;
        let candidate = refine(block, scale, low + cut);
        if candidate.0 < best.0 {
            best = candidate;
        }
    }
    let (_, scale, minimum) = best;
    let (d, m) = (half_to_f32(scale), half_to_f32(minimum));
    for (c, &value) in block.iter().enumerate() {
        let (place, shift) = nibble_place(c, lane);
        out[place] |= (int4_level(value, inverse(d), m) as u8) << shift;
    }
    (scale, minimum)
}

/// Assigns levels by a first scale and minimum, then fits both to the assignment; returns the squared error and the
/// fitted pair.
fn refine(block: &[f32], scale: f32, minimum: f32) -> (f32, u16, u16) {
    let n = block.len() as f32;
    let first = inverse(scale);
    let (mut sum_q, mut sum_qq, mut sum_x, mut sum_qx) = (0.0, 0.0, 0.0, 0.0);
    for &x in block {
        let q = int4_level(x, first, minimum);
        (sum_q, sum_qq, sum_x, sum_qx) = (sum_q + q, sum_qq + q * q, sum_x + x, sum_qx + q * x);
    }
    let spread = n * sum_qq - sum_q * sum_q;
    let d = if spread > 0.0 { (n * sum_qx - sum_q * sum_x) / spread } else { 0.0 };
    let (scale, minimum) = (f32_to_half(d), f32_to_half((sum_x - d * sum_q) / n));
    let (d, m) = (half_to_f32(scale), half_to_f32(minimum));
    let error = block.iter().map(|&x| (d * int4_level(x, inverse(d), m) + m - x).powi(2)).sum();
    (error, scale, minimum)
}

fn int4_level(value: f32, inverse: f32, minimum: f32) -> f32 {
    round((value - minimum) * inverse).clamp(0.0, 15.0)
}

/// To the nearest integer, ties to even, for magnitudes below 2²²; faster than the library's where SSE4.1 is not
/// taken for granted.
fn round(value: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    (value + ROUND) - ROUND
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::matrix::Matrix;
    use crate::random::Random;

    /// Average error of an output, squared, relative to weights of the same spread.
    fn error(values: &[f32], packed: &Matrix, inputs: &Inputs) -> f32 {
        let cols = inputs.mean.len();
        let (mut sum, mut row) = (0.0, vec![0.0; cols]);
        for (r, values) in values.chunks(cols).enumerate() {
            packed.row(r, &mut row);
            let mut by_mean = 0.0;
            for (c, (got, want)) in row.iter().zip(values).enumerate() {
                sum += inputs.variance[c] * (got - want).powi(2);
                by_mean += inputs.mean[c] * (got - want);
            }
            sum += by_mean * by_mean;
        }
        sum / values.iter().map(|value| value * value).sum::<f32>()
    }

    #[test]
    fn what_is_known_of_inputs_lowers_the_errors_of_outputs() {
        let (rows, cols) = (24, 200);
        let mut random = Random::seeded(3);
        let mut normal = || (0..4).map(|_| random.unit() as f32 - 0.5).sum::<f32>();
        let values: Vec<f32> = (0..rows * cols).map(|_| normal()).collect();
        let inputs = Inputs {
            variance: (0..cols).map(|_| 0.1 + normal().abs()).collect(),
            mean: (0..cols).map(|_| normal()).collect(),
        };
        let plain = error(&values, &Matrix::pack(&values, rows, cols, Format::Nf4), &inputs);
        let known =
            error(&values, &Matrix::pack_for(&values, [rows, cols], Format::Nf4, Some(&inputs)), &inputs);
        assert!(known < 0.9 * plain, "{known} of {plain}");
    }

    #[test]
    fn a_scale_is_chosen_by_squared_error() {
        // One value far outside: giving it the last level would take the levels of all others.
        let mut values: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 / 32.0 - 1.0) * 0.3).collect();
        values[5] = 0.45;
        let matrix = Matrix::pack(&values, 1, 64, Format::Nf4);
        let mut got = vec![0.0; 64];
        matrix.row(0, &mut got);
        let error: f32 = got.iter().zip(&values).map(|(got, want)| (got - want).powi(2)).sum();
        let top = 0.45 / 127.0;
        let largest_kept: f32 =
            values.iter().map(|value| (top * nf4_level(nf4_name(value / top)) - value).powi(2)).sum();
        assert!(error < largest_kept, "{error} {largest_kept}");
    }
}
