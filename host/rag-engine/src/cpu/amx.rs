//! Whether the processor has AMX's tile registers, and how a thread takes and returns them.
//!
//! The intrinsics are not stable in Rust, so instructions are written as assembly. Linux lets a process use the tile
//! registers only after it asked (`arch_prctl`), which `enable` does once.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

/// Whether tile registers may be used; asks the kernel on the first call.
pub(crate) fn enable() -> bool {
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

/// The tile registers, configured as eight tiles of 16 rows by 64 bytes until dropped.
#[derive(Debug)]
pub(crate) struct Tiles(());

/// Operand of `ldtilecfg`: palette 1.
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

impl Tiles {
    /// # Safety
    /// `enable` returned true.
    pub(crate) unsafe fn configure() -> Self {
        let config = Config::full();
        // SAFETY: `config` is 64 valid bytes; tile registers are enabled.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) };
        Self(())
    }
}

impl Drop for Tiles {
    /// Gives the registers back, so that context switches need not save them.
    fn drop(&mut self) {
        // SAFETY: they were configured, so the instruction exists.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
