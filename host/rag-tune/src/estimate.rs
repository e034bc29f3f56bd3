//! How much memory a training takes, before anything is loaded.

use rag_core::ports::{TuneMethod, TuneSettings};
use rag_core::{Error, Result};
use rag_engine::rwkv::{Config, Version};

use crate::cpu::frozen::Precision;
use crate::device::Place;
use crate::settings;

/// Program, tables, the tokenizer, allocators' slack.
const BASE_BYTES: u64 = 96 << 20;
/// On a GPU: cuBLAS's workspace, what many blocks of memory are rounded up to.
const GPU_BASE_BYTES: u64 = 192 << 20;
const GPU_HEAD_ROWS: u64 = 512;
/// Rows whose logits are in memory at once.
const HEAD_ROWS: u64 = 32;
/// Values of a row that a layer keeps for the way back or works with, in widths and in hidden widths.
const TAPE_WIDTHS: u64 = 22;
const WORK_WIDTHS: u64 = 14;

/// Values that are trained.
pub(crate) fn trained_values(settings: &TuneSettings, config: &Config) -> u64 {
    let Config { width, layers, hidden, head_size, .. } = *config;
    let [d, l, f, n] = [width, layers, hidden, head_size].map(|n| n as u64);
    let (m, k) = ranks(config);
    let r = u64::from(settings.rank);
    let mixes = if settings.train_mixes { 10 * d * m + 2 * d * k + 16 * d } else { 0 };
    match settings.method {
        TuneMethod::State => l * d * n,
        // Six square matrices and two of d × f.
        TuneMethod::Lora | TuneMethod::Pissa => l * (r * (6 * 2 * d + 2 * (d + f)) + mixes),
        TuneMethod::Bone => l * (r * (7 * d + f) + mixes),
    }
}

/// Bytes of its place's memory that a training takes at most, about.
pub(crate) fn memory_bytes(
    settings: &TuneSettings,
    precision: Precision,
    config: &Config,
    place: Place,
) -> u64 {
    match place {
        Place::Processor { .. } => processor_bytes(settings, precision, config),
        Place::Gpu(_) => gpu_bytes(settings, precision, config),
    }
}

/// Of a GPU: what `cuda::buffers` takes, in bytes of a row and beside them.
fn gpu_bytes(settings: &TuneSettings, precision: Precision, config: &Config) -> u64 {
    let Config { vocabulary, width, layers, hidden, .. } = *config;
    let [v, d, l, f] = [vocabulary, width, layers, hidden].map(|n| n as u64);
    let (m, k) = ranks(config);
    let act = if precision == Precision::F32 { 4 } else { 2 };
    let large = precision.bytes((l * (6 * d * d + 2 * d * f)) as usize) as u64;
    let tables = precision.of_tables().bytes((2 * v * d) as usize) as u64;
    let dense = if matches!(precision, Precision::Int8 | Precision::Nf4) { 2 * d * f } else { 0 };
    let states = l * d * 64;
    let small = l * (10 * d * m + 2 * d * k + 16 * d) + states;
    let trained = trained_values(settings, config);
    // f32 and bf16 of each; gradient and two moments of what is trained.
    let adapters = if settings.method == TuneMethod::State { 0 } else { trained };
    let tensors = 6 * (small + adapters) + 12 * trained;
    let batch = u64::from(settings.micro_batch);
    let rows = batch * u64::from(chunk_tokens(settings));
    let tape = act * (15 * d + 5 * m + k + f) + 8 * d;
    let tapes = if settings.checkpointing { tape } else { tape * l };
    let rank = u64::from(settings.rank);
    let dropped = if settings.dropout > 0.0 { f } else { 0 };
    let work = act * (19 * d + 2 * f + 5 * m + k + 2 * rank + dropped) + 4 * (3 * d + 8);
    // S and G before and after chunks of 64 tokens.
    let chunks = (u64::from(chunk_tokens(settings)).div_ceil(64)) * batch * d * (2 * 64 + 2) * 4;
    let head = rows.min(GPU_HEAD_ROWS) * (v * (4 + if act == 2 { 2 } else { 0 }) + 2 * d * act);
    let carries = 4 * batch * (2 * l * (states / l + 2 * d) + states / l);
    GPU_BASE_BYTES
        + large
        + tables
        + dense
        + tensors
        + rows * (tapes + work + 4 * d * (l + 1))
        + chunks
        + head
        + carries
}

/// Tokens of a sequence that are computed together.
fn chunk_tokens(settings: &TuneSettings) -> u32 {
    match settings.chunk_tokens {
        0 => settings.context_tokens,
        chunk => chunk.min(settings.context_tokens),
    }
}

fn processor_bytes(settings: &TuneSettings, precision: Precision, config: &Config) -> u64 {
    let Config { vocabulary, width, layers, hidden, head_size, .. } = *config;
    let [v, d, l, f, n] = [vocabulary, width, layers, hidden, head_size].map(|n| n as u64);
    let (m, k) = ranks(config);
    let large = precision.bytes((l * (6 * d * d + 2 * d * f)) as usize) as u64;
    let tables = precision.of_tables().bytes((2 * v * d) as usize) as u64;
    let small = 4 * l * (10 * d * m + 2 * d * k + 16 * d);
    let trained = trained_values(settings, config);
    // Value, gradient, two moments; a checkpoint copies values and moments while it is written.
    let training = trained * 4 * 7;
    let rows = u64::from(settings.micro_batch) * u64::from(chunk_tokens(settings));
    let tape = 4 * rows * (TAPE_WIDTHS * d + 2 * f);
    let work = 4 * rows * (WORK_WIDTHS * d + 3 * f);
    let kept = if settings.checkpointing { 4 * rows * d * l + tape } else { tape * l };
    // What layers carry over, and its copies.
    let states = 3 * 4 * u64::from(settings.micro_batch) * l * d * (n + 2);
    // While a matrix is read, its f32 values are there, twice for the tables.
    let reading = 4 * (2 * v * d).max(4 * d * f);
    let computing = kept + work + states + 4 * HEAD_ROWS * v;
    BASE_BYTES + large + tables + small + training + computing.max(reading)
}

/// `Unavailable` with both figures when so much memory is not to be had.
pub(crate) fn require(needed: u64, available: Option<u64>) -> Result<()> {
    let Some(available) = available.filter(|&available| needed > available) else { return Ok(()) };
    let mib = |bytes: u64| bytes >> 20;
    Err(Error::Unavailable {
        message: format!(
            "this training needs about {} MiB of memory and {} MiB are free: choose precision int8 or nf4, checkpointing, a smaller micro_batch or context_tokens, or a smaller model",
            mib(needed),
            mib(available)
        ),
    })
}

/// `defaults` made to fit: fewer bits, checkpointing and a smaller batch where memory is short.
pub(crate) fn fitting(
    method: TuneMethod,
    config: &Config,
    place: Place,
    available: Option<u64>,
) -> TuneSettings {
    let mut chosen = settings::defaults(method, config);
    if matches!(place, Place::Gpu(_)) {
        chosen.precision = "bf16".to_owned();
    }
    let Some(available) = available else { return chosen };
    // A fifth stays for others.
    let limit = available / 5 * 4;
    let fits = |chosen: &TuneSettings| {
        let precision = Precision::parse(&chosen.precision).unwrap_or(Precision::F32);
        memory_bytes(chosen, precision, config, place) <= limit
    };
    let smaller: [fn(&mut TuneSettings); 6] = [
        |s| s.checkpointing = true,
        |s| s.micro_batch = 1,
        |s| s.precision = "bf16".to_owned(),
        |s| s.precision = "int8".to_owned(),
        |s| s.precision = "nf4".to_owned(),
        |s| s.context_tokens = s.context_tokens.min(256),
    ];
    for step in smaller {
        if fits(&chosen) {
            break;
        }
        step(&mut chosen);
    }
    chosen
}

fn ranks(config: &Config) -> (u64, u64) {
    match config.version {
        Version::V6 { mix_rank, decay_rank } => (mix_rank as u64, decay_rank as u64),
        Version::V7 { .. } => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Place = Place::Processor { threads: 1 };

    /// What was published of another trainer for micro-batches of one sequence of 1 024 tokens, with checkpointing.
    #[test]
    fn a_gpu_needs_no_more_than_is_published_of_others() {
        let gib = |size: &str, precision, method, rank| {
            let config = Config::published(size).unwrap();
            let settings = TuneSettings {
                context_tokens: 1024,
                micro_batch: 1,
                checkpointing: true,
                rank,
                ..settings::defaults(method, &config)
            };
            memory_bytes(&settings, precision, &config, Place::Gpu(0)) as f64 / 1e9
        };
        for (size, precision, method, rank, limit) in [
            ("1b6", Precision::Bf16, TuneMethod::State, 0, 5.8),
            ("1b6", Precision::Int8, TuneMethod::State, 0, 4.5),
            ("1b6", Precision::Nf4, TuneMethod::State, 0, 3.9),
            ("7b", Precision::Nf4, TuneMethod::State, 0, 8.5),
            ("1b6", Precision::Bf16, TuneMethod::Lora, 64, 7.4),
        ] {
            // What the driver and cuBLAS take beside is about half a GB.
            let taken = gib(size, precision, method, rank) + 0.6;
            assert!(taken < limit, "{size} {precision:?} {method:?}: {taken}");
        }
    }

    #[test]
    fn more_needs_more() {
        let config = Config::published("1b6").unwrap();
        let settings = settings::defaults(TuneMethod::State, &config);
        let bytes = |settings: &TuneSettings, precision| memory_bytes(settings, precision, &config, CPU);
        let order: Vec<u64> = [Precision::Nf4, Precision::Int8, Precision::Bf16, Precision::F32]
            .map(|precision| bytes(&settings, precision))
            .to_vec();
        assert!(order.is_sorted(), "{order:?}");
        let kept = TuneSettings { checkpointing: false, ..settings.clone() };
        assert!(bytes(&kept, Precision::Bf16) > bytes(&settings, Precision::Bf16) + (1 << 30));
        // 1.6 B weights in bf16 and little beside them.
        assert!(
            (3 << 30..6 << 30).contains(&bytes(&settings, Precision::Bf16)),
            "{}",
            bytes(&settings, Precision::Bf16) >> 20
        );
    }

    /// The counts of the published tables: state 3.1 M, LoRA r 64 66 M, mixes 23 M for 1.6B.
    #[test]
    fn trained_values_are_the_published_counts() {
        let config = Config::published("1b6").unwrap();
        let state = settings::defaults(TuneMethod::State, &config);
        assert_eq!(trained_values(&state, &config), 24 * 2048 * 64);
        let lora =
            TuneSettings { rank: 64, train_mixes: false, ..settings::defaults(TuneMethod::Lora, &config) };
        assert_eq!(trained_values(&lora, &config), 24 * 21 * 64 * 2048);
        let mixes = TuneSettings { train_mixes: true, ..lora.clone() };
        let mixes = (trained_values(&mixes, &config) - trained_values(&lora, &config)) as f64;
        assert!((mixes / 1e6 - 23.0).abs() < 1.0, "{mixes}");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_chosen_fits() {
        let config = Config::published("1b6").unwrap();
        let error = require(2 << 30, Some(1 << 30)).unwrap_err();
        assert!(
            matches!(&error, Error::Unavailable { message } if message.contains("2048 MiB") && message.contains("nf4"))
        );
        require(1, None).unwrap();
        for available in [2u64 << 30, 4 << 30, 8 << 30] {
            let chosen = fitting(TuneMethod::State, &config, CPU, Some(available));
            let precision = Precision::parse(&chosen.precision).unwrap();
            let needed = memory_bytes(&chosen, precision, &config, CPU);
            assert!(available < 4 << 30 || needed <= available, "{} of {}", needed >> 20, available >> 20);
        }
    }
}
