//! A tiny model with random weights from a seed, none of them zero, heads of 64.

use std::collections::BTreeMap;

use rag_core::{Error, Result};
use rag_engine::random::Random;
use rag_engine::rwkv6::Weights;

pub(crate) struct Synthetic {
    tensors: BTreeMap<String, Vec<usize>>,
    seed: u64,
}

pub(crate) const VOCABULARY: usize = 300;

impl Synthetic {
    /// Two layers of 128, ranks 32 and 64.
    pub(crate) fn new(seed: u64) -> Self {
        let (width, hidden) = (128, 448);
        let mut tensors = BTreeMap::new();
        let mut add = |name: String, shape: &[usize]| {
            tensors.insert(name, shape.to_vec());
        };
        add("emb.weight".into(), &[VOCABULARY, width]);
        add("head.weight".into(), &[VOCABULARY, width]);
        for part in ["weight", "bias"] {
            add(format!("ln_out.{part}"), &[width]);
            add(format!("blocks.0.ln0.{part}"), &[width]);
        }
        for layer in 0..2 {
            let at = |part: &str| format!("blocks.{layer}.{part}");
            for part in ["ln1", "ln2", "att.ln_x"] {
                add(at(&format!("{part}.weight")), &[width]);
                add(at(&format!("{part}.bias")), &[width]);
            }
            for part in ["maa_x", "maa_w", "maa_k", "maa_v", "maa_r", "maa_g", "decay"] {
                add(at(&format!("att.time_{part}")), &[width]);
            }
            add(at("att.time_maa_w1"), &[width, 160]);
            add(at("att.time_maa_w2"), &[5, 32, width]);
            add(at("att.time_decay_w1"), &[width, 64]);
            add(at("att.time_decay_w2"), &[64, width]);
            add(at("att.time_faaaa"), &[width / 64, 64]);
            for part in ["receptance", "key", "value", "gate", "output"] {
                add(at(&format!("att.{part}.weight")), &[width, width]);
            }
            add(at("ffn.time_maa_k"), &[width]);
            add(at("ffn.time_maa_r"), &[width]);
            add(at("ffn.key.weight"), &[hidden, width]);
            add(at("ffn.receptance.weight"), &[width, width]);
            add(at("ffn.value.weight"), &[width, hidden]);
        }
        Self { tensors, seed }
    }
}

impl Weights for Synthetic {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).cloned()
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        let shape = self.tensors.get(name).ok_or_else(|| self.error(format!("no tensor {name}")))?;
        let place = self.tensors.keys().position(|key| key == name).unwrap() as u64;
        let mut random = Random::seeded(self.seed << 32 | place);
        let reach = if shape.len() == 1 { 1.0 } else { 2.0 / (shape[shape.len() - 1] as f64).sqrt() };
        // Decays of ω around −2, weights of norms around 1.
        let middle = match name {
            _ if name.ends_with("time_decay") => -2.0,
            _ if name.contains("ln") && name.ends_with("weight") => 1.0,
            _ => 0.0,
        };
        let len: usize = shape.iter().product();
        Ok((0..len).map(|_| (middle + reach * (random.unit() * 2.0 - 1.0)) as f32).collect())
    }

    fn error(&self, message: String) -> Error {
        Error::Model { path: "synthetic".to_string(), message }
    }
}
