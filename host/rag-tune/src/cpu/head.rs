//! The language head with its loss, in blocks of rows: logits never exist for all rows at once.
//!
//! Per labelled row: cross-entropy, and L2Wrap, which pulls the largest logit towards 0 by ½ · f · max².

use rayon::prelude::*;

use super::frozen::Frozen;
use super::linalg::fast;

/// Rows whose logits are in memory at once.
const ROWS: usize = 32;
/// f of L2Wrap.
pub(crate) const L2WRAP: f32 = 1e-4;

/// Where a row's label is, and which.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label {
    /// Among all rows.
    pub(crate) row: usize,
    /// Row of the head.
    pub(crate) label: usize,
}

/// Adds up the cross-entropies of the labelled rows of `x` [R, D], in nats, and writes the derivative of
/// `weight · Σ (cross-entropy + L2Wrap)` to `dx`; rows without a label get 0.
pub(crate) fn loss(
    head: &Frozen,
    x: &[f32],
    labels: &[Label],
    weight: f32,
    l2wrap: f32,
    dx: &mut [f32],
) -> f64 {
    let (vocabulary, width) = (head.rows(), head.cols());
    dx.fill(0.0);
    let mut total = 0.0;
    let mut logits = vec![0.0; ROWS.min(labels.len()) * vocabulary];
    for labels in labels.chunks(ROWS) {
        let rows: Vec<f32> =
            labels.iter().flat_map(|l| &x[l.row * width..(l.row + 1) * width]).copied().collect();
        let logits = &mut logits[..labels.len() * vocabulary];
        head.apply(&rows, logits);
        let losses: Vec<f64> = (logits.par_chunks_mut(vocabulary).zip(labels))
            .map(|(logits, label)| fast(|| row(logits, label.label, weight, l2wrap)))
            .collect();
        total += losses.iter().sum::<f64>();
        let mut by_rows = vec![0.0; rows.len()];
        head.apply_back(logits, &mut by_rows);
        for (label, by_row) in labels.iter().zip(by_rows.chunks_exact(width)) {
            dx[label.row * width..(label.row + 1) * width].copy_from_slice(by_row);
        }
    }
    total
}

/// The cross-entropy of one row, whose logits become their derivatives.
#[inline(always)]
fn row(logits: &mut [f32], label: usize, weight: f32, l2wrap: f32) -> f64 {
    let (mut best, mut top) = (0, f32::NEG_INFINITY);
    for (i, &logit) in logits.iter().enumerate() {
        if logit > top {
            (best, top) = (i, logit);
        }
    }
    let labelled = logits[label];
    logits.iter_mut().for_each(|logit| *logit = rag_engine::cpu::maths::exp(*logit - top));
    let sum: f64 = logits.chunks(1024).map(|part| f64::from(rag_engine::cpu::maths::sum(part, |x| x))).sum();
    let scale = weight / sum as f32;
    logits.iter_mut().for_each(|p| *p *= scale);
    logits[label] -= weight;
    logits[best] += weight * l2wrap * top;
    // A NaN among the logits is seen here: it is in the sum, or it is the label's.
    sum.ln() + f64::from(top) - f64::from(labelled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::frozen::Precision;

    fn wave(len: usize, a: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * a).sin()).collect()
    }

    #[test]
    fn the_loss_is_the_definition_s_and_its_derivative_the_difference_quotient() {
        let (vocabulary, width, rows) = (50, 8, 40);
        let head = Frozen::pack(&wave(vocabulary * width, 0.7), vocabulary, width, Precision::F32);
        let mut x = wave(rows * width, 0.31);
        let labels: Vec<Label> = (0..rows)
            .step_by(1)
            .filter(|row| row % 3 != 1)
            .map(|row| Label { row, label: row % 50 })
            .collect();
        let at = |x: &[f32], l2: f32| {
            let mut dx = vec![7.0; x.len()];
            (loss(&head, x, &labels, 0.5, l2, &mut dx), dx)
        };
        let (total, dx) = at(&x, 0.0);
        let mut expected = 0.0;
        for label in &labels {
            let mut logits = vec![0.0; vocabulary];
            head.apply(&x[label.row * width..(label.row + 1) * width], &mut logits);
            let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
            expected += sum.ln() - f64::from(logits[label.label]);
        }
        assert!((total - expected).abs() < 1e-4, "{total} for {expected}");
        assert!(dx[width..2 * width].iter().all(|&d| d == 0.0));
        for i in [0, 5, 2 * width + 3, 39 * width + 1] {
            let step = 1e-2;
            x[i] += step;
            let above = at(&x, 0.0).0;
            x[i] -= 2.0 * step;
            let difference = (above - at(&x, 0.0).0) / f64::from(2.0 * step) * 0.5;
            x[i] += step;
            assert!((difference - f64::from(dx[i])).abs() < 1e-3, "{i}: {} for {difference}", dx[i]);
        }
    }

    /// ½ f max² has the derivative f · max at the largest logit.
    #[test]
    fn l2wrap_pulls_the_largest_logit_to_zero() {
        let head = Frozen::pack(&[1.0, 0.0, 0.0, 1.0], 2, 2, Precision::F32);
        let labels = [Label { row: 0, label: 1 }];
        let at = |l2| {
            let mut dx = vec![0.0; 2];
            loss(&head, &[3.0, 1.0], &labels, 1.0, l2, &mut dx);
            dx
        };
        assert!((at(0.1)[0] - at(0.0)[0] - 0.3).abs() < 1e-6);
        assert_eq!(at(0.1)[1], at(0.0)[1]);
    }

    #[test]
    fn a_row_that_is_no_number_is_noticed() {
        let head = Frozen::pack(&wave(64, 0.7), 8, 8, Precision::F32);
        let mut dx = vec![0.0; 8];
        let total = loss(&head, &[f32::NAN; 8], &[Label { row: 0, label: 1 }], 1.0, 0.0, &mut dx);
        assert!(total.is_nan());
    }
}
