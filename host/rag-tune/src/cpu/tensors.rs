//! Everything that may be trained: small tensors of the model, adapters and initial states, each by a number.

use std::ops::Index;

use super::linalg::add;

/// Number of a tensor.
pub(crate) type Id = usize;

/// A tensor in f32, row-major.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    /// As public files call it.
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
    pub(crate) trained: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Tensors {
    list: Vec<Tensor>,
}

impl Tensors {
    pub(crate) fn add(&mut self, name: String, shape: Vec<usize>, values: Vec<f32>) -> Id {
        self.list.push(Tensor { name, shape, values, trained: false });
        self.list.len() - 1
    }

    pub(crate) fn list(&self) -> &[Tensor] {
        &self.list
    }

    pub(crate) fn list_mut(&mut self) -> &mut [Tensor] {
        &mut self.list
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> &mut Tensor {
        &mut self.list[id]
    }
}

impl Index<Id> for Tensors {
    type Output = [f32];

    fn index(&self, id: Id) -> &[f32] {
        &self.list[id].values
    }
}

/// The loss's derivatives by those tensors that are trained.
#[derive(Debug, Clone)]
pub(crate) struct Gradients {
    /// Empty for tensors that are not.
    list: Vec<Vec<f32>>,
}

impl Gradients {
    pub(crate) fn new(tensors: &Tensors) -> Self {
        let len = |tensor: &Tensor| if tensor.trained { tensor.values.len() } else { 0 };
        Self { list: tensors.list.iter().map(|tensor| vec![0.0; len(tensor)]).collect() }
    }

    /// None for a tensor that is not trained.
    pub(crate) fn of(&mut self, id: Id) -> Option<&mut [f32]> {
        Some(self.list[id].as_mut_slice()).filter(|values| !values.is_empty())
    }

    pub(crate) fn wants(&self, id: Id) -> bool {
        !self.list[id].is_empty()
    }

    pub(crate) fn add(&mut self, id: Id, part: &[f32]) {
        if let Some(total) = self.of(id) {
            add(total, part);
        }
    }

    pub(crate) fn list(&self) -> &[Vec<f32>] {
        &self.list
    }

    pub(crate) fn clear(&mut self) {
        self.list.iter_mut().for_each(|values| values.fill(0.0));
    }

    /// √Σ g², summed in f64.
    pub(crate) fn norm(&self) -> f64 {
        self.list.iter().flatten().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt()
    }
}
