//! Whether a GPU can run a model, and what its kernels and buffers are.

use std::sync::Arc;

use rag_core::{Error, Result};

use super::super::Options;
use super::super::blas::{Blas, Element};
use super::super::buffers::{Buffers, Limits};
use super::super::driver::Gpu;
use super::super::forward::Forward;
use super::super::kernels::{Common, Path};
use super::super::weights::{ModelWeights, Storage};
use crate::rwkv::config::{Config, Version};

/// What the kernels are made for.
const WIDTH_MAX: usize = 8192;
const RANK_MAX: usize = 128;

pub(super) fn check_config(config: &Config) -> Result<()> {
    if ![8, 64].contains(&config.head_size) {
        return Err(Error::invalid(format!(
            "a GPU runs heads of 64, this model's have {}",
            config.head_size
        )));
    }
    // RWKV-7's recurrence takes any rank.
    let decay_rank = if let Version::V6 { decay_rank, .. } = config.version { decay_rank } else { 0 };
    let widths = [config.width, config.hidden];
    if widths.iter().any(|width| !width.is_multiple_of(32))
        || config.width > WIDTH_MAX
        || decay_rank > RANK_MAX
    {
        return Err(Error::invalid(format!(
            "a GPU runs models whose widths are multiples of 32, up to {WIDTH_MAX}, with decays of rank {RANK_MAX} at most"
        )));
    }
    Ok(())
}

pub(super) fn build_forward(
    gpu: &Arc<Gpu>,
    config: &Config,
    weights: ModelWeights,
    limits: &Limits,
    dense: Element,
    options: &Options,
) -> Result<Forward> {
    let storages = weights.storages();
    let quantised = storages.iter().any(|storage| matches!(storage, Storage::Quantised(_)));
    // Quantised weights meet inputs that are quantised from f32.
    let quantised_few = quantised && config.head_size == 64;
    let few = if quantised_few { Element::Int8 } else { dense };
    let mut tuning = options.tuning;
    if quantised && !quantised_few {
        tuning.few_max = 0;
    }
    let buffers = Buffers::new(gpu, config, limits, dense.bytes(), weights.dense_max())?;
    Ok(Forward {
        gpu: gpu.clone(),
        blas: Blas::new(gpu)?,
        config: *config,
        common: Common::load(gpu, dense)?,
        few: Path::load(gpu, [few, Element::F32, dense], config.head_size, &storages)?,
        many: Path::load(gpu, [dense, dense, dense], config.head_size, &storages)?,
        buffers,
        models: vec![weights],
        variant: 0,
        tuning,
    })
}
