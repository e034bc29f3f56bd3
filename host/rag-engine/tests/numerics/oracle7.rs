//! The trained RWKV-7 model that rwkv.cpp (MIT) ships in f32 with its logits: 12 layers of one head of 64.

use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::simd::Simd;
use rag_engine::rwkv::{Model, State, Version};

use super::ggml::GgmlFile;
use super::{argmax, engine, oracle_file};

/// The bytes `"in`.
const PROMPT: [u32; 3] = [34, 105, 110];

fn expected() -> Vec<f32> {
    let bytes = fs_err::read(oracle_file("expected-logits-7v0-834K.bin")).unwrap();
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn logits_are_the_published_ones() {
    let file = GgmlFile::open(&oracle_file("tiny-rwkv-7v0-834K-FP32.bin"));
    let expected = expected();
    for (format, tolerance) in
        [(Format::F32, 1e-4), (Format::Int8, 0.15), (Format::Int4, 1.2), (Format::Nf4, 1.2)]
    {
        for simd in Simd::available() {
            let mut engine = engine(Model::read(&file, format).unwrap(), simd);
            let config = engine.config();
            assert_eq!((config.layers, config.heads, config.head_size, config.hidden), (12, 1, 64, 256));
            assert!(matches!(config.version, Version::V7 { decay_rank: 32, gate_rank: 32, .. }));
            let mut state = State::zero(engine.config());
            let logits = engine.read(&PROMPT, &mut state).unwrap();
            let squares: f32 = logits.iter().zip(&expected).map(|(a, b)| (a - b).powi(2)).sum();
            let rms = (squares / 256.0).sqrt();
            assert!(rms < tolerance, "{format:?} {simd:?}: rms {rms}");
            if format != Format::Int4 && format != Format::Nf4 {
                assert_eq!(argmax(logits), argmax(&expected), "{format:?} {simd:?}");
            }
        }
    }
}
