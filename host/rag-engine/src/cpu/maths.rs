//! Elementwise functions and sums, written so that the compiler turns them into vector code.
//!
//! Every function gives the same bits on every processor: no fused operations, no platform's `exp`, and sums in a
//! fixed order of 16 lanes.

/// Partial sums of a long sum.
const LANES: usize = 16;

/// Defines a function that is compiled once for each instruction set and takes the one to use as its first argument.
/// Its body, and what it calls, must be `inline(always)`: a call out of it would run code compiled for none of them.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name(simd: $crate::cpu::simd::Simd, $($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            fn plain($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
            fn avx512($($arg: $type),*) $(-> $result)? {
                plain($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $type),*) $(-> $result)? {
                plain($($arg),*)
            }

            match simd {
                // SAFETY: `Simd` values other than `Scalar` come from run-time detection.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Simd::Amx | $crate::cpu::simd::Simd::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Simd::Avx2 => unsafe { avx2($($arg),*) },
                _ => plain($($arg),*),
            }
        }
    };
}
pub(crate) use vectorised;

vectorised! {
    /// Layer normalisation of one row: see `normalised`.
    pub(crate) fn normalise(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, out: &mut [f32]) {
        normalised(x, weight, bias, epsilon, out);
    }
}

vectorised! {
    /// out ← out + x.
    pub(crate) fn add(x: &[f32], out: &mut [f32]) {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out += x);
    }
}

vectorised! {
    /// out ← xx + (previous − xx) · share.
    pub(crate) fn mix(xx: &[f32], previous: &[f32], share: &[f32], out: &mut [f32]) {
        for (((out, &xx), &previous), &share) in out.iter_mut().zip(xx).zip(previous).zip(share) {
            *out = xx + (previous - xx) * share;
        }
    }
}

vectorised! {
    /// out ← xx + (previous − xx) · (share + shift).
    pub(crate) fn mix_shifted(xx: &[f32], previous: &[f32], share: &[f32], shift: &[f32], out: &mut [f32]) {
        let shares = share.iter().zip(shift);
        for (((out, &xx), &previous), (&share, &shift)) in out.iter_mut().zip(xx).zip(previous).zip(shares) {
            *out = xx + (previous - xx) * (share + shift);
        }
    }
}

vectorised! {
    /// out ← tanh(x).
    pub(crate) fn tanh_of(x: &[f32], out: &mut [f32]) {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = tanh(x));
    }
}

vectorised! {
    /// out ← sigmoid(x).
    pub(crate) fn sigmoid_of(x: &[f32], out: &mut [f32]) {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = sigmoid(x));
    }
}

vectorised! {
    /// out ← max(x, 0)².
    pub(crate) fn squared_positive(x: &[f32], out: &mut [f32]) {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = x.max(0.0) * x.max(0.0));
    }
}

vectorised! {
    /// out ← out · sigmoid(x).
    pub(crate) fn times_sigmoid(x: &[f32], out: &mut [f32]) {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out *= sigmoid(x));
    }
}

vectorised! {
    /// x ← e^(x − top).
    pub(crate) fn exp_below(top: f32, x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x = exp(*x - top));
    }
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
pub(crate) fn normalised(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, out: &mut [f32]) {
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
    use crate::cpu::simd::Simd;

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
        for len in [2, 7, 16, 100] {
            let x: Vec<f32> = (0..len).map(|i| (i as f32).sin() * 5.0 + 2.0).collect();
            let mut out = vec![0.0; len];
            normalise(Simd::detect(), &x, &vec![1.0; len], &vec![0.0; len], 1e-5, &mut out);
            let mean: f32 = out.iter().sum::<f32>() / len as f32;
            let square: f32 = out.iter().map(|v| v * v).sum::<f32>() / len as f32;
            assert!(mean.abs() < 1e-5 && (square - 1.0).abs() < 1e-3, "{mean} {square}");
        }
    }

    #[test]
    fn instruction_sets_agree_to_the_bit() {
        let x: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin() * 20.0).collect();
        let y: Vec<f32> = x.iter().rev().copied().collect();
        let results: Vec<Vec<u32>> = Simd::available()
            .into_iter()
            .map(|simd| {
                let mut rows = vec![y.clone(); 8];
                normalise(simd, &x, &y, &x, 1e-5, &mut rows[0]);
                add(simd, &x, &mut rows[1]);
                mix(simd, &x, &y, &x, &mut rows[2]);
                mix_shifted(simd, &x, &y, &x, &y, &mut rows[3]);
                tanh_of(simd, &x, &mut rows[4]);
                squared_positive(simd, &x, &mut rows[5]);
                times_sigmoid(simd, &x, &mut rows[6]);
                exp_below(simd, 20.0, &mut rows[7]);
                rows.concat().iter().map(|v| v.to_bits()).collect()
            })
            .collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        assert!(results[0].iter().all(|&bits| f32::from_bits(bits).is_finite()));
    }
}
