//! How fast are pages read natively? `cargo run --release -p guest-html --example html_blocks -- FILE…` prints MB/s, the
//! median of rounds over all files.

#![expect(
    clippy::disallowed_methods,
    reason = "a program for a terminal; the path is printed with the error"
)]

use std::hint::black_box;
use std::io::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use guest_doc::{Memory, NoOcr, Session};

const ROUNDS: usize = 15;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = std::env::args().skip(1).map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = files.iter().map(Vec::len).sum();
    let mut times: Vec<Duration> = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for file in &files {
            let file = Memory::file("page.html", "text/html", file.clone());
            let mut session = Session::new(guest_html::open(file, Rc::new(NoOcr), "{}")?);
            while let Some(blocks) = session.next(256 << 10)? {
                black_box(blocks);
            }
        }
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let median = times.get(ROUNDS / 2).copied().unwrap_or_default();
    writeln!(std::io::stdout(), "{:.1} MB/s of {bytes} bytes", bytes as f64 / median.as_secs_f64() / 1e6)?;
    Ok(())
}
