//! Every kernel that this machine has against the portable one.

use super::*;

/// Values in -1..1 from a fixed sequence.
fn values(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The definition, in f64.
fn exact(a: &[f32], w: &[f32], depth: usize, bias: &[f32]) -> Vec<f64> {
    let dot = |a: &[f32], w: &[f32]| a.iter().zip(w).map(|(a, w)| f64::from(*a) * f64::from(*w)).sum::<f64>();
    let row =
        |a: &[f32]| w.chunks(depth).zip(bias).map(|(w, b)| dot(a, w) + f64::from(*b)).collect::<Vec<_>>();
    a.chunks(depth).flat_map(row).collect()
}

/// Shapes with whole and broken tiles in every direction.
const SHAPES: [(usize, usize, usize); 7] =
    [(1, 4, 1), (2, 64, 16), (5, 60, 33), (12, 384, 32), (31, 128, 48), (33, 200, 70), (47, 1536, 96)];

#[test]
fn packed_f32_weights_unpack_to_what_they_were() {
    for (columns, depth) in [(1, 4), (33, 7), (96, 64)] {
        let values: Vec<f32> = (0..columns * depth).map(|i| i as f32).collect();
        assert_eq!(WeightsF32::pack(depth, values.chunks(depth)).unpack(), values, "{columns} × {depth}");
    }
}

#[test]
fn int8_gives_the_same_bits_everywhere_and_is_close() {
    for (rows, depth, columns) in SHAPES {
        let (a, w, bias) = (values(1, rows * depth), values(2, columns * depth), values(3, columns));
        let weights = Weights8::pack(depth, w.chunks(depth));
        let of = |isa: Isa| {
            let mut rows8 = Rows8::default();
            // A larger use before must not show.
            rows8.quantise(isa, &values(9, 40 * 1600), 1600);
            rows8.quantise(isa, &a, depth);
            let mut out = vec![f32::NAN; rows * columns];
            product8(isa, &rows8, &weights, &bias, &mut out);
            out
        };
        let scalar = of(Isa::Scalar);
        for (value, exact) in scalar.iter().zip(exact(&a, &w, depth, &bias)) {
            let allowed = 0.01 * (depth as f64).sqrt() + 1e-3;
            assert!(
                (f64::from(*value) - exact).abs() < allowed,
                "{rows}×{depth}×{columns}: {value} for {exact}"
            );
        }
        for isa in Isa::available() {
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&of(isa)), bits(&scalar), "{isa:?} {rows}×{depth}×{columns}");
        }
    }
}

#[test]
fn extreme_values_do_not_overflow() {
    let (rows, depth, columns) = (17, 1536, 32);
    let a: Vec<f32> = (0..rows * depth).map(|i| if i % depth == 0 { -1e-6 } else { 1e6 }).collect();
    let w = vec![-3.0; columns * depth];
    let weights = Weights8::pack(depth, w.chunks(depth));
    for isa in Isa::available() {
        let mut rows8 = Rows8::default();
        rows8.quantise(isa, &a, depth);
        let mut out = vec![0.0; rows * columns];
        product8(isa, &rows8, &weights, &vec![0.0; columns], &mut out);
        let expected = -3e6 * (depth - 1) as f32;
        assert!(out.iter().all(|v| (v / expected - 1.0).abs() < 1e-3), "{isa:?} {}", out[0]);
    }
}

#[test]
fn rows_of_zeros_stay_zero() {
    for isa in Isa::available() {
        let mut rows8 = Rows8::default();
        rows8.quantise(isa, &[0.0; 128], 64);
        let weights = Weights8::pack(64, values(5, 64 * 3).chunks(64));
        let mut out = vec![f32::NAN; 6];
        product8(isa, &rows8, &weights, &[1.0, 2.0, 3.0], &mut out);
        assert_eq!(out, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0], "{isa:?}");
    }
}

#[test]
fn f32_is_close_everywhere() {
    for (rows, depth, columns) in SHAPES {
        let (a, w, bias) = (values(1, rows * depth), values(2, columns * depth), values(3, columns));
        let weights = WeightsF32::pack(depth, w.chunks(depth));
        let exact = exact(&a, &w, depth, &bias);
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; rows * columns];
            product32(isa, &a, &weights, &bias, &mut out);
            for (value, exact) in out.iter().zip(&exact) {
                assert!(
                    (f64::from(*value) - exact).abs() < 1e-4,
                    "{isa:?} {rows}×{depth}×{columns}: {value} {exact}"
                );
            }
        }
    }
}
