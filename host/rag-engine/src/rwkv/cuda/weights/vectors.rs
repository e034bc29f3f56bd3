//! Vectors of a model on a GPU: which there are, and in which order they stand.

use crate::rwkv::config::{Config, Version};

/// D values each in a layer's vectors, by their place; norms and `MaaK` are RWKV-7's too.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Vector {
    TimeNorm,
    MaaX = 2,
    /// Five, in the order w, k, v, r, g.
    Maa,
    Decay = 8,
    Bonus,
    GroupNorm,
    ChannelNorm = 12,
    MaaK = 14,
    MaaR,
}

/// Those of RWKV-7 beside.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Vector7 {
    /// Six, in the order r, k, v, w, a, g.
    Shares = 2,
    Decay = 8,
    Rate,
    /// Of the first layer's v; the first layer has none.
    Value = 15,
    KeyRemoved,
    KeyRate,
    Bonus,
}

/// Vectors of a layer; those of the model's ends follow the last layer's: norm of the embedding, last norm.
pub(super) fn per_layer(config: &Config) -> usize {
    parts(config).len()
}

fn parts(config: &Config) -> &'static [&'static str] {
    match config.version {
        Version::V6 { .. } => &PARTS,
        Version::V7 { .. } => &PARTS7,
    }
}

const PARTS: [&str; 16] = [
    "ln1.weight",
    "ln1.bias",
    "att.time_maa_x",
    "att.time_maa_w",
    "att.time_maa_k",
    "att.time_maa_v",
    "att.time_maa_r",
    "att.time_maa_g",
    "att.time_decay",
    "att.time_faaaa",
    "att.ln_x.weight",
    "att.ln_x.bias",
    "ln2.weight",
    "ln2.bias",
    "ffn.time_maa_k",
    "ffn.time_maa_r",
];

const PARTS7: [&str; 19] = [
    "ln1.weight",
    "ln1.bias",
    "att.x_r",
    "att.x_k",
    "att.x_v",
    "att.x_w",
    "att.x_a",
    "att.x_g",
    "att.w0",
    "att.a0",
    "att.ln_x.weight",
    "att.ln_x.bias",
    "ln2.weight",
    "ln2.bias",
    "ffn.x_k",
    "att.v0",
    "att.k_k",
    "att.k_a",
    "att.r_k",
];

/// The vectors' tensors, in the order of their places.
pub(super) fn vector_names(config: &Config, has_first_norm: bool) -> Vec<String> {
    // Without it, something stands in its place and is not used.
    let first = if has_first_norm { "blocks.0.ln0" } else { "ln_out" };
    let ends =
        [first, "ln_out"].into_iter().flat_map(|part| ["weight", "bias"].map(|end| format!("{part}.{end}")));
    let of_layer = |layer: usize| {
        parts(config).iter().map(move |&part| match part {
            // Not used there either.
            "att.v0" if layer == 0 => "blocks.0.att.a0".to_string(),
            part => format!("blocks.{layer}.{part}"),
        })
    };
    (0..config.layers).flat_map(of_layer).chain(ends).collect()
}
