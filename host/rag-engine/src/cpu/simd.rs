//! Which vector instructions this processor has.

use std::sync::OnceLock;

/// A set of kernels. All sets compute the same integers in quantised products; f32 products differ in rounding only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Simd {
    /// Plain Rust, for every processor.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 (F, BW, VL) with VNNI.
    Avx512,
    /// The same, and AMX's tile registers for products of many inputs with int8.
    Amx,
}

impl Simd {
    /// The best that this processor runs.
    pub fn detect() -> Self {
        static BEST: OnceLock<Simd> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Simd::Scalar))
    }

    /// All that this processor runs, slowest first.
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Simd::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c");
            if avx2 {
                sets.push(Simd::Avx2);
            }
            if avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vnni") {
                sets.push(Simd::Avx512);
                if super::amx::enable() {
                    sets.push(Simd::Amx);
                }
            }
        }
        sets
    }
}
