//! Where an encoder computes: on the processor or on a GPU, as it is configured.

use rag_core::{Error, Result};

use super::EncoderConfig;
use super::gemm::Isa;
#[cfg(feature = "cuda")]
use super::gpu;
use super::loaded::{self, Loaded, Precision};
use crate::devices::Device;
#[cfg(not(feature = "cuda"))]
use crate::devices::without_cuda;
#[cfg(feature = "cuda")]
use crate::rwkv::cuda;

/// The setting that messages name.
const SETTING: &str = "models.encoder_device";

/// A model where it computes.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) loaded: Loaded,
    /// The processor's kernels, or the GPU's name.
    pub(super) computes_on: String,
    /// Has the layers then; `loaded` has not.
    pub(super) gpu: Option<OnGpu>,
}

/// A model on a GPU.
#[cfg(feature = "cuda")]
pub(super) type OnGpu = gpu::Forward;
/// There is none in a program without CUDA.
#[cfg(not(feature = "cuda"))]
pub(super) type OnGpu = std::convert::Infallible;

pub(super) fn load(config: &EncoderConfig, precision: Precision, isa: Isa) -> Result<Placed> {
    match &config.device {
        Device::Cpu => on_cpu(config, precision, isa),
        Device::Cuda(gpus) => match gpus.as_slice() {
            &[device] => on_gpu(config, device, precision),
            _ => Err(several()),
        },
        Device::CudaAll => Err(several()),
        Device::Auto => auto(config, precision, isa),
    }
}

fn several() -> Error {
    Error::invalid(format!(
        "an encoder computes on one GPU: set {SETTING} to one, e.g. cuda:0, or to auto or cpu"
    ))
}

fn on_cpu(config: &EncoderConfig, precision: Precision, isa: Isa) -> Result<Placed> {
    Ok(Placed {
        loaded: loaded::load(&config.weights, precision)?,
        computes_on: isa.name().to_owned(),
        gpu: None,
    })
}

#[cfg(feature = "cuda")]
fn on_gpu(config: &EncoderConfig, device: usize, precision: Precision) -> Result<Placed> {
    let options = gpu::Options { device, precision, batch_tokens_max: config.batch_tokens_max };
    let (loaded, forward) = gpu::load(&config.weights, &options)?;
    tracing::info!("the encoder {} runs on {} (cuda:{device})", loaded.name, forward.name());
    Ok(Placed { loaded, computes_on: forward.name().to_owned(), gpu: Some(forward) })
}

#[cfg(feature = "cuda")]
fn auto(config: &EncoderConfig, precision: Precision, isa: Isa) -> Result<Placed> {
    if !matches!(cuda::count(), Ok(1..)) {
        return on_cpu(config, precision, isa);
    }
    on_gpu(config, 0, precision).or_else(|error| {
        tracing::warn!("the encoder {} runs on the CPU: {error}", config.weights.display());
        on_cpu(config, precision, isa)
    })
}

#[cfg(not(feature = "cuda"))]
fn on_gpu(_config: &EncoderConfig, _device: usize, _precision: Precision) -> Result<Placed> {
    Err(without_cuda(SETTING))
}

#[cfg(not(feature = "cuda"))]
fn auto(config: &EncoderConfig, precision: Precision, isa: Isa) -> Result<Placed> {
    on_cpu(config, precision, isa)
}

#[cfg(test)]
mod tests {
    use super::super::tests::file;
    use super::*;

    fn on(device: Device) -> Result<Placed> {
        let config =
            EncoderConfig { weights: file(), threads: 1, queue_max: 1, batch_tokens_max: 64, device };
        load(&config, Precision::Int8, Isa::Scalar)
    }

    #[test]
    fn one_device_is_taken_and_several_are_refused() {
        assert_eq!(on(Device::Cpu).unwrap().computes_on, Isa::Scalar.name());
        for device in [Device::CudaAll, Device::Cuda(vec![0, 1])] {
            let error = on(device).unwrap_err();
            assert!(error.to_string().contains("models.encoder_device to one"), "{error}");
        }
        // No GPU of this number is there, or the program knows none.
        let error = on(Device::Cuda(vec![63])).unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    }
}
