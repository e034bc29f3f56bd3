//! Writes safetensors: an 8-byte length, a JSON header with places and shapes, then the tensors' bytes.

use rag_core::{Error, Result};
use serde_json::{Map, Value, json};

use super::{Planned, Target, Type};

/// Headers begin their data at a multiple of this.
const ALIGNMENT: usize = 8;

pub(crate) fn write(
    file: &mut dyn Target,
    planned: &[Planned],
    metadata: &[(String, String)],
    values: &mut dyn FnMut(usize) -> Result<Vec<f32>>,
) -> Result<()> {
    let io = |e: std::io::Error| Error::Storage { message: e.to_string() };
    let mut header = Map::new();
    if !metadata.is_empty() {
        let pairs = metadata.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
        header.insert("__metadata__".to_owned(), pairs.collect::<Map<_, _>>().into());
    }
    let mut at = 0;
    for tensor in planned {
        let end = at + tensor.bytes();
        let dtype = match tensor.kind {
            Type::F32 => "F32",
            Type::Bf16 => "BF16",
        };
        let entry = json!({ "dtype": dtype, "shape": tensor.shape, "data_offsets": [at, end] });
        header.insert(tensor.name.clone(), entry);
        at = end;
    }
    let mut text = Value::Object(header).to_string();
    let padded = text.len().next_multiple_of(ALIGNMENT);
    text.extend(std::iter::repeat_n(' ', padded - text.len()));
    file.write_all(&(text.len() as u64).to_le_bytes()).map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)?;
    for (number, tensor) in planned.iter().enumerate() {
        let bytes = tensor.kind.encode(&values(number)?);
        if bytes.len() != tensor.bytes() {
            return Err(Error::internal(format!("{} was announced with another size", tensor.name)));
        }
        file.write_all(&bytes).map_err(io)?;
    }
    Ok(())
}

/// The metadata of a safetensors file; none when it is no such file.
pub(crate) fn metadata(path: &std::path::Path) -> Option<Map<String, Value>> {
    /// Headers of our own files are far smaller.
    const HEADER_BYTES_MAX: u64 = 64 << 20;
    let mut file = fs_err::File::open(path).ok()?;
    let mut len = [0; 8];
    std::io::Read::read_exact(&mut file, &mut len).ok()?;
    let len = u64::from_le_bytes(len);
    if len > HEADER_BYTES_MAX {
        return None;
    }
    let mut text = vec![0; len as usize];
    std::io::Read::read_exact(&mut file, &mut text).ok()?;
    let header: Value = serde_json::from_slice(&text).ok()?;
    header.get("__metadata__")?.as_object().cloned()
}
