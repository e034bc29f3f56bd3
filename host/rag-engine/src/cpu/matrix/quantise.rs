//! Turns rows of f32 into the levels, scales and minima of a format.

use super::{Format, LEVEL_ZERO, NF4, PANEL, Quantised, Values, int8_place, nibble_place};
use crate::pth::{f32_to_half, half_to_f32};

/// Packs whole panels (the last one may lack rows).
pub(super) fn pack_rows(values: &[f32], cols: usize, format: Format, block: usize) -> Values {
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
    for r in 0..rows {
        for (b, values) in row(r).chunks(block).enumerate() {
            let at = r / PANEL * blocks + b;
            let (out, lane) = (&mut levels[at * bytes..(at + 1) * bytes], r % PANEL);
            let half = at * PANEL + lane;
            match format {
                Format::Int4 => (scales[half], minima[half]) = quantise_int4(values, lane, out),
                Format::Nf4 => scales[half] = quantise_nf4(values, lane, out),
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

/// Writes the names of a block's levels and returns its scale: the largest magnitude gets level ±127, and then the
/// scale is fitted once to the levels chosen.
fn quantise_nf4(block: &[f32], lane: usize, out: &mut [u8]) -> u16 {
    let assign = |inverse: f32| block.iter().map(move |&value| (value, nf4_name(value * inverse)));
    let level = |name: usize| f32::from(NF4[name]) - f32::from(LEVEL_ZERO);
    let first = largest(block) / 127.0;
    let (mut products, mut squares) = (0.0, 0.0);
    for (value, name) in assign(inverse(first)) {
        products += value * level(name);
        squares += level(name) * level(name);
    }
    let error = |scale: f32| -> f32 {
        assign(inverse(scale)).map(|(value, name)| (scale * level(name) - value).powi(2)).sum()
    };
    let fitted = if squares > 0.0 { products / squares } else { first };
    let [first, fitted] = [first, fitted].map(f32_to_half);
    let scale = if error(half_to_f32(fitted)) < error(half_to_f32(first)) { fitted } else { first };
    for (c, (_, name)) in assign(inverse(half_to_f32(scale))).enumerate() {
        let (place, shift) = nibble_place(c, lane);
        out[place] |= (name as u8) << shift;
    }
    scale
}

/// Which of `NF4` is nearest to a value in steps of 1/127 of the largest.
fn nf4_name(steps: f32) -> usize {
    let twice = 2.0 * (steps + f32::from(LEVEL_ZERO));
    NF4.windows(2).filter(|pair| twice > f32::from(pair[0]) + f32::from(pair[1])).count()
}

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
