//! The published vector, finite differences in f64, and f32 against f64.

use super::*;

const R: [f64; 6] = [1.0, -0.5, 0.3, 0.8, -0.7, 0.2];
const K: [f64; 6] = [0.5, 1.0, -1.0, 0.25, 0.6, -0.4];
const V: [f64; 6] = [1.0, 2.0, -0.5, 0.5, 0.25, -1.0];
const OMEGA: [f64; 6] = [-1.0, 0.5, 0.0, -2.0, -3.0, 1.0];
const BONUS: [f64; 2] = [0.2, -0.3];
const FIRST: [f64; 4] = [0.1, -0.2, 0.3, 0.4];

fn near(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() < tolerance, "value {i}: {got} for {want}");
    }
}

/// Three tokens with two keys and values; gradients from another implementation in double precision.
#[test]
fn the_gradients_are_those_of_the_vector() {
    let head = Head { omega: &OMEGA, r: &R, k: &K, v: &V, bonus: &BONUS };
    let mut state = FIRST.to_vec();
    let out = head.forward(&mut state);
    near(&out, &[0.2, 0.1, 1.076916974, 1.860002569, -0.351821121, 0.575940527], 1e-8);
    near(&state, &[0.824950003, -0.774159469, -0.047288120, 0.527952663], 1e-8);
    let mut by_state = vec![0.0; 4];
    let d = head.backward(&FIRST, &[1.0, 0.5, -1.0, 0.25, 0.5, 2.0], &mut by_state);
    near(&d.r, &[0.2, -0.1, -0.478830094, -0.585334129, -0.236397490, 4.052461254], 1e-8);
    near(&d.k, &[-0.90882024, 0.686080717, -0.4875, 0.0, 0.2625, 0.1125], 1e-8);
    near(&d.v, &[-0.6770366, 0.454353599, 0.495, 1.47, -0.03, -0.12], 1e-8);
    near(&d.omega, &[-0.011492309, -0.001886518, 0.517021757, -0.110703213, 0.0, 0.0], 1e-8);
    near(&d.bonus, &[1.6, -0.725], 1e-8);
    near(&by_state, &[0.703213579, 0.195410115, -0.637040972, -0.144358694], 1e-8);
}

/// Inputs in the order ω, r, k, v, u, S.
fn inputs(tokens: usize, size: usize, spread: f64) -> [Vec<f64>; 6] {
    let wave = |len: usize, a: f64, b: f64| (0..len).map(|i| (i as f64 * a + b).sin()).collect::<Vec<f64>>();
    let n = tokens * size;
    let omega = wave(n, 0.77, 0.1).iter().map(|x| x * spread - 0.5).collect();
    [
        omega,
        wave(n, 1.3, 0.2),
        wave(n, 1.7, 0.3),
        wave(n, 2.1, 0.4),
        wave(size, 0.9, 0.5),
        wave(size * size, 0.31, 0.6),
    ]
}

/// A loss of outputs and last state, so that ∂L/∂(last state) is not 0.
fn loss(inputs: &[Vec<f64>; 6]) -> f64 {
    let [omega, r, k, v, bonus, first] = inputs;
    let mut state = first.clone();
    let out = Head { omega, r, k, v, bonus }.forward(&mut state);
    let weigh = |values: &[f64], a: f64| {
        values.iter().enumerate().map(|(i, x)| x * (i as f64 * a).cos()).sum::<f64>()
    };
    weigh(&out, 0.83) + weigh(&state, 0.47)
}

#[test]
fn gradients_are_finite_differences_in_f64() {
    // 37 tokens: two groups of kept states and a part of one.
    let (tokens, size) = (37, 3);
    let at = inputs(tokens, size, 1.5);
    let [omega, r, k, v, bonus, first] = &at;
    let by_out: Vec<f64> = (0..tokens * size).map(|i| (i as f64 * 0.83).cos()).collect();
    let mut by_state: Vec<f64> = (0..size * size).map(|i| (i as f64 * 0.47).cos()).collect();
    let d = Head { omega, r, k, v, bonus }.backward(first, &by_out, &mut by_state);
    let analytic = [&d.omega, &d.r, &d.k, &d.v, &d.bonus, &by_state];
    for (which, analytic) in analytic.iter().enumerate() {
        for (i, analytic) in analytic.iter().enumerate() {
            let step = 1e-6;
            let mut moved = at.clone();
            moved[which][i] += step;
            let above = loss(&moved);
            moved[which][i] -= 2.0 * step;
            let difference = (above - loss(&moved)) / (2.0 * step);
            assert!(
                (difference - analytic).abs() < 2e-8 * (1.0 + difference.abs()),
                "input {which}, {i}: {analytic} for {difference}"
            );
        }
    }
}

/// Slow and fast decays over a long sequence, with heads of the size that models have.
#[test]
fn f32_is_near_f64() {
    for (tokens, size, spread) in [(300, 64, 0.5), (300, 64, 3.0), (130, 8, 5.0)] {
        let at = inputs(tokens, size, spread);
        let single = at.each_ref().map(|values| values.iter().map(|&x| x as f32).collect::<Vec<f32>>());
        let by_out: Vec<f64> = (0..tokens * size).map(|i| (i as f64 * 0.83).cos()).collect();
        let by_out_single: Vec<f32> = by_out.iter().map(|&x| x as f32).collect();
        let [omega, r, k, v, bonus, first] = &at;
        let mut by_state = vec![0.0; size * size];
        let d = Head { omega, r, k, v, bonus }.backward(first, &by_out, &mut by_state);
        let [omega, r, k, v, bonus, first] = &single;
        let mut by_state_single = vec![0.0; size * size];
        let head = Head { omega, r, k, v, bonus };
        let s = head.backward(first, &by_out_single, &mut by_state_single);
        for (double, single) in [
            (&d.omega, &s.omega),
            (&d.r, &s.r),
            (&d.k, &s.k),
            (&d.v, &s.v),
            (&d.bonus, &s.bonus),
            (&by_state, &by_state_single),
        ] {
            let norm = double.iter().map(|x| x * x).sum::<f64>().sqrt();
            let error =
                double.iter().zip(single).map(|(a, &b)| (a - f64::from(b)).powi(2)).sum::<f64>().sqrt();
            assert!(error < 2e-5 * norm + 1e-6, "{error} of {norm} with spread {spread}");
        }
    }
}
