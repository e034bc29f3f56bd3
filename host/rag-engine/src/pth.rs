//! Reads tensors from a PyTorch `.pth` file without running anything in it.
//!
//! Such a file is a ZIP of stored (uncompressed) entries: `<stem>/data.pkl`, a pickle that names tensors, and
//! `<stem>/data/<key>`, their raw storages. A pickle is a program; `pickle` runs only the instructions that describe
//! tensors and refuses every name but those of tensor reconstruction. The file is mapped, so that only what is
//! converted gets read; every offset is checked against the file before it is used.

use std::collections::BTreeMap;
use std::path::Path;

use memmap2::Mmap;
use rag_core::{Error, Result};

mod pickle;
#[cfg(test)]
mod tests;
mod zip;

/// Tensor descriptions are small: 1 714 tensors of the largest RWKV-6 take 0.3 MB.
const PICKLE_BYTES_MAX: usize = 4 << 20;

/// Element type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }
}

/// A tensor as the pickle describes it, in elements of its storage.
#[derive(Debug, Clone, PartialEq)]
struct TensorView {
    storage: String,
    dtype: Dtype,
    /// Elements of the whole storage.
    storage_len: usize,
    offset: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
}

/// An open `.pth` file.
#[derive(Debug)]
pub struct PthFile {
    map: Mmap,
    path: String,
    tensors: BTreeMap<String, TensorView>,
    /// Byte range of each storage in the file.
    storages: BTreeMap<String, std::ops::Range<usize>>,
}

impl PthFile {
    /// Maps the file and reads its list of tensors; `Error::Model` for anything but tensors in a whole file.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let fail = |message: String| Error::Model { path: name.clone(), message };
        let file = fs_err::File::open(path).map_err(|e| fail(e.to_string()))?;
        // SAFETY: the map is read-only and private to this value. Another process that changes the file meanwhile
        // changes the weights read, as it would with `read`; bytes have no invalid values.
        let map = unsafe { Mmap::map(file.file()) }.map_err(|e| fail(e.to_string()))?;
        let (tensors, storages) = describe(&map).map_err(fail)?;
        Ok(Self { map, path: name, tensors, storages })
    }

    /// The file's name as given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Names of the tensors, sorted.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Element type and shape of a tensor.
    pub fn describe(&self, name: &str) -> Option<(Dtype, &[usize])> {
        self.tensors.get(name).map(|view| (view.dtype, view.shape.as_slice()))
    }

    /// A tensor's elements in row-major order, as f32 (exact for all three types).
    pub fn tensor(&self, name: &str) -> Result<Vec<f32>> {
        let fail = |message: &str| Error::Model { path: self.path.clone(), message: message.to_string() };
        let view = self.tensors.get(name).ok_or_else(|| fail(&format!("no tensor '{name}'")))?;
        let range = self.storages.get(&view.storage).ok_or_else(|| fail("a storage is missing"))?;
        let bytes = &self.map[range.clone()];
        Ok(gather(view, bytes))
    }

    /// A tensor's elements as they are stored, if they lie there in row-major order.
    pub(crate) fn raw(&self, name: &str) -> Option<(Dtype, &[u8])> {
        let view = self.tensors.get(name)?;
        let bytes = &self.map[self.storages.get(&view.storage)?.clone()];
        let size = view.dtype.size();
        let len = view.shape.iter().product::<usize>() * size;
        Some((view.dtype, view.contiguous().then(|| &bytes[view.offset * size..][..len])?))
    }
}

impl TensorView {
    /// Whether its elements lie in row-major order without gaps.
    fn contiguous(&self) -> bool {
        let row_major = row_major_stride(&self.shape);
        self.shape.iter().zip(&self.stride).zip(&row_major).all(|((&n, s), r)| n == 1 || s == r)
    }
}

type Description = (BTreeMap<String, TensorView>, BTreeMap<String, std::ops::Range<usize>>);

fn describe(file: &[u8]) -> Result<Description, String> {
    let entries = zip::entries(file)?;
    let stem = entries
        .keys()
        .find_map(|name| name.strip_suffix("/data.pkl"))
        .ok_or("there is no data.pkl in it: not a PyTorch checkpoint")?;
    let entry = |name: &str| entries.get(&format!("{stem}/{name}"));
    if let Some(order) = entry("byteorder")
        && file[order.clone()] != *b"little"
    {
        return Err("its storages are big-endian, which is not supported".to_string());
    }
    let program = entry("data.pkl").cloned().unwrap_or_default();
    if program.len() > PICKLE_BYTES_MAX {
        return Err(format!("its pickle has {} bytes, more than {PICKLE_BYTES_MAX}", program.len()));
    }
    let tensors = pickle::tensors(&file[program])?;

    let mut storages = BTreeMap::new();
    for (name, view) in &tensors {
        let range = entry(&format!("data/{}", view.storage))
            .ok_or_else(|| format!("the storage of '{name}' is missing"))?;
        check(view, range.len()).map_err(|e| format!("tensor '{name}': {e}"))?;
        storages.insert(view.storage.clone(), range.clone());
    }
    Ok((tensors, storages))
}

/// Checks that the storage has the stated size and that every element lies within it.
fn check(view: &TensorView, storage_bytes: usize) -> Result<(), String> {
    if view.storage_len.checked_mul(view.dtype.size()) != Some(storage_bytes) {
        return Err(format!(
            "its storage has {storage_bytes} bytes, {} elements were announced",
            view.storage_len
        ));
    }
    if view.shape.len() != view.stride.len() {
        return Err("shape and stride differ in length".to_string());
    }
    let mut len: usize = 1;
    let mut last = view.offset;
    for (&size, &stride) in view.shape.iter().zip(&view.stride) {
        len = len.checked_mul(size).ok_or("its shape overflows")?;
        let reach = size.saturating_sub(1).checked_mul(stride);
        last = reach.and_then(|reach| last.checked_add(reach)).ok_or("its strides overflow")?;
    }
    // A stride of 0 would let a small file claim a huge tensor.
    if len > view.storage_len {
        return Err(format!("{len} elements out of a storage of {}", view.storage_len));
    }
    if len > 0 && last >= view.storage_len {
        return Err(format!("element {last} lies outside its storage of {}", view.storage_len));
    }
    Ok(())
}

/// Copies a checked view out of its storage in row-major order.
fn gather(view: &TensorView, storage: &[u8]) -> Vec<f32> {
    let len: usize = view.shape.iter().product();
    if len == 0 {
        return Vec::new();
    }
    if view.contiguous() {
        return to_f32(view.dtype, &storage[view.offset * view.dtype.size()..][..len * view.dtype.size()]);
    }
    let all = to_f32(view.dtype, storage);
    let mut out = Vec::with_capacity(len);
    let mut index = vec![0; view.shape.len()];
    for _ in 0..len {
        let at: usize = index.iter().zip(&view.stride).map(|(i, s)| i * s).sum();
        out.push(all[view.offset + at]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            if index[axis] < view.shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    out
}

fn row_major_stride(shape: &[usize]) -> Vec<usize> {
    let mut stride = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        stride[axis - 1] = stride[axis] * shape[axis];
    }
    stride
}

/// Little-endian elements as f32.
pub(crate) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / dtype.size()];
    to_f32_into(dtype, bytes, &mut values);
    values
}

/// As `to_f32`, into `values`; what is longer is left over.
pub(crate) fn to_f32_into(dtype: Dtype, bytes: &[u8], values: &mut [f32]) {
    let bf16 = |b: [u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16);
    let half = |b: [u8; 2]| half_to_f32(u16::from_le_bytes(b));
    match dtype {
        Dtype::F32 => {
            bytes.as_chunks::<4>().0.iter().zip(values).for_each(|(&b, v)| *v = f32::from_le_bytes(b));
        }
        Dtype::F16 => bytes.as_chunks::<2>().0.iter().zip(values).for_each(|(&b, v)| *v = half(b)),
        Dtype::Bf16 => bytes.as_chunks::<2>().0.iter().zip(values).for_each(|(&b, v)| *v = bf16(b)),
    }
}

/// IEEE half precision to single: exact.
pub(crate) fn half_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff);
    // Placed 13 bits up, a half's exponent is 112 too small as a single's: multiply by 2^112, which also
    // normalises subnormals. Infinity and NaN keep all exponent bits.
    let scaled = if magnitude >= 0x7c00 {
        f32::from_bits(0x7f80_0000 | magnitude << 13)
    } else {
        f32::from_bits(magnitude << 13) * f32::from_bits((112 + 127) << 23)
    };
    f32::from_bits(scaled.to_bits() | sign)
}

/// Single to half precision, to nearest, ties to even; beyond the range becomes infinity.
pub(crate) fn f32_to_half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    if magnitude >= 0x477f_f000 {
        return sign | 0x7c00;
    }
    if magnitude < 0x3880_0000 {
        // Subnormal: adding 0.5 lines the bits up so that the addition itself rounds.
        let aligned = f32::from_bits(magnitude) + 0.5;
        return sign | (aligned.to_bits() - 0.5f32.to_bits()) as u16;
    }
    let odd = magnitude >> 13 & 1;
    let rounded = magnitude + 0xfff + odd - (112 << 23);
    sign | (rounded >> 13) as u16
}
