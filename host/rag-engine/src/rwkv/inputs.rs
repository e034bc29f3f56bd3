//! What the norm before a matrix says of the matrix's inputs: its weights are their spread, its biases their means.

use rag_core::Result;

use super::weights::Weights;
use crate::cpu::matrix::Inputs;

/// Of the largest variances, what none is below: a column that is always 0 must not take all errors.
const VARIANCE_MIN: f32 = 1e-3;

/// Inputs of a large matrix of a layer by its tensor's name; none for others.
pub(crate) fn inputs_of(weights: &dyn Weights, name: &str, cols: usize) -> Result<Option<Inputs>> {
    let Some((block, part)) = split(name) else { return Ok(None) };
    let norm = match part {
        "att.receptance" | "att.key" | "att.value" | "att.gate" => "ln1",
        "ffn.receptance" | "ffn.key" => "ln2",
        "att.output" => "att.ln_x",
        "ffn.value" => return Ok(Some(Inputs::squared_positive(cols))),
        _ => return Ok(None),
    };
    let [weight, bias] = ["weight", "bias"].map(|end| format!("{block}.{norm}.{end}"));
    if weights.shape(&weight).is_none() || weights.shape(&bias).is_none() {
        return Ok(None);
    }
    let (weight, mut mean) = (weights.read(&weight)?, weights.read(&bias)?);
    if weight.len() != cols || mean.len() != cols {
        return Ok(None);
    }
    if part == "att.output" {
        // Gated after its norm: the means are not the biases any more.
        mean.fill(0.0);
    }
    let least = VARIANCE_MIN * weight.iter().map(|weight| weight * weight).sum::<f32>() / cols as f32;
    let variance = weight.iter().map(|weight| (weight * weight).max(least).max(f32::MIN_POSITIVE)).collect();
    Ok(Some(Inputs { variance, mean }))
}

/// `blocks.3.att.key.weight` to `blocks.3` and `att.key`.
fn split(name: &str) -> Option<(&str, &str)> {
    let stem = name.strip_suffix(".weight")?;
    let at = stem.strip_prefix("blocks.")?.find('.')? + "blocks.".len();
    Some((&stem[..at], &stem[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rwkv::{Config, RandomModel};

    #[test]
    fn large_matrices_are_known_by_the_norm_before_them() {
        assert_eq!(split("blocks.3.att.key.weight"), Some(("blocks.3", "att.key")));
        assert_eq!(split("head.weight"), None);
        let config =
            Config { layers: 1, width: 64, heads: 1, hidden: 96, ..Config::published("0b1").unwrap() };
        let model = RandomModel::new(&config, 1);
        let bias = model.read("blocks.0.ln2.bias").unwrap();
        let inputs = inputs_of(&model, "blocks.0.ffn.key.weight", 64).unwrap().unwrap();
        assert_eq!(inputs.mean, bias);
        assert!(inputs.variance.iter().all(|variance| *variance > 0.0));
        let output = inputs_of(&model, "blocks.0.att.output.weight", 64).unwrap().unwrap();
        assert!(output.mean.iter().all(|mean| *mean == 0.0));
        assert_eq!(inputs_of(&model, "blocks.0.ffn.value.weight", 96).unwrap().unwrap().mean.len(), 96);
        assert!(inputs_of(&model, "head.weight", 64).unwrap().is_none());
    }
}
