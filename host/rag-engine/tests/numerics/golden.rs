//! The trained models, against ids, logits, tokens and states that PyPI `rwkv` 0.8.32 computed in f32, and against the
//! same formulas in f64 (fields ending in `_f64`).

use std::path::Path;

use rag_engine::checkpoint;
use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::simd::Simd;
use rag_engine::rwkv::{Engine, Model, State};
use rag_engine::tokenizer::Tokenizer;
use serde_json::Value;

use super::{argmax, engine, models_dir, oracle_file};

/// How far from the golden numbers a format may be.
struct Tolerance {
    logit: f32,
    /// Relative to the sum of magnitudes.
    state: f64,
    /// Of all greedy tokens, how many must agree.
    greedy: f64,
}

/// Compares with the golden fields that end in `suffix`.
fn check(path: &Path, golden: &Path, format: Format, suffix: &str, tolerance: &Tolerance) {
    let weights = checkpoint::open(path).unwrap();
    let mut engine = engine(Model::read(&*weights, format).unwrap(), Simd::detect());
    let world = Tokenizer::load(&models_dir().join("rwkv_vocab_v20230424.txt")).unwrap();
    let golden: Value = serde_json::from_str(&fs_err::read_to_string(golden).unwrap()).unwrap();
    let (mut same, mut all) = (0, 0);
    for case in golden["cases"].as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        let ids: Vec<u32> = numbers(&case["ids"]).iter().map(|&id| id as u32).collect();
        assert_eq!(world.encode(prompt), ids, "{prompt:?}");

        let mut state = State::zero(engine.config());
        let logits = engine.read(&ids, &mut state).unwrap().to_vec();
        let near = |got: f32, want: f64| {
            assert!(
                (f64::from(got) - want).abs() <= f64::from(tolerance.logit),
                "{prompt:?}: {got} for {want}"
            );
        };
        let field = |name: &str| &case[format!("{name}{suffix}")];
        for (&got, want) in logits.iter().zip(numbers(field("logits_first8"))) {
            // Ids that a packed file leaves out have no logit.
            if got.is_finite() {
                near(got, want);
            }
        }
        for pair in field("top5").as_array().unwrap() {
            let pair = numbers(pair);
            near(logits[pair[0] as usize], pair[1]);
        }
        let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        near(sum.ln() as f32, field("logsumexp").as_f64().unwrap());
        check_state(&engine, &state, [field("state_l0_sum"), field("state_last_abs_sum")], tolerance);

        let mut next = argmax(&logits);
        for want in numbers(&case["greedy16"]) {
            all += 1;
            same += usize::from(f64::from(next) == want);
            // Follow the golden text, so that one different choice is one difference.
            next = argmax(engine.read(&[want as u32], &mut state).unwrap());
        }
    }
    assert!(same as f64 >= tolerance.greedy * all as f64, "{same} of {all} greedy tokens agree");
}

fn check_state(engine: &Engine, state: &State, want: [&Value; 2], tolerance: &Tolerance) {
    let absolute = |layer| state.heads(layer).iter().map(|&v| f64::from(v).abs()).sum::<f64>();
    let signed: f64 = state.heads(0).iter().map(|&v| f64::from(v)).sum();
    let last = absolute(engine.config().layers - 1);
    // The signed sum nearly cancels: its error is measured against what was added up.
    for (got, want, scale) in [(signed, want[0], absolute(0)), (last, want[1], last)] {
        let want = want.as_f64().unwrap();
        let error = (got - want).abs() / scale;
        assert!(error <= tolerance.state, "{got} for {want}: {error:.2e}");
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// `RAG_STANDIN_PTH` names an f16 checkpoint of one of the golden files; they are too large for the repository.
#[test]
fn the_checkpoint_gives_the_golden_numbers() {
    let Some(path) = std::env::var_os("RAG_STANDIN_PTH") else { return };
    let path = Path::new(&path);
    let golden = oracle_file(&format!("{}.golden.json", path.file_stem().unwrap().display()));
    let exact = Tolerance { logit: 1e-4, state: 1e-5, greedy: 1.0 };
    check(path, &golden, Format::F32, "_f64", &exact);
    // Upstream's f32 is itself this far from f64.
    let upstream = Tolerance { logit: 2.5e-3, state: 1.5e-3, greedy: 1.0 };
    check(path, &golden, Format::F32, "", &upstream);
    let int8 = Tolerance { logit: 0.4, state: 0.05, greedy: 0.95 };
    check(path, &golden, Format::Int8, "_f64", &int8);
}

/// What ships is quantised (tables and channel mix nf4, time mix int8) and lacks the rows of unused ids.
#[test]
fn the_shipped_file_stays_near_the_golden_numbers() {
    let rounded = Tolerance { logit: 2.0, state: 0.04, greedy: 0.9 };
    let path = models_dir().join("rwkv6-demo.safetensors");
    check(&path, &oracle_file("rwkv6-ragkit.golden.json"), Format::F32, "_f64", &rounded);
}
