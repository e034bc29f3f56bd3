//! Figures of benchmarks, and what the machine itself can do: its memory's speed, this process's peak.

use std::time::{Duration, Instant};

use crate::cpu::maths::vectorised;
use crate::cpu::product::Cpu;

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
}

impl Measurement {
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit }
    }
}

/// The process's largest resident size so far, in MiB; none where the system does not say.
pub fn peak_memory() -> Option<Measurement> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib = line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()?;
    Some(Measurement::new("peak memory", kib / 1024.0, "MiB"))
}

/// More than any cache holds.
const BYTES: usize = 256 << 20;
/// Rounds of which the best counts: what disturbs can only lower a figure.
const ROUNDS: usize = 5;

vectorised! {
    /// Reads everything.
    fn fold(values: &[u64]) -> u64 {
        let mut lanes = [0u64; 32];
        for chunk in values.as_chunks::<32>().0 {
            lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane ^= value);
        }
        lanes.iter().fold(0, |all, lane| all ^ lane)
    }
}

/// Bytes a second that the threads together read from memory.
pub(crate) fn memory_bandwidth(cpu: &Cpu) -> f64 {
    let values: Vec<u64> = (0..BYTES as u64 / 8).collect();
    let round = || {
        let start = Instant::now();
        cpu.pool.split(values.len(), 1, |range| {
            std::hint::black_box(fold(cpu.simd, &values[range]));
        });
        start.elapsed()
    };
    let best = (0..ROUNDS).map(|_| round()).min().unwrap_or(Duration::MAX);
    BYTES as f64 / best.as_secs_f64()
}
