//! Which files of an encoder's folder are read, as the usual hub lays it out.

use std::path::{Path, PathBuf};

use rag_core::{Error, Result};

/// What must be there.
pub const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];
/// The weights, the first that is there.
pub const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
/// What is read where it is there: pooling, prompts, and bge-m3's multi-vector and lexical heads.
pub const USED: [&str; 4] =
    ["1_Pooling/config.json", "config_sentence_transformers.json", "colbert_linear.pt", "sparse_linear.pt"];

/// The file of weights.
pub(super) fn weights(path: &Path) -> Result<PathBuf, String> {
    let found = WEIGHTS.iter().map(|name| path.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| format!("it has neither {} nor {}", WEIGHTS[0], WEIGHTS[1]))
}

/// The files that are read, with their paths below the folder.
///
/// # Errors
/// `Model` when one that is needed is missing.
pub fn files(path: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let here = |name: &'static str| Some((name, path.join(name))).filter(|(_, file)| file.is_file());
    let missing = |message: String| Error::Model { path: path.display().to_string(), message };
    let mut found = Vec::new();
    for name in NEEDED {
        found.push(here(name).ok_or_else(|| {
            missing(format!("there is no {name} in it, which an encoder's folder holds, as the hub has it"))
        })?);
    }
    found.extend(USED.into_iter().filter_map(here));
    let weights = WEIGHTS.into_iter().find_map(here);
    found.push(weights.ok_or_else(|| missing(format!("it has neither {} nor {}", WEIGHTS[0], WEIGHTS[1])))?);
    Ok(found)
}
