//! Settings of a training: their defaults for a model and a machine, their bounds, and how a job keeps them.

use rag_core::ports::{TuneMethod, TuneSettings};
use rag_core::{Error, Result};
use rag_engine::rwkv::{Config, Version};
use serde::{Deserialize, Serialize};

use crate::adam::Schedule;
use crate::cpu::frozen::Precision;
use crate::dataset::mask::Mask;
use crate::dataset::samples::Sampling;
use crate::files::Container;

/// The longest context: beyond it, chunks are for.
const CONTEXT_TOKENS_MAX: u32 = 1 << 20;
const BATCH_MAX: u32 = 4_096;
const EPOCHS_MAX: u32 = 10_000;
const RANK_MAX: u32 = 4_096;
/// A matrix of so many weights is no toy: its base is held in bf16 by default.
const LARGE: u64 = 300_000_000;

/// Settings with their names turned into types; made once, when a job is checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checked {
    pub(crate) precision: Precision,
    pub(crate) mask: Mask,
    pub(crate) sampling: Sampling,
    pub(crate) container: Container,
}

/// What RWKV's trainers recommend for a method, for a model of this size.
pub(crate) fn defaults(method: TuneMethod, config: &Config) -> TuneSettings {
    let state = method == TuneMethod::State;
    let large = parameters(config) > LARGE;
    TuneSettings {
        method,
        precision: if large { "bf16" } else { "f32" }.to_owned(),
        context_tokens: if state { 512 } else { 1_024 },
        chunk_tokens: 0,
        micro_batch: if large { 1 } else { 4 },
        accumulate: 1,
        epochs: 3,
        epoch_steps: 0,
        lr: if state {
            1.0
        } else if method == TuneMethod::Lora {
            1e-4
        } else {
            5e-5
        },
        lr_final: if state { 0.01 } else { 2e-5 },
        warmup_steps: 10,
        schedule: if state { "exponential" } else { "cosine" }.to_owned(),
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        weight_decay: 0.0,
        clip: 1.0,
        checkpointing: large,
        l2wrap: true,
        mask: "answers".to_owned(),
        sampling: "pad".to_owned(),
        seed: 0,
        rank: match method {
            TuneMethod::State => 0,
            TuneMethod::Bone => 64,
            TuneMethod::Lora | TuneMethod::Pissa => 32,
        },
        alpha: if method == TuneMethod::Lora { 32.0 } else { 0.0 },
        dropout: 0.0,
        svd_iterations: if method == TuneMethod::Pissa { 4 } else { 0 },
        train_mixes: !state,
        checkpoint_steps: 100,
        format: "pth".to_owned(),
    }
}

/// Weights of a model, embedding and head included.
pub(crate) fn parameters(config: &Config) -> u64 {
    let Config { vocabulary, width, layers, hidden, .. } = *config;
    let [v, d, l, f] = [vocabulary, width, layers, hidden].map(|n| n as u64);
    let (m, k) = match config.version {
        Version::V6 { mix_rank, decay_rank } => (mix_rank as u64, decay_rank as u64),
        Version::V7 { .. } => (0, 0),
    };
    2 * v * d + l * (6 * d * d + 2 * d * f + 10 * d * m + 2 * d * k + 16 * d) + 4 * d
}

/// `InvalidInput` names the setting that is outside its bounds and says what they are.
pub(crate) fn check(settings: &TuneSettings) -> Result<Checked> {
    let s = settings;
    let adapter = s.method != TuneMethod::State;
    whole("context_tokens", s.context_tokens, 1, CONTEXT_TOKENS_MAX)?;
    whole("chunk_tokens", s.chunk_tokens, 0, CONTEXT_TOKENS_MAX)?;
    whole("micro_batch", s.micro_batch, 1, BATCH_MAX)?;
    whole("accumulate", s.accumulate, 1, BATCH_MAX)?;
    whole("epochs", s.epochs, 1, EPOCHS_MAX)?;
    whole("epoch_steps", s.epoch_steps, 0, 1_000_000)?;
    whole("warmup_steps", s.warmup_steps, 0, 1_000_000)?;
    whole("checkpoint_steps", s.checkpoint_steps, 1, 1_000_000)?;
    whole("rank", s.rank, u32::from(adapter), RANK_MAX)?;
    whole("svd_iterations", s.svd_iterations, 0, 64)?;
    number("lr", s.lr, 0.0, 100.0)?;
    number("lr_final", s.lr_final, 0.0, 100.0)?;
    number("beta1", s.beta1, 0.0, 0.999_999)?;
    number("beta2", s.beta2, 0.0, 0.999_999)?;
    number("epsilon", s.epsilon, 1e-12, 1.0)?;
    number("weight_decay", s.weight_decay, 0.0, 10.0)?;
    number("clip", s.clip, 0.0, 1e6)?;
    number("alpha", s.alpha, if s.method == TuneMethod::Lora { 1e-3 } else { 0.0 }, 1e4)?;
    number("dropout", s.dropout, 0.0, 0.9)?;
    if s.dropout > 0.0 && s.method != TuneMethod::Lora {
        return Err(Error::invalid("dropout is for LoRA only; set it to 0"));
    }
    let unknown = |setting: &str, value: &str, known: &str| {
        Error::invalid(format!("{setting} is '{value}'; it may be {known}"))
    };
    Schedule::parse(&s.schedule)?;
    let sampling =
        Sampling::parse(&s.sampling).ok_or_else(|| unknown("sampling", &s.sampling, "pad, only or get"))?;
    if sampling == Sampling::Only && s.micro_batch != 1 {
        return Err(Error::invalid("sampling 'only' pads nothing and so takes micro_batch 1"));
    }
    Ok(Checked {
        precision: Precision::parse(&s.precision)
            .ok_or_else(|| unknown("precision", &s.precision, "f32, bf16, int8 or nf4"))?,
        mask: Mask::parse(&s.mask).ok_or_else(|| unknown("mask", &s.mask, "all or answers"))?,
        sampling,
        container: Container::parse(&s.format)
            .ok_or_else(|| unknown("format", &s.format, "pth or safetensors"))?,
    })
}

fn whole(setting: &str, value: u32, low: u32, high: u32) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!("{setting} is {value}; it must lie between {low} and {high}")))
}

fn number(setting: &str, value: f64, low: f64, high: f64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!("{setting} is {value}; it must lie between {low} and {high}")))
}

/// Settings as a job's file keeps them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    method: String,
    precision: String,
    context_tokens: u32,
    chunk_tokens: u32,
    micro_batch: u32,
    accumulate: u32,
    epochs: u32,
    epoch_steps: u32,
    lr: f64,
    lr_final: f64,
    warmup_steps: u32,
    schedule: String,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    clip: f64,
    checkpointing: bool,
    l2wrap: bool,
    mask: String,
    sampling: String,
    seed: u64,
    rank: u32,
    alpha: f64,
    dropout: f64,
    svd_iterations: u32,
    train_mixes: bool,
    checkpoint_steps: u32,
    format: String,
}

/// Calls a macro with every setting but the method, after what is given.
macro_rules! with_settings {
    ($apply:ident, $($ahead:tt)*) => {
        $apply!(
            $($ahead)*,
            precision,
            context_tokens,
            chunk_tokens,
            micro_batch,
            accumulate,
            epochs,
            epoch_steps,
            lr,
            lr_final,
            warmup_steps,
            schedule,
            beta1,
            beta2,
            epsilon,
            weight_decay,
            clip,
            checkpointing,
            l2wrap,
            mask,
            sampling,
            seed,
            rank,
            alpha,
            dropout,
            svd_iterations,
            train_mixes,
            checkpoint_steps,
            format
        )
    };
}

/// The same fields on both sides.
macro_rules! same_fields {
    ($from:ident, $method:expr, $($field:ident),*) => {
        Self { method: $method, $($field: $from.$field.clone()),* }
    };
}

impl From<&TuneSettings> for Kept {
    fn from(s: &TuneSettings) -> Self {
        with_settings!(same_fields, s, s.method.name().to_owned())
    }
}

impl From<&Kept> for TuneSettings {
    fn from(s: &Kept) -> Self {
        // What a damaged file says is found out by the checks of the other settings.
        with_settings!(same_fields, s, TuneMethod::parse(&s.method).unwrap_or(TuneMethod::State))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_bounds_and_survive_being_kept() {
        for size in ["0b1", "1b6", "7b"] {
            let config = Config::published(size).unwrap();
            for method in TuneMethod::ALL {
                let settings = defaults(method, &config);
                check(&settings).unwrap();
                let kept = serde_json::to_string(&Kept::from(&settings)).unwrap();
                let kept: Kept = serde_json::from_str(&kept).unwrap();
                assert_eq!(TuneSettings::from(&kept), settings);
            }
        }
    }

    /// The published models' sizes.
    #[test]
    fn parameters_are_counted() {
        for (name, billions) in [("0b1", 0.197), ("1b6", 1.5999), ("3b", 3.0999), ("7b", 7.6357)] {
            let counted = parameters(&Config::published(name).unwrap()) as f64 / 1e9;
            assert!((counted - billions).abs() < 6e-4 * billions.max(1.0), "{name}: {counted}");
        }
    }

    #[test]
    fn what_cannot_work_is_named() {
        let good = defaults(TuneMethod::Lora, &Config::published("0b1").unwrap());
        type Spoil = fn(&mut TuneSettings);
        let bad: [(&str, Spoil); 9] = [
            ("micro_batch", |s| s.micro_batch = 0),
            ("lr ", |s| s.lr = f64::NAN),
            ("rank", |s| s.rank = 0),
            ("schedule", |s| s.schedule = "steps".into()),
            ("precision", |s| s.precision = "fp8".into()),
            ("mask", |s| s.mask = "none".into()),
            ("sampling", |s| s.sampling = "only".into()),
            ("format", |s| s.format = "gguf".into()),
            ("dropout", |s| s.dropout = 1.0),
        ];
        for (part, spoil) in bad {
            let mut settings = good.clone();
            spoil(&mut settings);
            let error = check(&settings).unwrap_err();
            assert!(
                matches!(&error, Error::InvalidInput { message } if message.contains(part)),
                "{part}: {error}"
            );
        }
    }
}
