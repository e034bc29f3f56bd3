//! Tunes RWKV-6 models: texts become data sets, and data sets become states and adapters that the engine loads.

mod adam;
mod cpu;
mod device;
mod files;
mod estimate;
pub mod jobs;
pub mod merge;
mod saved;
mod settings;
mod sidecar;
#[cfg(test)]
mod testing;
mod training;
pub mod dataset;

pub use cpu::frozen::Precision;
pub use jobs::{Tuner, TunerConfig};
pub use dataset::{DatasetError, Settings, Summary, make_data};
