//! Tunes RWKV-6 models: texts become data sets, and data sets become states and adapters that the engine loads.

mod cpu;
pub mod dataset;

pub use cpu::frozen::Precision;
pub use dataset::{DatasetError, Settings, Summary, make_data};
