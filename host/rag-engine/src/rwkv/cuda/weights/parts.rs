//! Which matrices a layer's time mix has, by version: their names, sizes and order.

use crate::rwkv::config::{Config, Version};

/// Places in `Layer::low` of RWKV-6: [5m, D], [5][m, D], [d, D] both.
pub(in super::super) const MIX_DOWN: usize = 0;
pub(in super::super) const MIX_UP: usize = 1;
pub(in super::super) const DECAY_DOWN: usize = 2;
pub(in super::super) const DECAY_UP: usize = 3;

/// One matrix of low rank.
#[derive(Debug, Clone, Copy)]
pub(super) struct LowRank {
    pub(super) name: &'static str,
    /// [out, in]; of `time_maa_w2` all five.
    pub(super) size: [usize; 2],
    /// Kept as [in, out].
    pub(super) turned: bool,
}

/// In the order of `Layer::low`; of RWKV-7 down and up of w, a, g and, but in the first layer, v.
pub(super) fn low_ranks(config: &Config, layer: usize) -> Vec<LowRank> {
    let width = config.width;
    let pair = |down, up, rank, out| {
        [
            LowRank { name: down, size: [rank, width], turned: false },
            LowRank { name: up, size: [out, rank], turned: true },
        ]
    };
    match config.version {
        Version::V6 { mix_rank, decay_rank } => {
            let down = LowRank { name: "time_maa_w1", size: [5 * mix_rank, width], turned: false };
            let up = LowRank { name: "time_maa_w2", size: [5 * width, mix_rank], turned: true };
            let decay = pair("time_decay_w1", "time_decay_w2", decay_rank, width);
            [down, up].into_iter().chain(decay).collect()
        }
        Version::V7 { decay_rank, rate_rank, gate_rank, value_rank } => {
            let all = [
                pair("w1", "w2", decay_rank, width),
                pair("a1", "a2", rate_rank, width),
                pair("g1", "g2", gate_rank, width),
                pair("v1", "v2", value_rank, width),
            ];
            all.into_iter().take(if layer == 0 { 3 } else { 4 }).flatten().collect()
        }
    }
}

/// Of the large matrices that stand together.
pub(super) fn projections(config: &Config) -> &'static [&'static str] {
    match config.version {
        Version::V6 { .. } => &["key", "value", "receptance", "gate"],
        Version::V7 { .. } => &["receptance", "key", "value"],
    }
}

/// Whether the channel mix has a gate.
pub(super) fn has_gate(config: &Config) -> bool {
    matches!(config.version, Version::V6 { .. })
}
