//! What a file of weights, or an encoder's folder, is and how much memory it takes, without loading it.

use std::path::Path;

use rag_core::ports::ModelKind;
use rag_core::{Error, Result};
use sha2::{Digest as _, Sha256};

use crate::checkpoint;
use crate::cpu::matrix::Format;
use crate::encoder::{folder, hub};
use crate::memory;
use crate::profile;
use crate::rwkv::{Config, Formats, Weights};

/// The encoder's matrices are unpacked from 4 to 8 bits, and read whole before.
const ENCODER_BYTES_PER_BYTE: u64 = 3;
/// Half-precision tensors double, and a copy is made of each while it is packed.
const ADAPTER_BYTES_PER_BYTE: u64 = 3;

/// How a language model would be loaded.
#[derive(Debug, Clone, Copy)]
pub struct Loading {
    pub quantize: Option<Formats>,
    /// Sequences that run at once.
    pub slots: usize,
    pub state_cache_bytes: usize,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    pub kind: ModelKind,
    /// Version and sizes, e.g. `RWKV-6 24 × 2048`.
    pub architecture: String,
    /// Bytes that loading and holding it takes at most.
    pub memory_bytes: u64,
}

/// Reads names and shapes; `Error::Model` for a file that is none of the kinds.
pub fn inspect(path: &Path, loading: &Loading) -> Result<Inspected> {
    if path.is_dir() {
        return Ok(Inspected { memory_bytes: bytes(path)?, ..configured(path)? });
    }
    let weights = checkpoint::open(path)?;
    let names = weights.names();
    let has = |part: &str| names.iter().any(|name| name.contains(part));
    let bytes = bytes(path)?;
    if has("lora_A") || has("lora_B") || has(".disha") {
        return Ok(Inspected {
            kind: ModelKind::Adapter,
            architecture: format!("adapter of {} tensors", names.len()),
            memory_bytes: bytes * ADAPTER_BYTES_PER_BYTE,
        });
    }
    if names.iter().any(|name| name == "emb.weight") {
        return language(path, &*weights, loading);
    }
    if has("att.time_state") {
        return state(&*weights, &names);
    }
    if names.iter().any(|name| name == "word.nibbles") {
        let layers = names.iter().filter(|name| name.ends_with(".q.nibbles")).count();
        let width = weights.shape("word.nibbles").and_then(|shape| shape.get(1).copied()).unwrap_or(0) * 2;
        return Ok(Inspected {
            kind: ModelKind::Encoder,
            architecture: format!("e5 {layers} × {width}"),
            memory_bytes: bytes * ENCODER_BYTES_PER_BYTE,
        });
    }
    Err(weights
        .error("it is no RWKV-6 or -7 model, state or adapter, nor an encoder of models/convert".to_owned()))
}

/// What the configuration in an encoder's folder says, before its weights are there; its memory is not known then.
pub fn configured(path: &Path) -> Result<Inspected> {
    let fail = |message: String| Error::Model { path: path.display().to_string(), message };
    let hub::Described { architecture, scores } = hub::describe(path).map_err(fail)?;
    let kind = if scores { ModelKind::Reranker } else { ModelKind::Encoder };
    Ok(Inspected { kind, architecture, memory_bytes: 0 })
}

/// Bytes of a model's file, or of the files of an encoder's folder that are read.
pub fn bytes(path: &Path) -> Result<u64> {
    if path.is_dir() {
        return folder::files(path)?.iter().map(|(_, file)| bytes(file)).sum();
    }
    let metadata = fs_err::metadata(path).map_err(|error| Error::Storage { message: error.to_string() })?;
    Ok(metadata.len())
}

fn language(path: &Path, weights: &dyn Weights, loading: &Loading) -> Result<Inspected> {
    let config = Config::read(weights)?;
    let formats = loading.quantize.unwrap_or(Formats::of(Format::F32));
    let beside = loading.slots * config.state_len() * 4 + loading.state_cache_bytes;
    let memory_bytes = memory::of_model(weights, &config, &formats) + beside;
    tracing::debug!(path = %path.display(), ?config, memory_bytes, "inspected");
    Ok(Inspected {
        kind: ModelKind::Language,
        architecture: format!("{} {} × {}", config.architecture(), config.layers, config.width),
        memory_bytes: memory_bytes as u64,
    })
}

fn state(weights: &dyn Weights, names: &[String]) -> Result<Inspected> {
    let layers = names.iter().filter(|name| name.ends_with("att.time_state")).count();
    let first = "blocks.0.att.time_state";
    let shape = weights.shape(first).ok_or_else(|| weights.error(format!("it has no tensor {first}")))?;
    let (heads, size) = match shape.as_slice() {
        &[heads, rows, columns] if rows == columns => (heads, rows),
        &[rows, columns] if rows == columns => (1, rows),
        other => return Err(weights.error(format!("{first} has the shape {other:?} instead of three sizes"))),
    };
    Ok(Inspected {
        kind: ModelKind::State,
        architecture: format!("state of {layers} × {}", heads * size),
        memory_bytes: (layers * heads * size * (size + 2) * 4) as u64,
    })
}

/// Bytes that the system, or the control group that this process runs in, has left; none where it does not say.
pub fn memory_available() -> Option<u64> {
    memory::available().map(|bytes| bytes as u64)
}

/// `Error::Unavailable`, with both figures, when so much memory is not to be had.
pub fn require_memory(path: &Path, bytes: u64) -> Result<()> {
    memory::require(path, usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// SHA-256 of a model, hexadecimal: of its file, or, for an encoder's folder, of the lines `HASH  NAME` that `sha256sum`
/// writes for the files that are read, in the order of `encoder::folder::files`.
pub fn sha256(path: &Path) -> Result<String> {
    if !path.is_dir() {
        return file_sha256(path);
    }
    let mut lines = String::new();
    for (name, file) in folder::files(path)? {
        lines.push_str(&format!("{}  {name}\n", file_sha256(&file)?));
    }
    Ok(Sha256::digest(lines).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// SHA-256 of a file, hexadecimal.
pub fn file_sha256(path: &Path) -> Result<String> {
    Ok(profile::file_hash(path)?.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(name)
    }

    #[test]
    fn files_are_told_apart_by_what_is_in_them() {
        let loading = Loading { quantize: None, slots: 2, state_cache_bytes: 0 };
        let language = inspect(&shipped("rwkv6-demo.safetensors"), &loading).unwrap();
        assert_eq!((language.kind, language.architecture.as_str()), (ModelKind::Language, "RWKV-6 12 × 384"));
        let more = inspect(&shipped("rwkv6-demo.safetensors"), &Loading { slots: 4, ..loading }).unwrap();
        // Two states of 12 layers, each 2 × 384 + 384 × 64 values.
        assert_eq!(more.memory_bytes - language.memory_bytes, 2 * 12 * (2 * 384 + 384 * 64) * 4);
        let encoder = inspect(&shipped("e5-small.safetensors"), &loading).unwrap();
        assert_eq!((encoder.kind, encoder.architecture.as_str()), (ModelKind::Encoder, "e5 12 × 384"));
        let error = inspect(&shipped("rwkv_vocab_v20230424.txt"), &loading).unwrap_err();
        assert!(matches!(error, Error::Model { .. }), "{error}");
        assert!(inspect(&shipped("none"), &loading).is_err());
        let hash = file_sha256(&shipped("rwkv_vocab_v20230424.txt")).unwrap();
        assert_eq!(hash, "e6dee3d4e31b4d5c40ac99508ac6c701ceef4bed681bf2167ce9a908552bca89");
    }
}
