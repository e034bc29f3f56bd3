//! The trained 3 M model that rwkv.cpp (MIT) ships with the logits of its f32 original: 12 layers, 16 heads of 8.

use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::simd::Simd;
use rag_engine::rwkv::{Engine, Model, State, Version};

use super::ggml::GgmlFile;
use super::{argmax, engine, oracle_file};

/// The bytes `"in`.
const PROMPT: [u32; 3] = [34, 105, 110];

pub(crate) fn oracle_engine(format: Format, simd: Simd) -> Engine {
    let file = GgmlFile::open(&oracle_file("tiny-rwkv-6v0-3m-Q5_1.bin"));
    engine(Model::read(&file, format).unwrap(), simd)
}

fn expected() -> Vec<f32> {
    let bytes = fs_err::read(oracle_file("expected-logits-6v0-3m.bin")).unwrap();
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn logits(format: Format, simd: Simd) -> Vec<f32> {
    let mut engine = oracle_engine(format, simd);
    let mut state = State::zero(engine.config());
    engine.read(&PROMPT, &mut state).unwrap().to_vec()
}

fn rms(a: &[f32], b: &[f32]) -> f32 {
    (a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / a.len() as f32).sqrt()
}

#[test]
fn sizes_are_read_from_the_shapes() {
    let engine = oracle_engine(Format::F32, Simd::detect());
    let config = engine.config();
    assert_eq!((config.layers, config.width, config.heads, config.head_size), (12, 128, 16, 8));
    assert_eq!((config.hidden, config.vocabulary), (448, 256));
    assert_eq!(config.version, Version::V6 { mix_rank: 32, decay_rank: 64 });
}

/// What an independent f64 forward of the same dequantised weights gives; our own rounding is all that may differ.
#[test]
fn f32_logits_are_those_of_another_implementation() {
    let dequantised = [7.062709, -15.018184, -14.93853, -14.641736, -14.658101, -14.983758];
    for simd in Simd::available() {
        let logits = logits(Format::F32, simd);
        for (got, want) in logits.iter().zip(dequantised) {
            assert!((got - want).abs() < 2e-4, "{simd:?}: {got} for {want}");
        }
        assert!((logits.iter().sum::<f32>() - -2831.208).abs() < 0.01, "{}", logits.iter().sum::<f32>());
    }
}

/// The published logits are the f32 original's: the difference is the file's own Q5_1 rounding (0.015), ours on top.
#[test]
fn logits_are_near_the_published_ones_in_every_format() {
    let expected = expected();
    assert_eq!(expected.len(), 256);
    for (format, tolerance) in
        [(Format::F32, 0.016), (Format::Int8, 0.06), (Format::Int4, 0.45), (Format::Nf4, 0.45)]
    {
        for simd in Simd::available() {
            let logits = logits(format, simd);
            let rms = rms(&logits, &expected);
            assert!(rms < tolerance, "{format:?} {simd:?}: rms {rms}");
            assert_eq!(argmax(&logits), 0, "{format:?} {simd:?}");
        }
    }
}

#[test]
fn instruction_sets_agree() {
    for format in [Format::Int8, Format::Int4, Format::Nf4] {
        let scalar = logits(format, Simd::Scalar);
        for simd in Simd::available() {
            assert_eq!(logits(format, simd), scalar, "{format:?} {simd:?}");
        }
    }
    let scalar = logits(Format::F32, Simd::Scalar);
    for simd in Simd::available() {
        assert!(rms(&logits(Format::F32, simd), &scalar) < 1e-4, "{simd:?}");
    }
}
