//! A model's parameters, taken from wherever they are stored by the names of public checkpoints.

use rag_core::{Error, Result};

use super::channel_mix::ChannelMix;
use super::config::{Config, Version};
use super::inputs::inputs_of;
use super::linear::Linear;
use super::time_mix::TimeMix;
use super::time_mix7::TimeMix7;
use crate::cpu::matrix::{Format, Matrix};
use crate::pth::Dtype;

/// Tensors by name. Linear weights are [out, in]; those of the low-rank mixes (RWKV-6: `time_maa_w1`, `_w2`,
/// `time_decay_w1`, `_w2`; RWKV-7: `w1`, `w2`, `a1`, `a2`, `g1`, `g2`, `v1`, `v2`) are [in, out].
pub trait Weights: Send + Sync {
    fn names(&self) -> Vec<String>;

    /// Shape of a tensor without leading axes of size 1.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// Elements of a tensor in row-major order.
    fn read(&self, name: &str) -> Result<Vec<f32>>;

    /// Elements of a tensor as they are stored, in row-major order and little-endian; none when they are not stored so.
    fn raw(&self, _name: &str) -> Option<(Dtype, &[u8])> {
        None
    }

    /// A matrix that is stored ready to use, of `size` [out, in]; a part is one of the slices of `time_maa_w2`.
    fn packed(&self, _name: &str, _part: Option<usize>, _size: [usize; 2]) -> Result<Option<Matrix>> {
        Ok(None)
    }

    /// Bytes of the matrices that are ready to use; none when they are to be converted.
    fn packed_bytes(&self) -> Option<usize> {
        None
    }

    /// Ids of the rows of the embedding table and of the head, ascending, when rows were left out; the table then
    /// has one row more at its end, for all ids left out.
    fn kept_ids(&self) -> Result<Option<Vec<u32>>> {
        Ok(None)
    }

    /// `Error::Model` with the file's name.
    fn error(&self, message: String) -> Error;
}

/// Which format each kind of matrix gets when it is loaded or packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    pub embedding: Format,
    pub head: Format,
    /// The large matrices of a layer's time mix; the last one gets 8 bits for nf4.
    pub time_mix: Format,
    /// Those of its channel mix.
    pub channel_mix: Format,
    /// The small matrices of the token-shift and decay mixes.
    pub low_rank: Format,
}

impl Formats {
    /// One format throughout, but the tables and the small matrices never get fewer than 8 bits: of the embedding one
    /// row is read a token, and the head is what 4 bits cost most in.
    pub fn of(format: Format) -> Self {
        let fine = if format == Format::F32 { Format::F32 } else { Format::Int8 };
        Self { embedding: fine, head: fine, time_mix: format, channel_mix: format, low_rank: fine }
    }

    pub(crate) fn kind(&self, kind: Kind) -> Format {
        match kind {
            Kind::Embedding => self.embedding,
            Kind::Head => self.head,
            // A thirteenth of a layer: 8 bits here give back a seventh of what nf4 costs in loss.
            Kind::Output if self.time_mix == Format::Nf4 => Format::Int8,
            Kind::TimeMix | Kind::Output => self.time_mix,
            Kind::ChannelMix => self.channel_mix,
            Kind::LowRank => self.low_rank,
        }
    }
}

/// What a matrix is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedding,
    Head,
    TimeMix,
    /// The time mix's last one.
    Output,
    ChannelMix,
    /// Stored [in, out], possibly several in one tensor.
    LowRank,
}

/// A place for a tensor.
#[derive(Debug)]
pub(super) enum Slot<'a> {
    /// D values, whatever their axes.
    Vector(&'a mut Vec<f32>),
    /// [out, in].
    Matrix { linear: &'a mut Linear, kind: Kind, part: Option<usize>, size: [usize; 2] },
}

impl<'a> Slot<'a> {
    pub(super) fn linear(linear: &'a mut Linear, kind: Kind, size: [usize; 2]) -> Self {
        Self::Matrix { linear, kind, part: None, size }
    }

    /// One slice of a tensor.
    pub(super) fn part(linear: &'a mut Linear, part: usize, size: [usize; 2]) -> Self {
        Self::Matrix { linear, kind: Kind::LowRank, part: Some(part), size }
    }
}

/// Gets a tensor's public name and its place.
pub(super) type Visit<'a> = dyn FnMut(&str, Slot<'_>) -> Result<()> + 'a;

/// All parameters. A copy shares the matrices.
#[derive(Debug, Clone)]
pub struct Parameters {
    pub(super) embedding: Linear,
    pub(super) head: Linear,
    /// See `Weights::kept_ids`.
    pub(super) kept_ids: Option<Vec<u32>>,
    /// Applied to embeddings, unless the file's were normalised already.
    pub(super) first_norm: Option<Norm>,
    pub(super) blocks: Vec<Block>,
    pub(super) last_norm: Norm,
}

/// One layer.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) time_norm: Norm,
    pub(super) time_mix: AnyTimeMix,
    pub(super) channel_norm: Norm,
    pub(super) channel_mix: ChannelMix,
}

/// A layer's time mix.
#[derive(Debug, Clone)]
pub(super) enum AnyTimeMix {
    V6(TimeMix),
    V7(TimeMix7),
}

/// Weight and bias of a normalisation, [D] each.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Parameters {
    /// Reads every tensor, converting matrices to `formats` where they are not packed already.
    pub(super) fn read(weights: &dyn Weights, config: &Config, formats: &Formats) -> Result<Self> {
        let kept_ids = weights.kept_ids()?;
        let has_first_norm = weights.shape("blocks.0.ln0.weight").is_some();
        let mut parameters = Self::empty(config, kept_ids, has_first_norm);
        parameters.tensors(config, &mut |name, slot| read_slot(weights, config, formats, name, slot))?;
        Ok(parameters)
    }

    /// Places for every tensor.
    pub(super) fn empty(config: &Config, kept_ids: Option<Vec<u32>>, has_first_norm: bool) -> Self {
        let block = |layer| Block {
            time_norm: Norm::default(),
            time_mix: match config.version {
                Version::V6 { .. } => AnyTimeMix::V6(TimeMix::default()),
                Version::V7 { .. } => AnyTimeMix::V7(TimeMix7::new(layer)),
            },
            channel_norm: Norm::default(),
            channel_mix: ChannelMix::default(),
        };
        Self {
            embedding: Linear::default(),
            head: Linear::default(),
            kept_ids,
            first_norm: has_first_norm.then(Norm::default),
            blocks: (0..config.layers).map(block).collect(),
            last_norm: Norm::default(),
        }
    }

    /// Hands every tensor to `visit`, in the order of the file's layers.
    pub(super) fn tensors(&mut self, config: &Config, visit: &mut Visit<'_>) -> Result<()> {
        let (rows, width) = (self.kept_ids.as_ref().map(Vec::len), config.width);
        let embedded = rows.map_or(config.vocabulary, |rows| rows + 1);
        let head = [rows.unwrap_or(config.vocabulary), width];
        visit("emb.weight", Slot::linear(&mut self.embedding, Kind::Embedding, [embedded, width]))?;
        if let Some(norm) = &mut self.first_norm {
            norm.tensors("blocks.0.ln0", visit)?;
        }
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            let name = |part: &str| format!("blocks.{layer}.{part}");
            block.time_norm.tensors(&name("ln1"), visit)?;
            match &mut block.time_mix {
                AnyTimeMix::V6(mix) => mix.tensors(&name("att"), config, visit)?,
                AnyTimeMix::V7(mix) => mix.tensors(&name("att"), config, visit)?,
            }
            block.channel_norm.tensors(&name("ln2"), visit)?;
            block.channel_mix.tensors(&name("ffn"), config, visit)?;
        }
        self.last_norm.tensors("ln_out", visit)?;
        visit("head.weight", Slot::linear(&mut self.head, Kind::Head, head))
    }
}

impl Norm {
    pub(super) fn tensors(&mut self, name: &str, visit: &mut Visit<'_>) -> Result<()> {
        visit(&format!("{name}.weight"), Slot::Vector(&mut self.weight))?;
        visit(&format!("{name}.bias"), Slot::Vector(&mut self.bias))
    }
}

/// Bytes that a model of these sizes takes when every matrix is converted, and of these what one token reads: all
/// but the embedding table.
pub(crate) fn bytes(config: &Config, formats: &Formats) -> (usize, usize) {
    let (mut all, mut read) = (0, 0);
    let mut count = |_: &str, slot: Slot<'_>| {
        let bytes = match slot {
            Slot::Vector(_) => config.width * 4,
            Slot::Matrix { kind, size: [out, input], .. } => formats.kind(kind).bytes(out, input),
        };
        all += bytes;
        read += if matches!(slot, Slot::Matrix { kind: Kind::Embedding, .. }) { 0 } else { bytes };
        Ok(())
    };
    // Counting does not fail.
    let _ = Parameters::empty(config, None, true).tensors(config, &mut count);
    (all, read)
}

/// Fills a place from a file, checking the tensor's shape.
pub(super) fn read_slot(
    weights: &dyn Weights,
    config: &Config,
    formats: &Formats,
    name: &str,
    slot: Slot<'_>,
) -> Result<()> {
    match slot {
        Slot::Vector(vector) => {
            let values = weights.read(name)?;
            if values.len() != config.width {
                let message = format!("{name} has {} values instead of {}", values.len(), config.width);
                return Err(weights.error(message));
            }
            *vector = values;
        }
        Slot::Matrix { linear, kind, part, size } => {
            *linear = match weights.packed(name, part, size)? {
                Some(matrix) => matrix.into(),
                None => convert(weights, name, part, size, kind, formats.kind(kind))?.into(),
            };
        }
    }
    Ok(())
}

fn convert(
    weights: &dyn Weights,
    name: &str,
    part: Option<usize>,
    [out, input]: [usize; 2],
    kind: Kind,
    format: Format,
) -> Result<Matrix> {
    let turned = kind == Kind::LowRank;
    let two = if turned { [input, out] } else { [out, input] };
    let whole = if part.is_some() { vec![5, two[0], two[1]] } else { two.to_vec() };
    let shape = weights.shape(name).unwrap_or_default();
    if shape != whole {
        return Err(weights
            .error(format!("{name} has the shape {shape:?}, not the {out} × {input} that others imply")));
    }
    let all = weights.read(name)?;
    let values = &all[part.unwrap_or(0) * out * input..][..out * input];
    Ok(if turned {
        Matrix::pack(&transpose(values, input, out), out, input, format)
    } else {
        let inputs = if format == Format::Nf4 { inputs_of(weights, name, input)? } else { None };
        Matrix::pack_for(values, [out, input], format, inputs.as_ref())
    })
}

/// [rows, cols] to [cols, rows].
pub(crate) fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for c in 0..cols {
        out.extend((0..rows).map(|r| values[r * cols + c]));
    }
    out
}
