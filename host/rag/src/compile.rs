//! Compiles components in a child process of this very program, bounded, so that none can take the host down with it.
//!
//! A component of a few kilobytes can be made so that compiling it takes gigabytes and hours; so the compiler runs as
//! `rwkv-rag compile-component`, which reads a component from its input and writes native code to its output.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rag_wasm::{Compile, CompileFault, Compiler, compile_component};
use rustix::process::{Signal, nice, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::child::{self, Bounds, Fault};

/// The hidden command.
const COMMAND: &str = "compile-component";
/// This program, also when its file was replaced since it started.
const SELF: &str = "/proc/self/exe";
/// How it ends when the compiler says what is wrong.
const INVALID: u8 = 3;
/// Compiling gives way to answering by so much.
const NICENESS: i32 = 10;

/// What compiling one component may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CompileLimits {
    /// Address space.
    pub(crate) memory_bytes_max: u64,
    /// Processor time of all its threads.
    pub(crate) cpu_ms_max: u64,
    /// Far above the processor time, which is what bounds a component: on a busy machine the compiler, which gives way to
    /// all else, waits long for its turn, and that is no fault of the component.
    pub(crate) wall_ms_max: u64,
    /// Size of the native code.
    pub(crate) output_bytes_max: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        CompileLimits {
            memory_bytes_max: 2 << 30,
            cpu_ms_max: 300_000,
            wall_ms_max: 900_000,
            output_bytes_max: 512 << 20,
        }
    }
}

/// The compiler as the plugin host uses it.
pub(crate) fn compiler(limits: &CompileLimits) -> Compiler {
    Compiler::Apart(Arc::new(InChild(limits.clone())))
}

#[derive(Debug)]
struct InChild(CompileLimits);

impl Compile for InChild {
    fn compile(&self, component: Vec<u8>) -> Result<Vec<u8>, CompileFault> {
        let limits = &self.0;
        let bounds = Bounds {
            time: Duration::from_millis(limits.wall_ms_max),
            cpu: Duration::from_millis(limits.cpu_ms_max),
            memory_bytes: limits.memory_bytes_max,
            output_bytes: limits.output_bytes_max,
        };
        child::run(OsStr::new(SELF), &[COMMAND], component, bounds, &AtomicBool::new(false))
            .map_err(|fault| self.told(fault))
    }
}

impl InChild {
    /// What its end says about the component.
    fn told(&self, fault: Fault) -> CompileFault {
        use std::os::unix::process::ExitStatusExt as _;
        let limits = &self.0;
        let bound = |what: String, setting: &str| {
            CompileFault::Bound(format!("takes more than {what} (setting plugins.compile.{setting})"))
        };
        let memory = || bound(format!("{} MiB of memory", limits.memory_bytes_max >> 20), "memory_bytes_max");
        match fault {
            Fault::Start(_) | Fault::Cancelled => CompileFault::Unavailable(fault.to_string()),
            Fault::Time(_) => bound(format!("{} ms", limits.wall_ms_max), "wall_ms_max"),
            Fault::Output(_) => {
                bound(format!("{} MiB of native code", limits.output_bytes_max >> 20), "output_bytes_max")
            }
            Fault::Failed { status, message } if status.code() == Some(i32::from(INVALID)) => {
                CompileFault::Invalid(message)
            }
            Fault::Failed { status, message } => match status.signal().and_then(Signal::from_named_raw) {
                Some(Signal::XCPU | Signal::KILL) => {
                    bound(format!("{} ms of processor time", limits.cpu_ms_max), "cpu_ms_max")
                }
                _ if message.contains("memory allocation") => memory(),
                // A thread that could not be started, a mapping that was refused.
                _ if message.contains("Resource temporarily") || message.contains("Cannot allocate") => {
                    memory()
                }
                _ => CompileFault::Bound(format!("breaks the compiler: {status}: {message}")),
            },
        }
    }
}

/// Whether this process was started to compile.
pub(crate) fn is_asked() -> bool {
    std::env::args_os().nth(1).is_some_and(|command| command == COMMAND)
}

/// What the child does: its input is a component, its output the native code, or one line about what is wrong.
pub(crate) fn run() -> ExitCode {
    // Neither may be permitted; then it runs as everything else does.
    let _ = nice(NICENESS);
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let mut component = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut component).map(|_| ());
    let compiled = read
        .map_err(|error| CompileFault::Unavailable(error.to_string()))
        .and_then(|()| compile_component(&component));
    let written = compiled.and_then(|code| {
        let mut output = std::io::stdout().lock();
        let written = output.write_all(&code).and_then(|()| output.flush());
        written.map_err(|error| CompileFault::Unavailable(error.to_string()))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(CompileFault::Invalid(why)) => {
            crate::output::note(format_args!("{}", why.replace('\n', " ")));
            ExitCode::from(INVALID)
        }
        Err(fault) => {
            crate::output::note(format_args!("{fault}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(script: &str) -> CompileFault {
        let bounds = Bounds {
            time: Duration::from_secs(60),
            cpu: Duration::from_secs(60),
            memory_bytes: 1 << 30,
            output_bytes: 10,
        };
        let ended =
            child::run(OsStr::new("/bin/sh"), &["-c", script], Vec::new(), bounds, &AtomicBool::new(false));
        InChild(CompileLimits::default()).told(ended.unwrap_err())
    }

    #[test]
    fn every_end_of_the_compiler_is_told_with_its_bound() {
        assert_eq!(told("echo 'bad magic' >&2; exit 3"), CompileFault::Invalid("bad magic".to_owned()));
        for (script, part) in [
            ("echo 'memory allocation of 9 bytes failed' >&2; kill -ABRT $$", "2048 MiB of memory"),
            ("kill -XCPU $$", "300000 ms of processor time (setting plugins.compile.cpu_ms_max)"),
            ("kill -SEGV $$", "breaks the compiler"),
            ("echo 123456789012", "512 MiB of native code"),
        ] {
            let CompileFault::Bound(message) = told(script) else { panic!("{script}") };
            assert!(message.contains(part), "{script}: {message}");
        }
    }
}
