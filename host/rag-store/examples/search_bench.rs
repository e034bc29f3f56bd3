//! Prints the store's search figures: `cargo run --release -p rag-store --example search_bench -- [rows [chunks [topics]]]`.
//! Vectors are random, or with `topics` like those of texts.

use std::io::Write;

use rag_store::bench::{SearchBench, search};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut size =
        SearchBench { topics: std::env::args().any(|word| word == "topics"), ..SearchBench::default() };
    let mut sizes =
        std::env::args().skip(1).filter(|word| word != "topics").map(|size| size.parse::<usize>());
    if let Some(rows) = sizes.next() {
        size.rows = rows?;
    }
    if let Some(chunks) = sizes.next() {
        size.chunks = chunks?;
    }
    let dir = tempfile::tempdir()?;
    let mut out = std::io::stdout();
    writeln!(out, "{size:?}")?;
    for figure in search(dir.path(), size).await? {
        writeln!(out, "{:12.4} {:4} {}", figure.value, figure.unit, figure.name)?;
    }
    Ok(())
}
