//! What one copy of the weights is used for: a profile is an initial state, an adapter, and how a result is read out.
//!
//! Sequences of different profiles run in one batch. A *pooled* profile turns a text into a vector, a *score* profile
//! into a number; both come from the last normalised rows, before the language head.

use std::path::PathBuf;
use std::sync::Arc;

use rag_core::{Error, Result};
use sha2::{Digest, Sha256};

use crate::cpu::maths;
use crate::runner::Runner;
use crate::rwkv::{AdapterId, AdapterScale, State, Weights};
use crate::{checkpoint, memory};

/// Name of the profile that plain generation uses.
pub const DEFAULT_PROFILE: &str = "";

/// A profile as it is configured.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileConfig {
    /// `DEFAULT_PROFILE` changes what plain generation uses.
    pub name: String,
    /// A tuned state.
    pub state: Option<PathBuf>,
    pub adapter: Option<AdapterConfig>,
    pub read_out: ReadOutConfig,
}

/// A file of LoRA, PiSSA or bone training.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    pub path: PathBuf,
    /// PiSSA's `init_pissa.pth`.
    pub pissa_start: Option<PathBuf>,
    pub scale: AdapterScale,
}

/// How a result is read out, as it is configured.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadOutConfig {
    /// Through the language head: the profile writes text.
    Language,
    Pooled {
        pooling: Pooling,
        /// Ids put after each text.
        end: Vec<u32>,
        /// safetensors or `.pth` with `dense.weight` [out, D] and, if wanted, `dense.bias` [out].
        dense: Option<PathBuf>,
        /// Whether vectors are scaled to length 1.
        unit: bool,
    },
    Score {
        /// Ids put after each text: the score is read after the last of them.
        end: Vec<u32>,
        /// safetensors or `.pth` with `score.weight` [1, D] and, if wanted, `score.bias` [1].
        head: PathBuf,
    },
}

/// How rows become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    Last,
    Mean,
    /// Later rows weigh more: row t of n weighs t/n.
    Rising,
}

/// A profile ready to use.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) name: String,
    /// Where sequences start.
    pub(crate) state: State,
    pub(crate) adapter: Option<AdapterId>,
    /// Of the initial state and the adapter's files.
    pub(crate) hash: [u8; 32],
    pub(crate) read_out: Option<ReadOut>,
}

/// What comes after the last normalised rows; none for the language head.
#[derive(Debug)]
pub(crate) struct ReadOut {
    pub(crate) pooling: Pooling,
    pub(crate) end: Vec<u32>,
    /// Rows [out][D] and their biases.
    dense: Option<(Vec<Vec<f32>>, Vec<f32>)>,
    unit: bool,
}

impl Profile {
    /// The model as it is.
    pub(crate) fn plain(engine: &Runner) -> Arc<Self> {
        let state = engine.initial_state();
        let hash = Sha256::digest(state.to_bytes()).into();
        let name = DEFAULT_PROFILE.to_string();
        Arc::new(Self { name, state, adapter: None, hash, read_out: None })
    }

    /// Reads a profile's files; adapters are added to the engine.
    pub(crate) fn load(config: &ProfileConfig, engine: &mut Runner) -> Result<Arc<Self>> {
        let width = engine.config().width;
        let state = match &config.state {
            Some(path) => State::tuned(&*checkpoint::open(path)?, engine.config())?,
            None => engine.initial_state(),
        };
        let mut hash = Sha256::new_with_prefix(state.to_bytes());
        let mut adapter = None;
        if let Some(AdapterConfig { path, pissa_start, scale }) = &config.adapter {
            for path in std::iter::once(path).chain(pissa_start) {
                let bytes =
                    fs_err::metadata(path).map_err(|e| Error::Storage { message: e.to_string() })?.len();
                // Half-precision tensors double, and a copy is made of each while it is packed.
                memory::require(path, bytes as usize * 3)?;
                hash.update(file_hash(path)?);
            }
            hash.update(format!("{scale:?}"));
            let start = pissa_start.as_deref().map(checkpoint::open).transpose()?;
            let weights = checkpoint::open(path)?;
            adapter = Some(engine.add_adapter(&*weights, start.as_deref(), *scale)?);
        }
        let read_out = match &config.read_out {
            ReadOutConfig::Language => None,
            ReadOutConfig::Pooled { pooling, end, dense, unit } => {
                let dense = dense.as_ref().map(|path| head(&*checkpoint::open(path)?, "dense", width));
                let dense = dense.transpose()?;
                Some(ReadOut { pooling: *pooling, end: end.clone(), dense, unit: *unit })
            }
            ReadOutConfig::Score { end, head: path } => {
                let dense = Some(head(&*checkpoint::open(path)?, "score", width)?);
                Some(ReadOut { pooling: Pooling::Last, end: end.clone(), dense, unit: false })
            }
        };
        let vocabulary = engine.config().vocabulary;
        if read_out.iter().flat_map(|read_out| &read_out.end).any(|&id| id as usize >= vocabulary) {
            return Err(Error::invalid(format!(
                "profile {}: an end id is outside the vocabulary",
                config.name
            )));
        }
        let hash = hash.finalize().into();
        Ok(Arc::new(Self { name: config.name.clone(), state, adapter, hash, read_out }))
    }
}

/// Rows and biases of a head's layer.
fn head(weights: &dyn Weights, name: &str, width: usize) -> Result<(Vec<Vec<f32>>, Vec<f32>)> {
    let values = weights.read(&format!("{name}.weight"))?;
    let rows: Vec<Vec<f32>> = values.chunks(width).map(<[f32]>::to_vec).collect();
    let bias = format!("{name}.bias");
    let bias = if weights.shape(&bias).is_some() { weights.read(&bias)? } else { vec![0.0; rows.len()] };
    if rows.is_empty() || rows.iter().any(|row| row.len() != width) || bias.len() != rows.len() {
        return Err(weights.error(format!("{name} does not fit a model of width {width}")));
    }
    Ok((rows, bias))
}

/// SHA-256 of a file.
pub(crate) fn file_hash(path: &std::path::Path) -> Result<[u8; 32]> {
    let fail = |e: std::io::Error| Error::Storage { message: e.to_string() };
    let mut hash = Sha256::new();
    std::io::copy(&mut fs_err::File::open(path).map_err(fail)?, &mut hash).map_err(fail)?;
    Ok(hash.finalize().into())
}

/// The rows of one text so far.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    sum: Vec<f32>,
    count: usize,
}

impl Pool {
    /// Adds one row, [D].
    pub(crate) fn add(&mut self, pooling: Pooling, row: &[f32]) {
        self.count += 1;
        self.sum.resize(row.len(), 0.0);
        match pooling {
            Pooling::Last => self.sum.copy_from_slice(row),
            Pooling::Mean => self.sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value),
            Pooling::Rising => {
                let weight = self.count as f32;
                self.sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
            }
        }
    }

    /// The text's vector.
    pub(crate) fn finish(mut self, read_out: &ReadOut) -> Vec<f32> {
        let count = self.count.max(1) as f32;
        let divisor = match read_out.pooling {
            Pooling::Last => 1.0,
            Pooling::Mean => count,
            // Σ t/n · row / Σ t/n.
            Pooling::Rising => count * (count + 1.0) / 2.0,
        };
        self.sum.iter_mut().for_each(|value| *value /= divisor);
        let mut out = match &read_out.dense {
            None => self.sum,
            Some((rows, bias)) => {
                let row = |(row, bias): (&Vec<f32>, &f32)| {
                    let products: Vec<f32> = row.iter().zip(&self.sum).map(|(a, b)| a * b).collect();
                    maths::sum(&products, |x| x) + bias
                };
                rows.iter().zip(bias).map(row).collect()
            }
        };
        if read_out.unit {
            let length = maths::sum(&out, |x| x * x).sqrt().max(f32::MIN_POSITIVE);
            out.iter_mut().for_each(|value| *value /= length);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_pooled_by_definition() {
        let rows = [[1.0, 2.0], [3.0, 0.0], [5.0, 10.0]];
        for (pooling, want) in [
            (Pooling::Last, [5.0, 10.0]),
            (Pooling::Mean, [3.0, 4.0]),
            (Pooling::Rising, [(1.0 + 6.0 + 15.0) / 6.0, (2.0 + 30.0) / 6.0]),
        ] {
            let mut pool = Pool::default();
            rows.iter().for_each(|row| pool.add(pooling, row));
            let read_out = ReadOut { pooling, end: vec![], dense: None, unit: false };
            let got = pool.finish(&read_out);
            assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-6), "{got:?}");
        }
        let mut pool = Pool::default();
        pool.add(Pooling::Last, &[3.0, 4.0]);
        let dense = Some((vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![1.0, -1.0]], vec![0.0, 0.0, 1.0]));
        let read_out = ReadOut { pooling: Pooling::Last, end: vec![], dense, unit: true };
        assert_eq!(pool.finish(&read_out), [0.6, 0.8, 0.0]);
    }
}
