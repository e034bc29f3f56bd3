//! Tiny models with random weights from a seed, none of them zero, heads of 64.

use rag_core::{Error, Result};
use rag_engine::rwkv::{Config, RandomModel, Version, Weights};

pub(crate) struct Synthetic(RandomModel);

pub(crate) const VOCABULARY: usize = 300;

impl Synthetic {
    /// RWKV-6: two layers of 128, ranks 32 and 64.
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(Version::V6 { mix_rank: 32, decay_rank: 64 }, seed)
    }

    /// RWKV-7: two layers of 128.
    #[allow(dead_code, reason = "not every suite that shares this file reads RWKV-7")]
    pub(crate) fn version7(seed: u64) -> Self {
        Self::of(Version::V7 { decay_rank: 64, rate_rank: 32, gate_rank: 96, value_rank: 32 }, seed)
    }

    fn of(version: Version, seed: u64) -> Self {
        let (width, hidden) = (128, 448);
        let config =
            Config { vocabulary: VOCABULARY, width, layers: 2, heads: 2, head_size: 64, hidden, version };
        Self(RandomModel::new(&config, seed))
    }
}

impl Weights for Synthetic {
    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.shape(name)
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        self.0.read(name)
    }

    fn error(&self, message: String) -> Error {
        self.0.error(message)
    }
}
