//! Adam, its learning rate over time, and the clipping of gradients.

use rag_core::ports::TuneSettings;
use rag_core::{Error, Result};

/// How the learning rate moves from its first to its last value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schedule {
    Exponential,
    Cosine,
    Linear,
    Constant,
}

impl Schedule {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "exponential" => Schedule::Exponential,
            "cosine" => Schedule::Cosine,
            "linear" => Schedule::Linear,
            "constant" => Schedule::Constant,
            other => {
                return Err(Error::invalid(format!(
                    "schedule '{other}' is unknown; there are exponential, cosine, linear and constant"
                )));
            }
        })
    }
}

/// What the learning rate follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    pub(crate) schedule: Schedule,
    pub(crate) first: f64,
    pub(crate) last: f64,
    pub(crate) warmup: u64,
    pub(crate) steps: u64,
}

impl Rate {
    pub(crate) fn of(settings: &TuneSettings, steps: u64) -> Result<Self> {
        Ok(Self {
            schedule: Schedule::parse(&settings.schedule)?,
            first: settings.lr,
            last: settings.lr_final,
            warmup: u64::from(settings.warmup_steps),
            steps,
        })
    }

    /// Of the update after `done` others. While warming up it rises from a fifth, as RWKV's trainers have it.
    pub(crate) fn at(&self, done: u64) -> f64 {
        let left = self.steps.saturating_sub(self.warmup).max(1) as f64;
        let progress = ((done + 1).saturating_sub(self.warmup) as f64 / left).clamp(0.0, 1.0);
        let between = self.last + (self.first - self.last) * (1.0 - progress);
        let rate = match self.schedule {
            Schedule::Constant => self.first,
            Schedule::Linear => between,
            // A rate of 0 has no ratio to the other.
            Schedule::Exponential if self.first <= 0.0 || self.last <= 0.0 => between,
            Schedule::Exponential => self.first * (self.last / self.first).powf(progress),
            Schedule::Cosine => {
                self.last + (self.first - self.last) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
        };
        let warm = if done < self.warmup { 0.2 + 0.8 * done as f64 / self.warmup as f64 } else { 1.0 };
        rate * warm
    }
}

/// One update's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    /// From 1.
    pub(crate) number: u64,
    pub(crate) lr: f64,
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) epsilon: f64,
    pub(crate) weight_decay: f64,
    /// What gradients are multiplied by, after clipping.
    pub(crate) scale: f64,
}

/// Adam's means of a tensor's gradients and of their squares.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Moments {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
}

impl Moments {
    pub(crate) fn new(len: usize) -> Self {
        Self { first: vec![0.0; len], second: vec![0.0; len] }
    }

    /// Moves `values` by one update; `factor` is the tensor's share of the learning rate.
    pub(crate) fn update(&mut self, values: &mut [f32], gradient: &[f32], step: &Step, factor: f64) {
        let lr = step.lr * factor;
        let correct = |beta: f64| 1.0 - beta.powf(step.number as f64);
        let (beta1, beta2) = (step.beta1 as f32, step.beta2 as f32);
        let size = (lr / correct(step.beta1)) as f32;
        let root = (1.0 / correct(step.beta2)).sqrt() as f32;
        let (epsilon, scale) = (step.epsilon as f32, step.scale as f32);
        let keep = (1.0 - lr * step.weight_decay) as f32;
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, g), (m, v)) in values.iter_mut().zip(gradient).zip(moments) {
            let g = g * scale;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *value = keep * *value - size * *m / (v.sqrt() * root + epsilon);
        }
    }
}

/// How much of the learning rate a tensor gets: twice for decays, as RWKV's trainers have it.
pub(crate) fn factor(name: &str) -> f64 {
    if name.ends_with("time_decay") { 2.0 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(schedule: Schedule, warmup: u64) -> Rate {
        Rate { schedule, first: 1.0, last: 0.01, warmup, steps: 100 }
    }

    #[test]
    fn rates_go_from_first_to_last() {
        for schedule in [Schedule::Exponential, Schedule::Cosine, Schedule::Linear] {
            let rate = rate(schedule, 0);
            assert!(rate.at(0) > 0.94, "{schedule:?}");
            assert!((rate.at(99) - 0.01).abs() < 1e-9, "{schedule:?}");
            assert!((0..99).all(|done| rate.at(done) > rate.at(done + 1)), "{schedule:?}");
        }
        assert!((rate(Schedule::Exponential, 0).at(49) - 0.1).abs() < 1e-9);
        assert!((rate(Schedule::Cosine, 0).at(49) - 0.505).abs() < 1e-9);
        assert_eq!(rate(Schedule::Constant, 0).at(70), 1.0);
        let zero = Rate { last: 0.0, ..rate(Schedule::Exponential, 0) };
        assert!((zero.at(49) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn warming_up_starts_at_a_fifth() {
        let rate = rate(Schedule::Exponential, 10);
        assert!((rate.at(0) - 0.2).abs() < 1e-9 && (rate.at(5) - 0.6).abs() < 1e-9);
        assert!(rate.at(10) > 0.9 && (rate.at(99) - 0.01).abs() < 1e-9);
    }

    /// Two updates by the definition, in f64.
    #[test]
    fn updates_are_adam_s() {
        let mut moments = Moments::new(1);
        let mut values = vec![1.0f32];
        let (mut m, mut v, mut x) = (0.0f64, 0.0f64, 1.0f64);
        for (number, g) in [(1, 0.5f32), (2, -0.1)] {
            let step = Step {
                number,
                lr: 0.1,
                beta1: 0.9,
                beta2: 0.99,
                epsilon: 1e-8,
                weight_decay: 0.01,
                scale: 0.5,
            };
            moments.update(&mut values, &[g], &step, 2.0);
            let g = f64::from(g) * 0.5;
            m = 0.9 * m + 0.1 * g;
            v = 0.99 * v + 0.01 * g * g;
            let n = number as i32;
            x = x * (1.0 - 0.2 * 0.01)
                - 0.2 * (m / (1.0 - 0.9f64.powi(n))) / ((v / (1.0 - 0.99f64.powi(n))).sqrt() + 1e-8);
            assert!((f64::from(values[0]) - x).abs() < 1e-6, "{} for {x}", values[0]);
        }
        assert_eq!((factor("blocks.0.att.time_decay"), factor("blocks.0.att.time_decay_w1")), (2.0, 1.0));
    }
}
