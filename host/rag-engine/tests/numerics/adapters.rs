//! Adapters and tuned states, against models into which the same change was merged.

use std::collections::BTreeMap;

use rag_core::{Error, Result};
use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::simd::Simd;
use rag_engine::random::Random;
use rag_engine::rwkv::{AdapterScale, Config, Engine, Logits, Model, Piece, State, Weights};

use super::engine;
use super::synthetic::{Synthetic, VOCABULARY};

/// Tensors by name.
#[derive(Default, Clone)]
struct Tensors(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Tensors {
    fn add(&mut self, name: &str, shape: &[usize], seed: u64, reach: f32) {
        let mut random = Random::seeded(seed);
        let len = shape.iter().product();
        let values = (0..len).map(|_| reach * (random.unit() as f32 * 2.0 - 1.0)).collect();
        self.0.insert(name.to_string(), (shape.to_vec(), values));
    }

    fn values(&self, name: &str) -> &[f32] {
        &self.0[name].1
    }
}

impl Weights for Tensors {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.get(name).map(|tensor| tensor.0.clone())
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        let found = self.0.get(name).ok_or_else(|| self.error(format!("no tensor {name}")))?;
        Ok(found.1.clone())
    }

    fn error(&self, message: String) -> Error {
        Error::Model { path: "adapter".to_string(), message }
    }
}

/// The synthetic model with some tensors changed.
struct Merged<'a>(Synthetic, &'a (dyn Fn(&str, &mut [f32]) + Send + Sync));

impl Weights for Merged<'_> {
    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.shape(name)
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        let mut values = self.0.read(name)?;
        (self.1)(name, &mut values);
        Ok(values)
    }

    fn error(&self, message: String) -> Error {
        self.0.error(message)
    }
}

const RANK: usize = 4;
const ALPHA: f32 = 8.0;
const TOKENS: [u32; 5] = [3, 250, 17, 17, 99];

/// A change of two matrices, a new norm and a new low-rank matrix.
fn adapter() -> Tensors {
    let mut tensors = Tensors::default();
    for (at, [out, input]) in [("blocks.0.att.key", [128, 128]), ("blocks.1.ffn.value", [128, 448])] {
        tensors.add(&format!("{at}.lora_A"), &[RANK, input], input as u64, 0.2);
        tensors.add(&format!("{at}.lora_B"), &[out, RANK], 7, 0.2);
    }
    tensors.add("blocks.1.ln2.weight", &[128], 8, 1.0);
    tensors.add("blocks.0.att.time_maa_w2", &[5, 32, 128], 9, 0.1);
    tensors
}

/// W + scale · B A, and new values.
fn merge(adapter: &Tensors, scale: f32, name: &str, values: &mut [f32]) {
    if adapter.0.contains_key(name) {
        values.copy_from_slice(adapter.values(name));
    }
    let stem = name.trim_end_matches(".weight");
    let (Some((_, a)), Some((_, b))) =
        (adapter.0.get(&format!("{stem}.lora_A")), adapter.0.get(&format!("{stem}.lora_B")))
    else {
        return;
    };
    let (rank, input) = (b.len() / (values.len() / (a.len() / RANK)), a.len() / RANK);
    for (row, values) in values.chunks_mut(input).enumerate() {
        for (c, value) in values.iter_mut().enumerate() {
            *value += scale * (0..rank).map(|r| b[row * rank + r] * a[r * input + c]).sum::<f32>();
        }
    }
}

fn logits(engine: &mut Engine) -> Vec<f32> {
    let mut state = State::zero(engine.config());
    engine.read(&TOKENS, &mut state).unwrap().to_vec()
}

fn near(a: &[f32], b: &[f32], tolerance: f32) -> bool {
    a.iter().zip(b).all(|(a, b)| (a - b).abs() < tolerance)
}

fn plain() -> Engine {
    engine(Model::read(&Synthetic::new(1), Format::F32).unwrap(), Simd::detect())
}

fn merged(change: &(dyn Fn(&str, &mut [f32]) + Send + Sync)) -> Engine {
    engine(Model::read(&Merged(Synthetic::new(1), change), Format::F32).unwrap(), Simd::detect())
}

#[test]
fn lora_beside_the_model_is_lora_merged_into_it() {
    let adapter = adapter();
    let mut engine = plain();
    let before = logits(&mut engine);
    let id = engine.add_adapter(&adapter, None, AdapterScale::Alpha(ALPHA)).unwrap();
    let mut state = State::zero(engine.config());
    let under = engine.read_with(&TOKENS, &mut state, Some(id)).unwrap().to_vec();
    let expected = logits(&mut merged(&|name, values| merge(&adapter, ALPHA / RANK as f32, name, values)));
    assert!(near(&under, &expected, 2e-3), "{:?} {:?}", &under[..4], &expected[..4]);
    assert!(!near(&under, &before, 0.05));
    assert_eq!(logits(&mut engine), before, "the model itself stays as it was");
}

#[test]
fn pissa_on_the_unchanged_model_adds_what_training_changed() {
    let adapter = adapter();
    let mut start = Tensors::default();
    for (name, (shape, values)) in adapter.0.iter().filter(|(name, _)| name.contains("lora")) {
        let name = format!("model.{}", name.replace("lora", "init_lora"));
        let values = values.iter().map(|value| value * 0.7 + 0.01).collect();
        start.0.insert(name, (shape.clone(), values));
    }
    let mut engine = plain();
    let id = engine.add_adapter(&adapter, Some(&start), AdapterScale::One).unwrap();
    let mut state = State::zero(engine.config());
    let under = engine.read_with(&TOKENS, &mut state, Some(id)).unwrap().to_vec();
    let base = Tensors(
        start
            .0
            .iter()
            .map(|(name, tensor)| (name.replace("model.", "").replace("init_", ""), tensor.clone()))
            .collect(),
    );
    let expected = logits(&mut merged(&|name, values| {
        merge(&adapter, 1.0, name, values);
        merge(&base, -1.0, name, values);
    }));
    assert!(near(&under, &expected, 2e-3), "{:?} {:?}", &under[..4], &expected[..4]);
}

/// y = W x + Dᵀ (Σ_q x[q·r .. (q+1)·r]), the last piece shorter where `r` does not divide the width.
#[test]
fn bone_beside_the_model_is_bone_merged_into_it() {
    for rank in [4, 48] {
        let (name, input) = ("blocks.1.ffn.value", 448);
        let mut adapter = Tensors::default();
        adapter.add(&format!("{name}.disha"), &[rank, 128], 5, 0.05);
        let mut engine = plain();
        let before = logits(&mut engine);
        let id = engine.add_adapter(&adapter, None, AdapterScale::One).unwrap();
        let mut state = State::zero(engine.config());
        let under = engine.read_with(&TOKENS, &mut state, Some(id)).unwrap().to_vec();
        let d = adapter.values(&format!("{name}.disha"));
        let expected = logits(&mut merged(&|tensor, values| {
            if tensor == format!("{name}.weight") {
                for (i, value) in values.iter_mut().enumerate() {
                    *value += d[(i % input % rank) * 128 + i / input];
                }
            }
        }));
        assert!(near(&under, &expected, 2e-3), "{:?} {:?}", &under[..4], &expected[..4]);
        assert!(!near(&under, &before, 0.02));
    }
}

#[test]
fn sequences_under_different_adapters_share_a_call() {
    for format in [Format::F32, Format::Int8] {
        let model = Model::read(&Synthetic::new(1), format).unwrap();
        let mut engine = engine(model, Simd::detect());
        let mut weaker = adapter();
        weaker.0.retain(|name, _| name.contains("lora"));
        let first = engine.add_adapter(&adapter(), None, AdapterScale::Alpha(ALPHA)).unwrap();
        let second = engine.add_adapter(&weaker, None, AdapterScale::One).unwrap();
        let adapters = [Some(second), None, Some(first), None, Some(second)];
        let mut states = vec![State::zero(engine.config()); adapters.len()];
        let mut pieces: Vec<Piece<'_>> = (states.iter_mut().zip(adapters))
            .map(|(state, adapter)| Piece { tokens: &TOKENS, state, logits: Logits::Last, adapter })
            .collect();
        pieces[3].logits = Logits::Hidden;
        let together = engine.forward(&mut pieces).to_vec();
        assert_eq!(engine.hidden().len(), TOKENS.len() * 128);
        let with_logits = adapters.into_iter().enumerate().filter(|(i, _)| *i != 3);
        for (place, (i, adapter)) in with_logits.enumerate() {
            let mut state = State::zero(engine.config());
            let alone = engine.read_with(&TOKENS, &mut state, adapter).unwrap();
            assert_eq!(alone, &together[place * VOCABULARY..(place + 1) * VOCABULARY], "{format:?} {i}");
            assert_eq!(state, states[i]);
        }
    }
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let mut engine = plain();
    for (name, shape, complaint) in [
        ("blocks.7.att.key.lora_A", vec![4, 128], "fit nothing"),
        ("blocks.0.att.key.lora_A", vec![4, 64], "no change to a 128 × 128"),
        ("blocks.0.att.key.disha", vec![4, 128], "both"),
        ("blocks.0.att.value.disha", vec![4, 100], "no change to a 128 × 128"),
        ("blocks.0.ln1.disha", vec![4, 128], "fit nothing"),
        ("blocks.0.ln1.bias", vec![64], "64 values instead of 128"),
    ] {
        let mut adapter = adapter();
        adapter.add(name, &shape, 1, 1.0);
        let error = engine.add_adapter(&adapter, None, AdapterScale::One).unwrap_err().to_string();
        assert!(error.contains(complaint), "{name}: {error}");
    }
    let mut half = adapter();
    half.0.remove("blocks.0.att.key.lora_B");
    assert!(engine.add_adapter(&half, None, AdapterScale::One).is_err());
}

#[test]
fn a_tuned_state_is_turned_to_key_by_value() {
    let config = Config::read(&Synthetic::new(1)).unwrap();
    let mut tuned = Tensors::default();
    for layer in 0..2 {
        tuned.add(&format!("blocks.{layer}.att.time_state"), &[2, 64, 64], layer, 1.0);
    }
    let state = State::tuned(&tuned, &config).unwrap();
    for layer in 0..2 {
        let stored = tuned.values(&format!("blocks.{layer}.att.time_state")).to_vec();
        let heads = state.heads(layer);
        for (head, key, value) in [(0, 0, 1), (1, 5, 63), (1, 40, 2)] {
            assert_eq!(heads[head * 4096 + key * 64 + value], stored[head * 4096 + value * 64 + key]);
        }
    }
    assert_eq!(State::from_bytes(&state.to_bytes(), &config).unwrap(), state);
    assert!(State::from_bytes(&state.to_bytes()[4..], &config).is_none());
    tuned.add("blocks.2.att.time_state", &[2, 64, 64], 3, 1.0);
    assert!(State::tuned(&tuned, &config).unwrap_err().to_string().contains("deeper model"));
    tuned.0.remove("blocks.1.att.time_state");
    assert!(State::tuned(&tuned, &config).is_err());
}
