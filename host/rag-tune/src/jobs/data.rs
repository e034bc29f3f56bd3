//! Data sets of this system: `NAME.jsonl` as it came, `NAME.json` with its counts, binidx pairs on demand.

use std::path::Path;

use rag_core::ports::{TuneDataset, TunePair, TunePreview};
use rag_core::{Error, Result};
use rag_engine::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

use super::{check_name, dataset_path};
use crate::dataset::mask::Mask;
use crate::dataset::samples::Corpus;
use crate::dataset::{Settings, make_data};
use crate::files::{replace, storage};
use crate::training::now_ms;

/// Documents of one preview.
const PREVIEW_MAX: u32 = 100;
/// Bytes shown of one document.
const PREVIEW_BYTES: usize = 4_000;
/// Copies of the documents in a binidx pair.
const COPIES_MAX: u32 = 100;

#[derive(Serialize, Deserialize)]
struct Info {
    documents: u64,
    tokens: u64,
    longest_tokens: u64,
    hash: String,
    created_ms: i64,
}

pub(super) fn all(dir: &Path) -> Result<Vec<TuneDataset>> {
    let folder = dir.join("datasets");
    let mut names = Vec::new();
    for entry in fs_err::read_dir(&folder).map_err(|e| storage(&folder, e))? {
        let name = entry.map_err(|e| storage(&folder, e))?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".jsonl").map(str::to_owned));
    }
    names.sort();
    names.iter().map(|name| info(dir, name)).collect()
}

pub(super) fn info(dir: &Path, name: &str) -> Result<TuneDataset> {
    let unknown = || Error::NotFound { what: "data set", name: name.to_owned() };
    check_name(name).map_err(|_| unknown())?;
    let path = dataset_path(dir, name).with_extension("json");
    if !path.is_file() {
        return Err(unknown());
    }
    let bytes = fs_err::read(&path).map_err(|e| storage(&path, e))?;
    let Info { documents, tokens, longest_tokens, hash, created_ms } =
        serde_json::from_slice(&bytes).map_err(|e| storage(&path, e))?;
    Ok(TuneDataset { name: name.to_owned(), documents, tokens, longest_tokens, hash, created_ms })
}

pub(super) fn add(dir: &Path, name: &str, jsonl: &str, tokenizer: &Tokenizer) -> Result<TuneDataset> {
    check_name(name)?;
    let corpus = Corpus::parse(jsonl, tokenizer)?;
    let kept = Info {
        documents: corpus.len() as u64,
        tokens: corpus.tokens(),
        longest_tokens: corpus.longest(),
        hash: corpus.hash(),
        created_ms: now_ms(),
    };
    let path = dataset_path(dir, name);
    replace(&path, |file| std::io::Write::write_all(file, jsonl.as_bytes()).map_err(|e| storage(&path, e)))?;
    let path = path.with_extension("json");
    replace(&path, |file| serde_json::to_writer(file, &kept).map_err(|e| storage(&path, e)))?;
    info(dir, name)
}

pub(super) fn preview(dir: &Path, name: &str, limit: u32, tokenizer: &Tokenizer) -> Result<Vec<TunePreview>> {
    let path = dataset_path(dir, name);
    let file = fs_err::File::open(&path).map_err(|e| storage(&path, e))?;
    let lines = std::io::BufRead::lines(std::io::BufReader::new(file));
    let mut first = String::new();
    for line in lines
        .filter(|line| line.as_ref().map_or(true, |line| !line.trim().is_empty()))
        .take(limit.min(PREVIEW_MAX) as usize)
    {
        first.push_str(&line.map_err(|e| storage(&path, e))?);
        first.push('\n');
    }
    let corpus = Corpus::parse(&first, tokenizer)?;
    (0..corpus.len())
        .map(|number| {
            let tokens = corpus.document(number)?;
            let counted = Mask::Answers.of(&tokens, |id| tokenizer.token(u32::from(id)));
            let bytes: Vec<u8> =
                tokens.iter().flat_map(|&id| tokenizer.token(u32::from(id))).copied().collect();
            let mut text = String::from_utf8_lossy(&bytes).into_owned();
            text.truncate(text.floor_char_boundary(PREVIEW_BYTES));
            let counted = counted.iter().filter(|&&counts| counts).count() as u64;
            Ok(TunePreview { text, tokens: tokens.len() as u64, counted })
        })
        .collect()
}

pub(super) fn convert(
    dir: &Path,
    name: &str,
    (copies, context_tokens, seed): (u32, u32, u64),
    tokenizer: &Tokenizer,
) -> Result<TunePair> {
    info(dir, name)?;
    if copies > COPIES_MAX {
        return Err(Error::invalid(format!("{copies} copies; {COPIES_MAX} are allowed")));
    }
    let path = dataset_path(dir, name);
    let source = std::io::BufReader::new(fs_err::File::open(&path).map_err(|e| storage(&path, e))?);
    let prefix = path.with_extension("");
    let settings = Settings { copies, context_tokens: u64::from(context_tokens), seed };
    let made = make_data(source, &|text| tokenizer.encode(text), &settings, &prefix)?;
    Ok(TunePair {
        prefix,
        documents: made.documents as u64,
        tokens: made.tokens,
        magic_prime: made.magic_prime,
    })
}

pub(super) fn delete(dir: &Path, name: &str) -> Result<()> {
    check_name(name)?;
    // The counts go first: without them there is no data set.
    for ending in ["json", "jsonl", "bin", "idx"] {
        let path = dataset_path(dir, name).with_extension(ending);
        match fs_err::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(storage(&path, e)),
            _ => {}
        }
    }
    Ok(())
}
