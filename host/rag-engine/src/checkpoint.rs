//! Opens a file of weights by its content: PyTorch `.pth`, safetensors (also `.st` as web-rwkv names them), or packed.

use std::collections::BTreeMap;
use std::path::Path;

use memmap2::Mmap;
use rag_core::{Error, Result};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as StoredDtype, Metadata, TensorInfo};

use crate::cpu::matrix::Matrix;
use crate::packed::{self, Packed};
use crate::pth::{Dtype, PthFile, to_f32};
use crate::rwkv::Weights;
use crate::rwkv::weights::transpose;

/// Opens a file of weights; `Error::Model` for a file that is none.
pub fn open(path: &Path) -> Result<Box<dyn Weights>> {
    let fail = |message: String| Error::Model { path: path.display().to_string(), message };
    let mut start = [0; 4];
    let mut file = fs_err::File::open(path).map_err(|e| fail(e.to_string()))?;
    std::io::Read::read(&mut file, &mut start).map_err(|e| fail(e.to_string()))?;
    if start.starts_with(b"PK") {
        return Ok(Box::new(PthFile::open(path)?));
    }
    Ok(Box::new(SafetensorsFile::open(path)?))
}

impl Weights for PthFile {
    fn names(&self) -> Vec<String> {
        self.tensor_names().map(str::to_string).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.describe(name).map(|(_, shape)| without_leading_ones(shape))
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        self.tensor(name)
    }

    fn raw(&self, name: &str) -> Option<(Dtype, &[u8])> {
        PthFile::raw(self, name)
    }

    fn error(&self, message: String) -> Error {
        Error::Model { path: self.path().to_string(), message }
    }
}

/// What web-rwkv calls some parts of names, and what public checkpoints do.
const WEB_RWKV_NAMES: [[&str; 2]; 4] =
    [["time_first", "time_faaaa"], ["time_mix", "time_maa"], ["lora.0", "lora_A"], ["lora.1", "lora_B"]];

/// Whether public checkpoints store a tensor [in, out].
pub(crate) fn is_low_rank(name: &str) -> bool {
    let version6 = ["maa_w1", "maa_w2", "decay_w1", "decay_w2"];
    let version7 = ["w1", "w2", "a1", "a2", "g1", "g2", "v1", "v2"];
    version6.iter().any(|part| name.ends_with(part))
        || name.split_once(".att.").is_some_and(|(_, part)| version7.contains(&part))
}

/// `[1, 1, D]` is how checkpoints store a vector.
fn without_leading_ones(shape: &[usize]) -> Vec<usize> {
    let ones = shape.iter().take(shape.len().saturating_sub(1)).take_while(|&&size| size == 1).count();
    shape[ones..].to_vec()
}

/// The types that are read.
fn float(stored: StoredDtype) -> Option<Dtype> {
    match stored {
        StoredDtype::F32 => Some(Dtype::F32),
        StoredDtype::F16 => Some(Dtype::F16),
        StoredDtype::BF16 => Some(Dtype::Bf16),
        _ => None,
    }
}

/// An open safetensors file.
#[derive(Debug)]
pub struct SafetensorsFile {
    map: Mmap,
    path: String,
    metadata: Metadata,
    /// Where the tensors' bytes start in the file.
    start: usize,
    /// Names as public checkpoints have them, and as this file has them.
    names: BTreeMap<String, String>,
    /// web-rwkv stores low-rank matrices [out, in] and states [key][value].
    transposed: bool,
    packed: Option<Packed>,
}

impl SafetensorsFile {
    /// Maps the file and reads its header; `Error::Model` when it is not safetensors or is cut short.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let fail = |message: String| Error::Model { path: name.clone(), message };
        let file = fs_err::File::open(path).map_err(|e| fail(e.to_string()))?;
        // SAFETY: read-only and private to this value; see `PthFile::open`.
        let map = unsafe { Mmap::map(file.file()) }.map_err(|e| fail(e.to_string()))?;
        // This also checks that the file has exactly the announced length.
        let (header, metadata) = SafeTensors::read_metadata(&map)
            .map_err(|e| fail(format!("neither a PyTorch checkpoint nor safetensors: {e}")))?;
        let start = header + 8;
        let packed = metadata.metadata().as_ref().and_then(packed::recognise).transpose().map_err(&fail)?;
        let stored: Vec<String> = metadata.offset_keys();
        // States and adapters show it by their ending only.
        let transposed = stored.iter().any(|name| name.ends_with("time_first"))
            || path.extension().is_some_and(|ending| ending == "st" || ending == "state");
        let public = |name: &String| match transposed {
            true => WEB_RWKV_NAMES
                .iter()
                .fold(name.clone(), |name, [theirs, public]| name.replace(theirs, public)),
            false => name.clone(),
        };
        let mut names: BTreeMap<String, String> =
            stored.iter().map(|name| (public(name), name.clone())).collect();
        names.extend(packed.iter().flat_map(Packed::names).map(|name| (name.clone(), name)));
        Ok(Self { map, path: name, start, names, transposed, packed, metadata })
    }

    fn info(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        let info = self.metadata.info(name)?;
        let (start, end) = info.data_offsets;
        Some((info, self.map.get(self.start + start..self.start + end)?))
    }

    /// Whether this file has a tensor's last two axes the other way round.
    fn turned(&self, name: &str) -> bool {
        self.transposed && (is_low_rank(name) || name.ends_with("time_state") || name.ends_with("lora_A"))
    }
}

impl Weights for SafetensorsFile {
    fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        if let Some(shape) = self.packed.as_ref().and_then(|packed| packed.shape(name)) {
            return Some(shape.to_vec());
        }
        let mut shape = without_leading_ones(&self.info(self.names.get(name)?)?.0.shape);
        if self.turned(name) && shape.len() >= 2 {
            let last = shape.len() - 1;
            shape.swap(last - 1, last);
        }
        Some(shape)
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        let stored = self.names.get(name).and_then(|stored| self.info(stored));
        let (info, bytes) = stored.ok_or_else(|| self.error(format!("it has no tensor {name}")))?;
        let dtype = float(info.dtype).ok_or_else(|| {
            self.error(format!("{name} is of type {:?}; f32, f16 and bf16 are read", info.dtype))
        })?;
        let values = to_f32(dtype, bytes);
        let shape = without_leading_ones(&info.shape);
        let (true, [.., rows, cols]) = (self.turned(name), shape.as_slice()) else { return Ok(values) };
        Ok(values.chunks(rows * cols).flat_map(|slice| transpose(slice, *rows, *cols)).collect())
    }

    fn raw(&self, name: &str) -> Option<(Dtype, &[u8])> {
        let (info, bytes) = self.info(self.names.get(name)?)?;
        let plain = !self.turned(name) || info.shape.len() < 2;
        Some((float(info.dtype)?, plain.then_some(bytes)?))
    }

    fn packed(&self, name: &str, part: Option<usize>, size: [usize; 2]) -> Result<Option<Matrix>> {
        let Some(packed) = &self.packed else { return Ok(None) };
        let bytes = |stored: &str| self.info(stored).map(|(_, bytes)| bytes);
        packed.matrix(bytes, name, part, size).map_err(|message| self.error(message))
    }

    fn packed_bytes(&self) -> Option<usize> {
        self.packed.as_ref().map(|_| self.metadata.data_len())
    }

    fn kept_ids(&self) -> Result<Option<Vec<u32>>> {
        let Some((info, bytes)) = self.packed.as_ref().and_then(|_| self.info(packed::KEPT_IDS)) else {
            return Ok(None);
        };
        if info.dtype != StoredDtype::U32 {
            return Err(self.error("its list of kept ids is not of type U32".to_string()));
        }
        Ok(Some(bytes.as_chunks().0.iter().map(|&id| u32::from_le_bytes(id)).collect()))
    }

    fn error(&self, message: String) -> Error {
        Error::Model { path: self.path.clone(), message }
    }
}
