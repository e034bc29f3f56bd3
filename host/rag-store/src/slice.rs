//! How does a thread that works briefly and rarely get a processor soon, beside threads that never pause?
//!
//! It asks the system for a short slice: turns of about a tenth of a millisecond, and those sooner, out of the same share of
//! processor time. Linux does so since 6.12 without any right; an older kernel ignores it.

/// The shortest slice that Linux gives.
const NANOS: u64 = 100_000;

/// Asks for it for the calling thread; without effect where the system has no such thing.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the C library has no safe call for this")]
pub(crate) fn shorten() {
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut own: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::sched_attr>() as libc::c_uint;
    // SAFETY: the kernel writes at most `size` bytes to `own`, which lives; 0 is the calling thread.
    let known = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut own, size, 0) } == 0;
    if !known || own.sched_policy != libc::SCHED_OTHER as u32 {
        return;
    }
    own.size = size;
    own.sched_runtime = NANOS;
    // SAFETY: the kernel reads `own.size` bytes of `own`, which lives.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const own, 0) } == 0;
    tracing::debug!(set, "asked for a short slice for the thread that writes");
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn shorten() {}
