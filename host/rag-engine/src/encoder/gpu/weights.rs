//! An encoder's weights on a GPU: matrices as halves (or f32), `[out, in]`; vectors in f32.

use std::sync::Arc;

use rag_core::{Error, Result};

use super::Parts;
use super::params::Narrow;
use super::sizes::STAGE_VALUES;
use crate::encoder::loaded::ScoreHead;
use crate::encoder::model::{Layer as CpuLayer, Linear, Matrix, Model, Norm};
use crate::rwkv::cuda::{Element, Gpu, Kernel, Memory, Shape};

/// Threads of the kernel that narrows.
const THREADS: usize = 256;

#[derive(Debug)]
pub(super) struct Weights {
    pub(super) words: Memory,
    /// `[positions, width]`, the vector of token type 0 included.
    pub(super) positions: Memory,
    /// What a token of the second of two texts gets more, where the model tells them apart.
    pub(super) second: Option<Memory>,
    /// Weight, then bias.
    pub(super) norm: Memory,
    pub(super) layers: Vec<Layer>,
    pub(super) token_head: Option<Head>,
    /// In f32.
    pub(super) lexical_head: Option<Head>,
    /// Both in f32.
    pub(super) score_head: Option<[Head; 2]>,
}

/// A matrix and its bias.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) matrix: Memory,
    pub(super) bias: Memory,
    pub(super) columns: usize,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) qkv: Memory,
    pub(super) attention_out: Memory,
    pub(super) up: Memory,
    pub(super) down: Memory,
    /// In the order of `Vector`.
    vectors: Memory,
    width: usize,
    inner: usize,
}

/// Vectors of a layer, in the order in which they stand.
#[derive(Debug, Clone, Copy)]
pub(super) enum Vector {
    /// Of queries, keys and values.
    QkvBias,
    AttentionOutBias,
    AttentionNorm,
    DownBias,
    OutputNorm,
    UpBias,
}

impl Layer {
    /// The address of a vector; of a normalisation, of its weight, which its bias follows.
    pub(super) fn vector(&self, vector: Vector) -> u64 {
        let widths = match vector {
            Vector::QkvBias => 0,
            Vector::AttentionOutBias => 3,
            Vector::AttentionNorm => 4,
            Vector::DownBias => 6,
            Vector::OutputNorm => 7,
            Vector::UpBias => 9,
        };
        debug_assert!(self.vectors.bytes() >= (9 * self.width + self.inner) * 4, "vectors are missing");
        self.vectors.at(widths * self.width * 4)
    }
}

impl Weights {
    pub(super) fn load(gpu: &Arc<Gpu>, parts: Parts<'_>, element: Element) -> Result<Self> {
        let loader = Loader::new(gpu, element)?;
        let model = parts.model;
        let score = |head: &ScoreHead| -> Result<[Head; 2]> {
            Ok([loader.exact_head(&head.dense)?, loader.exact_head(&head.out)?])
        };
        let weights = Weights {
            words: loader.words(model)?,
            positions: Memory::of(gpu, &model.position)?,
            second: match model.second.len() {
                0 => None,
                _ => Some(Memory::of(gpu, &model.second[..model.width])?),
            },
            norm: Memory::of(gpu, &norm(&model.norm))?,
            layers: model.layers.iter().map(|layer| loader.layer(layer)).collect::<Result<_>>()?,
            token_head: parts.token_head.map(|head| loader.head(head)).transpose()?,
            lexical_head: parts.lexical_head.map(|head| loader.exact_head(head)).transpose()?,
            score_head: parts.score_head.map(score).transpose()?,
        };
        gpu.wait()?;
        Ok(weights)
    }
}

fn norm(norm: &Norm) -> Vec<f32> {
    [norm.weight.as_slice(), &norm.bias].concat()
}

/// Brings numbers over and narrows them there.
struct Loader<'a> {
    gpu: &'a Arc<Gpu>,
    element: Element,
    /// What is to be narrowed, and how; none for f32.
    narrow: Option<(Memory, Kernel)>,
}

impl<'a> Loader<'a> {
    fn new(gpu: &'a Arc<Gpu>, element: Element) -> Result<Self> {
        let narrow = match element {
            Element::F32 => None,
            _ => Some((Memory::new(gpu, STAGE_VALUES * 4)?, gpu.kernel("narrow")?)),
        };
        Ok(Loader { gpu, element, narrow })
    }

    fn words(&self, model: &Model) -> Result<Memory> {
        let (rows, width) = (model.word.rows(), model.width);
        let memory = Memory::new(self.gpu, rows * width * self.element.bytes())?;
        let at_once = STAGE_VALUES / width;
        let mut values = vec![0.0; at_once.min(rows) * width];
        for first in (0..rows).step_by(at_once) {
            let count = at_once.min(rows - first);
            let values = &mut values[..count * width];
            for (row, values) in values.chunks_exact_mut(width).enumerate() {
                model.word.read((first + row) as u32, values);
            }
            self.write(&memory, first * width, values)?;
        }
        Ok(memory)
    }

    fn layer(&self, layer: &CpuLayer) -> Result<Layer> {
        let vectors = [
            layer.qkv.bias.as_slice(),
            &layer.attention_out.bias,
            &norm(&layer.attention_norm),
            &layer.down.bias,
            &norm(&layer.output_norm),
            &layer.up.bias,
        ]
        .concat();
        Ok(Layer {
            qkv: self.matrix(&layer.qkv)?,
            attention_out: self.matrix(&layer.attention_out)?,
            up: self.matrix(&layer.up)?,
            down: self.matrix(&layer.down)?,
            vectors: Memory::of(self.gpu, &vectors)?,
            width: layer.down.columns(),
            inner: layer.up.columns(),
        })
    }

    fn head(&self, head: &Linear) -> Result<Head> {
        let bias = Memory::of(self.gpu, &head.bias)?;
        Ok(Head { matrix: self.matrix(head)?, bias, columns: head.columns() })
    }

    fn exact_head(&self, head: &Linear) -> Result<Head> {
        let (matrix, bias) = (Memory::of(self.gpu, &values(head)?)?, Memory::of(self.gpu, &head.bias)?);
        Ok(Head { matrix, bias, columns: head.columns() })
    }

    fn matrix(&self, linear: &Linear) -> Result<Memory> {
        let values = values(linear)?;
        let memory = Memory::new(self.gpu, values.len() * self.element.bytes())?;
        self.write(&memory, 0, &values)?;
        Ok(memory)
    }

    /// Writes numbers from the `first`-th element on.
    fn write(&self, memory: &Memory, first: usize, values: &[f32]) -> Result<()> {
        let Some((stage, kernel)) = &self.narrow else {
            return memory.write(first * self.element.bytes(), values);
        };
        for (part, values) in values.chunks(STAGE_VALUES).enumerate() {
            stage.write(0, values)?;
            let to = memory.at((first + part * STAGE_VALUES) * self.element.bytes());
            let params = Narrow { from: stage.at(0), to, count: values.len() as i64 };
            let blocks = [values.len().div_ceil(THREADS), 1];
            let shape = Shape { blocks, threads: THREADS, shared: 0, overlap: false };
            // SAFETY: the stage holds the values and the memory has room for them.
            unsafe { self.gpu.launch(*kernel, shape, &params)? };
        }
        Ok(())
    }
}

/// Weights `[out, in]`.
fn values(linear: &Linear) -> Result<Vec<f32>> {
    match &linear.matrix {
        Matrix::F32(weights) => Ok(weights.unpack()),
        Matrix::Int8(_) => Err(Error::internal("a GPU takes an encoder's weights in f32")),
    }
}
