//! Multiplies inputs by weight matrices, splitting panels over the threads.
//!
//! A panel's weights are read once and used for all inputs, in tiles of 8, 4, 2 and 1 of them. How many inputs come
//! together never changes a result: each output value is summed in the same order in every tile.

use std::ops::Range;

use super::activations::Activations;
use super::kernel::{self, Panel, Tile};
use super::matrix::{Format, Matrix, PANEL, Quantised, Values};
use super::pool::Pool;
use super::rows::Parts;
use super::simd::Simd;

/// Multiply-adds below which another thread costs more than it gives.
const TASK_WORK_MIN: usize = 32 * 1024;

/// `out` [input rows, matrix rows] = input · matrixᵀ.
#[derive(Debug)]
pub struct Product<'a> {
    pub matrix: &'a Matrix,
    /// Quantised beforehand when the matrix is.
    pub input: &'a Activations,
    pub out: &'a mut [f32],
}

/// The processor: its threads and instruction set.
#[derive(Debug)]
pub struct Cpu {
    pub pool: Pool,
    pub simd: Simd,
}

impl Cpu {
    /// Computes independent products, all at once.
    pub fn products(&self, list: &mut [Product<'_>]) {
        let mut jobs = Vec::with_capacity(list.len());
        let mut panels = 0;
        let mut work = 0;
        for product in list.iter_mut() {
            let (matrix, input) = (product.matrix, product.input);
            assert_eq!(input.cols, matrix.cols, "an input of another length");
            assert_eq!(product.out.len(), input.rows * matrix.rows, "an output of another length");
            panels += matrix.panels();
            work += input.rows * matrix.rows * matrix.cols;
            jobs.push((panels, matrix, input, Parts::new(product.out)));
        }
        let grain = (TASK_WORK_MIN * panels / work.max(1)).max(1);
        self.pool.split(panels, grain, |range| {
            let mut start = 0;
            for &(end, matrix, input, out) in &jobs {
                let own = range.start.max(start) - start..range.end.min(end).max(start) - start;
                // SAFETY: each panel of each product belongs to one range, and panels write different columns.
                unsafe { multiply(self.simd, matrix, input, own, out) };
                start = end;
            }
        });
    }
}

/// Values below which a row is not worth another thread.
const FILL_WORK_MIN: usize = 8 * 1024;

impl Cpu {
    /// Writes each row of `out` by `row(index, values)` and quantises it.
    pub(crate) fn fill(&self, out: &mut Activations, row: impl Fn(usize, &mut [f32]) + Sync) {
        let (rows, grain) = (out.rows, FILL_WORK_MIN / out.cols);
        let parts = out.parts();
        self.pool.split(rows, grain, |range| {
            for index in range {
                // SAFETY: a row belongs to one range.
                row(index, unsafe { parts.values(index..index + 1) });
                // SAFETY: as above; the slice of values is no longer in use.
                unsafe { parts.quantise(self.simd, index..index + 1) };
            }
        });
    }

    /// Quantises rows that were written otherwise.
    pub(crate) fn quantise(&self, out: &mut Activations) {
        self.fill(out, |_, _| {});
    }

    /// Changes each row of `out`, of `width` values, by `row(index, values)`.
    pub(crate) fn rows(&self, width: usize, out: &mut [f32], row: impl Fn(usize, &mut [f32]) + Sync) {
        let rows = out.len() / width;
        let parts = Parts::new(out);
        self.pool.split(rows, FILL_WORK_MIN / width, |range| {
            for index in range {
                // SAFETY: a row belongs to one range.
                row(index, unsafe { parts.part(index * width..(index + 1) * width) });
            }
        });
    }
}

/// Computes some panels of a product.
///
/// # Safety
/// No other task may write the same columns of `out`.
unsafe fn multiply(
    simd: Simd,
    matrix: &Matrix,
    input: &Activations,
    panels: Range<usize>,
    out: Parts<'_, f32>,
) {
    if panels.is_empty() {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if let (Simd::Amx, Values::Quantised(quantised)) = (simd, &matrix.values)
        && kernel::amx::takes(quantised.block, input.rows)
    {
        // SAFETY: passed on; `Simd::Amx` comes from run-time detection.
        return unsafe { multiply_tiles(matrix, quantised, input, panels, out) };
    }
    for panel in panels {
        // SAFETY: these columns are this task's alone.
        let store = |row: usize, values: &[f32; PANEL]| unsafe { store(matrix, panel, out, row, values) };
        let mut row = 0;
        while row < input.rows {
            let tile = Tile { input, row };
            row += match input.rows - row {
                8.. => panel_tile::<8>(simd, matrix, panel, tile, store),
                4.. => panel_tile::<4>(simd, matrix, panel, tile, store),
                2.. => panel_tile::<2>(simd, matrix, panel, tile, store),
                _ => panel_tile::<1>(simd, matrix, panel, tile, store),
            };
        }
    }
}

/// The same with AMX.
///
/// # Safety
/// As `multiply`; the processor has AMX, and `kernel::amx::takes` said yes.
#[cfg(target_arch = "x86_64")]
unsafe fn multiply_tiles(
    matrix: &Matrix,
    quantised: &Quantised,
    input: &Activations,
    panels: Range<usize>,
    out: Parts<'_, f32>,
) {
    // SAFETY: the processor has AMX.
    let _tiles = unsafe { super::amx::Tiles::configure() };
    let mut scratch = kernel::amx::Scratch::new();
    for panel in panels {
        // SAFETY: these columns are this task's alone.
        let store = |row: usize, values: &[f32; PANEL]| unsafe { store(matrix, panel, out, row, values) };
        let part = quantised.panel(panel, matrix.cols);
        part.check_all(input);
        // SAFETY: configured and checked above; detection of AMX includes AVX-512.
        unsafe { kernel::amx::panel(part, input, &mut scratch, store) };
    }
}

/// Writes one input's sums of a panel.
///
/// # Safety
/// No other task may write the same columns of `out`.
unsafe fn store(matrix: &Matrix, panel: usize, out: Parts<'_, f32>, row: usize, values: &[f32; PANEL]) {
    let first = panel * PANEL;
    let lanes = PANEL.min(matrix.rows - first);
    let at = row * matrix.rows + first;
    // SAFETY: passed on.
    let part = unsafe { out.part(at..at + lanes) };
    match <&mut [f32; PANEL]>::try_from(&mut *part) {
        // A copy of known length is one instruction, where the other is a call.
        Ok(whole) => *whole = *values,
        Err(_) => part.copy_from_slice(&values[..lanes]),
    }
}

/// One panel for `T` inputs; returns `T`.
fn panel_tile<const T: usize>(
    simd: Simd,
    matrix: &Matrix,
    panel: usize,
    tile: Tile<'_>,
    store: impl Fn(usize, &[f32; PANEL]),
) -> usize {
    let sums: [[f32; PANEL]; T] = match &matrix.values {
        Values::F32(values) => kernel::f32(simd, slice_of(values, panel, matrix.cols * PANEL), tile),
        Values::Quantised(quantised) => kernel::quantised(simd, quantised.panel(panel, matrix.cols), tile),
    };
    for (t, values) in sums.iter().enumerate() {
        store(tile.row + t, values);
    }
    T
}

impl Quantised {
    /// One panel of a matrix of so many columns.
    fn panel(&self, panel: usize, cols: usize) -> Panel<'_> {
        let blocks = cols.div_ceil(self.block);
        Panel {
            format: self.format,
            block: self.block,
            levels: slice_of(&self.levels, panel, blocks * self.format.block_bytes(self.block)),
            scales: slice_of(&self.scales, panel, blocks * PANEL).as_chunks().0,
            minima: match self.format {
                Format::Int4 => slice_of(&self.minima, panel, blocks * PANEL).as_chunks().0,
                _ => &[],
            },
        }
    }
}

#[inline(always)]
fn slice_of<E>(all: &[E], panel: usize, len: usize) -> &[E] {
    &all[panel * len..(panel + 1) * len]
}

/// One block of one input.
#[derive(Debug, Clone, Copy)]
pub(super) struct InputBlock<'a> {
    pub(super) levels: &'a [i8],
    pub(super) scale: f32,
    /// Of the levels.
    pub(super) sum: i32,
}

impl<'a> Tile<'a> {
    /// The `t`-th input's values.
    #[inline(always)]
    pub(super) fn values(&self, t: usize) -> &'a [f32] {
        slice_of(&self.input.values, self.row + t, self.input.cols)
    }

    /// Block `b` of the `t`-th input.
    #[inline(always)]
    pub(super) fn block(&self, t: usize, b: usize) -> InputBlock<'a> {
        let at = (self.row + t) * self.input.blocks() + b;
        let Activations { levels, scales, sums, block, .. } = self.input;
        InputBlock { levels: slice_of(levels, at, *block), scale: scales[at], sum: sums[at] }
    }
}
