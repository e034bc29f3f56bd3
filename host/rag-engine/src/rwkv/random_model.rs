//! Models of any size with random weights from a seed: for benchmarks without a download, and for tests.

use std::collections::BTreeMap;

use rag_core::{Error, Result};

use super::config::{Config, Version};
use super::weights::{Kind, Parameters, Slot, Weights};
use crate::random::Random;

/// Published sizes by name, those of RWKV-7 with `v7-` before it: layers and width.
const SIZES: [(&str, usize, usize); 10] = [
    ("0b1", 12, 768),
    ("0b4", 24, 1024),
    ("1b6", 24, 2048),
    ("3b", 32, 2560),
    ("7b", 32, 4096),
    ("14b", 61, 4096),
    ("v7-0b1", 12, 768),
    ("v7-0b4", 24, 1024),
    ("v7-1b5", 24, 2048),
    ("v7-2b9", 32, 2560),
];
const VOCABULARY: usize = 65_536;
const HEAD_SIZE: usize = 64;

/// Names that `Config::published` knows.
pub fn size_names() -> impl Iterator<Item = &'static str> {
    SIZES.iter().map(|(name, ..)| *name)
}

impl Config {
    /// Sizes of a published RWKV-6 or RWKV-7 by name, e.g. "1b6" or "v7-1b5".
    pub fn published(name: &str) -> Option<Self> {
        let &(_, layers, width) = SIZES.iter().find(|(known, ..)| *known == name)?;
        let (version, hidden) = if name.starts_with("v7-") {
            let [decay_rank, rate_rank, value_rank, gate_rank] = match width {
                ..2048 => [64, 64, 32, 128],
                2048 => [96, 96, 64, 256],
                _ => [96, 96, 64, 320],
            };
            (Version::V7 { decay_rank, rate_rank, gate_rank, value_rank }, 4 * width)
        } else {
            let (mix_rank, decay_rank) = if width >= 4096 { (64, 128) } else { (32, 64) };
            (Version::V6 { mix_rank, decay_rank }, width * 7 / 2 / 32 * 32)
        };
        Some(Self {
            vocabulary: VOCABULARY,
            width,
            layers,
            heads: width / HEAD_SIZE,
            head_size: HEAD_SIZE,
            hidden,
            version,
        })
    }
}

/// A model that exists only as its sizes and a seed. No weight is zero; activations keep their size over layers.
#[derive(Debug, Clone)]
pub struct RandomModel {
    tensors: BTreeMap<String, Vec<usize>>,
    seed: u64,
}

impl RandomModel {
    pub fn new(config: &Config, seed: u64) -> Self {
        let mut tensors = BTreeMap::new();
        let mut add = |name: &str, slot: Slot<'_>| {
            let shape = match slot {
                Slot::Vector(_) if name.ends_with("time_faaaa") || name.ends_with("r_k") => {
                    vec![config.heads, config.head_size]
                }
                Slot::Vector(_) => vec![config.width],
                Slot::Matrix { part: Some(_), size: [out, input], .. } => vec![5, input, out],
                Slot::Matrix { kind: Kind::LowRank, size: [out, input], .. } => vec![input, out],
                Slot::Matrix { size, .. } => size.to_vec(),
            };
            tensors.insert(name.to_string(), shape);
            Ok(())
        };
        // Naming tensors does not fail.
        let _ = Parameters::empty(config, None, true).tensors(config, &mut add);
        Self { tensors, seed }
    }
}

impl Weights for RandomModel {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).cloned()
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        let shape = self.tensors.get(name).ok_or_else(|| self.error(format!("no tensor {name}")))?;
        let place = self.tensors.keys().take_while(|key| key.as_str() < name).count() as u64;
        let mut random = Random::seeded(self.seed << 32 | place);
        let vector = shape.len() == 1 || name.ends_with("time_faaaa") || name.ends_with("r_k");
        let reach = if vector { 1.0 } else { 2.0 / (shape[shape.len() - 1] as f32).sqrt() };
        // Decays of ω around −2, weights of norms around 1.
        let middle = match name {
            _ if name.ends_with("time_decay") || name.ends_with(".w0") => -2.0,
            _ if name.contains("ln") && name.ends_with("weight") => 1.0,
            _ => 0.0,
        };
        let len: usize = shape.iter().product();
        let mut values = Vec::with_capacity(len + 1);
        while values.len() < len {
            let bits = random.bits();
            for half in [bits as u32, (bits >> 32) as u32] {
                // 24 bits are a f32's.
                let unit = (half >> 8) as f32 / (1 << 23) as f32 - 1.0;
                values.push(middle + reach * unit);
            }
        }
        values.truncate(len);
        Ok(values)
    }

    fn error(&self, message: String) -> Error {
        Error::Model { path: "random weights".to_string(), message }
    }
}
