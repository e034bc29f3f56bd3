//! Quantised products of many inputs on AMX: a tile is 16 inputs by 64 columns, or those columns of 16 weight rows.
//!
//! The integers of a block come out of the tile registers and are scaled and added as the other kernels do it, in the
//! same order: results agree with theirs to the bit.

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::activations::Activations;
use super::super::matrix::{Format, PANEL};
use super::{Panel, avx512};

/// Inputs of a tile.
pub(crate) const ROWS: usize = 16;
/// Columns of a tile.
const COLUMNS: usize = 64;
/// Bytes of 64 columns of 16 rows of weights.
const TILE_BYTES: usize = 1024;

/// Integer sums of two tiles, in rows of a tile register's length.
#[repr(C, align(64))]
#[derive(Debug)]
struct Dots([[i32; PANEL]; 2 * ROWS]);

/// What a thread computes in; made once for many panels, because clearing it costs as much as a small product.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Two, so that a block's sums are read while the next block's are written.
    dots: [Dots; 2],
    sums: [[[f32; PANEL]; ROWS]; 2],
    /// Levels as bytes, of formats that have fewer bits.
    levels: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Scratch {
            dots: [const { Dots([[0; PANEL]; 2 * ROWS]) }; 2],
            sums: [[[0.0; PANEL]; ROWS]; 2],
            levels: Vec::new(),
        }
    }
}

/// Whether a panel can be multiplied here.
pub(crate) fn takes(block: usize, inputs: usize) -> bool {
    block.is_multiple_of(COLUMNS) && inputs >= ROWS
}

/// One panel by all inputs, of which there are `ROWS` at least; `store` takes the sums of each.
///
/// # Safety
/// The tile registers are configured, the processor has AVX-512 F, BW and VNNI, `takes` said yes, and
/// `panel.check` passed for all inputs.
pub(crate) unsafe fn panel(
    panel: Panel<'_>,
    input: &Activations,
    scratch: &mut Scratch,
    store: impl Fn(usize, &[f32; PANEL]),
) {
    let Scratch { dots, sums, levels } = scratch;
    let weights = if panel.format == Format::Int8 {
        panel.levels.as_ptr()
    } else {
        levels.resize(panel.scales.len() * panel.block * PANEL, 0);
        // SAFETY: the scratch has 16 bytes a column.
        unsafe { avx512::unpack(panel, levels) };
        levels.as_ptr()
    };
    let mut row = 0;
    while row < input.rows {
        // The last tiles may repeat inputs of those before: the results are the same.
        let first = row.min(input.rows - ROWS);
        let second = (first + ROWS).min(input.rows - ROWS);
        // SAFETY: 16 inputs exist from either row on; the rest is passed on.
        unsafe { two_tiles(panel, input, weights, [first, second], dots, sums) };
        for (first, sums) in [first, second].into_iter().zip(&*sums) {
            sums.iter().enumerate().for_each(|(r, sums)| store(first + r, sums));
        }
        row = second + ROWS;
    }
}

/// Sums of 16 inputs from each of two rows on; what `sums` held before does not count.
///
/// # Safety
/// As `panel`; `weights` are the panel's levels as bytes, and 16 inputs exist from either row on.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn two_tiles(
    panel: Panel<'_>,
    input: &Activations,
    weights: *const u8,
    rows: [usize; 2],
    both: &mut [Dots; 2],
    sums: &mut [[[f32; PANEL]; ROWS]; 2],
) {
    let (count, block) = (panel.scales.len(), panel.block);
    let stride = count * block;
    let zero = -panel.zero();
    for b in 0..count {
        let dots = &mut both[b % 2];
        // SAFETY: both tiles' inputs have `stride` levels a row, the block's are among them; the weights have 16
        // bytes a column.
        unsafe {
            let [first, second] = rows.map(|row| input.levels.as_ptr().add(row * stride + b * block));
            block_dots([first, second], stride, weights.add(b * block * PANEL), block / COLUMNS, dots);
        }
        let scales = avx512::halves(&panel.scales[b]);
        for (tile, sums) in sums.iter_mut().enumerate() {
            let minima = panel.minima.get(b).map(|minima| avx512::halves(minima));
            for (r, sums) in sums.iter_mut().enumerate() {
                let at = (rows[tile] + r) * count + b;
                let (scale, sum) = (input.scales[at], input.sums[at]);
                // SAFETY: 16 i32.
                let dots = unsafe { _mm512_load_si512(dots.0[tile * ROWS + r].as_ptr().cast()) };
                let before = match b {
                    0 => _mm512_setzero_ps(),
                    // SAFETY: 16 f32.
                    _ => unsafe { _mm512_loadu_ps(sums.as_ptr()) },
                };
                let dots = _mm512_add_epi32(dots, _mm512_set1_epi32(zero * sum));
                let scales = _mm512_mul_ps(scales, _mm512_set1_ps(scale));
                let mut total = _mm512_add_ps(before, _mm512_mul_ps(_mm512_cvtepi32_ps(dots), scales));
                if let Some(minima) = minima {
                    let minimum = _mm512_mul_ps(minima, _mm512_set1_ps(sum as f32 * scale));
                    total = _mm512_add_ps(total, minimum);
                }
                // SAFETY: 16 f32.
                unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), total) };
            }
        }
    }
}

/// Integer sums of one block: tmm0 and tmm1 hold them, tmm4 and tmm5 the inputs, tmm6 the weights.
///
/// # Safety
/// Tiles are configured; each of `inputs` has 16 rows of `steps · 64` bytes `stride` apart, `weights` `steps` tiles.
#[inline]
unsafe fn block_dots(
    inputs: [*const i8; 2],
    stride: usize,
    weights: *const u8,
    steps: usize,
    dots: &mut Dots,
) {
    // SAFETY: the loop reads 64 bytes a step of each of 32 rows and 1 024 bytes of weights a step: what the caller
    // promises; the stores fill `dots`.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "2:",
            "tileloadd tmm6, [{weights} + {line}]",
            "tileloadd tmm4, [{first} + {stride}]",
            "tileloadd tmm5, [{second} + {stride}]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tdpbsud tmm1, tmm5, tmm6",
            "add {first}, 64",
            "add {second}, 64",
            "add {weights}, {tile}",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{dots} + {line}], tmm0",
            "tilestored [{below} + {line}], tmm1",
            first = inout(reg) inputs[0] => _,
            second = inout(reg) inputs[1] => _,
            weights = inout(reg) weights => _,
            steps = inout(reg) steps => _,
            stride = in(reg) stride,
            line = in(reg) 64usize,
            tile = const TILE_BYTES,
            dots = in(reg) dots.0.as_mut_ptr(),
            below = in(reg) dots.0.as_mut_ptr().add(ROWS),
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            options(nostack),
        );
    }
}
