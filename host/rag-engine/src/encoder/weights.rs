//! Reads the shipped encoder's file: checks that it is whole and of the right shapes, then unpacks it for the processor.
//!
//! The file is safetensors as `models/convert/e5.py` writes it: 4-bit matrices as `NAME.nibbles` (U8, two weights a
//! byte) and `NAME.scales` (F16, one a block of 32), the rest in F32, the tokenizer beside them.

use std::collections::HashMap;
use std::sync::Arc;

use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::loaded::{Loaded, Pooling, Precision};
use super::model::{Layer, Linear, Model, Norm};
use super::tokenizer::Tokenizer;
use super::tokenizer::unigram::Unigram;
use super::word_table::{BLOCK, WordTable, unpack};
use crate::pth::half_to_f32;

/// Format name in the file's metadata.
const FORMAT: &str = "rag-e5-q4/1";
/// Reads the whole file's bytes.
///
/// # Errors
/// What is wrong with it, in words: cut short, damaged or of another format.
pub(crate) fn parse(bytes: &[u8], precision: Precision) -> Result<Loaded, String> {
    let (header_bytes, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| match error {
        safetensors::SafeTensorError::HeaderTooSmall | safetensors::SafeTensorError::InvalidHeaderLength => {
            format!("cut short within its header, or no safetensors file at all ({} bytes)", bytes.len())
        }
        safetensors::SafeTensorError::MetadataIncompleteBuffer => {
            format!("cut short or with bytes added: {} bytes are not what its header announces", bytes.len())
        }
        other => format!("not a safetensors file: {other}"),
    })?;
    let empty = HashMap::new();
    let about = metadata.metadata().as_ref().unwrap_or(&empty);
    let text = |key: &str| about.get(key).cloned().ok_or_else(|| format!("its header lacks '{key}'"));
    let format = about.get("format").map_or("none", String::as_str);
    if format != FORMAT {
        return Err(format!("format '{format}' where '{FORMAT}' is expected; see models/convert"));
    }
    let hash: String =
        Sha256::digest(&bytes[8 + header_bytes..]).iter().map(|b| format!("{b:02x}")).collect();
    if text("data_sha256")? != hash {
        return Err("damaged: its data does not have the SHA-256 that its header names".to_owned());
    }
    let file = File(SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?);
    Ok(Loaded {
        model: model(&file, &text, precision)?,
        tokenizer: Arc::new(tokenizer(&file)?),
        hash: hash.chars().take(12).collect(),
        name: text("model")?,
        prefix_query: text("prefix_query")?,
        prefix_passage: text("prefix_passage")?,
        pooling: Pooling::Mean,
        token_head: None,
        lexical_head: None,
        score_head: None,
    })
}

/// The model's name and the hash that its header announces; the error is the message.
pub(crate) fn identity(bytes: &[u8]) -> Result<String, String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let about = metadata.metadata().as_ref();
    let text = |key: &str| about.and_then(|about| about.get(key)).ok_or("its header names no model");
    let hash: String = text("data_sha256")?.chars().take(12).collect();
    Ok(super::identity_of(text("model")?, &hash))
}

fn model(
    file: &File<'_>,
    text: &dyn Fn(&str) -> Result<String, String>,
    precision: Precision,
) -> Result<Model, String> {
    let number =
        |key: &str| text(key)?.parse::<f32>().map_err(|_| format!("'{key}' of its header is no number"));
    let heads = number("heads")? as usize;
    let width = file.shape("word.nibbles")?.get(1).map_or(0, |half| half * 2);
    if width == 0 || !width.is_multiple_of(BLOCK) || heads == 0 || !width.is_multiple_of(heads) {
        return Err(format!("{width} dimensions do not divide into {heads} heads and blocks of {BLOCK}"));
    }
    let mut position = file.floats("position")?;
    if position.len() < 3 * width || !position.len().is_multiple_of(width) {
        return Err(format!("{} values are not rows of {width} in 'position'", position.len()));
    }
    let kind = file.floats_of("type", width)?;
    // Every text is of type 0, so its vector is part of every position's.
    position.iter_mut().zip(kind.iter().cycle()).for_each(|(value, kind)| *value += kind);
    let layers = (0..).take_while(|i| file.has(&format!("layers.{i}.q.nibbles")));
    let layers: Vec<Layer> =
        layers.map(|i| layer(file, &format!("layers.{i}"), width, precision)).collect::<Result<_, _>>()?;
    if layers.is_empty() {
        return Err("it has no layers".to_owned());
    }
    Ok(Model {
        word: WordTable::nibbles(
            width,
            file.bytes("word.nibbles", Dtype::U8)?.to_vec(),
            file.halves("word.scales")?,
        )?,
        position,
        second: Vec::new(),
        norm: norm(file, "embedding_norm", width)?,
        layers,
        heads,
        width,
        eps: number("norm_eps")?,
    })
}

fn layer(file: &File<'_>, name: &str, width: usize, precision: Precision) -> Result<Layer, String> {
    let at = |part: &str| format!("{name}.{part}");
    let up = linear(file, &[at("up")], width, precision)?;
    let inner = up.columns();
    let layer = Layer {
        qkv: linear(file, &[at("q"), at("k"), at("v")], width, precision)?,
        attention_out: linear(file, &[at("attention_out")], width, precision)?,
        attention_norm: norm(file, &at("attention_norm"), width)?,
        up,
        down: linear(file, &[at("down")], inner, precision)?,
        output_norm: norm(file, &at("output_norm"), width)?,
    };
    let columns = [layer.qkv.columns(), layer.attention_out.columns(), layer.down.columns()];
    if columns != [3 * width, width, width] {
        return Err(format!("matrices of {name} have {columns:?} rows where {width} fit"));
    }
    Ok(layer)
}

fn norm(file: &File<'_>, name: &str, width: usize) -> Result<Norm, String> {
    Ok(Norm {
        weight: file.floats_of(&format!("{name}.weight"), width)?,
        bias: file.floats_of(&format!("{name}.bias"), width)?,
    })
}

/// One matrix, or several over the same input side by side.
fn linear(file: &File<'_>, names: &[String], depth: usize, precision: Precision) -> Result<Linear, String> {
    let (mut values, mut bias) = (Vec::new(), Vec::new());
    for name in names {
        let before = values.len();
        file.dequantise(name, depth, &mut values)?;
        bias.extend(file.floats_of(&format!("{name}.bias"), (values.len() - before) / depth)?);
    }
    Ok(Linear::pack(precision, depth, &values, bias))
}

fn tokenizer(file: &File<'_>) -> Result<Tokenizer, String> {
    let blob = file.bytes("tokenizer.pieces", Dtype::U8)?;
    let blob = std::str::from_utf8(blob).map_err(|_| "its vocabulary is not UTF-8".to_owned())?;
    let lengths = file.bytes("tokenizer.piece_bytes", Dtype::U8)?;
    let mut pieces = Vec::with_capacity(lengths.len());
    let mut at = 0;
    for length in lengths {
        let end = at + usize::from(*length);
        pieces.push(blob.get(at..end).ok_or("its vocabulary's lengths do not fit its text")?);
        at = end;
    }
    let rows = file.shape("word.nibbles")?.first().copied().unwrap_or(0);
    if rows != pieces.len() {
        return Err(format!("{rows} word vectors for {} pieces", pieces.len()));
    }
    let words = file.words("tokenizer.normalise")?;
    let mut normalise = HashMap::new();
    let mut rest = words.as_slice();
    while let [from, count, after @ ..] = rest {
        let to = after.get(..*count as usize);
        let to =
            to.and_then(|to| to.iter().map(|code| char::from_u32(*code)).collect::<Option<Box<[char]>>>());
        let (Some(from), Some(to)) = (char::from_u32(*from), to) else {
            return Err("its normalisation map is damaged".to_owned());
        };
        rest = &after[to.len()..];
        normalise.insert(from, to);
    }
    Unigram::new(&pieces, &file.floats("tokenizer.scores")?, normalise).map(Tokenizer::unigram)
}

/// Tensors by name, with errors that name them.
struct File<'a>(SafeTensors<'a>);

impl<'a> File<'a> {
    fn has(&self, name: &str) -> bool {
        self.0.tensor(name).is_ok()
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, String> {
        Ok(self.0.tensor(name).map_err(|_| format!("the tensor '{name}' is missing"))?.shape().to_vec())
    }

    fn bytes(&self, name: &str, dtype: Dtype) -> Result<&'a [u8], String> {
        let tensor = self.0.tensor(name).map_err(|_| format!("the tensor '{name}' is missing"))?;
        if tensor.dtype() != dtype {
            return Err(format!("the tensor '{name}' is of type {:?}, not {dtype:?}", tensor.dtype()));
        }
        Ok(tensor.data())
    }

    fn floats(&self, name: &str) -> Result<Vec<f32>, String> {
        let values: Vec<f32> =
            self.bytes(name, Dtype::F32)?.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(format!("the tensor '{name}' holds a value that is not a number"));
        }
        Ok(values)
    }

    fn floats_of(&self, name: &str, count: usize) -> Result<Vec<f32>, String> {
        let values = self.floats(name)?;
        if values.len() != count {
            return Err(format!("the tensor '{name}' has {} values, not {count}", values.len()));
        }
        Ok(values)
    }

    fn words(&self, name: &str) -> Result<Vec<u32>, String> {
        Ok(self.bytes(name, Dtype::U32)?.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect())
    }

    fn halves(&self, name: &str) -> Result<Vec<f32>, String> {
        let halves = self.bytes(name, Dtype::F16)?.as_chunks().0;
        let values: Vec<f32> = halves.iter().map(|b| half_to_f32(u16::from_le_bytes(*b))).collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(format!("the tensor '{name}' holds a value that is not a number"));
        }
        Ok(values)
    }

    /// Appends a 4-bit matrix `[rows, depth]`, row-major.
    fn dequantise(&self, name: &str, depth: usize, values: &mut Vec<f32>) -> Result<(), String> {
        let shape = self.shape(&format!("{name}.nibbles"))?;
        let nibbles = self.bytes(&format!("{name}.nibbles"), Dtype::U8)?;
        let scales = self.halves(&format!("{name}.scales"))?;
        if shape.get(1) != Some(&(depth / 2)) || scales.len() * BLOCK / 2 != nibbles.len() {
            return Err(format!(
                "the matrix '{name}' is {shape:?} with {} scales, not {depth} wide",
                scales.len()
            ));
        }
        let start = values.len();
        values.resize(start + nibbles.len() * 2, 0.0);
        unpack(nibbles, &scales, &mut values[start..]);
        Ok(())
    }
}
