//! A linear layer: a weight matrix that several variants of a model share, and what an adapter adds to it.

use std::sync::Arc;

use crate::cpu::activations::Activations;
use crate::cpu::maths;
use crate::cpu::matrix::{Format, Matrix};
use crate::cpu::product::{Cpu, Product};

/// y = W x, or W x + B (A x) under an adapter.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    pub(super) matrix: Arc<Matrix>,
    pub(super) delta: Option<Arc<Delta>>,
}

/// A change of low rank.
#[derive(Debug)]
pub(super) struct Delta {
    /// A, [rank, in].
    pub(super) down: Matrix,
    /// B with the adapter's scale, [out, rank].
    pub(super) up: Matrix,
}

/// An input by a layer.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) linear: &'a Linear,
    /// Filled for `linear.matrix`.
    pub(super) input: &'a Activations,
    /// [rows, out].
    pub(super) out: &'a mut [f32],
}

impl Default for Linear {
    /// A layer without rows, to be read.
    fn default() -> Self {
        Matrix::pack(&[], 0, 0, Format::F32).into()
    }
}

impl From<Matrix> for Linear {
    fn from(matrix: Matrix) -> Self {
        Self { matrix: Arc::new(matrix), delta: None }
    }
}

/// Computes independent layers, all at once but for what adapters add.
pub(super) fn apply(cpu: &Cpu, jobs: &mut [Job<'_>]) {
    let mut products: Vec<Product<'_>> = (jobs.iter_mut())
        .map(|Job { linear, input, out }| Product { matrix: &linear.matrix, input, out })
        .collect();
    cpu.products(&mut products);
    for job in jobs {
        if let Some(delta) = &job.linear.delta {
            delta.add(cpu, job.input, job.out);
        }
    }
}

impl Delta {
    fn add(&self, cpu: &Cpu, input: &Activations, out: &mut [f32]) {
        let rank = self.down.rows();
        let mut low = Activations::new(rank);
        low.resize(input.rows, &self.up);
        cpu.products(&mut [Product { matrix: &self.down, input, out: &mut low.values }]);
        let mut added = vec![0.0; out.len()];
        cpu.products(&mut [Product { matrix: &self.up, input: &low, out: &mut added }]);
        let width = self.up.rows();
        cpu.rows(width, out, |row, out| {
            maths::add(cpu.simd, &added[row * width..(row + 1) * width], out);
        });
    }
}
