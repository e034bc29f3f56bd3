//! Matrix products over slices, split over threads; and sums over rows whose result does not depend on the threads.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};
use rag_engine::encoder::gemm::{Isa, Vectorised};
use rayon::prelude::*;

/// Multiply-adds below which another thread costs more than it gives.
const WORK_MIN: usize = 1 << 20;
/// Values of an elementwise step below which another thread costs more than it gives.
const FILL_MIN: usize = 16 * 1024;
/// Rows that are summed as one: fixed, so that sums are the same on any number of threads.
const SUM_ROWS: usize = 64;

/// A row-major matrix over a slice.
pub(crate) fn view(values: &[f32], rows: usize, cols: usize) -> ArrayView2<'_, f32> {
    match ArrayView2::from_shape((rows, cols), &values[..rows * cols]) {
        Ok(view) => view,
        Err(_) => unreachable!("the slice was cut to the shape"),
    }
}

/// The same, to be written.
pub(crate) fn view_mut(values: &mut [f32], rows: usize, cols: usize) -> ArrayViewMut2<'_, f32> {
    match ArrayViewMut2::from_shape((rows, cols), &mut values[..rows * cols]) {
        Ok(view) => view,
        Err(_) => unreachable!("the slice was cut to the shape"),
    }
}

/// c ← a · b + keep · c. Each value is summed in the same order on any number of threads.
pub(crate) fn product(
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    keep: f32,
    mut c: ArrayViewMut2<'_, f32>,
) {
    let (rows, depth, cols) = (a.nrows(), a.ncols(), b.ncols());
    let threads = (rows * depth * cols / WORK_MIN).clamp(1, rayon::current_num_threads());
    if threads == 1 || rows < 2 {
        return general_mat_mul(1.0, &a, &b, keep, &mut c);
    }
    let each = rows.div_ceil(threads);
    let parts: Vec<_> = c.axis_chunks_iter_mut(Axis(0), each).enumerate().collect();
    parts.into_par_iter().for_each(|(part, mut c)| {
        let a = a.slice(s![part * each..part * each + c.nrows(), ..]);
        general_mat_mul(1.0, &a, &b, keep, &mut c);
    });
}

/// Calls `row(index, values)` for each row of `out`.
pub(crate) fn each_row(out: &mut [f32], width: usize, row: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = (FILL_MIN / width.max(1)).max(1);
    out.par_chunks_mut(rows * width).enumerate().for_each(|(part, out)| {
        fast(|| {
            for (index, out) in out.chunks_exact_mut(width).enumerate() {
                row(part * rows + index, out);
            }
        });
    });
}

/// Adds up what `row(index, sums)` adds, over all rows, into `width` sums.
pub(crate) fn row_sums(rows: usize, width: usize, row: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = (0..rows.div_ceil(SUM_ROWS))
        .into_par_iter()
        .map(|part| {
            let mut sums = vec![0.0; width];
            let end = rows.min((part + 1) * SUM_ROWS);
            fast(|| (part * SUM_ROWS..end).for_each(|index| row(index, &mut sums)));
            sums
        })
        .collect();
    let mut total = vec![0.0; width];
    parts.iter().for_each(|part| add(&mut total, part));
    total
}

/// total ← total + part.
pub(crate) fn add(total: &mut [f32], part: &[f32]) {
    total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
}

/// Runs a loop compiled for the best instructions of this machine.
#[inline(always)]
pub(crate) fn fast<T>(work: impl FnOnce() -> T) -> T {
    struct Work<F>(F);
    impl<T, F: FnOnce() -> T> Vectorised for Work<F> {
        type Output = T;
        #[inline(always)]
        fn run(self) -> T {
            (self.0)()
        }
    }
    Isa::detect().run(Work(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_definition_whatever_is_turned() {
        let a: Vec<f32> = (0..200 * 33).map(|i| (i as f32 * 0.7).sin()).collect();
        let b: Vec<f32> = (0..33 * 190).map(|i| (i as f32 * 0.3).cos()).collect();
        let mut turned = vec![0.0; b.len()];
        for k in 0..33 {
            for j in 0..190 {
                turned[j * 33 + k] = b[k * 190 + j];
            }
        }
        let mut plain = vec![1.0; 200 * 190];
        product(view(&a, 200, 33), view(&b, 33, 190), 2.0, view_mut(&mut plain, 200, 190));
        let mut other = vec![1.0; 200 * 190];
        product(view(&a, 200, 33), view(&turned, 190, 33).t(), 2.0, view_mut(&mut other, 200, 190));
        for (i, j) in [(0, 0), (3, 189), (199, 7)] {
            let sum: f32 = (0..33).map(|k| a[i * 33 + k] * b[k * 190 + j]).sum();
            assert!((plain[i * 190 + j] - sum - 2.0).abs() < 1e-4);
            assert!((other[i * 190 + j] - sum - 2.0).abs() < 1e-4);
        }
    }

    #[test]
    fn rows_are_summed_once_each() {
        let sums = row_sums(200, 2, |row, sums| {
            sums[0] += row as f32;
            sums[1] += 1.0;
        });
        assert_eq!(sums, [19_900.0, 200.0]);
    }
}
