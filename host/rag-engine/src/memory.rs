//! Knows how much memory a model takes and how much there is, so that a model too large is refused before it loads.

use std::path::Path;

use rag_core::{Error, Result};

use crate::rwkv::engine::ROWS_MAX;
use crate::rwkv::{Config, Formats, Weights, weights};

/// Buffers of one call, tables, stacks: of little weight beside any model.
const BASE_BYTES: usize = 64 << 20;

/// Bytes that loading and holding a model takes at most.
pub(crate) fn of_model(weights: &dyn Weights, config: &Config, formats: &Formats) -> usize {
    let held = weights.packed_bytes().unwrap_or_else(|| weights::bytes(config, formats).0);
    // While a matrix is converted, its f32 elements are there too.
    let converting = if weights.packed_bytes().is_some() { 0 } else { config.vocabulary * config.width * 4 };
    // Quantised copies of the rows, beside the rows.
    BASE_BYTES + held + converting + ROWS_MAX * config.row_values() * 6
}

/// `Error::Unavailable` when this many bytes are not to be had.
pub(crate) fn require(path: &Path, bytes: usize) -> Result<()> {
    let Some(available) = available() else { return Ok(()) };
    if bytes <= available {
        return Ok(());
    }
    let mib = |bytes: usize| bytes >> 20;
    Err(Error::Unavailable {
        message: format!(
            "{} needs {} MiB of memory and {} MiB are free; choose int8 or nf4, fewer slots, or a smaller model",
            path.display(),
            mib(bytes),
            mib(available)
        ),
    })
}

/// Bytes that the system, or the control group that this process runs in, has left; none where it does not say.
pub(crate) fn available() -> Option<usize> {
    let system = fs_err::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo(&text));
    let group = |name: &str| fs_err::read_to_string(format!("/sys/fs/cgroup/memory.{name}")).ok();
    let limit = group("max").and_then(|text| text.trim().parse::<usize>().ok());
    let used = group("current").and_then(|text| text.trim().parse::<usize>().ok());
    let group = limit.zip(used).map(|(limit, used)| limit.saturating_sub(used));
    match (system, group) {
        (Some(system), Some(group)) => Some(system.min(group)),
        (system, group) => system.or(group),
    }
}

/// `MemAvailable` in bytes.
fn meminfo(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_too_large_is_refused_with_both_figures() {
        require(Path::new("m.pth"), 1).unwrap();
        if available().is_some() {
            let error = require(Path::new("m.pth"), usize::MAX).unwrap_err();
            assert!(
                matches!(&error, Error::Unavailable { message } if message.contains("MiB are free")),
                "{error}"
            );
        }
    }

    #[test]
    fn the_system_s_figure_is_read() {
        let text = "MemTotal:       100 kB\nMemAvailable:   24 kB\n";
        assert_eq!(meminfo(text), Some(24 * 1024));
        assert_eq!(meminfo("MemTotal: 1 kB\n"), None);
    }
}
