//! The project's own file of quantised weights: safetensors whose matrices are ready for the CPU's kernels.
//!
//! Layout of a packed file:
//! - Metadata `format` is `ragkit-packed-2`; `shapes` is a JSON object with the shape of every packed tensor as the
//!   public checkpoint has it, e.g. `{"head.weight":[65536,384]}`.
//! - A matrix W [out, in] is one U8 tensor named `NAME.int8`, `NAME.int4` or `NAME.nf4`, with NAME as in the public
//!   checkpoint: its levels, then its scales, for int4 then its minima, in the order that `cpu::matrix` describes;
//!   scales and minima are little-endian half-precision. The five slices of `time_maa_w2` are `NAME.0.int8` …
//!   `NAME.4.int8`. The matrices that checkpoints store [in, out] are turned.
//! - Files of format `ragkit-packed-1` are read too: all their blocks have 32 columns.
//! - Vectors keep their names and are F32.
//! - Optional U32 tensor `kept_ids`: the ascending ids whose rows `emb.weight` and `head.weight` still have. The
//!   embedding then has one more row, the mean of those left out, which stands for each of them; their logits are −∞.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use rag_core::{Error, Result};

use crate::checkpoint::{self, is_low_rank};
use crate::cpu::matrix::{Format, Matrix, PANEL, Quantised, STEP, Values};
use crate::rwkv::inputs::inputs_of;
use crate::rwkv::weights::{Kind, transpose};
use crate::rwkv::{Config, Formats, Weights};

const FORMAT: &str = "ragkit-packed-2";
const FORMAT_BEFORE: &str = "ragkit-packed-1";
pub(crate) const KEPT_IDS: &str = "kept_ids";

/// What becomes of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Any but f32.
    pub formats: Formats,
    /// Ids whose rows are kept, ascending; all when none.
    pub kept_ids: Option<Vec<u32>>,
}

impl Plan {
    /// As `Formats::of`.
    pub fn of(format: Format) -> Self {
        Self { formats: Formats::of(format), kept_ids: None }
    }
}

/// Converts a checkpoint into a packed file; `Error::Model` when it is no RWKV.
pub fn quantize(input: &Path, output: &Path, format: Format) -> Result<()> {
    quantize_with(input, output, &Plan::of(format))
}

/// Converts by a plan. One matrix at a time is in memory; the output appears when it is whole.
pub fn quantize_with(input: &Path, output: &Path, plan: &Plan) -> Result<()> {
    let weights = checkpoint::open(input)?;
    let Formats { embedding, head, time_mix, channel_mix, low_rank } = plan.formats;
    if [embedding, head, time_mix, channel_mix, low_rank].contains(&Format::F32) {
        return Err(Error::invalid("a packed file's matrices are int8, int4 or nf4, not f32"));
    }
    if weights.packed_bytes().is_some() {
        return Err(weights.error("it is packed already".to_string()));
    }
    let config = Config::read(&*weights)?;
    if plan.kept_ids.as_ref().is_some_and(|ids| ids.iter().any(|&id| id as usize >= config.vocabulary)) {
        return Err(Error::invalid("an id to keep is outside the model's vocabulary"));
    }
    let mut entries = Vec::new();
    for name in weights.names() {
        entries.extend(Entry::of(&*weights, &name, plan)?);
    }
    write(&*weights, output, plan, &entries).map_err(|error| match error {
        WriteError::Io(e) => Error::Storage { message: format!("{}: {e}", output.display()) },
        WriteError::Weights(e) => e,
    })
}

/// One tensor of the output.
struct Entry {
    /// In the checkpoint.
    name: String,
    stored: String,
    content: Content,
    shape: Vec<usize>,
    bytes: usize,
}

enum Content {
    Vector,
    KeptIds,
    Matrix { format: Format, part: usize, rows: usize, cols: usize, turned: bool },
}

impl Entry {
    /// What becomes of one tensor of the checkpoint.
    fn of(weights: &dyn Weights, name: &str, plan: &Plan) -> Result<Vec<Self>> {
        let shape = weights.shape(name).unwrap_or_default();
        let turned = is_low_rank(name);
        let table = matches!(name, "emb.weight" | "head.weight");
        let matrix = |part: usize, stored: &str, [rows, cols]: [usize; 2]| {
            let format = plan.formats.kind(match name {
                "emb.weight" => Kind::Embedding,
                "head.weight" => Kind::Head,
                _ if turned => Kind::LowRank,
                _ if name.ends_with(".att.output.weight") => Kind::Output,
                _ if name.contains(".att.") => Kind::TimeMix,
                _ => Kind::ChannelMix,
            });
            let bytes = format.bytes(rows, cols);
            Self {
                name: name.to_string(),
                stored: format!("{stored}.{}", format.name()),
                content: Content::Matrix { format, part, rows, cols, turned },
                shape: vec![bytes],
                bytes,
            }
        };
        Ok(match *shape.as_slice() {
            [_, width] if table => {
                let kept = plan.kept_ids.as_ref().map(|ids| ids.len() + usize::from(name == "emb.weight"));
                vec![matrix(0, name, [kept.unwrap_or(shape[0]), width])]
            }
            [input, out] if turned => vec![matrix(0, name, [out, input])],
            [parts, input, out] if turned => {
                (0..parts).map(|part| matrix(part, &format!("{name}.{part}"), [out, input])).collect()
            }
            [out, input] if name.ends_with(".weight") => vec![matrix(0, name, [out, input])],
            _ => {
                let content = Content::Vector;
                let bytes = shape.iter().product::<usize>() * 4;
                vec![Self { name: name.to_string(), stored: name.to_string(), content, shape, bytes }]
            }
        })
    }

    fn dtype(&self) -> &'static str {
        match self.content {
            Content::Vector => "F32",
            Content::KeptIds => "U32",
            Content::Matrix { .. } => "U8",
        }
    }

    fn data(&self, weights: &dyn Weights, plan: &Plan) -> Result<Vec<u8>> {
        let kept_ids = plan.kept_ids.as_deref();
        match self.content {
            Content::KeptIds => {
                Ok(kept_ids.unwrap_or_default().iter().flat_map(|id| id.to_le_bytes()).collect())
            }
            Content::Vector => {
                Ok(weights.read(&self.name)?.iter().flat_map(|value| value.to_le_bytes()).collect())
            }
            Content::Matrix { format, part, rows, cols, turned } => {
                let all = weights.read(&self.name)?;
                let values = match kept_ids {
                    Some(ids) if matches!(self.name.as_str(), "emb.weight" | "head.weight") => {
                        keep_rows(&all, cols, ids, rows > ids.len())
                    }
                    _ if turned => transpose(&all[part * rows * cols..][..rows * cols], cols, rows),
                    _ => all,
                };
                let inputs = if format == Format::Nf4 { inputs_of(weights, &self.name, cols)? } else { None };
                Ok(to_bytes(&Matrix::pack_for(&values, [rows, cols], format, inputs.as_ref())))
            }
        }
    }
}

/// The kept rows, and the mean of the others when wanted.
fn keep_rows(all: &[f32], cols: usize, ids: &[u32], with_mean: bool) -> Vec<f32> {
    let row = |id: u32| &all[id as usize * cols..(id as usize + 1) * cols];
    let mut out: Vec<f32> = ids.iter().flat_map(|&id| row(id)).copied().collect();
    if with_mean {
        let mut mean = vec![0.0; cols];
        let others = (0..(all.len() / cols) as u32).filter(|id| ids.binary_search(id).is_err());
        let mut count = 0.0;
        for id in others {
            mean.iter_mut().zip(row(id)).for_each(|(mean, value)| *mean += value);
            count += 1.0;
        }
        out.extend(mean.iter().map(|sum| if count > 0.0 { sum / count } else { 0.0 }));
    }
    out
}

enum WriteError {
    Io(std::io::Error),
    Weights(Error),
}

impl From<std::io::Error> for WriteError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn write(weights: &dyn Weights, output: &Path, plan: &Plan, entries: &[Entry]) -> Result<(), WriteError> {
    let mut shapes = serde_json::Map::new();
    for entry in entries.iter().filter(|entry| matches!(entry.content, Content::Matrix { .. })) {
        shapes.insert(entry.name.clone(), weights.shape(&entry.name).into());
    }
    let kept_ids = plan.kept_ids.as_ref().map(|ids| Entry {
        name: KEPT_IDS.to_string(),
        stored: KEPT_IDS.to_string(),
        content: Content::KeptIds,
        shape: vec![ids.len()],
        bytes: ids.len() * 4,
    });
    let metadata =
        serde_json::json!({ "format": FORMAT, "shapes": serde_json::Value::Object(shapes).to_string() });
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_string(), metadata);
    let mut at = 0;
    for entry in kept_ids.iter().chain(entries) {
        let offsets = [at, at + entry.bytes];
        header.insert(
            entry.stored.clone(),
            serde_json::json!({ "dtype": entry.dtype(), "shape": entry.shape, "data_offsets": offsets }),
        );
        at += entry.bytes;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    // Tensors begin at a multiple of 8, as the format wants.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));

    let unfinished = output.with_extension("unfinished");
    let mut file = std::io::BufWriter::new(fs_err::File::create(&unfinished)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for entry in kept_ids.iter().chain(entries) {
        file.write_all(&entry.data(weights, plan).map_err(WriteError::Weights)?)?;
    }
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(fs_err::rename(&unfinished, output)?)
}

/// What a packed file's metadata says.
#[derive(Debug)]
pub(crate) struct Packed {
    shapes: BTreeMap<String, Vec<usize>>,
    /// Of the format's first version: blocks of 32 columns throughout.
    first: bool,
}

/// Reads the metadata of a packed file; none for other safetensors.
pub(crate) fn recognise(metadata: &HashMap<String, String>) -> Option<Result<Packed, String>> {
    let format = metadata.get("format")?;
    if !format.starts_with("ragkit-packed-") {
        return None;
    }
    let first = format == FORMAT_BEFORE;
    if format != FORMAT && !first {
        return Some(Err(format!("it is of format {format}; this program reads {FORMAT}")));
    }
    let shapes = metadata.get("shapes").map_or("", String::as_str);
    let shapes: Option<BTreeMap<_, _>> = serde_json::from_str::<serde_json::Value>(shapes)
        .ok()
        .and_then(|shapes| shapes.as_object().cloned())
        .and_then(|shapes| shapes.into_iter().map(|(name, shape)| Some((name, sizes(&shape)?))).collect());
    Some(
        shapes
            .map(|shapes| Packed { shapes, first })
            .ok_or_else(|| "its list of shapes cannot be read".to_string()),
    )
}

fn sizes(shape: &serde_json::Value) -> Option<Vec<usize>> {
    shape.as_array()?.iter().map(|size| size.as_u64().and_then(|size| usize::try_from(size).ok())).collect()
}

impl Packed {
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.shapes.keys().cloned()
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    /// A matrix of `size` [out, in] out of the bytes of the stored tensors.
    pub(crate) fn matrix<'a>(
        &self,
        bytes: impl Fn(&str) -> Option<&'a [u8]>,
        name: &str,
        part: Option<usize>,
        size: [usize; 2],
    ) -> Result<Option<Matrix>, String> {
        if !self.shapes.contains_key(name) {
            return Ok(None);
        }
        let base = part.map_or_else(|| name.to_string(), |part| format!("{name}.{part}"));
        for format in [Format::Int8, Format::Int4, Format::Nf4] {
            let Some(bytes) = bytes(&format!("{base}.{}", format.name())) else { continue };
            let block = if self.first { STEP } else { format.block(size[1]) };
            if bytes.len() != format.bytes_in_blocks(size[0], size[1], block) {
                return Err(format!("{base} does not have the size of a {} × {} matrix", size[0], size[1]));
            }
            return Ok(Some(from_bytes(bytes, size, format, block)));
        }
        Err(format!("the levels of {base} are missing"))
    }
}

fn to_bytes(matrix: &Matrix) -> Vec<u8> {
    let halves = |halves: &[u16]| halves.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<u8>>();
    match &matrix.values {
        Values::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Values::Quantised(q) => [q.levels.as_slice(), &halves(&q.scales), &halves(&q.minima)].concat(),
    }
}

/// The inverse of `to_bytes` for the quantised formats; `bytes` has the right length.
fn from_bytes(bytes: &[u8], [rows, cols]: [usize; 2], format: Format, block: usize) -> Matrix {
    let blocks = rows.div_ceil(PANEL) * cols.div_ceil(block);
    let halves = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&half| u16::from_le_bytes(half)).collect();
    let (levels, rest) = bytes.split_at(blocks * format.block_bytes(block));
    let (scales, minima) = rest.split_at(blocks * PANEL * 2);
    let (levels, scales, minima) = (levels.to_vec(), halves(scales), halves(minima));
    let values = Values::Quantised(Quantised { format, block, levels, scales, minima });
    Matrix { rows, cols, values }
}
