//! Random weights, made on the GPU: for measuring without a download.

use std::sync::Arc;

use rag_core::Result;

use super::super::blas::Element;
use super::super::driver::{Memory, Shape};
use super::super::params::Fill;
use super::{Loader, Matrix, Source, Storage};
use crate::cpu::matrix::Format;
use crate::pth::f32_to_half;

impl Loader<'_> {
    /// A matrix of values around 0 that keep activations at their size.
    pub(super) fn random(&mut self, rows: usize, cols: usize, storage: Storage) -> Result<Matrix> {
        let Source::Seed(seed) = self.source else { return Err(self.error("not random".to_string())) };
        self.made += 1;
        let seed = seed << 32 | self.made;
        let count = rows * cols;
        let reach = 2.0 / (cols as f32).sqrt();
        let fill = |kernel: &str, memory: &Memory, count: usize, seed: u64, reach: f32| -> Result<()> {
            let params = Fill { out: memory.at(0), count: count as u64, seed, middle: 0.0, reach };
            let shape = Shape { blocks: [1024, 1], threads: 256, shared: 0, overlap: false };
            // SAFETY: the memory has room for `count` elements.
            unsafe { self.gpu.launch(self.gpu.kernel(kernel)?, shape, &params) }
        };
        let format = match storage {
            Storage::Dense(element) => {
                let values = Memory::new(self.gpu, count * element.bytes())?;
                fill(
                    if element == Element::F32 { "fill_f32" } else { "fill_bf16" },
                    &values,
                    count,
                    seed,
                    reach,
                )?;
                let values = values.into();
                let deltas = Vec::new();
                return Ok(Matrix {
                    storage,
                    rows,
                    cols,
                    block: 0,
                    values,
                    scales: None,
                    minima: None,
                    deltas,
                });
            }
            Storage::Quantised(format) => format,
        };
        let block = format.block(cols);
        let levels = if format == Format::Int8 { count } else { count / 2 };
        let values = Memory::new(self.gpu, levels)?;
        let limit = if format == Format::Int8 { 1.0 } else { 0.0 };
        fill("fill_bytes", &values, levels, seed, limit)?;
        let halves = |value: f32| -> Result<Memory> {
            let memory = Memory::new(self.gpu, count / block * 2)?;
            fill("fill_halves", &memory, count / block, u64::from(f32_to_half(value)), 0.0)?;
            Ok(memory)
        };
        let (scale, minimum) =
            if format == Format::Int4 { (reach / 7.5, Some(-reach)) } else { (reach / 127.0, None) };
        let scales = Some(halves(scale)?.into());
        let minima = minimum.map(halves).transpose()?.map(Arc::new);
        Ok(Matrix { storage, rows, cols, block, values: values.into(), scales, minima, deltas: Vec::new() })
    }
}

/// As `RandomModel` makes them.
pub(super) fn random_vector(name: &str, width: usize, seed: u64) -> Vec<f32> {
    let place = name.bytes().fold(seed, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut random = crate::random::Random::seeded(place);
    let middle = match name {
        _ if name.ends_with("time_decay") => -2.0,
        _ if name.contains("ln") && name.ends_with("weight") => 1.0,
        _ => 0.0,
    };
    (0..width).map(|_| middle + 2.0 * random.unit() as f32 - 1.0).collect()
}
