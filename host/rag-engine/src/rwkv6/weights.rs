//! A model's parameters, taken from wherever they are stored by the names of public checkpoints.

use rag_core::{Error, Result};

use super::channel_mix::ChannelMix;
use super::config::Config;
use super::time_mix::TimeMix;
use crate::cpu::matrix::{Format, Matrix};

/// Tensors by name. Linear weights are [out, in]; those of the low-rank mixes (`time_maa_w1`, `_w2`,
/// `time_decay_w1`, `_w2`) are [in, out].
pub trait Weights {
    fn names(&self) -> Vec<String>;

    /// Shape of a tensor without leading axes of size 1.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// Elements of a tensor in row-major order.
    fn read(&self, name: &str) -> Result<Vec<f32>>;

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

/// All parameters.
#[derive(Debug)]
pub struct Parameters {
    pub(super) embedding: Matrix,
    pub(super) head: Matrix,
    /// See `Weights::kept_ids`.
    pub(super) kept_ids: Option<Vec<u32>>,
    /// Applied to embeddings, unless the file's were normalised already.
    pub(super) first_norm: Option<Norm>,
    pub(super) blocks: Vec<Block>,
    pub(super) last_norm: Norm,
}

/// One layer.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) time_norm: Norm,
    pub(super) time_mix: TimeMix,
    pub(super) channel_norm: Norm,
    pub(super) channel_mix: ChannelMix,
}

/// Weight and bias of a normalisation, [D] each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Parameters {
    /// Reads every tensor, converting matrices to `format` where they are not packed already.
    pub(super) fn read(weights: &dyn Weights, config: &Config, format: Format) -> Result<Self> {
        let kept_ids = weights.kept_ids()?;
        let reader = Reader { weights, config, format };
        let rows = kept_ids.as_ref().map(Vec::len);
        let embedding_rows = rows.map_or(config.vocabulary, |rows| rows + 1);
        let embedding =
            reader.matrix_of("emb.weight", None, [embedding_rows, config.width], Major::Output)?;
        let head_rows = rows.unwrap_or(config.vocabulary);
        let head = reader.matrix_of("head.weight", None, [head_rows, config.width], Major::Output)?;
        let has_first_norm = weights.shape("blocks.0.ln0.weight").is_some();
        let first_norm = has_first_norm.then(|| reader.norm("blocks.0.ln0")).transpose()?;
        let blocks = (0..config.layers).map(|layer| reader.block(layer)).collect::<Result<_>>()?;
        Ok(Self { embedding, head, kept_ids, first_norm, blocks, last_norm: reader.norm("ln_out")? })
    }
}

/// Which axis of a stored matrix comes first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Major {
    Output,
    Input,
}

/// Takes tensors out of a file, checking each one's shape.
pub(super) struct Reader<'a> {
    weights: &'a dyn Weights,
    pub(super) config: &'a Config,
    format: Format,
}

impl Reader<'_> {
    fn block(&self, layer: usize) -> Result<Block> {
        let name = |part: &str| format!("blocks.{layer}.{part}");
        Ok(Block {
            time_norm: self.norm(&name("ln1"))?,
            time_mix: TimeMix::read(self, &name("att"))?,
            channel_norm: self.norm(&name("ln2"))?,
            channel_mix: ChannelMix::read(self, &name("ffn"))?,
        })
    }

    pub(super) fn norm(&self, name: &str) -> Result<Norm> {
        Ok(Norm {
            weight: self.vector(&format!("{name}.weight"))?,
            bias: self.vector(&format!("{name}.bias"))?,
        })
    }

    /// A tensor of D values, whatever its axes.
    pub(super) fn vector(&self, name: &str) -> Result<Vec<f32>> {
        let values = self.weights.read(name)?;
        if values.len() != self.config.width {
            let message = format!("{name} has {} values instead of {}", values.len(), self.config.width);
            return Err(self.weights.error(message));
        }
        Ok(values)
    }

    /// A linear layer's weight [out, in].
    pub(super) fn linear(&self, name: &str, out: usize, input: usize) -> Result<Matrix> {
        self.matrix_of(&format!("{name}.weight"), None, [out, input], Major::Output)
    }

    /// A matrix stored [in, out], or one slice of several such.
    pub(super) fn low_rank(
        &self,
        name: &str,
        part: Option<usize>,
        out: usize,
        input: usize,
    ) -> Result<Matrix> {
        self.matrix_of(name, part, [out, input], Major::Input)
    }

    fn matrix_of(&self, name: &str, part: Option<usize>, size: [usize; 2], major: Major) -> Result<Matrix> {
        let [out, input] = size;
        let wrong = |found: &dyn std::fmt::Debug| {
            self.weights
                .error(format!("{name} has the shape {found:?}, not the {out} × {input} that others imply"))
        };
        if let Some(matrix) = self.weights.packed(name, part, size)? {
            return Ok(matrix);
        }
        let shape = self.weights.shape(name).unwrap_or_default();
        let two = if major == Major::Output { [out, input] } else { [input, out] };
        let slices = if part.is_some() { vec![5, two[0], two[1]] } else { two.to_vec() };
        if shape != slices {
            return Err(wrong(&shape));
        }
        let all = self.weights.read(name)?;
        let values = &all[part.unwrap_or(0) * out * input..][..out * input];
        Ok(match major {
            Major::Output => Matrix::pack(values, out, input, self.format),
            Major::Input => Matrix::pack(&transpose(values, input, out), out, input, self.format),
        })
    }
}

/// [rows, cols] to [cols, rows].
pub(crate) fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for c in 0..cols {
        out.extend((0..rows).map(|r| values[r * cols + c]));
    }
    out
}
