//! How fast files are parsed and chunked, and what becomes of those that nobody can read: nothing is kept.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rag_core::document::BlobHash;
use rag_core::ports::{Binding, Blob, Parse};
use rag_core::reading::Reading;
use rag_core::{Error, error, media};

use super::corpus::{KB, Scratch};
use super::{Figure, ingest};
use crate::cli::Bench;
use crate::config::Config;
use crate::output;

/// Documents read at a time, as the queue does: the present job's, and the next one's ahead of it.
const AT_ONCE: usize = 2;

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
    let start = Instant::now();
    let mut originals = Vec::with_capacity(documents.len());
    for (name, bytes) in documents {
        originals.push(keep(&scratch, name, bytes).await?);
    }
    let stored = start.elapsed().as_secs_f64();
    if args.alone {
        return alone(&scratch, &binding, &originals).await;
    }
    let mut counts = Counts::default();
    let start = Instant::now();
    let mut outcomes = stream::iter(&originals)
        .map(async |original| {
            let begun = Instant::now();
            let outcome = read(&scratch, &binding, original).await;
            (original, begun.elapsed().as_secs_f64(), outcome)
        })
        .buffered(AT_ONCE);
    while let Some((original, seconds, outcome)) = outcomes.next().await {
        counts.took(&original.name, original.size, seconds);
        counts.ended(&original.name, outcome);
    }
    drop(outcomes);
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
        Figure::new("originals stored", stored, "s"),
        Figure::new("parse and chunk", seconds, "s"),
    ];
    for (extension, Format { files, bytes, seconds }) in counts.formats {
        figures.push(Figure::new(extension.clone(), f64::from(files) / seconds, "documents/s"));
        figures.push(Figure::new(extension, bytes as f64 / seconds / 1e6, "MB/s"));
    }
    Ok(figures)
}

/// Rounds of which the median counts.
const ROUNDS: usize = 5;
/// Text that a parser gives at a time, in bytes; the native examples ask for as much.
const BATCH_BYTES: u32 = 256 << 10;

/// What a parser needs for a file, without cutting it.
async fn alone(scratch: &Scratch, binding: &Binding, originals: &[Original]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for original in originals {
        let mut times = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let (parser, blob) = open(scratch, binding, original).await?;
            let begun = Instant::now();
            let mut session = parser.open(blob).await?;
            while session.next(BATCH_BYTES).await?.is_some() {}
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        let seconds = super::quantile(&times, 0.5).as_secs_f64();
        figures.push(Figure::new(original.name.clone(), original.size as f64 / seconds / 1e6, "MB/s"));
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

    fn ended(&mut self, name: &str, outcome: rag_core::Result<(u64, u64, u64)>) {
        use error::PluginFault::{CpuLimit, Guest, HostcallLimit, MemoryLimit, WallLimit};
        let error = match outcome {
            Ok((blocks, chars, chunks)) => {
                self.read += 1;
                self.blocks += blocks;
                self.chars += chars;
                self.chunks += chunks;
                return;
            }
            Err(error) => error,
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

/// A file as an upload leaves it.
struct Original {
    name: String,
    hash: BlobHash,
    size: usize,
    media_type: &'static str,
}

async fn keep(scratch: &Scratch, name: String, bytes: Bytes) -> rag_core::Result<Original> {
    let head = bytes.get(..media::SNIFF_BYTES as usize).unwrap_or(&bytes);
    let (media_type, size) = (media::sniff(&name, head), bytes.len());
    let mut writer = scratch.parts.rag.upload().await?;
    writer.write(bytes).await?;
    let (hash, _) = writer.finish().await?;
    Ok(Original { name, hash, size, media_type })
}

/// Blocks, characters and chunks of a document.
async fn read(
    scratch: &Scratch,
    binding: &Binding,
    original: &Original,
) -> rag_core::Result<(u64, u64, u64)> {
    let (parser, blob) = open(scratch, binding, original).await?;
    let mut reading = Reading::open(parser, Arc::clone(&binding.chunker), blob).await?;
    let (mut blocks, mut chars, mut chunks) = (0, 0, 0);
    while let Some(section) = reading.next().await? {
        blocks += section.placed.section.blocks.len() as u64;
        chars += section.placed.section.text.chars().count() as u64;
        chunks += section.spans.len() as u64;
    }
    Ok((blocks, chars, chunks))
}

/// A document, and the parser that reads its like.
async fn open<'b>(
    scratch: &Scratch,
    binding: &'b Binding,
    original: &Original,
) -> rag_core::Result<(&'b dyn Parse, Arc<dyn Blob>)> {
    let Original { name, hash, media_type, .. } = original;
    let parser = binding.parsers.iter().find(|parser| parser.accepts().iter().any(|read| read == media_type));
    let parser =
        parser.ok_or_else(|| Error::Unsupported { message: format!("no parser reads {media_type}") })?;
    Ok((parser.as_ref(), scratch.parts.rag.blobs.open(hash, name, media_type).await?))
}
