//! How does a thread that works briefly and rarely get a processor soon, beside threads that never pause?
//!
//! It asks the system for a short slice: turns of about a tenth of a millisecond, and those sooner, out of the same share of
//! processor time. Linux does so since 6.12 without any right; an older kernel ignores it.

/// The shortest slice that Linux gives.
const NANOS: u64 = 100_000;

/// Asks for it for the calling thread; without effect where the system has no such thing.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the C library has no safe call for this")]
pub fn shorten() {
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
    tracing::debug!(set, thread = std::thread::current().name(), "asked for a short slice");
}

#[cfg(not(target_os = "linux"))]
pub fn shorten() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    /// Policy and slice in nanoseconds of the calling thread; `None` where the system does not tell.
    #[expect(unsafe_code, reason = "the C library has no safe call for this")]
    fn own() -> Option<(u32, u64)> {
        // SAFETY: all fields are numbers, for which zero is a value.
        let mut own: libc::sched_attr = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::sched_attr>() as libc::c_uint;
        // SAFETY: the kernel writes at most `size` bytes to `own`, which lives; 0 is the calling thread.
        let known = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut own, size, 0) } == 0;
        known.then_some((own.sched_policy, own.sched_runtime))
    }

    #[test]
    fn a_thread_gets_a_shorter_slice_and_stays_what_it_was_otherwise() {
        std::thread::spawn(|| {
            let Some((policy, slice)) = own() else { return };
            super::shorten();
            let (after, short) = own().expect("told before");
            assert_eq!(after, policy);
            // Kernels before 6.12 tell none.
            assert!(short <= slice.min(super::NANOS) || slice == 0, "{slice} became {short}");
        })
        .join()
        .unwrap();
    }
}
