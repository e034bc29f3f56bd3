//! Kernels of every instruction set against plain Rust.

use super::super::activations::Activations;
use super::super::matrix::{Format, Matrix};
use super::super::pool::Pool;
use super::super::product::{Cpu, Product};
use super::Simd;
use crate::random::Random;

const SHAPES: [(usize, usize); 7] = [(16, 32), (1, 1), (33, 70), (48, 128), (100, 31), (384, 384), (20, 192)];
const QUANTISED: [Format; 3] = [Format::Int8, Format::Int4, Format::Nf4];

fn sample(len: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::seeded(seed);
    (0..len).map(|_| (random.unit() * 2.0 - 1.0) as f32).collect()
}

fn multiply(simd: Simd, threads: usize, matrix: &Matrix, inputs: &[f32]) -> Vec<f32> {
    let rows = inputs.len() / matrix.cols();
    let mut input = Activations::new(matrix.cols());
    input.resize(rows, matrix);
    input.values.copy_from_slice(inputs);
    // SAFETY: one task only.
    unsafe { input.parts().quantise(simd, 0..rows) };
    let mut out = vec![f32::NAN; rows * matrix.rows()];
    let cpu = Cpu { pool: Pool::new(threads).unwrap(), simd };
    cpu.products(&mut [Product { matrix, input: &input, out: &mut out }]);
    out
}

/// The product of what a matrix really holds, in f64.
fn reference(matrix: &Matrix, inputs: &[f32]) -> Vec<f64> {
    let mut row = vec![0.0; matrix.cols()];
    let mut out = Vec::new();
    for input in inputs.chunks(matrix.cols()) {
        for r in 0..matrix.rows() {
            matrix.row(r, &mut row);
            out.push(row.iter().zip(input).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum());
        }
    }
    out
}

#[test]
fn products_agree_with_plain_sums() {
    for (rows, cols) in SHAPES {
        let weights = sample(rows * cols, 1);
        for format in Format::ALL {
            let matrix = Matrix::pack(&weights, rows, cols, format);
            let inputs = sample(3 * cols, 2);
            let want = reference(&matrix, &inputs);
            // Inputs are rounded to 1/254 of their block's largest value, at random.
            let tolerance = if format == Format::F32 { 1e-5 } else { 0.012 } * (cols as f64).sqrt();
            for simd in Simd::available() {
                for (got, want) in multiply(simd, 2, &matrix, &inputs).iter().zip(&want) {
                    let error = (f64::from(*got) - want).abs();
                    assert!(error <= tolerance, "{simd:?} {format:?} {rows}x{cols}: {got} for {want}");
                }
            }
        }
    }
}

#[test]
fn all_instruction_sets_give_the_same_quantised_products() {
    for (rows, cols) in SHAPES {
        let weights = sample(rows * cols, 3);
        for format in QUANTISED {
            let matrix = Matrix::pack(&weights, rows, cols, format);
            for count in [1, 2, 5, 15, 16, 33, 47] {
                let inputs = sample(count * cols, 4);
                let want = multiply(Simd::Scalar, 1, &matrix, &inputs);
                for simd in Simd::available() {
                    assert_eq!(
                        multiply(simd, 2, &matrix, &inputs),
                        want,
                        "{simd:?} {format:?} {rows}x{cols}"
                    );
                }
            }
        }
    }
}

#[test]
fn extreme_levels_do_not_overflow() {
    let (rows, cols) = (16, 64);
    for sign in [1.0, -1.0] {
        let matrix = Matrix::pack(&vec![sign; rows * cols], rows, cols, Format::Int8);
        for simd in Simd::available() {
            for value in multiply(simd, 1, &matrix, &vec![-1.0; 16 * cols]) {
                assert!((value + sign * 64.0).abs() < 0.05, "{simd:?} {value}");
            }
        }
    }
}

#[test]
fn inputs_together_give_what_each_gives_alone() {
    for format in Format::ALL {
        let (rows, cols) = (70, 192);
        let matrix = Matrix::pack(&sample(rows * cols, 5), rows, cols, format);
        let inputs = sample(43 * cols, 6);
        for simd in Simd::available() {
            let together = multiply(simd, 2, &matrix, &inputs);
            let alone: Vec<f32> =
                inputs.chunks(cols).flat_map(|input| multiply(simd, 1, &matrix, input)).collect();
            assert_eq!(together, alone, "{simd:?} {format:?}");
        }
    }
}
