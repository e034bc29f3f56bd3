//! On which devices a language model computes: their names in the configuration, and the model loaded on each.

#[cfg(not(feature = "cuda"))]
use rag_core::Error;
use rag_core::Result;

#[cfg(feature = "cuda")]
use crate::checkpoint;
#[cfg(feature = "cuda")]
use crate::cpu::matrix::Format;
use crate::generate::{LanguageModelConfig, load_engine};
use crate::runner::Runner;
#[cfg(feature = "cuda")]
use crate::rwkv::{Formats, cuda};

/// GPUs that one model may be loaded on.
const GPUS_MAX: usize = 64;

/// Where a model computes, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Device {
    /// On the first GPU where there is one that this program can use and the model fits, else on the CPU.
    #[default]
    Auto,
    Cpu,
    /// On each of these GPUs, or not at all; requests go to the one with the least to do.
    Cuda(Vec<usize>),
    /// Likewise, on every GPU that there is.
    CudaAll,
}

impl Device {
    /// Of `auto`, `cpu`, `cuda` (the first GPU), `cuda:N`, several of these with commas between, or `cuda:all`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "auto" => return Some(Device::Auto),
            "cpu" => return Some(Device::Cpu),
            "cuda" => return Some(Device::Cuda(vec![0])),
            "cuda:all" => return Some(Device::CudaAll),
            _ => {}
        }
        let mut gpus = Vec::new();
        for part in name.split(',') {
            let gpu = part.trim().strip_prefix("cuda:")?.parse().ok()?;
            if gpus.contains(&gpu) || gpus.len() == GPUS_MAX {
                return None;
            }
            gpus.push(gpu);
        }
        Some(Device::Cuda(gpus))
    }
}

/// Loads a model's weights wherever it is to compute: one runner, or one for each GPU.
pub(crate) fn load_runners(config: &LanguageModelConfig) -> Result<Vec<Runner>> {
    match &config.device {
        Device::Cpu => Ok(vec![load_engine(config)?.into()]),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) | Device::CudaAll => Err(without_cuda("models.device")),
        #[cfg(not(feature = "cuda"))]
        Device::Auto => Ok(vec![load_engine(config)?.into()]),
        #[cfg(feature = "cuda")]
        Device::Cuda(gpus) => gpus.iter().map(|&gpu| load_on_gpu(config, gpu)).collect(),
        #[cfg(feature = "cuda")]
        Device::CudaAll => match cuda::count()? {
            0 => Err(rag_core::Error::Unavailable { message: "CUDA: there is no GPU".to_string() }),
            there => (0..there.min(GPUS_MAX)).map(|gpu| load_on_gpu(config, gpu)).collect(),
        },
        #[cfg(feature = "cuda")]
        Device::Auto => {
            let runner = match cuda::count() {
                Ok(1..) => load_on_gpu(config, 0).or_else(|error| {
                    tracing::warn!("the language model runs on the CPU: {error}");
                    load_engine(config).map(Into::into)
                }),
                _ => load_engine(config).map(Into::into),
            };
            Ok(vec![runner?])
        }
    }
}

#[cfg(feature = "cuda")]
fn load_on_gpu(config: &LanguageModelConfig, device: usize) -> Result<Runner> {
    let options = cuda::Options {
        device,
        sequences: config.slots,
        formats: config.quantize.unwrap_or(Formats::of(Format::F32)),
        dense: cuda::Dense::Bf16,
        tuning: cuda::Tuning::default(),
    };
    let engine = cuda::Engine::load(&*checkpoint::open(&config.weights)?, &options)?;
    tracing::info!("the language model runs on {} (cuda:{device})", engine.name());
    Ok(Runner::Cuda(Box::new(engine)))
}

/// What a program without the feature says to a GPU's name in a setting.
#[cfg(not(feature = "cuda"))]
pub(crate) fn without_cuda(setting: &str) -> Error {
    Error::Unavailable {
        message: format!(
            "this program was built without CUDA: set {setting} to cpu, or build it with `--features cuda`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::Device;

    #[test]
    fn devices_have_names() {
        for (name, device) in [
            ("auto", Some(Device::Auto)),
            ("cpu", Some(Device::Cpu)),
            ("cuda", Some(Device::Cuda(vec![0]))),
            ("cuda:3", Some(Device::Cuda(vec![3]))),
            ("cuda:0,cuda:1", Some(Device::Cuda(vec![0, 1]))),
            ("cuda:2, cuda:0", Some(Device::Cuda(vec![2, 0]))),
            ("cuda:all", Some(Device::CudaAll)),
            ("cuda:1,cuda:1", None),
            ("cuda:0,cpu", None),
            ("cuda:0,", None),
            ("cuda:x", None),
            ("gpu", None),
            ("", None),
        ] {
            assert_eq!(Device::parse(name), device, "{name}");
        }
    }
}
