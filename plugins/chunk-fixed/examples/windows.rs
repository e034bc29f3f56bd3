//! How fast windows are cut natively: what `rwkv-rag bench plugin` measures in the sandbox, on the same text.

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use chunk_fixed::windows::{Options, windows};

const BYTES: usize = 1 << 20;
const ROUNDS: usize = 30;

fn main() -> std::io::Result<()> {
    let line = "知识库把文档变成可以引用的答案。 A knowledge base turns documents into answers.\n";
    let mut text: String = line.repeat(BYTES / line.len() + 1);
    text.truncate(text.floor_char_boundary(BYTES));
    let options = Options::parse("{}").map_err(std::io::Error::other)?;
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            black_box(windows(black_box(&text), options));
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let median = times.get(ROUNDS / 2).copied().unwrap_or_default();
    writeln!(std::io::stdout(), "{:.1} MiB/s", 1.0 / median.as_secs_f64())
}
