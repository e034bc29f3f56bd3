//! int8 products on AMX: tile registers of 16 rows by 64 bytes, in blocks of 32 rows by 32 columns.
//!
//! The intrinsics are not stable in Rust, so the six instructions are written as assembly. Linux lets a process use
//! the tile registers only after it asked (`arch_prctl`), which `enable` does once.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

use super::{DEPTH_STEP, MR_MAX, NR, PANEL, Place, Rows8, Sums, Weights8, store};

/// Whether tile registers may be used; asks the kernel on the first call.
pub(super) fn enable() -> bool {
    static ENABLED: OnceLock<bool> = OnceLock::new();
    *ENABLED.get_or_init(|| present() && permitted())
}

/// CPUID leaf 7: EDX bit 24 is amx-tile, bit 25 amx-int8; XCR0 bits 17 and 18 are the tile state.
fn present() -> bool {
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & (1 << 27) == 0 {
        return false;
    }
    let edx = __cpuid_count(7, 0).edx;
    if edx & (1 << 24) == 0 || edx & (1 << 25) == 0 {
        return false;
    }
    // SAFETY: OSXSAVE (leaf 1, ECX bit 27) was checked, so XGETBV exists.
    let enabled = unsafe { read_xcr0() };
    enabled & (3 << 17) == 3 << 17
}

#[target_feature(enable = "xsave")]
unsafe fn read_xcr0() -> u64 {
    // SAFETY: the caller checked OSXSAVE.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for the tile registers (`ARCH_REQ_XCOMP_PERM`, feature 18); threads started later inherit the answer.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: the call takes two numbers, touches no memory of ours and clobbers only rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") SYS_ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Operand of `ldtilecfg`: palette 1, eight tiles of 16 rows by 64 bytes.
#[repr(C, align(64))]
struct Config([u8; 64]);

impl Config {
    fn full() -> Self {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        for tile in 0..8 {
            bytes[16 + tile * 2] = 64;
            bytes[48 + tile] = 16;
        }
        Config(bytes)
    }
}

/// # Safety
/// `enable` returned true, and the machine has AVX-512 F, BW, VL, DQ and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn product8(a: &Rows8, w: &Weights8, bias: &[f32], out: &mut [f32]) {
    let stride = a.stride();
    // Spare rows make every block whole; what is summed from them is not stored.
    assert!(a.bytes().len() >= a.rows().next_multiple_of(MR_MAX) * stride);
    let config = Config::full();
    // SAFETY: `config` is 64 valid bytes; tile registers are enabled.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) };
    let mut sums = Sums([[0; NR]; MR_MAX]);
    for tile in 0..w.tiles() {
        let panels = w.tile(tile);
        assert_eq!(panels.len(), NR * stride);
        for row in (0..a.rows()).step_by(MR_MAX) {
            // SAFETY: 32 rows of `stride` bytes exist from `row` on and two panels of `16 * stride` bytes (both
            // asserted above); `stride` is a multiple of 64; the registers are configured.
            unsafe { sum_block(a.bytes().as_ptr().add(row * stride), panels.as_ptr(), stride, &mut sums) };
            let count = MR_MAX.min(a.rows() - row);
            store(Place { a, w, row, count, first: tile * NR }, &sums.0, bias, out);
        }
    }
    // SAFETY: gives the registers back, so that context switches need not save them.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Sums of 32 rows by 32 columns: tmm0–3 hold them, tmm4–5 the rows, tmm6–7 the columns.
///
/// # Safety
/// Tiles are configured; `values` has 32 rows of `stride` bytes, `panels` two panels of `16 * stride` bytes.
#[inline]
unsafe fn sum_block(values: *const u8, panels: *const u8, stride: usize, sums: &mut Sums) {
    const { assert!(DEPTH_STEP == 64) };
    // SAFETY: the loop reads 64 bytes a step of each of 32 rows, and 1 024 bytes a step of each panel, `stride / 64`
    // times: exactly what the caller promises; the stores fill `sums`.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{upper} + {stride}]",
            "tileloadd tmm6, [{left} + {line}]",
            "tileloadd tmm7, [{right} + {line}]",
            "tileloadd tmm5, [{lower} + {stride}]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tdpbusd tmm1, tmm4, tmm7",
            "tdpbusd tmm2, tmm5, tmm6",
            "tdpbusd tmm3, tmm5, tmm7",
            "add {upper}, 64",
            "add {lower}, 64",
            "add {left}, 1024",
            "add {right}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {width}], tmm0",
            "tilestored [{sums} + {width} + 64], tmm1",
            "tilestored [{below} + {width}], tmm2",
            "tilestored [{below} + {width} + 64], tmm3",
            upper = inout(reg) values => _,
            lower = inout(reg) values.add(16 * stride) => _,
            left = inout(reg) panels => _,
            right = inout(reg) panels.add(PANEL * stride) => _,
            steps = inout(reg) stride / DEPTH_STEP => _,
            stride = in(reg) stride,
            line = in(reg) 64usize,
            width = in(reg) NR * 4,
            sums = in(reg) sums.0.as_mut_ptr(),
            below = in(reg) sums.0.as_mut_ptr().add(16),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
