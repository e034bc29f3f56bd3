//! int8 products on AMX: tile registers of 16 rows by 64 bytes, in blocks of 32 rows by 32 columns.

use std::arch::asm;

use super::{DEPTH_STEP, MR_MAX, NR, PANEL, Place, Rows8, Sums, Weights8, store};
use crate::cpu::amx::Tiles;

/// # Safety
/// `enable` returned true, and the machine has AVX-512 F, BW, VL, DQ and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn product8(a: &Rows8, w: &Weights8, bias: &[f32], out: &mut [f32]) {
    let stride = a.stride();
    // Spare rows make every block whole; what is summed from them is not stored.
    assert!(a.bytes().len() >= a.rows().next_multiple_of(MR_MAX) * stride);
    // SAFETY: `enable` returned true: this function's promise.
    let _tiles = unsafe { Tiles::configure() };
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
