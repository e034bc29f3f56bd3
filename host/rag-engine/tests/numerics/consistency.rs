//! However tokens are grouped into calls, and whatever stands beside them, each sequence gets the same result.

use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::simd::Simd;
use rag_engine::random::Random;
use rag_engine::rwkv::{Config, Engine, Logits, Model, Piece, State, Weights};

use super::engine;
use super::synthetic::{Synthetic, VOCABULARY};

/// Both versions in all formats.
fn engines() -> impl Iterator<Item = (String, Engine)> {
    let both =
        ["RWKV-6", "RWKV-7"].into_iter().flat_map(|version| Format::ALL.map(|format| (version, format)));
    both.map(|(version, format)| {
        let weights = if version == "RWKV-6" { Synthetic::new(1) } else { Synthetic::version7(1) };
        let engine = engine(Model::read(&weights, format).unwrap(), Simd::detect());
        assert_eq!(engine.config().architecture(), version);
        (format!("{version} {format:?}"), engine)
    })
}

fn synthetic_engine(format: Format) -> Engine {
    engine(Model::read(&Synthetic::new(1), format).unwrap(), Simd::detect())
}

fn tokens(len: usize, seed: u64) -> Vec<u32> {
    let mut random = Random::seeded(seed);
    (0..len).map(|_| random.below(VOCABULARY as u64) as u32).collect()
}

fn all_logits(engine: &mut Engine, tokens: &[u32], state: &mut State) -> Vec<f32> {
    engine.forward(&mut [Piece { tokens, state, logits: Logits::All, adapter: None }]).to_vec()
}

#[test]
fn token_by_token_equals_one_call() {
    for (what, mut engine) in engines() {
        let tokens = tokens(75, 2);
        let mut together = State::zero(engine.config());
        let at_once = all_logits(&mut engine, &tokens, &mut together);
        let mut alone = State::zero(engine.config());
        let one_by_one: Vec<f32> =
            tokens.iter().flat_map(|&token| all_logits(&mut engine, &[token], &mut alone)).collect();
        assert_eq!(at_once, one_by_one, "{what}");
        assert_eq!(together, alone, "{what}");
    }
}

#[test]
fn sequences_together_equal_each_alone() {
    for (what, mut engine) in engines() {
        let lengths = [1, 30, 1, 7, 64, 1];
        let texts: Vec<Vec<u32>> = lengths.iter().map(|&len| tokens(len, len as u64)).collect();
        let zero = State::zero(engine.config());
        let mut states = vec![zero.clone(); texts.len()];
        let mut pieces: Vec<Piece<'_>> = (texts.iter().zip(&mut states))
            .map(|(tokens, state)| Piece { tokens, state, logits: Logits::Last, adapter: None })
            .collect();
        let together = engine.forward(&mut pieces).to_vec();
        for (i, tokens) in texts.iter().enumerate() {
            let mut state = zero.clone();
            let alone = engine.read(tokens, &mut state).unwrap();
            assert_eq!(alone, &together[i * VOCABULARY..(i + 1) * VOCABULARY], "{what} {i}");
            assert_eq!(state, states[i], "{what} {i}");
        }
    }
}

#[test]
fn a_long_text_is_read_in_parts() {
    let mut engine = synthetic_engine(Format::Int8);
    let tokens = tokens(600, 3);
    let mut state = State::zero(engine.config());
    let whole = engine.read(&tokens, &mut state).unwrap().to_vec();
    let mut other = State::zero(engine.config());
    engine.read(&tokens[..431], &mut other);
    assert_eq!(engine.read(&tokens[431..], &mut other).unwrap(), whole);
    assert_eq!(state, other);
    assert!(engine.read(&[], &mut state).is_none());
}

#[test]
fn a_restored_state_goes_on_to_the_bit() {
    for (what, mut engine) in engines() {
        let mut state = State::zero(engine.config());
        engine.read(&tokens(40, 4), &mut state);
        let saved = state.clone();
        let first = engine.read(&tokens(20, 5), &mut state).unwrap().to_vec();
        assert_ne!(state, saved);
        engine.read(&tokens(9, 6), &mut state);
        state.copy_from(&saved);
        assert_eq!(engine.read(&tokens(20, 5), &mut state).unwrap(), first, "{what}");
        state.clear();
        assert_eq!(state, State::zero(engine.config()));
    }
}

#[test]
fn formats_differ_by_rounding_only() {
    let tokens = tokens(50, 7);
    let mut exact = Vec::new();
    for (what, mut engine) in engines() {
        let mut state = State::zero(engine.config());
        let logits = engine.read(&tokens, &mut state).unwrap().to_vec();
        if what.ends_with("F32") {
            exact = logits;
            continue;
        }
        let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
        let error =
            norm(&mut logits.iter().zip(&exact).map(|(a, b)| a - b)) / norm(&mut exact.iter().copied());
        let tolerance = if what.ends_with("Int8") { 0.05 } else { 0.5 };
        assert!(error <= tolerance, "{what}: {error} > {tolerance}");
    }
}

/// A file whose embeddings were normalised already has no ln0.
#[test]
fn a_folded_first_norm_gives_the_same() {
    struct Folded(Synthetic);
    impl Weights for Folded {
        fn names(&self) -> Vec<String> {
            self.0.names().into_iter().filter(|name| !name.contains("ln0")).collect()
        }
        fn shape(&self, name: &str) -> Option<Vec<usize>> {
            self.0.shape(name).filter(|_| !name.contains("ln0"))
        }
        fn read(&self, name: &str) -> rag_core::Result<Vec<f32>> {
            let mut values = self.0.read(name)?;
            if name == "emb.weight" {
                let norm =
                    ["weight", "bias"].map(|part| self.0.read(&format!("blocks.0.ln0.{part}")).unwrap());
                for row in values.chunks_mut(norm[0].len()) {
                    let n = row.len() as f32;
                    let mean = row.iter().sum::<f32>() / n;
                    let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n;
                    for (value, (w, b)) in row.iter_mut().zip(norm[0].iter().zip(&norm[1])) {
                        *value = (*value - mean) / (variance + 1e-5).sqrt() * w + b;
                    }
                }
            }
            Ok(values)
        }
        fn error(&self, message: String) -> rag_core::Error {
            self.0.error(message)
        }
    }
    let tokens = tokens(20, 8);
    let mut plain = synthetic_engine(Format::F32);
    let mut folded = engine(Model::read(&Folded(Synthetic::new(1)), Format::F32).unwrap(), Simd::detect());
    let [mut a, mut b] = [State::zero(plain.config()), State::zero(folded.config())];
    let want = plain.read(&tokens, &mut a).unwrap();
    for (got, want) in folded.read(&tokens, &mut b).unwrap().iter().zip(want) {
        assert!((got - want).abs() < 1e-3, "{got} {want}");
    }
}

#[test]
fn models_that_are_none_are_refused() {
    struct Changed(Synthetic, &'static str, Vec<usize>);
    impl Weights for Changed {
        fn names(&self) -> Vec<String> {
            self.0.names().into_iter().filter(|name| !self.2.is_empty() || !name.contains(self.1)).collect()
        }
        fn shape(&self, name: &str) -> Option<Vec<usize>> {
            if name.contains(self.1) {
                return (!self.2.is_empty()).then(|| self.2.clone());
            }
            self.0.shape(name)
        }
        fn read(&self, name: &str) -> rag_core::Result<Vec<f32>> {
            let len = self.shape(name).map_or(0, |shape| shape.iter().product());
            let values = self.0.read(name)?;
            Ok(values.into_iter().cycle().take(len).collect())
        }
        fn error(&self, message: String) -> rag_core::Error {
            self.0.error(message)
        }
    }
    for (name, shape, complaint) in [
        ("time_maa", vec![], "no tensor is named time_maa"),
        ("emb.weight", vec![], "no tensor emb.weight"),
        ("emb.weight", vec![300, 127], "do not fit"),
        ("emb.weight", vec![300], "instead of two sizes"),
        ("time_maa_w1", vec![128, 161], "no multiple of five"),
        ("att.key.weight", vec![128, 64], "not the 128 × 128"),
        ("time_maa_w2", vec![4, 32, 128], "not the 128 × 32"),
        ("ln_out.bias", vec![64], "64 values instead of 128"),
    ] {
        let error =
            Model::read(&Changed(Synthetic::new(1), name, shape), Format::F32).unwrap_err().to_string();
        assert!(error.contains(complaint), "{name}: {error}");
    }
    let config = Config::read(&Synthetic::new(1)).unwrap();
    assert_eq!((config.heads, config.head_size, config.layers), (2, 64, 2));
}
