//! The strongest directions of a matrix, by a randomised singular value decomposition (Halko, Martinsson, Tropp 2011).

use rag_engine::random::Random;

use super::linalg::{product, view, view_mut};

/// Directions drawn beyond the wanted ones: the last wanted ones get better.
const OVERSAMPLED: usize = 8;
/// Rounds of Jacobi rotations; they converge in less than ten.
const SWEEPS: usize = 30;

/// B0 [rows, rank] and A0 [rank, cols] with B0 A0 ≈ W: U√Σ and √ΣVᵀ of its `rank` largest singular values.
pub(crate) fn split(
    w: &[f32],
    [rows, cols]: [usize; 2],
    rank: usize,
    iterations: usize,
    seed: u64,
) -> [Vec<f32>; 2] {
    let drawn = (rank + OVERSAMPLED).min(rows).min(cols);
    let matrix = view(w, rows, cols);
    let mut random = Random::seeded(seed);
    // Directions as rows: q [k, rows], z [k, cols].
    let mut z: Vec<f32> = (0..drawn * cols).map(|_| gaussian(&mut random)).collect();
    let mut q = vec![0.0; drawn * rows];
    for round in 0..=iterations {
        product(view(&z, drawn, cols), matrix.t(), 0.0, view_mut(&mut q, drawn, rows));
        orthonormalise(&mut q, rows);
        if round < iterations {
            product(view(&q, drawn, rows), matrix, 0.0, view_mut(&mut z, drawn, cols));
            orthonormalise(&mut z, cols);
        }
    }
    // W restricted to those directions, and its decomposition by that of its Gram matrix.
    product(view(&q, drawn, rows), matrix, 0.0, view_mut(&mut z, drawn, cols));
    let (values, vectors) = eigen(&gram(&z, cols), drawn);
    let mut order: Vec<usize> = (0..drawn).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let (mut b0, mut a0) = (vec![0.0; rows * rank], vec![0.0; rank * cols]);
    for (r, &which) in order.iter().take(rank).enumerate() {
        let singular = values[which].max(0.0).sqrt();
        if singular <= f64::from(f32::EPSILON) {
            continue;
        }
        let root = singular.sqrt();
        for direction in 0..drawn {
            let share = vectors[direction * drawn + which];
            let (to_b, to_a) = ((share * root) as f32, (share / root) as f32);
            for (row, &value) in q[direction * rows..(direction + 1) * rows].iter().enumerate() {
                b0[row * rank + r] += to_b * value;
            }
            let a0 = &mut a0[r * cols..(r + 1) * cols];
            a0.iter_mut().zip(&z[direction * cols..]).for_each(|(a, value)| *a += to_a * value);
        }
    }
    [b0, a0]
}

/// From two uniform numbers (Box and Muller).
fn gaussian(random: &mut Random) -> f32 {
    let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * random.unit()).cos()) as f32
}

/// Makes rows of `len` values orthonormal: Gram and Schmidt, twice against rounding. A row without a direction of its
/// own becomes 0.
fn orthonormalise(rows: &mut [f32], len: usize) {
    for i in 0..rows.len() / len {
        let (before, row) = rows.split_at_mut(i * len);
        let row = &mut row[..len];
        let length = dot(row, row).sqrt();
        for _ in 0..2 {
            for other in before.chunks_exact(len) {
                let along = dot(other, row) as f32;
                row.iter_mut().zip(other).for_each(|(value, other)| *value -= along * other);
            }
        }
        let left = dot(row, row).sqrt();
        let scale = if left > 1e-6 * length && left > 0.0 { 1.0 / left } else { 0.0 };
        row.iter_mut().for_each(|value| *value *= scale as f32);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Products of rows with rows, [k, k].
fn gram(rows: &[f32], len: usize) -> Vec<f64> {
    let rows: Vec<&[f32]> = rows.chunks_exact(len).collect();
    rows.iter().flat_map(|a| rows.iter().map(|b| dot(a, b))).collect()
}

/// Eigenvalues, and eigenvectors as columns, of a symmetric matrix [n, n], by Jacobi's rotations.
fn eigen(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a = matrix.to_vec();
    let mut vectors: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
    let total: f64 = a.iter().map(|x| x * x).sum();
    for _ in 0..SWEEPS {
        let outside: f64 = (0..n * n).filter(|i| i / n != i % n).map(|i| a[i] * a[i]).sum();
        if outside <= total * 1e-24 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p * n + q] != 0.0 {
                    rotate(&mut a, &mut vectors, n, [p, q]);
                }
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), vectors)
}

/// One rotation, after which a[p][q] is 0.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, [p, q]: [usize; 2]) {
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cos = 1.0 / (t * t + 1.0).sqrt();
    let sin = t * cos;
    let turn = |values: &mut [f64], i: usize, j: usize| {
        let (x, y) = (values[i], values[j]);
        values[i] = cos * x - sin * y;
        values[j] = sin * x + cos * y;
    };
    (0..n).for_each(|k| turn(a, k * n + p, k * n + q));
    (0..n).for_each(|k| turn(a, p * n + k, q * n + k));
    (0..n).for_each(|k| turn(vectors, k * n + p, k * n + q));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix of known singular values: random orthonormal directions, scaled.
    fn known(rows: usize, cols: usize, singular: &[f32]) -> Vec<f32> {
        let mut random = Random::seeded(3);
        let mut directions = |len: usize| {
            let mut rows: Vec<f32> = (0..singular.len() * len).map(|_| gaussian(&mut random)).collect();
            orthonormalise(&mut rows, len);
            rows
        };
        let (u, v) = (directions(rows), directions(cols));
        let mut w = vec![0.0; rows * cols];
        for (k, s) in singular.iter().enumerate() {
            for i in 0..rows {
                for j in 0..cols {
                    w[i * cols + j] += s * u[k * rows + i] * v[k * cols + j];
                }
            }
        }
        w
    }

    fn without(w: &[f32], rows: usize, cols: usize, rank: usize) -> f64 {
        let [b, a] = split(w, [rows, cols], rank, 4, 1);
        let mut rest = w.to_vec();
        let mut low = vec![0.0; rows * cols];
        product(view(&b, rows, rank), view(&a, rank, cols), 0.0, view_mut(&mut low, rows, cols));
        rest.iter_mut().zip(&low).for_each(|(rest, low)| *rest -= low);
        dot(&rest, &rest).sqrt()
    }

    /// What is left has exactly the singular values that were not taken: the best that any rank can do.
    #[test]
    fn the_strongest_directions_are_found() {
        let singular: Vec<f32> = (0..20).map(|i| 10.0 * 0.7f32.powi(i)).collect();
        for (rows, cols) in [(60, 40), (40, 60)] {
            let w = known(rows, cols, &singular);
            for rank in [1, 4, 10] {
                let best = singular[rank..].iter().map(|&s| f64::from(s * s)).sum::<f64>().sqrt();
                let left = without(&w, rows, cols, rank);
                assert!((left - best).abs() < 1e-3 * best + 1e-4, "{rank}: {left} for {best}");
            }
            assert!(without(&w, rows, cols, 20) < 1e-3);
        }
    }

    #[test]
    fn a_seed_repeats_and_both_halves_share_the_weight() {
        let w = known(30, 20, &[4.0, 1.0]);
        assert_eq!(split(&w, [30, 20], 2, 4, 9), split(&w, [30, 20], 2, 4, 9));
        let [b, a] = split(&w, [30, 20], 2, 4, 9);
        let column: Vec<f32> = b.iter().step_by(2).copied().collect();
        assert!((dot(&column, &column) - 4.0).abs() < 1e-3);
        assert!((dot(&a[..20], &a[..20]) - 4.0).abs() < 1e-3);
    }
}
