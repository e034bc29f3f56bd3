//! Where a model is trained: the one seam between the trainer and a processor or an accelerator.
//!
//! A device holds the model, the gradients and Adam's moments in its own memory. Everything else of a training (data,
//! schedule, checkpoints, jobs, files) works on what these calls return. Another device implements this trait and
//! gets a line in `open`.

use rag_core::Result;
use rag_core::ports::TuneSettings;
use rag_engine::rwkv::{Config, Weights};
use rayon::ThreadPool;

use crate::adam::{Moments, Step, factor};
use crate::cpu::attach::{self, Named};
use crate::cpu::frozen::Precision;
use crate::cpu::head::L2WRAP;
use crate::cpu::linear::Dropout;
use crate::cpu::load;
use crate::cpu::model::{Batch, Model, Pass};
use crate::cpu::tensors::{Gradients, Tensor};

/// The processor of this machine, or one of its NVIDIA GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// With so many threads.
    Processor { threads: usize },
    /// By its number from 0; needs the feature `cuda`.
    Gpu(usize),
}

impl Place {
    /// `cpu`, `cuda:N`, or `auto` for the first GPU where there is one; `threads` are the processor's.
    pub fn parse(name: &str, threads: usize) -> Result<Self> {
        let gpu = match name {
            "cpu" => None,
            "auto" => (gpus() > 0).then_some(0),
            _ => {
                let number = name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                Some(number.ok_or_else(|| {
                    rag_core::Error::invalid(format!(
                        "tuning.device is '{name}'; it may be auto, cpu or cuda:N"
                    ))
                })?)
            }
        };
        Ok(gpu.map_or(Place::Processor { threads }, Place::Gpu))
    }

    /// Bytes of its memory that are free, where that is known.
    pub(crate) fn available_bytes(self) -> Result<Option<u64>> {
        match self {
            Place::Processor { .. } => Ok(rag_engine::memory_available().map(|bytes| bytes as u64)),
            #[cfg(feature = "cuda")]
            Place::Gpu(index) => crate::cuda::free_bytes(index).map(Some),
            #[cfg(not(feature = "cuda"))]
            Place::Gpu(_) => Err(no_cuda()),
        }
    }
}

/// How many GPUs can be used.
fn gpus() -> usize {
    #[cfg(feature = "cuda")]
    return rag_engine::rwkv::cuda::count().unwrap_or(0);
    #[cfg(not(feature = "cuda"))]
    0
}

/// A model in training.
pub(crate) trait Device: Send {
    fn config(&self) -> &Config;

    /// Whether the model can write a token.
    fn writes(&self, id: u32) -> bool;

    /// Adds a micro-batch's gradients, each label counting `weight`; returns its summed loss in nats.
    fn accumulate(&mut self, batch: &Batch, weight: f32, seed: u64) -> Result<f64>;

    /// Length of the gradients added since the last update.
    fn gradient_norm(&self) -> Result<f64>;

    /// The gradients added since the last update, each by its tensor's name.
    fn gradients(&self) -> Result<Vec<Named>>;

    /// Updates what is trained and clears the gradients.
    fn update(&mut self, step: &Step) -> Result<()>;

    /// What is trained, with names and layouts of files.
    fn trained(&self) -> Result<Vec<Named>>;

    /// Everything that the next update depends on.
    fn save(&self) -> Result<Vec<Named>>;

    /// Takes over what `save` gave; `Error::Model` when it is of another training.
    fn restore(&mut self, saved: &dyn Weights) -> Result<()>;

    /// Bytes of a memory of its own that are in use; none where it works in this process's.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }

    /// Times each kind of work apart from now on, where that is possible.
    fn start_timing(&mut self) {}

    /// What was done since then, the longest first.
    fn timings(&mut self) -> Result<Vec<Timing>> {
        Ok(Vec::new())
    }
}

/// How long a kind of work took.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    pub name: String,
    pub milliseconds: f64,
    pub times: u32,
}

/// A device with a model ready for a method, and PiSSA's first factors if it made them.
pub(crate) struct Opened {
    pub(crate) device: Box<dyn Device>,
    pub(crate) pissa_start: Vec<Named>,
}

/// Loads a model for training. `start` are PiSSA's first factors of an earlier call.
///
/// # Errors
/// `Unavailable` when the place is not there or too small, `Unsupported` for a model that cannot be trained there.
pub(crate) fn open(
    weights: &dyn Weights,
    settings: &TuneSettings,
    precision: Precision,
    place: Place,
    start: Option<&dyn Weights>,
) -> Result<Opened> {
    let threads = match place {
        Place::Processor { threads } => threads,
        // Only while the model is loaded.
        Place::Gpu(_) => 0,
    };
    let mut pool = rayon::ThreadPoolBuilder::new().thread_name(|n| format!("rag-tune-{n}"));
    pool = pool.num_threads(threads);
    let pool = pool.build().map_err(|e| rag_core::Error::Unavailable { message: e.to_string() })?;
    let (model, pissa_start) = pool.install(|| -> Result<_> {
        let mut model = load::model(weights, precision)?;
        let pissa_start = attach::attach(&mut model, weights, settings, start)?;
        Ok((model, pissa_start))
    })?;
    let pass = Pass {
        checkpointing: settings.checkpointing,
        chunk_tokens: (settings.chunk_tokens > 0).then_some(settings.chunk_tokens as usize),
        l2wrap: if settings.l2wrap { L2WRAP } else { 0.0 },
        weight: 0.0,
        dropout: Dropout { share: settings.dropout as f32, seed: 0 },
    };
    let device: Box<dyn Device> = match place {
        Place::Processor { .. } => {
            let gradients = Gradients::new(&model.tensors);
            let moments = gradients.list().iter().map(|g| Moments::new(g.len())).collect();
            Box::new(Processor { model, gradients, moments, pass, pool })
        }
        #[cfg(feature = "cuda")]
        Place::Gpu(index) => crate::cuda::open(index, model, settings, pass, precision)?,
        #[cfg(not(feature = "cuda"))]
        Place::Gpu(_) => return Err(no_cuda()),
    };
    Ok(Opened { device, pissa_start })
}

/// What a program without the GPU's kernels says.
#[cfg(not(feature = "cuda"))]
pub(crate) fn no_cuda() -> rag_core::Error {
    rag_core::Error::Unsupported {
        message: "this program was built without CUDA: build it with the feature cuda, or set tuning.device to \"cpu\"".to_owned(),
    }
}

/// The processor of this machine.
struct Processor {
    model: Model,
    gradients: Gradients,
    /// Empty for tensors that are not trained.
    moments: Vec<Moments>,
    pass: Pass,
    pool: ThreadPool,
}

impl Device for Processor {
    fn config(&self) -> &Config {
        &self.model.config
    }

    fn writes(&self, id: u32) -> bool {
        self.model.head_row(id).is_some()
    }

    fn accumulate(&mut self, batch: &Batch, weight: f32, seed: u64) -> Result<f64> {
        let pass = Pass { weight, dropout: Dropout { seed, ..self.pass.dropout }, ..self.pass };
        let Self { model, gradients, pool, .. } = self;
        Ok(pool.install(|| model.accumulate(batch, &pass, gradients)))
    }

    fn gradient_norm(&self) -> Result<f64> {
        Ok(self.gradients.norm())
    }

    fn gradients(&self) -> Result<Vec<Named>> {
        let tensors = self.model.tensors.list().iter().zip(self.gradients.list());
        let trained = tensors.filter(|(_, gradient)| !gradient.is_empty());
        let named = |(tensor, gradient): (&Tensor, &Vec<f32>)| Named {
            name: tensor.name.clone(),
            shape: vec![gradient.len()],
            values: gradient.clone(),
        };
        Ok(trained.map(named).collect())
    }

    fn update(&mut self, step: &Step) -> Result<()> {
        let tensors = self.model.tensors.list_mut().iter_mut();
        for ((tensor, gradient), moments) in tensors.zip(self.gradients.list()).zip(&mut self.moments) {
            if !gradient.is_empty() {
                moments.update(&mut tensor.values, gradient, step, factor(&tensor.name));
            }
        }
        self.gradients.clear();
        Ok(())
    }

    fn trained(&self) -> Result<Vec<Named>> {
        Ok(attach::trained(&self.model.tensors, self.model.config.head_size))
    }

    fn save(&self) -> Result<Vec<Named>> {
        let mut saved = Vec::new();
        for (tensor, moments) in self.model.tensors.list().iter().zip(&self.moments) {
            if tensor.trained {
                let parts =
                    [("value", &tensor.values), ("first", &moments.first), ("second", &moments.second)];
                saved.extend(parts.map(|(part, values)| Named {
                    name: format!("{part}.{}", tensor.name),
                    shape: vec![values.len()],
                    values: values.clone(),
                }));
            }
        }
        Ok(saved)
    }

    fn restore(&mut self, saved: &dyn Weights) -> Result<()> {
        for (tensor, moments) in self.model.tensors.list_mut().iter_mut().zip(&mut self.moments) {
            if !tensor.trained {
                continue;
            }
            let parts = [
                ("value", &mut tensor.values),
                ("first", &mut moments.first),
                ("second", &mut moments.second),
            ];
            for (part, values) in parts {
                let name = format!("{part}.{}", tensor.name);
                let read = saved.read(&name)?;
                if read.len() != values.len() {
                    return Err(saved.error(format!(
                        "{name} has {} values, not {}",
                        read.len(),
                        values.len()
                    )));
                }
                *values = read;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named() {
        let cpu = Place::Processor { threads: 3 };
        assert_eq!(Place::parse("cpu", 3).unwrap(), cpu);
        assert_eq!(Place::parse("cuda:1", 3).unwrap(), Place::Gpu(1));
        assert!(gpus() > 0 || Place::parse("auto", 3).unwrap() == cpu);
        for odd in ["", "gpu", "cuda", "cuda:", "cuda:x", "cuda:all"] {
            let error = Place::parse(odd, 3).unwrap_err();
            assert!(
                matches!(&error, rag_core::Error::InvalidInput { message } if message.contains("cuda:N")),
                "{odd}"
            );
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_program_without_cuda_says_so() {
        assert!(no_cuda().to_string().contains("built without CUDA"));
        assert!(Place::Gpu(0).available_bytes().is_err());
    }
}
