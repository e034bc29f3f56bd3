//! Opens a file of weights by its content: PyTorch `.pth`, safetensors, or our own packed safetensors.

use std::path::Path;

use rag_core::{Error, Result};

use crate::pth::PthFile;
use crate::rwkv6::Weights;

impl Weights for PthFile {
    fn names(&self) -> Vec<String> {
        self.tensor_names().map(str::to_string).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.describe(name).map(|(_, shape)| without_leading_ones(shape))
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        self.tensor(name)
    }

    fn error(&self, message: String) -> Error {
        Error::Model { path: self.path().to_string(), message }
    }
}

/// `[1, 1, D]` is how checkpoints store a vector.
fn without_leading_ones(shape: &[usize]) -> Vec<usize> {
    let ones = shape.iter().take(shape.len().saturating_sub(1)).take_while(|&&size| size == 1).count();
    shape[ones..].to_vec()
}

/// Opens a file of weights; `Error::Model` for a file that is none.
pub fn open(path: &Path) -> Result<Box<dyn Weights>> {
    Ok(Box::new(PthFile::open(path)?))
}
