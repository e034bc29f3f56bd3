//! What is known of a matrix's inputs before any is seen, and how 4-bit levels are chosen by it.
//!
//! With inputs of variance σ² and mean μ, columns independent, an output's error by the errors Δ of a row's weights is
//! Σ σ²Δ² + (Σ μΔ)² on average. The first part weighs columns when a scale is chosen; the second one is kept small by
//! letting each column make up for its share of what those before it add up to (optimal brain surgeon for this sum).

/// One value a column each.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    /// Above 0.
    pub(crate) variance: Vec<f32>,
    pub(crate) mean: Vec<f32>,
}

impl Inputs {
    /// Of squared positive parts of values around 0: a mean of ½ and a variance of 5⁄4, relative to each other.
    pub(crate) fn squared_positive(cols: usize) -> Self {
        Self { variance: vec![1.0; cols], mean: vec![0.2f32.sqrt(); cols] }
    }
}

/// A row on its way through quantisation.
#[derive(Debug)]
pub(super) struct Row<'a> {
    inputs: &'a Inputs,
    /// One and the sum of μ²/σ² of the columns after each.
    rest: Vec<f32>,
    /// Σ μΔ so far, each by its `rest`.
    carried: f32,
}

impl<'a> Row<'a> {
    pub(super) fn new(inputs: &'a Inputs) -> Self {
        let mut sum = 1.0;
        let mut rest: Vec<f32> = (inputs.mean.iter().zip(&inputs.variance).rev())
            .map(|(mean, variance)| {
                let after = sum;
                sum += mean * mean / variance;
                after
            })
            .collect();
        rest.reverse();
        Self { inputs, rest, carried: 0.0 }
    }

    /// Begins another row.
    pub(super) fn begin(&mut self) {
        self.carried = 0.0;
    }

    pub(super) fn weight(&self, column: usize) -> f32 {
        self.inputs.variance[column]
    }

    /// What a column's weight should be, for what those before it have become.
    pub(super) fn target(&self, column: usize, value: f32) -> f32 {
        value - self.carried * self.inputs.mean[column] / self.inputs.variance[column]
    }

    /// Tells that a column became `value` where it should have been `target`.
    pub(super) fn became(&mut self, column: usize, value: f32, target: f32) {
        self.carried += self.inputs.mean[column] * (value - target) / self.rest[column];
    }
}
