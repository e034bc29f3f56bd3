//! How fast documents become citable: given files, or generated ones, through the whole flow.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rag_core::section::Sectioner;
use rag_core::{limits, media};

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
    let parsed = read(&scratch, &documents).await?;
    let seconds = scratch.ingest(&documents).await?;
    let again = scratch.ingest(&documents).await?;
    let chunks = scratch.parts.rag.kb(KB).await?.chunks;
    Ok(vec![
        Figure::new("documents", documents.len() as f64, "documents"),
        Figure::new("bytes", bytes as f64, "B"),
        Figure::new("chunks", chunks as f64, "chunks"),
        Figure::new("parse and chunk", parsed, "s"),
        Figure::new("whole ingest", seconds, "s"),
        Figure::new("ingest", chunks as f64 / seconds, "chunks/s"),
        Figure::new("ingest bytes", bytes as f64 / seconds / 1024.0, "KiB/s"),
        Figure::new("same again", again, "s"),
    ])
}

/// Parses and chunks, and keeps nothing; returns the seconds it took.
async fn read(scratch: &Scratch, documents: &[(String, Bytes)]) -> Result<f64> {
    let rag = &scratch.parts.rag;
    let binding = rag.binding(KB).await?;
    let start = Instant::now();
    for (name, bytes) in documents {
        let mut writer = rag.upload().await?;
        writer.write(bytes.clone()).await?;
        let (hash, _) = writer.finish().await?;
        let head = bytes.get(..media::SNIFF_BYTES as usize).unwrap_or(bytes);
        let media_type = media::sniff(name, head);
        let parser =
            binding.parsers.iter().find(|parser| parser.accepts().iter().any(|read| read == media_type));
        let parser =
            parser.with_context(|| format!("{name} is {media_type}, which no installed parser reads"))?;
        let mut session = parser.open(rag.blobs.open(&hash, name, media_type).await?).await?;
        let (mut sectioner, mut sections) = (Sectioner::default(), Vec::new());
        while let Some(blocks) = session.next(limits::PARSE_BATCH_BYTES).await? {
            let early = session.summary().await?;
            sections.extend(blocks.into_iter().flat_map(|block| sectioner.push(block, &early)));
            for placed in sections.drain(..) {
                binding.chunker.split(placed.section).await?;
            }
        }
        if let Some(placed) = sectioner.finish(&session.summary().await?) {
            binding.chunker.split(placed.section).await?;
        }
    }
    Ok(start.elapsed().as_secs_f64())
}

fn collect(path: &Path, documents: &mut Vec<(String, Bytes)>) -> Result<()> {
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
