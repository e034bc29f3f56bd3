//! Which instructions this machine has, and how a plain Rust loop is compiled for each of them.

use std::sync::OnceLock;

/// Instruction sets with kernels of their own, best first. A value other than `Scalar` is made only after detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Tile registers for int8, AVX-512 for the rest.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Portable code.
    Scalar,
}

/// A loop over slices that the compiler vectorises; `run` must be `#[inline(always)]` in every implementation, so
/// that it is compiled anew for each instruction set.
pub trait Vectorised {
    type Output;
    fn run(self) -> Self::Output;
}

impl Isa {
    /// The best one of this machine; found once.
    pub fn detect() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::available().into_iter().min().unwrap_or(Isa::Scalar))
    }

    /// Every one that this machine can run, best first.
    pub fn available() -> Vec<Isa> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni");
            if avx512 && crate::cpu::amx::enable() {
                found.push(Isa::Amx);
            }
            if avx512 {
                found.push(Isa::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Isa::Avx2);
            }
        }
        found.push(Isa::Scalar);
        found
    }

    /// Name for reports.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => "amx-int8",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "avx512-vnni",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            Isa::Scalar => "scalar",
        }
    }

    /// Runs a loop compiled for this instruction set.
    pub fn run<K: Vectorised>(self, kernel: K) -> K::Output {
        match self {
            // SAFETY: the value exists only where detection found the instructions.
            #[cfg(target_arch = "x86_64")]
            Isa::Amx | Isa::Avx512 => unsafe { run_avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { run_avx2(kernel) },
            Isa::Scalar => kernel.run(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
fn run_avx512<K: Vectorised>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Vectorised>(kernel: K) -> K::Output {
    kernel.run()
}
