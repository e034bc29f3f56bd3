//! Measures a language model: `language_model decode|prefill WEIGHTS VOCABULARY [f32|int8|int4] [threads]`.

use rag_engine::LanguageModelConfig;
use rag_engine::bench::{self, What};
use rag_engine::cpu::matrix::Format;

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, weights, vocabulary, rest @ ..] = arguments.as_slice() else {
        return Err("decode|prefill WEIGHTS VOCABULARY [FORMAT] [THREADS]".to_string());
    };
    let what = if what == "decode" { What::Decode } else { What::Prefill };
    let config = LanguageModelConfig {
        weights: weights.into(),
        vocabulary: vocabulary.into(),
        name: "bench".to_string(),
        slots: 8,
        queue_max: 8,
        threads: rest.get(1).and_then(|threads| threads.parse().ok()).unwrap_or(0),
        state_cache_bytes: 0,
        quantize: rest.first().and_then(|name| Format::parse(name)),
        demonstration: true,
    };
    for result in bench::run(what, &config).map_err(|e| e.to_string())? {
        eprintln!("{:24} {:10.1} {}", result.name, result.value, result.unit);
    }
    Ok(())
}
