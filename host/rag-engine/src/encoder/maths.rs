//! The row-wise functions of a transformer layer, written so that the compiler vectorises them: lanes of 16 values,
//! no branches, no library calls. Every instruction set gives the same bits.

use super::gemm::Vectorised;

const LANES: usize = 16;

/// `x[r] += y[r]`, then layer norm of each row: `(x - mean) / √(variance + eps) · weight + bias`.
pub(crate) struct AddNorm<'a> {
    /// `[rows, width]`.
    pub(crate) x: &'a mut [f32],
    /// Same shape as `x`.
    pub(crate) y: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) eps: f32,
}

impl Vectorised for AddNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let width = self.weight.len();
        for (x, y) in self.x.chunks_exact_mut(width).zip(self.y.chunks_exact(width)) {
            for (x, y) in x.iter_mut().zip(y) {
                *x += y;
            }
            let mean = sum(x, |v| v) / width as f32;
            let variance = sum(x, |v| (v - mean) * (v - mean)) / width as f32;
            let scale = 1.0 / (variance + self.eps).sqrt();
            for ((x, weight), bias) in x.iter_mut().zip(self.weight).zip(self.bias) {
                *x = (*x - mean) * scale * weight + bias;
            }
        }
    }
}

/// `x/2 · (1 + erf(x/√2))` of each value. The error function is formula 7.1.26 of Abramowitz and Stegun (error below
/// 1.5e-7).
pub(crate) struct Gelu<'a>(pub(crate) &'a mut [f32]);

impl Vectorised for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for value in self.0 {
            let x = *value;
            let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
            let t = 1.0 / (1.0 + 0.327_591_1 * z);
            let series = t
                * (0.254_829_6
                    + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152_1 + t * 1.061_405_4))));
            let erf = 1.0 - series * exp(-z * z);
            *value = 0.5 * x * (1.0 + erf.copysign(x));
        }
    }
}

/// Softmax without its division: scores become `exp(scale · (score - max))`; `shares` are what to multiply by.
pub(crate) struct Weigh<'a> {
    /// Rows of `stride` values, a multiple of 16; the first `tokens` of each are scores.
    pub(crate) rows: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) tokens: usize,
    pub(crate) scale: f32,
    /// One a row: 1 divided by the row's sum.
    pub(crate) shares: &'a mut [f32],
}

impl Vectorised for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (row, share) in self.rows.chunks_exact_mut(self.stride).zip(self.shares) {
            // What lies beyond the scores must weigh nothing.
            row[self.tokens..].fill(f32::NEG_INFINITY);
            let chunks = row.as_chunks_mut::<LANES>().0;
            let mut highest = [f32::NEG_INFINITY; LANES];
            for chunk in chunks.iter() {
                for lane in 0..LANES {
                    highest[lane] = if chunk[lane] > highest[lane] { chunk[lane] } else { highest[lane] };
                }
            }
            let highest = highest.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
            let mut sums = [0f32; LANES];
            for chunk in chunks {
                for lane in 0..LANES {
                    chunk[lane] = exp((chunk[lane] - highest) * self.scale);
                    sums[lane] += chunk[lane];
                }
            }
            *share = 1.0 / sums.iter().sum::<f32>();
        }
    }
}

/// e^x for x ≤ 0, to about 2e-7 of its value: 2^n times the sixth-degree series of the rest.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding it rounds to the nearest integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x > -87.0 { x } else { -87.0 };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let r = (x - whole * LN2_HIGH) - whole * LN2_LOW;
    let series = 1.0
        + r * (1.0
            + r * (0.5 + r * (0.166_666_67 + r * (0.041_666_67 + r * (8.333_334e-3 + r * 1.388_889e-3)))));
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    series * f32::from_bits(power)
}

/// Sum of `term` over a row, in lanes.
#[inline(always)]
pub(crate) fn sum(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let chunks = row.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|v| term(*v)).sum();
    let mut lanes = [0f32; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += term(chunk[lane]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Divides a vector by its length; a zero vector stays.
pub(crate) fn normalise(vector: &mut [f32]) {
    let length = sum(vector, |v| v * v).sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|v| *v /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::super::gemm::Isa;
    use super::*;

    /// Values from -span to span.
    fn ramp(count: usize, span: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 / (count - 1) as f32 * 2.0 - 1.0) * span).collect()
    }

    #[test]
    fn exp_is_close_everywhere() {
        for x in ramp(4001, 86.0).into_iter().filter(|x| *x <= 0.0) {
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 3e-7 * exact, "exp({x})");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    /// ∫ of the normal density by Simpson's rule, as an independent error function.
    fn gelu_exact(x: f64) -> f64 {
        let steps = 2000;
        let h = x / steps as f64;
        let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let sum: f64 = (0..=steps)
            .map(|i| {
                density(i as f64 * h)
                    * if i == 0 || i == steps {
                        1.0
                    } else if i % 2 == 1 {
                        4.0
                    } else {
                        2.0
                    }
            })
            .sum();
        x * (0.5 + sum * h / 3.0)
    }

    #[test]
    fn gelu_agrees_with_the_normal_distribution() {
        let inputs = ramp(201, 8.0);
        let mut values = inputs.clone();
        Isa::detect().run(Gelu(&mut values));
        for (x, value) in inputs.iter().zip(values) {
            assert!((f64::from(value) - gelu_exact(f64::from(*x))).abs() < 2e-6, "gelu({x}) = {value}");
        }
    }

    #[test]
    fn weights_times_share_are_a_softmax() {
        let mut rows = [ramp(37, 30.0), vec![1e9; 11], ramp(37, 1.0), vec![f32::NAN; 11]].concat();
        let mut shares = [0.0; 2];
        Isa::detect().run(Weigh { rows: &mut rows, stride: 48, tokens: 37, scale: 0.5, shares: &mut shares });
        for (row, share) in rows.chunks(48).zip(shares) {
            assert!((row[..37].iter().sum::<f32>() * share - 1.0).abs() < 1e-6);
            assert!(row[37..].iter().all(|weight| *weight < 1e-37), "padding");
        }
        assert!((rows[36] / rows[35] - f32::exp(60.0 / 36.0 * 0.5)).abs() < 1e-4);
        assert!((rows[48 + 36] / rows[48] - f32::exp(1.0)).abs() < 1e-4);
    }

    #[test]
    fn layer_norm_gives_mean_and_spread_of_its_parameters() {
        let mut x = ramp(384, 3.0);
        let y: Vec<f32> = ramp(384, 1.0).into_iter().rev().collect();
        let (weight, bias) = (vec![2.0; 384], vec![0.5; 384]);
        Isa::detect().run(AddNorm { x: &mut x, y: &y, weight: &weight, bias: &bias, eps: 1e-12 });
        let mean = x.iter().sum::<f32>() / 384.0;
        let spread = (x.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / 384.0).sqrt();
        assert!((mean - 0.5).abs() < 1e-4 && (spread - 2.0).abs() < 1e-4, "{mean} {spread}");
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let of = |isa: Isa| {
            let (mut gelu, mut row, mut x) = (ramp(131, 5.0), ramp(144, 9.0), ramp(262, 4.0));
            isa.run(Gelu(&mut gelu));
            let mut shares = [0.0];
            isa.run(Weigh { rows: &mut row, stride: 144, tokens: 131, scale: 0.3, shares: &mut shares });
            row.extend(shares);
            let (weight, bias) = (ramp(131, 2.0), ramp(131, 0.1));
            isa.run(AddNorm { x: &mut x, y: &ramp(262, 1.0), weight: &weight, bias: &bias, eps: 1e-12 });
            [gelu, row, x].concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        for isa in Isa::available() {
            assert_eq!(of(isa), of(Isa::Scalar), "{isa:?}");
        }
    }
}
