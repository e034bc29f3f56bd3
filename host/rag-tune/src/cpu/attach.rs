//! Says what of a model is trained, and puts adapters beside its matrices.

use rag_core::ports::{TuneMethod, TuneSettings};
use rag_core::{Error, Result};
use rag_engine::random::Random;
use rag_engine::rwkv::Weights;

use super::frozen::Frozen;
use super::linear::Adapter;
use super::load;
use super::model::Model;
use super::svd;
use super::tensors::Tensors;

/// A tensor with its name in files.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// Prepares a model for a method. Returns PiSSA's first factors, which a job keeps and hands in again as `start`;
/// nothing for the other methods.
pub(crate) fn attach(
    model: &mut Model,
    weights: &dyn Weights,
    settings: &TuneSettings,
    start: Option<&dyn Weights>,
) -> Result<Vec<Named>> {
    let state = settings.method == TuneMethod::State;
    for tensor in model.tensors.list_mut() {
        let is_state = tensor.name.ends_with("time_state");
        let mixes = tensor.name.contains("time") || tensor.name.contains("ln");
        tensor.trained = if state { is_state } else { settings.train_mixes && mixes && !is_state };
    }
    if state {
        return Ok(Vec::new());
    }
    let mut tensors = std::mem::take(&mut model.tensors);
    let mut first = Vec::new();
    let mut seeds = Random::seeded(settings.seed);
    let rank = settings.rank as usize;
    let attached = model.linears().into_iter().try_for_each(|(name, linear)| {
        let (out, input) = (linear.frozen.rows(), linear.frozen.cols());
        let seed = seeds.bits();
        if rank > out.min(input) {
            return Err(Error::invalid(format!(
                "rank {rank} is more than {name} of {out} × {input} has; choose a smaller one"
            )));
        }
        let (a_name, b_name) = (format!("{name}.lora_A"), format!("{name}.lora_B"));
        let mut add = |name: String, shape: Vec<usize>, values: Vec<f32>| {
            let id = tensors.add(name, shape, values);
            tensors.get_mut(id).trained = true;
            id
        };
        linear.adapter = match settings.method {
            TuneMethod::State => Adapter::None,
            TuneMethod::Lora => {
                let reach = 1.0 / (input as f64).sqrt();
                let mut random = Random::seeded(seed);
                let a = (0..rank * input).map(|_| ((2.0 * random.unit() - 1.0) * reach) as f32).collect();
                let (a, b) =
                    (add(a_name, vec![rank, input], a), add(b_name, vec![out, rank], vec![0.0; out * rank]));
                Adapter::LowRank { a, b, rank, scale: (settings.alpha / rank as f64) as f32 }
            }
            TuneMethod::Pissa => {
                let dense = load::matrix(weights, &format!("{name}.weight"), [out, input])?;
                let names = [format!("{name}.init_lora_A"), format!("{name}.init_lora_B")];
                let [a, b] = match start {
                    Some(start) => [start.read(&names[0])?, start.read(&names[1])?],
                    None => {
                        let [b, a] =
                            svd::split(&dense, [out, input], rank, settings.svd_iterations as usize, seed);
                        [a, b]
                    }
                };
                let mut rest = Frozen::pack(&dense, out, input, super::frozen::Precision::F32);
                rest.subtract(&b, &a);
                linear.frozen.replace(&rest.dense());
                for (name, (shape, values)) in
                    names.into_iter().zip([(vec![rank, input], &a), (vec![out, rank], &b)])
                {
                    first.push(Named { name, shape, values: values.clone() });
                }
                let (a, b) = (add(a_name, vec![rank, input], a), add(b_name, vec![out, rank], b));
                Adapter::LowRank { a, b, rank, scale: 1.0 }
            }
            TuneMethod::Bone => {
                let d = add(format!("{name}.disha"), vec![rank, out], vec![0.0; rank * out]);
                Adapter::Bone { d, rank }
            }
        };
        Ok(())
    });
    model.tensors = tensors;
    attached.map(|()| first)
}

/// What is trained, as files have it: states [head][value][key] of heads of `size`, everything else as it is.
pub(crate) fn trained(tensors: &Tensors, size: usize) -> Vec<Named> {
    let tensors = tensors.list().iter().filter(|tensor| tensor.trained);
    tensors
        .map(|tensor| Named {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            values: match tensor.name.ends_with("time_state") {
                true => load::turn_state(&tensor.values, size),
                false => tensor.values.clone(),
            },
        })
        .collect()
}
