//! Elementwise functions and sums, written so that the compiler turns them into vector code.
//!
//! Every function gives the same bits on every processor: no fused operations, no platform's `exp`, and sums in a
//! fixed order of 16 lanes.

use super::simd::Simd;

/// Partial sums of a long sum.
const LANES: usize = 16;

impl Simd {
    /// Runs `body` compiled for this instruction set. It must be small enough to be inlined, as must what it calls.
    #[inline]
    pub(crate) fn vectorise<R>(self, body: impl FnOnce() -> R) -> R {
        match self {
            // SAFETY: `Simd` values other than `Scalar` come from run-time detection.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => unsafe { with_avx512(body) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => unsafe { with_avx2(body) },
            _ => body(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn with_avx512<R>(body: impl FnOnce() -> R) -> R {
    body()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<R>(body: impl FnOnce() -> R) -> R {
    body()
}

/// eˣ within 2 units in the last place; 0 below −87, never infinite (3.4e38 at most).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding 1.5 · 2²³ leaves the nearest integer in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    // Minimax polynomial of (eʳ − 1 − r) / r² on |r| ≤ ln 2 / 2 (Cephes, single precision).
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_65;
    p = p * r + 0.5;
    let mantissa = p * r * r + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.0 { 0.0 } else { mantissa * power }
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent within 3e-7.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let square = x * x;
    // Near 0 the quotient would lose digits: the series' first terms are exact enough up to 0.1.
    let near = x - x * square * (1.0 / 3.0 - square * (2.0 / 15.0));
    let far = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    if square < 0.01 { near } else { far }
}

/// Σ f(x) in a fixed order.
#[inline(always)]
pub fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f(value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += f(value);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// (x − mean) / √(variance + epsilon) · weight + bias, with the biased variance.
#[inline(always)]
pub fn normalise(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, out: &mut [f32]) {
    let n = x.len() as f32;
    let mean = sum(x, |v| v) / n;
    let variance = sum(x, |v| (v - mean) * (v - mean)) / n;
    let scale = 1.0 / (variance + epsilon).sqrt();
    for (((out, &x), &w), &b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
        *out = (x - mean) * scale * w + b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_agree_with_double_precision() {
        for i in -8800..8800 {
            let x = i as f32 * 0.01;
            let exact = f64::from(x);
            if x > -87.0 {
                let error = (f64::from(exp(x)) / exact.exp() - 1.0).abs();
                assert!(error < 3e-7, "exp({x}): {error}");
            }
            assert!((f64::from(tanh(x)) - exact.tanh()).abs() < 3e-7, "tanh({x})");
            assert!((f64::from(sigmoid(x)) - 1.0 / (1.0 + (-exact).exp())).abs() < 3e-7, "sigmoid({x})");
        }
        for tiny in [1e-6f32, 1e-3, 0.05, 0.0999] {
            assert!((f64::from(tanh(tiny)) / f64::from(tiny).tanh() - 1.0).abs() < 2e-7);
        }
        assert_eq!((exp(0.0), exp(-1e9), tanh(1e9), tanh(-1e9)), (1.0, 0.0, 1.0, -1.0));
        assert!(exp(1e9).is_finite());
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn norms_have_mean_zero_and_variance_one() {
        for len in [1, 7, 16, 100] {
            let x: Vec<f32> = (0..len).map(|i| (i as f32).sin() * 5.0 + 2.0).collect();
            let mut out = vec![0.0; len];
            normalise(&x, &vec![1.0; len], &vec![0.0; len], 1e-5, &mut out);
            let mean: f32 = out.iter().sum::<f32>() / len as f32;
            let square: f32 = out.iter().map(|v| v * v).sum::<f32>() / len as f32;
            assert!(mean.abs() < 1e-5 && (square - 1.0).abs() < 1e-3 || len == 1, "{mean} {square}");
        }
    }

    #[test]
    fn instruction_sets_agree_to_the_bit() {
        let x: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin() * 20.0).collect();
        let results: Vec<Vec<u32>> = Simd::available()
            .into_iter()
            .map(|simd| {
                simd.vectorise(|| {
                    let mut out = vec![0.0; x.len()];
                    normalise(&x, &x, &x, 1e-5, &mut out);
                    out.extend(x.iter().map(|&v| exp(v)));
                    out.extend(x.iter().map(|&v| tanh(v) + sigmoid(v)));
                    out.iter().map(|v| v.to_bits()).collect()
                })
            })
            .collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
