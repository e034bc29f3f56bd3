//! Trains on given tokens without data sets and jobs: to compare devices and to measure them.

use rag_core::ports::{TuneMethod, TuneSettings};
use rag_core::{Error, Result};
use rag_engine::rwkv::{Config, Weights};

use crate::adam::Step;
use crate::cpu::attach::Named;
pub use crate::cpu::model::Batch;
pub use crate::device::Timing;
use crate::device::{self, Device, Opened, Place};
use crate::{estimate, settings};

/// What a training of such a method and model starts from.
pub fn defaults(method: TuneMethod, config: &Config) -> TuneSettings {
    settings::defaults(method, config)
}

/// Bytes of memory that a training is expected to take at most.
pub fn memory_bytes(settings: &TuneSettings, config: &Config, place: Place) -> Result<u64> {
    let precision = settings::check(settings)?.precision;
    Ok(estimate::memory_bytes(settings, precision, config, place))
}

/// A checkpoint that was never written.
struct Saved(Vec<Named>);

impl Weights for Saved {
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|named| named.name.clone()).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.iter().find(|named| named.name == name).map(|named| named.shape.clone())
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        let named = self.0.iter().find(|named| named.name == name);
        named.map(|named| named.values.clone()).ok_or_else(|| self.error(format!("no tensor {name}")))
    }

    fn error(&self, message: String) -> Error {
        Error::Model { path: "a trial".to_owned(), message }
    }
}

/// A model in training.
pub struct Trial {
    device: Box<dyn Device>,
    settings: TuneSettings,
    steps: u64,
}

impl std::fmt::Debug for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trial").field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl Trial {
    /// # Errors
    /// `InvalidInput` for settings that cannot work, `Unavailable` for a place that is not there or too small.
    pub fn open(weights: &dyn Weights, settings: &TuneSettings, place: Place) -> Result<Self> {
        let precision = settings::check(settings)?.precision;
        let Opened { device, .. } = device::open(weights, settings, precision, place, None)?;
        Ok(Self { device, settings: settings.clone(), steps: 0 })
    }

    /// Adds a batch's gradients, each label counting `weight`; the summed loss in nats.
    pub fn accumulate(&mut self, batch: &Batch, weight: f32) -> Result<f64> {
        self.device.accumulate(batch, weight, self.settings.seed)
    }

    /// The gradients added since the last update, each with its tensor's name.
    pub fn gradients(&self) -> Result<Vec<(String, Vec<f32>)>> {
        Ok(self.device.gradients()?.into_iter().map(|named| (named.name, named.values)).collect())
    }

    /// Takes over what another trial has trained, on whatever device, and the moments of its updates.
    pub fn continue_from(&mut self, other: &Trial) -> Result<()> {
        self.steps = other.steps;
        self.device.restore(&Saved(other.device.save()?))
    }

    /// What is trained, as files have it.
    pub fn trained(&self) -> Result<Vec<(String, Vec<f32>)>> {
        Ok(self.device.trained()?.into_iter().map(|named| (named.name, named.values)).collect())
    }

    /// One whole update with the settings' first learning rate; the mean loss of a label.
    pub fn update(&mut self, batch: &Batch) -> Result<f64> {
        let labels = batch.labels.iter().flatten().count().max(1);
        let total = self.accumulate(batch, 1.0 / labels as f32)?;
        let norm = self.device.gradient_norm()?;
        self.steps += 1;
        let s = &self.settings;
        self.device.update(&Step {
            number: self.steps,
            lr: s.lr,
            beta1: s.beta1,
            beta2: s.beta2,
            epsilon: s.epsilon,
            weight_decay: s.weight_decay,
            scale: if s.clip > 0.0 && norm > s.clip { s.clip / norm } else { 1.0 },
        })?;
        Ok(total / labels as f64)
    }

    /// Times each kind of work apart from now on, where the device can.
    pub fn start_timing(&mut self) {
        self.device.start_timing();
    }

    /// What was done since, the longest first.
    pub fn timings(&mut self) -> Result<Vec<Timing>> {
        self.device.timings()
    }
}
