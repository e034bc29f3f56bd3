//! A program run as a child process that gets bytes and gives bytes, bounded in time, memory and output.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// Between two looks at a running child.
const LOOK: Duration = Duration::from_millis(10);
/// Bytes kept of what it says is wrong.
const STDERR_BYTES_MAX: u64 = 16 << 10;

/// What a child may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) time: Duration,
    /// Processor time of all its threads, in whole seconds; the net under `time`.
    pub(crate) cpu: Duration,
    /// Address space, in bytes.
    pub(crate) memory_bytes: u64,
    pub(crate) output_bytes: u64,
}

/// How a child failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("it cannot be started: {0}")]
    Start(std::io::Error),
    #[error("it took longer than {} s", .0.as_secs())]
    Time(Duration),
    #[error("it wrote more than {0} bytes")]
    Output(u64),
    /// The last line that it wrote about it.
    #[error("{status}: {message}")]
    Failed { status: ExitStatus, message: String },
    #[error("nobody waits for it any more")]
    Cancelled,
}

/// Runs `program` with `arguments` and nothing of this process's environment but where programs and languages are.
/// Blocks. The bounds hold before the child sees the first byte of `input`. Setting `cancelled` ends it.
pub(crate) fn run(
    program: &OsStr,
    arguments: &[&str],
    input: Vec<u8>,
    bounds: Bounds,
    cancelled: &AtomicBool,
) -> Result<Vec<u8>, Fault> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("LC_ALL", "C.UTF-8");
    // Threads of text recognition and of the compiler.
    command.env("OMP_THREAD_LIMIT", "1").env("RAYON_NUM_THREADS", "2");
    for name in ["PATH", "TESSDATA_PREFIX", "LD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Ended(command.spawn().map_err(Fault::Start)?);
    limit(&child.0, bounds).map_err(Fault::Start)?;
    let (stdin, stdout, stderr) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
    let writer = thread::spawn(move || {
        // A child that does not want to read all of it says so by how it ends.
        stdin.map(|mut stdin| stdin.write_all(&input))
    });
    let output_bytes = bounds.output_bytes;
    let reader = thread::spawn(move || read(stdout, output_bytes + 1));
    let complaints = thread::spawn(move || read(stderr, STDERR_BYTES_MAX));
    let status = wait(&mut child.0, bounds.time, cancelled);
    // Kills what still runs, which ends the threads as well.
    drop(child);
    let _ = writer.join();
    let output = reader.join().unwrap_or_default();
    let complaints = complaints.join().unwrap_or_default();
    let status = status?;
    if output.len() as u64 > output_bytes {
        return Err(Fault::Output(output_bytes));
    }
    if !status.success() {
        let words = String::from_utf8_lossy(&complaints);
        let last = words.lines().rev().find(|line| !line.trim().is_empty() && !line.starts_with("note: "));
        let last = last.unwrap_or("no reason given");
        return Err(Fault::Failed { status, message: last.trim().to_owned() });
    }
    Ok(output)
}

fn limit(child: &Child, bounds: Bounds) -> std::io::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let limit = |amount: u64| Rlimit { current: Some(amount), maximum: Some(amount) };
    prlimit(pid, Resource::As, limit(bounds.memory_bytes))?;
    prlimit(pid, Resource::Core, limit(0))?;
    // It is told first, and ended a second later.
    let seconds = bounds.cpu.as_secs().max(1);
    prlimit(pid, Resource::Cpu, Rlimit { current: Some(seconds), maximum: Some(seconds + 1) })?;
    Ok(())
}

fn read(from: Option<impl Read>, bytes_max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What was read before a failure still counts; how the child ended says the rest.
        let _ = from.take(bytes_max).read_to_end(&mut bytes);
    }
    bytes
}

fn wait(child: &mut Child, time: Duration, cancelled: &AtomicBool) -> Result<ExitStatus, Fault> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(Fault::Start)? {
            return Ok(status);
        }
        if cancelled.load(SeqCst) {
            return Err(Fault::Cancelled);
        }
        if started.elapsed() > time {
            return Err(Fault::Time(time));
        }
        thread::sleep(LOOK);
    }
}

/// Ends with its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &[u8], bounds: Bounds) -> Result<Vec<u8>, Fault> {
        run(OsStr::new("/bin/sh"), &["-c", script], input.to_vec(), bounds, &AtomicBool::new(false))
    }

    const WIDE: Bounds = Bounds {
        time: Duration::from_secs(60),
        cpu: Duration::from_secs(60),
        memory_bytes: 4 << 30,
        output_bytes: 1 << 20,
    };

    #[test]
    fn bytes_go_in_and_come_out() {
        assert_eq!(sh("cat", "识别".as_bytes(), WIDE).unwrap(), "识别".as_bytes());
        // One that does not read is no failure.
        assert_eq!(sh("echo done", &[7; 1 << 20], WIDE).unwrap(), b"done\n");
    }

    #[test]
    fn every_bound_ends_it() {
        let brief = Bounds { time: Duration::from_millis(50), ..WIDE };
        assert!(matches!(sh("while :; do :; done", b"", brief), Err(Fault::Time(_))));
        let narrow = Bounds { output_bytes: 100, ..WIDE };
        assert!(matches!(sh("yes", b"", narrow), Err(Fault::Output(100) | Fault::Failed { .. })));
        let small = Bounds { memory_bytes: 64 << 20, ..WIDE };
        assert!(matches!(
            sh("x=$(head -c 200000000 /dev/zero | tr '\\0' x)", b"", small),
            Err(Fault::Failed { .. })
        ));
        assert!(
            matches!(sh("echo no >&2; exit 3", b"", WIDE), Err(Fault::Failed { message, .. }) if message == "no")
        );
        let absent = run(OsStr::new("/no/such"), &[], Vec::new(), WIDE, &AtomicBool::new(false));
        assert!(matches!(absent, Err(Fault::Start(_))));
        let gone = AtomicBool::new(true);
        let cancelled = run(OsStr::new("/bin/cat"), &["/dev/zero"], Vec::new(), WIDE, &gone);
        assert!(matches!(cancelled, Err(Fault::Cancelled)));
    }

    #[test]
    fn nothing_of_our_environment_gets_in() {
        let seen = String::from_utf8(sh("env", b"", WIDE).unwrap()).unwrap();
        assert!(!seen.contains("CARGO"), "{seen}");
    }
}
