//! Where a model is trained: the one seam between the trainer and a processor or an accelerator.
//!
//! A device holds the model, the gradients and Adam's moments in its own memory. Everything else of a training (data,
//! schedule, checkpoints, jobs, files) works on what these calls return. A second device implements this trait and
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
use crate::cpu::tensors::Gradients;

/// A model in training.
pub(crate) trait Device: Send {
    fn config(&self) -> &Config;

    /// Whether the model can write a token.
    fn writes(&self, id: u32) -> bool;

    /// Adds a micro-batch's gradients, each label counting `weight`; returns its summed loss in nats.
    fn accumulate(&mut self, batch: &Batch, weight: f32, seed: u64) -> f64;

    /// Length of the gradients added since the last update.
    fn gradient_norm(&self) -> f64;

    /// Updates what is trained and clears the gradients.
    fn update(&mut self, step: &Step);

    /// What is trained, with names and layouts of files.
    fn trained(&self) -> Vec<Named>;

    /// Everything that the next update depends on.
    fn save(&self) -> Vec<Named>;

    /// Takes over what `save` gave; `Error::Model` when it is of another training.
    fn restore(&mut self, saved: &dyn Weights) -> Result<()>;
}

/// A device with a model ready for a method, and PiSSA's first factors if it made them.
pub(crate) struct Opened {
    pub(crate) device: Box<dyn Device>,
    pub(crate) pissa_start: Vec<Named>,
}

/// Loads a model for training. `start` are PiSSA's first factors of an earlier call.
pub(crate) fn open(
    weights: &dyn Weights,
    settings: &TuneSettings,
    precision: Precision,
    threads: usize,
    start: Option<&dyn Weights>,
) -> Result<Opened> {
    let mut pool = rayon::ThreadPoolBuilder::new().thread_name(|n| format!("rag-tune-{n}"));
    pool = pool.num_threads(threads);
    let pool = pool.build().map_err(|e| rag_core::Error::Unavailable { message: e.to_string() })?;
    let mut model = load::model(weights, precision)?;
    let pissa_start = attach::attach(&mut model, weights, settings, start)?;
    let gradients = Gradients::new(&model.tensors);
    let moments = gradients.list().iter().map(|g| Moments::new(g.len())).collect();
    let pass = Pass {
        checkpointing: settings.checkpointing,
        chunk_tokens: (settings.chunk_tokens > 0).then_some(settings.chunk_tokens as usize),
        l2wrap: if settings.l2wrap { L2WRAP } else { 0.0 },
        weight: 0.0,
        dropout: Dropout { share: settings.dropout as f32, seed: 0 },
    };
    Ok(Opened { device: Box::new(Processor { model, gradients, moments, pass, pool }), pissa_start })
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

    fn accumulate(&mut self, batch: &Batch, weight: f32, seed: u64) -> f64 {
        let pass = Pass { weight, dropout: Dropout { seed, ..self.pass.dropout }, ..self.pass };
        let Self { model, gradients, pool, .. } = self;
        pool.install(|| model.accumulate(batch, &pass, gradients))
    }

    fn gradient_norm(&self) -> f64 {
        self.gradients.norm()
    }

    fn update(&mut self, step: &Step) {
        let tensors = self.model.tensors.list_mut().iter_mut();
        for ((tensor, gradient), moments) in tensors.zip(self.gradients.list()).zip(&mut self.moments) {
            if !gradient.is_empty() {
                moments.update(&mut tensor.values, gradient, step, factor(&tensor.name));
            }
        }
        self.gradients.clear();
    }

    fn trained(&self) -> Vec<Named> {
        attach::trained(&self.model)
    }

    fn save(&self) -> Vec<Named> {
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
        saved
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
