//! How fast files are parsed and chunked, and what becomes of those that nobody can read: nothing is kept.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use bytes::Bytes;
use rag_core::document::ParsedSummary;
use rag_core::ports::Binding;
use rag_core::section::Sectioner;
use rag_core::{Error, error, limits, media};

use super::corpus::{KB, Scratch};
use super::{Figure, ingest};
use crate::cli::Bench;
use crate::config::Config;
use crate::output;

/// How many files ended so.
#[derive(Debug, Default)]
struct Counts {
    read: u32,
    /// With a typed error of the parser, or because no parser reads such files.
    refused: u32,
    /// At a limit of time or memory.
    limited: u32,
    /// By a trap or another fault of the parser.
    faults: u32,
    blocks: u64,
    chars: u64,
    chunks: u64,
    slowest: f64,
    formats: BTreeMap<String, Format>,
}

/// Files of one extension.
#[derive(Debug, Default)]
struct Format {
    files: u32,
    bytes: usize,
    seconds: f64,
}

pub(super) async fn run(config: &Config, args: &Bench) -> Result<Vec<Figure>> {
    if args.paths.is_empty() {
        bail!("this needs --paths FILE_OR_FOLDER");
    }
    let mut documents = Vec::new();
    for path in &args.paths {
        ingest::collect(path, &mut documents)?;
    }
    let scratch = Scratch::open(config, args).await?;
    let binding = scratch.parts.rag.binding(KB).await?;
    let mut counts = Counts::default();
    let start = Instant::now();
    for (name, bytes) in &documents {
        let begun = Instant::now();
        let outcome = read(&scratch, &binding, name, bytes, &mut counts).await;
        counts.took(name, bytes.len(), begun.elapsed().as_secs_f64());
        counts.ended(name, outcome);
    }
    let seconds = start.elapsed().as_secs_f64();
    let count = |name: &str, value: u32| Figure::new(name, f64::from(value), "files");
    let mut figures = vec![
        count("read", counts.read),
        count("refused", counts.refused),
        count("at a limit", counts.limited),
        count("faults", counts.faults),
        Figure::new("blocks", counts.blocks as f64, "blocks"),
        Figure::new("characters", counts.chars as f64, "characters"),
        Figure::new("chunks", counts.chunks as f64, "chunks"),
        Figure::new("slowest", counts.slowest, "s"),
        Figure::new("parse and chunk", seconds, "s"),
    ];
    for (extension, Format { files, bytes, seconds }) in counts.formats {
        figures.push(Figure::new(extension.clone(), f64::from(files) / seconds, "documents/s"));
        figures.push(Figure::new(extension, bytes as f64 / seconds / 1e6, "MB/s"));
    }
    Ok(figures)
}

impl Counts {
    fn took(&mut self, name: &str, bytes: usize, seconds: f64) {
        self.slowest = self.slowest.max(seconds);
        let extension = Path::new(name).extension().map_or_else(String::new, |e| e.to_string_lossy().into());
        let format = self.formats.entry(extension).or_default();
        format.files += 1;
        format.bytes += bytes;
        format.seconds += seconds;
    }

    fn ended(&mut self, name: &str, outcome: rag_core::Result<()>) {
        use error::PluginFault::{CpuLimit, Guest, HostcallLimit, MemoryLimit, WallLimit};
        let Err(error) = outcome else {
            self.read += 1;
            return;
        };
        let count = match &error {
            Error::Plugin { fault: CpuLimit | WallLimit | MemoryLimit | HostcallLimit, .. } => {
                &mut self.limited
            }
            Error::Plugin { fault: Guest(_), .. } => &mut self.refused,
            Error::Plugin { .. } | Error::Internal { .. } => &mut self.faults,
            _ => &mut self.refused,
        };
        *count += 1;
        output::note(format_args!("{name}: {error}"));
    }
}

async fn read(
    scratch: &Scratch,
    binding: &Binding,
    name: &str,
    bytes: &Bytes,
    counts: &mut Counts,
) -> rag_core::Result<()> {
    let rag = &scratch.parts.rag;
    let mut writer = rag.upload().await?;
    writer.write(bytes.clone()).await?;
    let (hash, _) = writer.finish().await?;
    let head = bytes.get(..media::SNIFF_BYTES as usize).unwrap_or(bytes);
    let media_type = media::sniff(name, head);
    let parser = binding.parsers.iter().find(|parser| parser.accepts().iter().any(|read| read == media_type));
    let parser =
        parser.ok_or_else(|| Error::Unsupported { message: format!("no parser reads {media_type}") })?;
    let mut session = parser.open(rag.blobs.open(&hash, name, media_type).await?).await?;
    let mut sectioner = Sectioner::default();
    let mut summary: Option<ParsedSummary> = None;
    while let Some(blocks) = session.next(limits::PARSE_BATCH_BYTES).await? {
        let early = match &mut summary {
            Some(known) => known,
            none => none.insert(session.summary().await?),
        };
        for block in blocks {
            counts.blocks += 1;
            counts.chars += block.text.chars().count() as u64;
            for placed in sectioner.push(block, early) {
                counts.chunks += binding.chunker.split(placed.section).await?.len() as u64;
            }
        }
    }
    if let Some(placed) = sectioner.finish(&session.summary().await?) {
        counts.chunks += binding.chunker.split(placed.section).await?.len() as u64;
    }
    Ok(())
}
