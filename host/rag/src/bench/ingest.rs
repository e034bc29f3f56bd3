//! How fast documents become citable: given files, or generated ones, through the whole flow.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bytes::Bytes;

use super::Figure;
use super::corpus::{KB, Scratch};
use crate::cli::Bench;
use crate::config::Config;

pub(super) async fn run(config: &Config, args: &Bench) -> Result<Vec<Figure>> {
    if args.paths.is_empty() {
        bail!("this needs --paths FILE_OR_FOLDER");
    }
    let mut documents = Vec::new();
    for path in &args.paths {
        collect(path, &mut documents)?;
    }
    let scratch = Scratch::open(config, args).await?;
    let bytes: usize = documents.iter().map(|(_, text)| text.len()).sum();
    let seconds = scratch.ingest(&documents).await?;
    let again = scratch.ingest(&documents).await?;
    let chunks = scratch.parts.rag.kb(KB).await?.chunks;
    Ok(vec![
        Figure::new("documents", documents.len() as f64, "documents"),
        Figure::new("bytes", bytes as f64, "B"),
        Figure::new("chunks", chunks as f64, "chunks"),
        Figure::new("whole ingest", seconds, "s"),
        Figure::new("ingest", chunks as f64 / seconds, "chunks/s"),
        Figure::new("ingest bytes", bytes as f64 / seconds / 1024.0, "KiB/s"),
        Figure::new("same again", again, "s"),
    ])
}

/// Files and those below folders, by name.
pub(super) fn collect(path: &Path, documents: &mut Vec<(String, Bytes)>) -> Result<()> {
    if path.is_dir() {
        let mut inside: Vec<PathBuf> = fs_err::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()?;
        inside.sort();
        return inside.iter().try_for_each(|path| collect(path, documents));
    }
    let name = path.to_string_lossy().trim_start_matches(['/', '.']).to_owned();
    documents.push((name, Bytes::from(fs_err::read(path)?)));
    Ok(())
}
