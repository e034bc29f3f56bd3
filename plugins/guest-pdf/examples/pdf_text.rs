//! What does a PDF hold? Prints its blocks: `cargo run --release -p guest-pdf --example pdf_text -- [--keep] [--kinds] FILE…`.
//!
//! `--keep` leaves running titles in; `--kinds` puts kind and page before each block.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for a terminal; the path is printed with the error"
)]

use std::rc::Rc;
use std::time::Instant;

use guest_doc::{Memory, NoOcr, Session};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let settings = if has("--keep") { r#"{"page_headers": true}"# } else { "{}" };
    for path in arguments.iter().filter(|argument| !argument.starts_with("--")) {
        if let Err(error) = print(path, settings, has("--kinds")) {
            eprintln!("{path}: {error}");
        }
    }
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
        "{path}: {chars} characters in {:.2} s; {:?}",
        started.elapsed().as_secs_f64(),
        session.summary()
    );
    Ok(())
}
