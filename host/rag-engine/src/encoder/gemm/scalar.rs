//! The products in portable code: what the other kernels must agree with.

use super::{MR_MAX, NR, PANEL, Place, Rows8, Slab, Target, Weights8, store};

pub(super) fn product8(a: &Rows8, w: &Weights8, bias: &[f32], out: &mut [f32]) {
    for tile in 0..w.tiles() {
        for row in (0..a.rows()).step_by(MR_MAX) {
            let count = MR_MAX.min(a.rows() - row);
            let mut sums = [[0i32; NR]; MR_MAX];
            for (r, sums) in sums.iter_mut().enumerate().take(count) {
                let values = &a.bytes()[(row + r) * a.stride()..][..a.stride()];
                sum_row(values, w.tile(tile), sums);
            }
            store(Place { a, w, row, count, first: tile * NR }, &sums, bias, out);
        }
    }
}

/// `panels` is `[2][depth / 4][16][4]`.
fn sum_row(values: &[u8], panels: &[u8], sums: &mut [i32; NR]) {
    for (half, panel) in panels.chunks_exact(PANEL * values.len()).enumerate() {
        for (four, columns) in values.chunks_exact(4).zip(panel.chunks_exact(4 * PANEL)) {
            for (c, weights) in columns.chunks_exact(4).enumerate() {
                for (value, weight) in four.iter().zip(weights) {
                    sums[half * PANEL + c] += i32::from(*value) * i32::from(*weight as i8);
                }
            }
        }
    }
}

pub(super) fn tile32(a: &Slab<'_>, depth: usize, panels: &[f32], out: &mut Target<'_>) {
    for (r, sums) in out.data.chunks_mut(out.stride).enumerate().take(a.rows) {
        let values = &a.data[r * a.stride..][..depth];
        for (half, panel) in panels.chunks_exact(PANEL * depth).enumerate().take(2) {
            let mut lane = [0f32; PANEL];
            for (value, weights) in values.iter().zip(panel.chunks_exact(PANEL)) {
                for (lane, weight) in lane.iter_mut().zip(weights) {
                    *lane += value * weight;
                }
            }
            sums[half * PANEL..][..PANEL].copy_from_slice(&lane);
        }
    }
}
