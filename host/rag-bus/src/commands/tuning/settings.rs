//! RWKV-RAG's settings of a training, with its defaults, as those of the `Tune` port.
//!
//! Sizes of the model (`n_layer`, `n_embd`, `vocab_size`) are read from its file and what concerns a cluster of GPUs
//! (`strategy`, `accelerator`) has no meaning here; both are left aside. What would change the result and cannot be done
//! is refused.

use rag_core::ports::{TuneMethod, TuneSettings};
use rag_core::{Error, Result};

use super::super::{number, optional_text, whole};
use crate::wire::Request;

/// Bounds that are wider than those of the port, which then says what it allows.
const MANY: u32 = 1_000_000;

/// RWKV-RAG's own defaults of a method: micro batch, updates of an epoch, epochs, learning rates, warm-up.
fn defaults_of(method: TuneMethod) -> (u32, u32, u32, [f64; 2], u32) {
    match method {
        TuneMethod::State => (1, 800, 10, [1.0, 0.01], 10),
        TuneMethod::Lora => (8, 1000, 20, [5e-5, 5e-5], 0),
        TuneMethod::Pissa | TuneMethod::Bone => (8, 1000, 1, [5e-5, 5e-5], 0),
    }
}

/// What a client asks for; `defaults` fill what RWKV-RAG does not know.
pub(super) fn of(
    method: TuneMethod,
    request: &Request,
    defaults: TuneSettings,
    tracked: Option<&str>,
) -> Result<TuneSettings> {
    refuse_what_cannot_be(request, tracked)?;
    let (micro_batch, epoch_steps, epochs, [lr, lr_final], warmup_steps) = defaults_of(method);
    let adapter = method != TuneMethod::State;
    let epoch_steps = whole(request, "epoch_steps", epoch_steps, 1..=MANY)?;
    let epoch_save = whole(request, "epoch_save", 1, 1..=MANY)?;
    let sampling = optional_text(request, "dataload")?.unwrap_or("pad");
    Ok(TuneSettings {
        method,
        precision: precision(method, request)?.to_owned(),
        context_tokens: whole(request, "ctx_len", 1024, 1..=MANY)?,
        micro_batch: whole(request, "micro_bsz", micro_batch, 1..=MANY)?,
        epochs: whole(request, "epoch_count", epochs, 1..=MANY)?,
        epoch_steps,
        lr: number(request, "lr_init", lr)?,
        lr_final: number(request, "lr_final", lr_final)?,
        warmup_steps: whole(request, "warmup_steps", warmup_steps, 0..=MANY)?,
        schedule: "exponential".to_owned(),
        beta1: number(request, "beta1", 0.9)?,
        beta2: number(request, "beta2", 0.99)?,
        epsilon: number(request, "adam_eps", 1e-8)?,
        checkpointing: whole(request, "grad_cp", 1, 0..=1)? == 1,
        mask: "all".to_owned(),
        sampling: sampling.to_owned(),
        rank: if adapter { rank(request)? } else { 0 },
        alpha: if method == TuneMethod::Lora {
            either(request, ["lora_alpha", "alpha"], 128.0)?
        } else {
            0.0
        },
        dropout: if method == TuneMethod::Lora {
            either(request, ["lora_dropout", "dropout"], 0.01)?
        } else {
            0.0
        },
        svd_iterations: match method {
            TuneMethod::Pissa => whole(request, "svd_niter", 4, 0..=MANY)?,
            _ => 0,
        },
        train_mixes: adapter && mixes(request)?,
        checkpoint_steps: epoch_save.saturating_mul(epoch_steps).min(MANY),
        ..defaults
    })
}

fn rank(request: &Request) -> Result<u32> {
    let name = if request.field("lora_r").is_some() { "lora_r" } else { "r" };
    whole(request, name, 64, 1..=MANY)
}

fn either(request: &Request, names: [&str; 2], default: f64) -> Result<f64> {
    let [first, second] = names;
    number(request, if request.field(first).is_some() { first } else { second }, default)
}

/// How frozen matrices are held.
fn precision(method: TuneMethod, request: &Request) -> Result<&'static str> {
    let none = if method == TuneMethod::Pissa { "none" } else { "nf4" };
    match optional_text(request, "quant")?.unwrap_or(none) {
        "nf4" => return Ok("nf4"),
        "int8" => return Ok("int8"),
        "none" => {}
        other => return Err(no("quant", other, "nf4, int8 and none")),
    }
    match optional_text(request, "precision")?.unwrap_or("bf16") {
        "bf16" | "fp16" => Ok("bf16"),
        "fp32" | "tf32" => Ok("f32"),
        other => Err(no("precision", other, "bf16, fp16, fp32 and tf32")),
    }
}

/// Whether the values of mixing and norms are trained beside an adapter: both or none.
fn mixes(request: &Request) -> Result<bool> {
    let name = if request.field("lora_parts").is_some() { "lora_parts" } else { "parts" };
    let given = optional_text(request, name)?.unwrap_or("att,ffn,time,ln");
    let has = |part: &str| given.split(',').any(|known| known.trim() == part);
    let known = given.split(',').all(|part| matches!(part.trim(), "att" | "ffn" | "time" | "ln"));
    match (known && has("att") && has("ffn"), has("time"), has("ln")) {
        (true, time, ln) if time == ln => Ok(time),
        _ => Err(no(name, given, "att,ffn and att,ffn,time,ln")),
    }
}

fn refuse_what_cannot_be(request: &Request, tracked: Option<&str>) -> Result<()> {
    let fixed = |name: &str, only: &str| match optional_text(request, name)? {
        Some(other) if other != only => Err(no(name, other, only)),
        _ => Ok(()),
    };
    fixed("data_type", "binidx")?;
    fixed("my_testing", "x060")?;
    if let Some(project) = optional_text(request, "wandb")?.filter(|&project| Some(project) != tracked) {
        let known = tracked.map_or("leave 'wandb' empty".to_owned(), |known| {
            format!("leave 'wandb' empty or say '{known}'")
        });
        return Err(Error::Unsupported {
            message: format!(
                "wandb project '{}': the operator sets it (tuning.tracker, tuning.tracker_project); {known}",
                project.escape_debug()
            ),
        });
    }
    for (name, only) in [("epoch_begin", 0), ("pre_ffn", 0), ("head_qk", 0), ("devices", 1)] {
        let given = whole(request, name, only, 0..=MANY)?;
        if given != only {
            return Err(no(name, &given.to_string(), &only.to_string()));
        }
    }
    Ok(())
}

fn no(name: &str, given: &str, known: &str) -> Error {
    Error::Unsupported {
        message: format!("'{name}' is '{}'; this service takes {known}", given.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn defaults() -> TuneSettings {
        TuneSettings {
            method: TuneMethod::State,
            precision: "f32".into(),
            context_tokens: 1,
            chunk_tokens: 0,
            micro_batch: 1,
            accumulate: 1,
            epochs: 1,
            epoch_steps: 0,
            lr: 9.0,
            lr_final: 9.0,
            warmup_steps: 0,
            schedule: "cosine".into(),
            beta1: 0.0,
            beta2: 0.0,
            epsilon: 0.0,
            weight_decay: 0.0,
            clip: 1.0,
            checkpointing: false,
            l2wrap: true,
            mask: "answers".into(),
            sampling: "get".into(),
            seed: 7,
            rank: 1,
            alpha: 1.0,
            dropout: 0.5,
            svd_iterations: 1,
            train_mixes: false,
            checkpoint_steps: 1,
            format: "pth".into(),
        }
    }

    #[test]
    fn a_client_that_names_nothing_gets_rwkv_rags_defaults() {
        let state = of(TuneMethod::State, &Request::new("STATE_TUNING"), defaults(), None).unwrap();
        assert_eq!((state.micro_batch, state.epoch_steps, state.epochs), (1, 800, 10));
        assert_eq!((state.lr, state.lr_final, state.warmup_steps), (1.0, 0.01, 10));
        assert_eq!((state.precision.as_str(), state.sampling.as_str()), ("nf4", "pad"));
        assert_eq!((state.context_tokens, state.rank, state.checkpoint_steps), (1024, 0, 800));
        assert!(state.checkpointing && !state.train_mixes && state.seed == 7);
        let lora = of(TuneMethod::Lora, &Request::new("LORA"), defaults(), None).unwrap();
        assert_eq!((lora.rank, lora.alpha, lora.dropout, lora.svd_iterations), (64, 128.0, 0.01, 0));
        assert_eq!((lora.micro_batch, lora.epoch_steps, lora.epochs), (8, 1000, 20));
        assert!(lora.train_mixes);
        let pissa = of(TuneMethod::Pissa, &Request::new("PISSA"), defaults(), None).unwrap();
        assert_eq!((pissa.rank, pissa.alpha, pissa.dropout, pissa.svd_iterations), (64, 0.0, 0.0, 4));
        assert_eq!((pissa.precision.as_str(), pissa.epochs), ("bf16", 1));
    }

    #[test]
    fn what_a_client_names_is_taken_and_what_cannot_be_is_refused() {
        let given = Request::new("LORA")
            .with("quant", "none".into())
            .with("precision", "fp32".into())
            .with("lora_r", Value::Int(8))
            .with("parts", "att, ffn".into())
            .with("epoch_steps", Value::Int(3))
            .with("epoch_save", Value::Int(2))
            .with("grad_cp", Value::Int(0))
            .with("n_layer", Value::Int(24))
            .with("strategy", "deepspeed_stage_1".into())
            .with("wandb", "mine".into());
        let lora = of(TuneMethod::Lora, &given, defaults(), Some("mine")).unwrap();
        assert_eq!((lora.precision.as_str(), lora.rank, lora.checkpoint_steps), ("f32", 8, 6));
        assert!(!lora.train_mixes && !lora.checkpointing);
        for (name, value) in [
            ("quant", "fp4".into()),
            ("precision", "fp8".into()),
            ("wandb", "project".into()),
            ("parts", "att".into()),
            ("data_type", "numpy".into()),
            ("my_testing", "x070".into()),
            ("devices", Value::Int(2)),
            ("epoch_begin", Value::Int(1)),
            ("grad_cp", Value::Int(2)),
            ("lr_init", "fast".into()),
        ] {
            let given = given.clone().with(name, value);
            let error = of(TuneMethod::Lora, &given, defaults(), Some("mine")).unwrap_err();
            assert!(error.to_string().contains(name), "{name}: {error}");
        }
    }
}
