//! What does a PDF hold? Prints its blocks: `cargo run --release -p guest-pdf --example pdf_text -- [--keep] [--kinds] FILE…`.
//!
//! `--keep` leaves running titles in; `--kinds` puts kind and page before each block.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for a terminal; the path is printed with the error"
)]

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use guest_doc::{Memory, NoOcr, Session};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let settings = if has("--keep") { r#"{"page_headers": true}"# } else { "{}" };
    let mut ended = ExitCode::SUCCESS;
    for path in arguments.iter().filter(|argument| !argument.starts_with("--")) {
        if let Err(error) = print(path, settings, has("--kinds")) {
            eprintln!("{path}: {error}");
            ended = ExitCode::FAILURE;
        }
    }
    ended
}

fn print(path: &str, settings: &str, kinds: bool) -> Result<(), Box<dyn std::error::Error>> {
    let started = Instant::now();
    let file = Memory::file(path, "application/pdf", std::fs::read(path)?);
    let mut session = Session::new(guest_pdf::open(file, Rc::new(NoOcr), settings)?);
    let mut chars = 0;
    while let Some(blocks) = session.next(256 << 10)? {
        for block in blocks {
            chars += block.text.chars().count();
            if kinds {
                print!("[{:?} p{}] ", block.kind, block.page.unwrap_or(0));
            }
            println!("{}\n", block.text);
        }
    }
    eprintln!(
        "{path}: {chars} characters in {:.2} s, {} MiB at most; {:?}",
        started.elapsed().as_secs_f64(),
        peak_mib().unwrap_or_default(),
        session.summary()
    );
    Ok(())
}

/// The largest resident set of this program, where the system tells it.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? >> 10)
}
