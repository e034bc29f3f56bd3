//! Files of tensors: PyTorch's `.pth` and safetensors, written beside the target and renamed when whole and synced.

pub(crate) mod pth;
pub(crate) mod safetensors;

use std::io::{Seek, Write};
use std::path::Path;

use rag_core::{Error, Result};

use crate::cpu::attach::Named;
use crate::cpu::frozen::to_bf16;

/// Element type of a written tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    F32,
    Bf16,
}

impl Type {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Type::F32 => 4,
            Type::Bf16 => 2,
        }
    }

    /// Little-endian elements.
    pub(crate) fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Type::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Type::Bf16 => values.iter().flat_map(|&value| to_bf16(value).to_le_bytes()).collect(),
        }
    }
}

/// A tensor to write, without its values: those come when it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) kind: Type,
}

impl Planned {
    pub(crate) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.kind.bytes()
    }
}

/// Which file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    Pth,
    Safetensors,
}

impl Container {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "pth" => Some(Container::Pth),
            "safetensors" => Some(Container::Safetensors),
            _ => None,
        }
    }

    pub(crate) fn ending(self) -> &'static str {
        match self {
            Container::Pth => "pth",
            Container::Safetensors => "safetensors",
        }
    }

    /// Writes tensors one after the other; `values` gives those of the tensor of a number.
    pub(crate) fn write(
        self,
        path: &Path,
        planned: &[Planned],
        metadata: &[(String, String)],
        mut values: impl FnMut(usize) -> Result<Vec<f32>>,
    ) -> Result<()> {
        let stem = path.file_stem().map_or_else(|| "archive".into(), |stem| stem.to_string_lossy());
        replace(path, |file| match self {
            Container::Pth => pth::write(file, &stem, planned, &mut values),
            Container::Safetensors => safetensors::write(file, planned, metadata, &mut values),
        })
    }

    /// The same for tensors that are in memory.
    pub(crate) fn write_all(
        self,
        path: &Path,
        tensors: &[Named],
        kind: Type,
        metadata: &[(String, String)],
    ) -> Result<()> {
        let planned = |named: &Named| Planned { name: named.name.clone(), shape: named.shape.clone(), kind };
        let planned: Vec<Planned> = tensors.iter().map(planned).collect();
        self.write(path, &planned, metadata, |number| Ok(tensors[number].values.clone()))
    }
}

/// A failed write, with the file's name.
pub(crate) fn storage(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Storage { message: format!("{}: {error}", path.display()) }
}

/// Writes `<path>.part`, syncs and renames: whoever opens `path` sees a whole file, the one before or the new one.
/// What a failed write left behind is removed.
pub(crate) fn replace(
    path: &Path,
    write: impl FnOnce(&mut std::io::BufWriter<fs_err::File>) -> Result<()>,
) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = std::path::PathBuf::from(part);
    let written = (|| {
        let file = fs_err::File::create(&part).map_err(|e| storage(path, e))?;
        let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
        write(&mut file)?;
        let file = file.into_inner().map_err(|e| storage(path, e.error()))?;
        file.sync_all().map_err(|e| storage(path, e))?;
        fs_err::rename(&part, path).map_err(|e| storage(path, e))?;
        // The name is on disk when its folder is.
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let _ = fs_err::File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    })();
    if written.is_err() {
        let _ = fs_err::remove_file(&part);
    }
    written
}

/// What writers need.
pub(crate) trait Target: Write + Seek {}
impl<T: Write + Seek> Target for T {}

#[cfg(test)]
mod tests;
