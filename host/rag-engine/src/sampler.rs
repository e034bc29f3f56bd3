//! Chooses the next token from logits, in the order of upstream's sampler (PyPI `rwkv`).
//!
//! 1. Each id that occurred loses `presence + count · frequency`.
//! 2. Temperature 0 takes the largest logit. Else p = softmax(logits), *not* scaled by the temperature.
//! 3. top-p: ids sorted by p, the first at which the sum reaches `top_p` is the cutoff; all less likely ones go, equal
//!    ones stay. 4. top-k keeps the k most likely of those.
//! 5. p ← p^(1/temperature), and one is drawn.
//! 6. Counts decay by `penalty_decay`; the chosen id's grows by 1.

use std::collections::BTreeMap;

use rag_core::ports::Sampling;
use rag_core::{Error, Result};

use crate::cpu::maths::exp_below;
use crate::cpu::simd::Simd;
use crate::random::Random;

/// How a sequence's next token is drawn by an engine that draws itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drawing {
    /// 0 takes the largest.
    pub temperature: f32,
    pub top_p: f32,
    /// 0 is none.
    pub top_k: u32,
    /// Random, in [0, 1).
    pub unit: f32,
    /// What ids lose; each id once.
    pub penalties: Vec<(u32, f32)>,
}

/// Settings and memory of one generation.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: Random,
    /// Decayed number of occurrences by id; ordered, so that equal requests add up in equal order.
    counts: BTreeMap<u32, f32>,
    /// Working copy of the logits, then unnormalised probabilities.
    values: Vec<f32>,
    /// Σ p of all values with the same leading bits.
    masses: Vec<f64>,
}

/// Leading bits of an f32 that make a bucket: sign, exponent and 5 bits of mantissa. Values are at most 1.
const BUCKET_SHIFT: u32 = 18;
const BUCKETS: usize = (1f32.to_bits() >> BUCKET_SHIFT) as usize + 1;

/// Counts below this change no logit noticeably and are forgotten.
const COUNT_MIN: f32 = 1e-6;

impl Sampler {
    /// `InvalidInput` for settings outside their range.
    pub fn new(sampling: &Sampling) -> Result<Self> {
        check(sampling)?;
        let seed = sampling.seed.unwrap_or_else(Random::fresh_seed);
        Ok(Self {
            sampling: sampling.clone(),
            random: Random::seeded(seed),
            counts: BTreeMap::new(),
            values: Vec::new(),
            masses: vec![0.0; BUCKETS],
        })
    }

    /// The next token. Ids with a logit of −∞ are never chosen; `banned` ones neither.
    pub fn choose(&mut self, logits: &[f32], banned: &[u32]) -> u32 {
        self.penalise(logits, banned);
        if self.sampling.temperature == 0.0 {
            return largest(&self.values);
        }
        let candidates = self.candidates();
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random.unit() * total;
        for &(id, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return id;
            }
        }
        // Rounding may leave a little: it belongs to the last one.
        candidates.last().map_or_else(|| largest(&self.values), |&(id, _)| id)
    }

    /// What an engine needs to choose the next token itself.
    pub(crate) fn drawing(&mut self) -> Drawing {
        let Sampling { temperature, top_p, top_k, presence_penalty, frequency_penalty, .. } = self.sampling;
        let lost = |(&id, count): (&u32, &f32)| (id, presence_penalty + count * frequency_penalty);
        let unit = if temperature == 0.0 { 0.0 } else { self.random.unit() as f32 };
        // A f32 may round up to 1.
        let unit = unit.min(1.0 - f32::EPSILON / 2.0);
        Drawing { temperature, top_p, top_k, unit, penalties: self.counts.iter().map(lost).collect() }
    }

    /// How many penalties that has.
    pub(crate) fn penalties(&self) -> usize {
        self.counts.len()
    }

    /// Notes the chosen token. `counted` is false for tokens that may repeat freely: blanks and digits.
    pub fn accept(&mut self, id: u32, counted: bool) {
        let decay = self.sampling.penalty_decay;
        self.counts.values_mut().for_each(|count| *count *= decay);
        if counted {
            *self.counts.entry(id).or_default() += 1.0;
        } else {
            self.counts.entry(id).or_default();
        }
        // An id that occurred keeps its presence penalty as long as its count lives.
        if self.sampling.presence_penalty == 0.0 {
            self.counts.retain(|_, count| *count > COUNT_MIN);
        }
    }

    /// Copies the logits to `values` with penalties and bans applied.
    fn penalise(&mut self, logits: &[f32], banned: &[u32]) {
        self.values.clear();
        self.values.extend_from_slice(logits);
        for (&id, count) in &self.counts {
            if let Some(logit) = self.values.get_mut(id as usize) {
                *logit -= self.sampling.presence_penalty + count * self.sampling.frequency_penalty;
            }
        }
        for &id in banned {
            if let Some(logit) = self.values.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// Ids that may be drawn and their weights, most likely first (the smaller id of equals).
    fn candidates(&mut self) -> Vec<(u32, f64)> {
        let top = self.values[largest(&self.values) as usize];
        let mut total = 0.0;
        self.masses.fill(0.0);
        exp_below(Simd::detect(), top, &mut self.values);
        for &value in &self.values {
            // NaN, which no sound model gives, counts as impossible.
            let mass = f64::from(value.max(0.0));
            total += mass;
            self.masses[bucket(value).unwrap_or(0)] += mass;
        }
        let wanted = f64::from(self.sampling.top_p) * total;
        // Whole buckets from the top until the sum is reached hold the cutoff.
        let mut sum = 0.0;
        let lowest = (0..BUCKETS).rev().find(|&b| {
            sum += self.masses[b];
            sum >= wanted
        });
        let lowest = lowest.unwrap_or(0);
        let mut kept: Vec<(u32, f64)> = (self.values.iter().enumerate())
            .filter(|&(_, &value)| value > 0.0 && bucket(value).is_some_and(|b| b >= lowest))
            .map(|(id, &value)| (id as u32, f64::from(value)))
            .collect();
        kept.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut sum = 0.0;
        let cutoff = kept.iter().find(|(_, p)| {
            sum += p;
            sum >= wanted
        });
        if let Some(&(_, cutoff)) = cutoff {
            kept.truncate(kept.partition_point(|&(_, p)| p >= cutoff));
        }
        if self.sampling.top_k > 0 {
            kept.truncate(self.sampling.top_k as usize);
        }
        if self.sampling.temperature != 1.0 {
            let power = 1.0 / f64::from(self.sampling.temperature);
            kept.iter_mut().for_each(|(_, p)| *p = p.powf(power));
        }
        kept
    }
}

fn check(sampling: &Sampling) -> Result<()> {
    let Sampling { temperature, top_p, presence_penalty, frequency_penalty, penalty_decay, .. } = *sampling;
    for (name, value, range) in [
        ("temperature", temperature, 0.0..=10.0),
        ("top_p", top_p, 0.0..=1.0),
        ("presence_penalty", presence_penalty, -10.0..=10.0),
        ("frequency_penalty", frequency_penalty, -10.0..=10.0),
        ("penalty_decay", penalty_decay, 0.0..=1.0),
    ] {
        if !range.contains(&value) {
            let (low, high) = (range.start(), range.end());
            return Err(Error::invalid(format!("{name} is {value}; it must lie between {low} and {high}")));
        }
    }
    Ok(())
}

fn bucket(value: f32) -> Option<usize> {
    let bucket = (value.to_bits() >> BUCKET_SHIFT) as usize;
    (bucket < BUCKETS).then_some(bucket)
}

/// The id of the largest value, the first of equals.
fn largest(values: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &value) in values.iter().enumerate() {
        if value > best.1 {
            best = (id as u32, value);
        }
    }
    best.0
}

#[cfg(test)]
mod tests;
