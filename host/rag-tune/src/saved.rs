//! Checkpoints of a job: `checkpoint-STEP.safetensors`, the newest two, each whole or not there.

use std::path::{Path, PathBuf};

use rag_core::Result;
use rag_engine::checkpoint;
use rag_engine::rwkv::Weights;

use crate::cpu::attach::Named;
use crate::files::{Container, Type};
use crate::training::{Metadata, metadata};

/// The one before the newest stays, should a disk lose the newest.
const KEPT: usize = 2;

/// Writes the checkpoint of a step and removes those that are too old.
pub(crate) fn write(dir: &Path, step: u64, tensors: &[Named], metadata: &[(&str, String)]) -> Result<()> {
    let metadata: Vec<(String, String)> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Container::Safetensors.write_all(&path(dir, step), tensors, Type::F32, &metadata)?;
    let steps = steps(dir);
    for old in &steps[..steps.len().saturating_sub(KEPT)] {
        // One too many does no harm.
        let _ = fs_err::remove_file(path(dir, *old));
    }
    Ok(())
}

/// The newest checkpoint that is whole, with its metadata.
pub(crate) fn newest(dir: &Path) -> Option<(PathBuf, Metadata)> {
    steps(dir).into_iter().rev().find_map(|step| {
        let path = path(dir, step);
        let found = checkpoint::open(&path).ok().and_then(|_| metadata(&path));
        if found.is_none() {
            tracing::warn!(path = %path.display(), "not a whole checkpoint; the one before it is taken");
        }
        found.map(|metadata| (path, metadata))
    })
}

/// Steps of the checkpoints, ascending.
pub(crate) fn steps(dir: &Path) -> Vec<u64> {
    let Ok(entries) = fs_err::read_dir(dir) else { return Vec::new() };
    let step =
        |name: &str| name.strip_prefix("checkpoint-")?.strip_suffix(".safetensors")?.parse::<u64>().ok();
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let mut steps: Vec<u64> = names.filter_map(|name| step(&name)).collect();
    steps.sort_unstable();
    steps
}

fn path(dir: &Path, step: u64) -> PathBuf {
    dir.join(format!("checkpoint-{step:08}.safetensors"))
}

/// A file whose names begin with `model.`, read by the names without it.
pub(crate) struct WithoutPrefix(pub(crate) Box<dyn Weights>);

impl WithoutPrefix {
    fn stored(&self, name: &str) -> String {
        let prefixed = format!("model.{name}");
        if self.0.shape(&prefixed).is_some() { prefixed } else { name.to_owned() }
    }
}

impl Weights for WithoutPrefix {
    fn names(&self) -> Vec<String> {
        self.0.names().iter().map(|name| name.strip_prefix("model.").unwrap_or(name).to_owned()).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.shape(&self.stored(name))
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        self.0.read(&self.stored(name))
    }

    fn error(&self, message: String) -> rag_core::Error {
        self.0.error(message)
    }
}
