//! A model's weights on a GPU: read tensor by tensor from a file, or made there from a seed.
//!
//! Matrices are row-major [out, in]: f32, bf16, or the CPU's levels and scales in another order (`cpu::matrix::ByRows`),
//! so that both compute with the same quantised weights. The embedding table and the matrices of the low-rank mixes are
//! never quantised here. What is multiplied together stands together: k, v, r, g, or r, k, v in RWKV-7.

mod adapted;
mod parts;
mod random;
mod vectors;

use std::sync::Arc;

pub(super) use adapted::Adapter;
pub(super) use parts::{DECAY_DOWN, DECAY_UP, MIX_DOWN, MIX_UP};
use parts::{has_gate, low_ranks, projections};
use rag_core::Result;
use random::random_vector;
pub(super) use vectors::{Vector, Vector7};
use vectors::{per_layer, vector_names};

use super::blas::Element;
use super::driver::{Gpu, Memory};
use crate::cpu::matrix::{ByRows, Format, Matrix as CpuMatrix};
use crate::rwkv::config::Config;
use crate::rwkv::inputs::inputs_of;
use crate::rwkv::weights::{Formats, Kind, Parameters, Slot, Weights, transpose};

/// How a matrix stands in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage {
    Dense(Element),
    /// Any but f32.
    Quantised(Format),
}

/// A copy shares the memory.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    pub(super) storage: Storage,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Columns that share a scale.
    pub(super) block: usize,
    values: Arc<Memory>,
    scales: Option<Arc<Memory>>,
    minima: Option<Arc<Memory>>,
    /// What an adapter adds.
    pub(super) deltas: Vec<Delta>,
}

/// A change of low rank to some rows of a matrix.
#[derive(Debug, Clone)]
pub(super) struct Delta {
    pub(super) first_row: usize,
    pub(super) rows: usize,
    pub(super) rank: usize,
    /// A, [rank, in], dense elements.
    pub(super) down: Arc<Memory>,
    /// B with the adapter's scale, [rows, rank], dense elements.
    pub(super) up: Arc<Memory>,
}

/// Where some rows of a matrix are: values, scales, minima.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) values: u64,
    pub(super) scales: u64,
    pub(super) minima: u64,
}

impl Matrix {
    /// Bytes of the values of so many rows.
    pub(super) fn value_bytes(&self, rows: usize) -> usize {
        match self.storage {
            Storage::Dense(element) => rows * self.cols * element.bytes(),
            Storage::Quantised(Format::Int8) => rows * self.cols,
            Storage::Quantised(_) => rows * self.cols / 2,
        }
    }

    /// From row `row` on.
    pub(super) fn at_row(&self, row: usize) -> Place {
        let halves = row * self.cols / self.block.max(1) * 2;
        let at = |memory: &Option<Arc<Memory>>| memory.as_ref().map_or(0, |memory| memory.at(halves));
        Place {
            values: self.values.at(self.value_bytes(row)),
            scales: at(&self.scales),
            minima: at(&self.minima),
        }
    }

    /// All that one product reads.
    pub(super) fn bytes(&self) -> usize {
        let halves = |memory: &Option<Arc<Memory>>| {
            memory.as_ref().map_or(0, |_| self.rows * self.cols / self.block.max(1) * 2)
        };
        self.value_bytes(self.rows) + halves(&self.scales) + halves(&self.minima)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// In the order of `low_ranks`.
    pub(super) low: Vec<Matrix>,
    /// k, v, r, g, or r, k, v: [4·D or 3·D, D].
    pub(super) projections: Matrix,
    pub(super) output: Matrix,
    pub(super) key: Matrix,
    /// RWKV-6 only.
    pub(super) receptance: Option<Matrix>,
    pub(super) value: Matrix,
}

/// A copy shares the memory.
#[derive(Debug, Clone)]
pub(super) struct ModelWeights {
    pub(super) embedding: Matrix,
    pub(super) head: Matrix,
    pub(super) layers: Vec<Layer>,
    pub(super) has_first_norm: bool,
    vectors: Arc<Memory>,
    /// Vectors of a layer.
    per_layer: usize,
    width: usize,
}

impl ModelWeights {
    pub(super) fn vector(&self, layer: usize, vector: Vector) -> u64 {
        self.vector_at(layer, vector as usize)
    }

    pub(super) fn vector7(&self, layer: usize, vector: Vector7) -> u64 {
        self.vector_at(layer, vector as usize)
    }

    fn vector_at(&self, layer: usize, place: usize) -> u64 {
        self.vectors.at((layer * self.per_layer + place) * self.width * 4)
    }

    /// Weight and bias of a normalisation.
    pub(super) fn norm(&self, layer: usize, vector: Vector) -> [u64; 2] {
        let at = self.vector(layer, vector);
        [at, at + self.width as u64 * 4]
    }

    pub(super) fn first_norm(&self) -> [u64; 2] {
        if self.has_first_norm { self.norm(self.layers.len(), Vector::TimeNorm) } else { [0, 0] }
    }

    pub(super) fn last_norm(&self) -> [u64; 2] {
        let at = self.vector_at(self.layers.len(), 2);
        [at, at + self.width as u64 * 4]
    }

    fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let layers = self.layers.iter().flat_map(|layer| {
            let Layer { low, projections, output, key, receptance, value } = layer;
            low.iter().chain([projections, output, key, value]).chain(receptance)
        });
        std::iter::once(&self.head).chain(layers)
    }

    /// Storages of all that is multiplied with, each once.
    pub(super) fn storages(&self) -> Vec<Storage> {
        let mut all = Vec::new();
        for matrix in self.matrices() {
            if !all.contains(&matrix.storage) {
                all.push(matrix.storage);
            }
        }
        all
    }

    /// Bytes that one token reads: all but the embedding table.
    pub(super) fn bytes_read(&self) -> usize {
        let vectors = (self.layers.len() * self.per_layer + 2) * self.width * 4;
        self.matrices().map(Matrix::bytes).sum::<usize>() + vectors
    }

    /// The largest number of elements among matrices that are made dense at once.
    pub(super) fn dense_max(&self) -> usize {
        let quantised = |matrix: &&Matrix| matches!(matrix.storage, Storage::Quantised(_));
        let layer = self.layers.first().map(|layer| [&layer.projections, &layer.key, &layer.value]);
        let elements = |matrix: &Matrix| matrix.rows * matrix.cols;
        let in_layers = layer.iter().flatten().copied().filter(quantised).map(elements).max();
        let head = Some(&self.head).filter(quantised).map(|head| elements(head).min(1 << 24));
        in_layers.into_iter().chain(head).max().unwrap_or(0)
    }
}

/// Where weights come from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    File(&'a dyn Weights),
    Seed(u64),
}

/// What matrices become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    /// f32 stands for `dense`.
    pub(super) formats: Formats,
    pub(super) dense: Element,
}

impl Choice {
    fn storage(&self, kind: Kind) -> Storage {
        match self.formats.kind(kind) {
            _ if matches!(kind, Kind::LowRank | Kind::Embedding) => Storage::Dense(self.dense),
            Format::F32 => Storage::Dense(self.dense),
            format => Storage::Quantised(format),
        }
    }

    /// Bytes of memory that the weights of a model take: all, and those that a token reads.
    pub(super) fn bytes(&self, config: &Config) -> (usize, usize) {
        let (mut all, mut read) = (0, 0);
        let mut count = |_: &str, slot: Slot<'_>| {
            let (bytes, embedding) = match slot {
                Slot::Vector(_) => (config.width * 4, false),
                Slot::Matrix { kind, size: [out, input], .. } => {
                    let bytes = match self.storage(kind) {
                        Storage::Dense(element) => out * input * element.bytes(),
                        Storage::Quantised(format) => format.bytes(out, input),
                    };
                    (bytes, kind == Kind::Embedding)
                }
            };
            all += bytes;
            read += if embedding { 0 } else { bytes };
            Ok(())
        };
        // Counting does not fail.
        let _ = Parameters::empty(config, None, true).tensors(config, &mut count);
        (all, read)
    }
}

/// Puts weights on a GPU.
pub(super) struct Loader<'a> {
    pub(super) gpu: &'a Arc<Gpu>,
    pub(super) source: Source<'a>,
    pub(super) choice: Choice,
    pub(super) config: &'a Config,
    /// Rows of the head when some were left out.
    pub(super) kept: Option<usize>,
    /// Of random weights: one for each matrix.
    pub(super) made: u64,
}

impl Loader<'_> {
    pub(super) fn load(mut self) -> Result<ModelWeights> {
        let Config { width, hidden, vocabulary, layers, .. } = *self.config;
        let has_first_norm = match self.source {
            Source::File(weights) => weights.shape("blocks.0.ln0.weight").is_some(),
            Source::Seed(_) => true,
        };
        let embedded = self.kept.map_or(vocabulary, |rows| rows + 1);
        let embedding = self.matrix(&["emb.weight"], [embedded, width], Kind::Embedding)?;
        let mut all = Vec::with_capacity(layers);
        for layer in 0..layers {
            let name = |part: &str| format!("blocks.{layer}.{part}");
            let att = |part: &str| name(&format!("att.{part}.weight"));
            let ffn = |part: &str| name(&format!("ffn.{part}.weight"));
            let square = [width, width];
            let together: Vec<String> = projections(self.config).iter().copied().map(att).collect();
            let together: Vec<&str> = together.iter().map(String::as_str).collect();
            let low = low_ranks(self.config, layer);
            let gate = has_gate(self.config)
                .then(|| self.matrix(&[&ffn("receptance")], square, Kind::ChannelMix))
                .transpose()?;
            all.push(Layer {
                low: (low.into_iter())
                    .map(|part| self.low_rank(&name(&format!("att.{}", part.name)), part.size, part.turned))
                    .collect::<Result<_>>()?,
                projections: self.matrix(&together, square, Kind::TimeMix)?,
                output: self.matrix(&[&att("output")], square, Kind::Output)?,
                key: self.matrix(&[&ffn("key")], [hidden, width], Kind::ChannelMix)?,
                receptance: gate,
                value: self.matrix(&[&ffn("value")], [width, hidden], Kind::ChannelMix)?,
            });
        }
        let head = self.matrix(&["head.weight"], [self.kept.unwrap_or(vocabulary), width], Kind::Head)?;
        let vectors = Arc::new(Memory::of(self.gpu, &self.vectors(has_first_norm)?)?);
        let per_layer = per_layer(self.config);
        Ok(ModelWeights { embedding, head, layers: all, has_first_norm, vectors, per_layer, width })
    }

    /// All vectors in their places.
    fn vectors(&self, has_first_norm: bool) -> Result<Vec<f32>> {
        let Config { width, layers, .. } = *self.config;
        let mut all = Vec::with_capacity((layers * per_layer(self.config) + 4) * width);
        for name in vector_names(self.config, has_first_norm) {
            let values = match self.source {
                Source::File(weights) => weights.read(&name)?,
                Source::Seed(seed) => random_vector(&name, width, seed),
            };
            if values.len() != width {
                let message = format!("{name} has {} values instead of {width}", values.len());
                return Err(self.error(message));
            }
            all.extend(values);
        }
        Ok(all)
    }

    fn error(&self, message: String) -> rag_core::Error {
        match self.source {
            Source::File(weights) => weights.error(message),
            Source::Seed(_) => rag_core::Error::invalid(message),
        }
    }

    /// Tensors of the same size below each other.
    fn matrix(&mut self, names: &[&str], [out, cols]: [usize; 2], kind: Kind) -> Result<Matrix> {
        if !cols.is_multiple_of(32) {
            return Err(self
                .error(format!("{} has {cols} columns, on a GPU they must be a multiple of 32", names[0])));
        }
        let rows = out * names.len();
        let wanted = self.choice.storage(kind);
        let weights = match self.source {
            Source::Seed(_) => return self.random(rows, cols, wanted),
            Source::File(weights) => weights,
        };
        let mut parts = Vec::new();
        for name in names {
            parts.push(match weights.packed(name, None, [out, cols])? {
                Some(matrix) if kind == Kind::Embedding => Part::Dense(rows_of(&matrix)),
                Some(matrix) => Part::Packed(matrix),
                None => {
                    let values = self.values(weights, name, &[out, cols])?;
                    match wanted {
                        Storage::Dense(_) => Part::Dense(values),
                        Storage::Quantised(format) => {
                            let nf4 = format == Format::Nf4;
                            let inputs = if nf4 { inputs_of(weights, name, cols)? } else { None };
                            Part::Packed(CpuMatrix::pack_for(&values, [out, cols], format, inputs.as_ref()))
                        }
                    }
                }
            });
        }
        self.upload(&parts, rows, cols)
    }

    fn upload(&self, parts: &[Part], rows: usize, cols: usize) -> Result<Matrix> {
        let dense: Option<Vec<&Vec<f32>>> = parts
            .iter()
            .map(|part| if let Part::Dense(values) = part { Some(values) } else { None })
            .collect();
        if let Some(parts) = dense {
            return self.dense(&parts, rows, cols);
        }
        let quantised: Option<Vec<ByRows>> = parts
            .iter()
            .map(|part| if let Part::Packed(matrix) = part { matrix.by_rows() } else { None })
            .collect();
        let (Some(first), Some(parts)) = (quantised.as_ref().and_then(|all| all.first()), &quantised) else {
            return Err(self.error("matrices that belong together are of different formats".to_string()));
        };
        let (format, block) = (first.format, first.block);
        if parts.iter().any(|part| (part.format, part.block) != (format, block))
            || !cols.is_multiple_of(block)
        {
            return Err(self.error("matrices that belong together are of different formats".to_string()));
        }
        let all = |field: fn(&ByRows) -> &[u16]| parts.iter().flat_map(field).copied().collect::<Vec<u16>>();
        let levels: Vec<u8> = parts.iter().flat_map(|part| &part.levels).copied().collect();
        let (scales, minima) = (all(|part| &part.scales), all(|part| &part.minima));
        Ok(Matrix {
            storage: Storage::Quantised(format),
            rows,
            cols,
            block,
            values: Memory::of(self.gpu, &levels)?.into(),
            scales: Some(Memory::of(self.gpu, &scales)?.into()),
            minima: if minima.is_empty() { None } else { Some(Memory::of(self.gpu, &minima)?.into()) },
            deltas: Vec::new(),
        })
    }

    fn dense(&self, parts: &[&Vec<f32>], rows: usize, cols: usize) -> Result<Matrix> {
        let element = self.choice.dense;
        let values = Memory::new(self.gpu, rows * cols * element.bytes())?;
        let mut offset = 0;
        for part in parts {
            match element {
                Element::F32 => values.write(offset, part)?,
                Element::Bf16 | Element::F16 | Element::Int8 => {
                    let halves: Vec<u16> = part.iter().map(|&value| bf16_bits(value)).collect();
                    values.write(offset, &halves)?;
                }
            }
            offset += part.len() * element.bytes();
        }
        Ok(Matrix {
            storage: Storage::Dense(element),
            rows,
            cols,
            block: 0,
            values: values.into(),
            scales: None,
            minima: None,
            deltas: Vec::new(),
        })
    }

    fn values(&self, weights: &dyn Weights, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let found = weights.shape(name).unwrap_or_default();
        if found != shape {
            return Err(
                self.error(format!("{name} has the shape {found:?}, not the {shape:?} that others imply"))
            );
        }
        weights.read(name)
    }

    /// A matrix of `size` [out, in], as such or the other way round; `time_maa_w2` is five of them.
    fn low_rank(&mut self, name: &str, [out, cols]: [usize; 2], turned: bool) -> Result<Matrix> {
        let weights = match self.source {
            // As many values either way round.
            Source::Seed(_) => return self.random(out, cols, Storage::Dense(self.choice.dense)),
            Source::File(weights) => weights,
        };
        let parts = if name.ends_with("maa_w2") { 5 } else { 1 };
        let size = [out / parts, cols];
        let mut values = Vec::with_capacity(out * cols);
        for part in 0..parts {
            let index = (parts > 1).then_some(part);
            match weights.packed(name, index, size)? {
                // Packed matrices are [out, in]; what is wanted turned is [in, out] as in checkpoints.
                Some(matrix) if turned => values.extend(transpose(&rows_of(&matrix), size[0], size[1])),
                Some(matrix) => values.extend(rows_of(&matrix)),
                None => {
                    let shape: &[usize] = if parts > 1 { &[5, cols, size[0]] } else { &[cols, size[0]] };
                    let all = self.values(weights, name, shape)?;
                    if turned {
                        values = all;
                        break;
                    }
                    values.extend(transpose(&all, cols, size[0]));
                }
            }
        }
        self.dense(&[&values], out, cols)
    }
}

enum Part {
    Dense(Vec<f32>),
    Packed(CpuMatrix),
}

fn rows_of(matrix: &CpuMatrix) -> Vec<f32> {
    let mut values = vec![0.0; matrix.rows() * matrix.cols()];
    for (row, out) in values.chunks_mut(matrix.cols().max(1)).enumerate() {
        matrix.row(row, out);
    }
    values
}

/// To the nearest, ties to even; what is no number stays none.
fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}
