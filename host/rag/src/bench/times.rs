//! Thousands of times in a few kilobytes, however many they are: how many were about so long.

use std::time::Duration;

use super::Figure;

/// A bucket reaches from one time to the next one, so much longer.
const STEP: f64 = 1.02;

/// Times by length, and the longest.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Bucket `n` counts times of more than `STEP^(n-1)` and at most `STEP^n` microseconds; the first all shorter ones.
    counts: Vec<u32>,
    most: Duration,
}

impl Times {
    pub(super) fn add(&mut self, time: Duration) {
        let bucket = ((time.as_secs_f64() * 1e6).max(1.0).ln() / STEP.ln()).ceil() as usize;
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.most = self.most.max(time);
    }

    /// The time that this share of all does not exceed, at most 2 % too long.
    fn quantile(&self, share: f64) -> Duration {
        let all: u64 = self.counts.iter().copied().map(u64::from).sum();
        let wanted = (all as f64 * share).ceil() as u64;
        let mut before = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            before += u64::from(*count);
            if before >= wanted {
                return Duration::from_secs_f64(STEP.powi(bucket as i32) / 1e6).min(self.most);
            }
        }
        self.most
    }

    /// Median, 99th percentile and most, in milliseconds.
    pub(super) fn figures(&self, name: &str) -> Vec<Figure> {
        let figure = |time: Duration, label: &str| {
            Figure::new(format!("{name}: {label}"), time.as_secs_f64() * 1e3, "ms")
        };
        vec![
            figure(self.quantile(0.5), "median"),
            figure(self.quantile(0.99), "p99"),
            figure(self.most, "most"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_two_percent_near_and_the_most_is_exact() {
        let mut times = Times::default();
        for n in 1..=1_000 {
            times.add(Duration::from_micros(n * 10));
        }
        for (share, micros) in [(0.5, 5_000.0), (0.99, 9_900.0), (0.001, 10.0)] {
            let found = times.quantile(share).as_secs_f64() * 1e6;
            assert!((micros..=micros * STEP).contains(&(found + 1e-6)), "{share}: {found}");
        }
        assert_eq!((times.quantile(1.0), times.most), (Duration::from_millis(10), Duration::from_millis(10)));
        let buckets = times.counts.len();
        (0..10_000).for_each(|_| times.add(Duration::from_millis(3)));
        assert_eq!(times.counts.len(), buckets, "more of the same take no more room");
        assert_eq!(Times::default().quantile(0.5), Duration::ZERO);
    }
}
