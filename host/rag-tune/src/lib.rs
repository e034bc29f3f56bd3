//! Tunes RWKV-6 models: texts become data sets, and data sets become states and adapters that the engine loads.

mod adam;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub mod dataset;
mod device;
mod estimate;
mod files;
pub mod jobs;
pub mod merge;
mod protobuf;
mod saved;
mod settings;
mod sidecar;
mod tensorboard;
#[cfg(test)]
mod testing;
pub mod tracker;
mod training;
pub mod trial;
mod wandb;

pub use cpu::frozen::Precision;
pub use dataset::{DatasetError, Settings, Summary, make_data};
pub use device::Place;
pub use jobs::{Tuner, TunerConfig};
pub use tracker::Tracker;
