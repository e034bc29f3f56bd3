//! Vectors of a model on a GPU: which there are, and in which order they stand.

/// D values each in a layer's vectors, by their place.
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

/// Vectors of a layer; those of the model's ends follow the last layer's: norm of the embedding, last norm.
pub(super) const VECTORS: usize = 16;

/// The vectors' tensors, in the order of their places.
pub(super) fn vector_names(layers: usize, has_first_norm: bool) -> Vec<String> {
    const PARTS: [&str; VECTORS] = [
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
    // Without it, something stands in its place and is not used.
    let first = if has_first_norm { "blocks.0.ln0" } else { "ln_out" };
    let ends =
        [first, "ln_out"].into_iter().flat_map(|part| ["weight", "bias"].map(|end| format!("{part}.{end}")));
    let of_layer = |layer: usize| PARTS.iter().map(move |part| format!("blocks.{layer}.{part}"));
    (0..layers).flat_map(of_layer).chain(ends).collect()
}
