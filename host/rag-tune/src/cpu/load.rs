//! Reads an RWKV-6 of any file that the engine reads into a model that can be trained.

use rag_core::{Error, Result};
use rag_engine::rwkv::{Config, Version, Weights};

use super::channel_mix::ChannelMix;
use super::frozen::{Frozen, Precision};
use super::linear::Linear;
use super::model::{Block, Model};
use super::norm::Norm;
use super::tensors::{Id, Tensors};
use super::time_mix::TimeMix;

const NORM_EPSILON: f32 = 1e-5;
/// Of the normalisation within heads: 1e-5 · 8².
const GROUP_EPSILON: f32 = 64e-5;

/// Reads a model, holding its large matrices in `precision`.
///
/// # Errors
/// `Error::Unsupported` for another architecture, `Error::Model` for a file whose tensors do not fit each other.
pub(crate) fn model(weights: &dyn Weights, precision: Precision) -> Result<Model> {
    let config = Config::read(weights)?;
    let Version::V6 { mix_rank, decay_rank } = config.version else {
        return Err(Error::Unsupported {
            message: format!("only RWKV-6 can be tuned; this is {}", config.architecture()),
        });
    };
    let mut reader = Reader { weights, config, precision, tensors: Tensors::default(), linears: 0 };
    let kept = weights.kept_ids()?;
    let width = config.width;
    let rows = kept.as_ref().map_or(config.vocabulary, Vec::len);
    let embedded = rows + usize::from(kept.is_some());
    let tables = precision.of_tables();
    let embedding = matrix(weights, "emb.weight", [embedded, width])?;
    let embedding = Frozen::pack(&embedding, embedded, width, tables);
    let first_norm = match weights.shape("blocks.0.ln0.weight") {
        Some(_) => Some(reader.norm("blocks.0.ln0", width, NORM_EPSILON)?),
        None => None,
    };
    let blocks = (0..config.layers).map(|layer| reader.block(layer, [mix_rank, decay_rank]));
    let blocks = blocks.collect::<Result<Vec<_>>>()?;
    let last_norm = reader.norm("ln_out", width, NORM_EPSILON)?;
    let head = Frozen::pack(&matrix(weights, "head.weight", [rows, width])?, rows, width, tables);
    let tensors = reader.tensors;
    Ok(Model { config, embedding, kept, first_norm, blocks, last_norm, head, tensors })
}

struct Reader<'a> {
    weights: &'a dyn Weights,
    config: Config,
    precision: Precision,
    tensors: Tensors,
    linears: u64,
}

impl Reader<'_> {
    fn block(&mut self, layer: usize, [mix_rank, decay_rank]: [usize; 2]) -> Result<Block> {
        let Config { width, hidden, heads, head_size, .. } = self.config;
        let at = |part: &str| format!("blocks.{layer}.{part}");
        let vector = |reader: &mut Self, part: &str| reader.tensor(at(part), vec![1, 1, width], None);
        let time_norm = self.norm(&at("ln1"), width, NORM_EPSILON)?;
        let mut maa = [0; 5];
        for (id, part) in maa.iter_mut().zip(["w", "k", "v", "r", "g"]) {
            *id = vector(self, &format!("att.time_maa_{part}"))?;
        }
        let square = [width, width];
        let time_mix = TimeMix {
            heads,
            maa_x: vector(self, "att.time_maa_x")?,
            maa,
            mix_down: self.tensor(at("att.time_maa_w1"), vec![width, 5 * mix_rank], Some(1))?,
            mix_up: self.tensor(at("att.time_maa_w2"), vec![5, mix_rank, width], Some(5))?,
            decay: vector(self, "att.time_decay")?,
            decay_down: self.tensor(at("att.time_decay_w1"), vec![width, decay_rank], Some(1))?,
            decay_up: self.tensor(at("att.time_decay_w2"), vec![decay_rank, width], Some(1))?,
            bonus: self.tensor(at("att.time_faaaa"), vec![heads, head_size], None)?,
            key: self.linear(&at("att.key"), square)?,
            value: self.linear(&at("att.value"), square)?,
            receptance: self.linear(&at("att.receptance"), square)?,
            gate: self.linear(&at("att.gate"), square)?,
            output: self.linear(&at("att.output"), square)?,
            group_norm: self.norm(&at("att.ln_x"), head_size, GROUP_EPSILON)?,
            state: self.state(&at("att.time_state"))?,
        };
        let channel_norm = self.norm(&at("ln2"), width, NORM_EPSILON)?;
        let channel_mix = ChannelMix {
            maa_k: vector(self, "ffn.time_maa_k")?,
            maa_r: vector(self, "ffn.time_maa_r")?,
            key: self.linear(&at("ffn.key"), [hidden, width])?,
            receptance: self.linear(&at("ffn.receptance"), square)?,
            value: self.linear(&at("ffn.value"), [width, hidden])?,
        };
        Ok(Block { time_norm, time_mix, channel_norm, channel_mix })
    }

    /// A tensor in its public orientation; low-rank ones have `parts`.
    fn tensor(&mut self, name: String, shape: Vec<usize>, parts: Option<usize>) -> Result<Id> {
        let values = match parts {
            Some(parts) => low_rank(self.weights, &name, &shape, parts)?,
            None => self.weights.read(&name)?,
        };
        check(self.weights, &name, values.len(), &shape)?;
        Ok(self.tensors.add(name, shape, values))
    }

    fn linear(&mut self, name: &str, [out, input]: [usize; 2]) -> Result<Linear> {
        let values = matrix(self.weights, &format!("{name}.weight"), [out, input])?;
        self.linears += 1;
        Ok(Linear::new(Frozen::pack(&values, out, input, self.precision), self.linears))
    }

    fn norm(&mut self, name: &str, size: usize, epsilon: f32) -> Result<Norm> {
        let width = self.config.width;
        let weight = self.tensor(format!("{name}.weight"), vec![1, width], None)?;
        let bias = self.tensor(format!("{name}.bias"), vec![1, width], None)?;
        for id in [weight, bias] {
            self.tensors.get_mut(id).shape = vec![width];
        }
        Ok(Norm { weight, bias, size, epsilon })
    }

    /// A state that was merged into the file, else zeros; turned to [H][key][value].
    fn state(&mut self, name: &str) -> Result<Id> {
        let Config { heads, head_size: n, .. } = self.config;
        let shape = vec![heads, n, n];
        let values = match self.weights.shape(name) {
            Some(_) => turn_state(&self.weights.read(name)?, n),
            None => vec![0.0; heads * n * n],
        };
        check(self.weights, name, values.len(), &shape)?;
        Ok(self.tensors.add(name.to_owned(), shape, values))
    }
}

/// A low-rank tensor in its public orientation, [.., in, out]; packed files have it turned, in parts.
pub(crate) fn low_rank(weights: &dyn Weights, name: &str, shape: &[usize], parts: usize) -> Result<Vec<f32>> {
    let (rows, cols) = (shape[shape.len() - 2], shape[shape.len() - 1]);
    let mut values = Vec::new();
    for part in 0..parts {
        let Some(matrix) = weights.packed(name, (parts > 1).then_some(part), [cols, rows])? else {
            return weights.read(name);
        };
        let turned = rows_of(&matrix);
        values.extend((0..rows * cols).map(|i| turned[i % cols * rows + i / cols]));
    }
    Ok(values)
}

/// A large matrix of a file as f32, [out, in].
pub(crate) fn matrix(weights: &dyn Weights, name: &str, size: [usize; 2]) -> Result<Vec<f32>> {
    let values = match weights.packed(name, None, size)? {
        Some(matrix) => rows_of(&matrix),
        None => weights.read(name)?,
    };
    check(weights, name, values.len(), &size)?;
    Ok(values)
}

fn check(weights: &dyn Weights, name: &str, values: usize, shape: &[usize]) -> Result<()> {
    if values == shape.iter().product::<usize>() {
        return Ok(());
    }
    Err(weights.error(format!("{name} has {values} values, not those of {shape:?}")))
}

fn rows_of(matrix: &rag_engine::cpu::matrix::Matrix) -> Vec<f32> {
    let mut values = vec![0.0; matrix.rows() * matrix.cols()];
    for (row, out) in values.chunks_exact_mut(matrix.cols().max(1)).enumerate() {
        matrix.row(row, out);
    }
    values
}

/// [H][value][key], as files have it, to [H][key][value], or back.
pub(crate) fn turn_state(values: &[f32], size: usize) -> Vec<f32> {
    let turn =
        |head: &[f32]| (0..size * size).map(|i| head[i % size * size + i / size]).collect::<Vec<f32>>();
    values.chunks_exact(size * size).flat_map(turn).collect()
}
