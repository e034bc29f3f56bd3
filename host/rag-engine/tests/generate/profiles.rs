//! One copy of the weights writes, embeds and scores; prefixes are prepared, per tenant, and outlive the process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rag_core::Error;
use rag_engine::profile::{AdapterConfig, DEFAULT_PROFILE, Pooling, ProfileConfig, ReadOutConfig};
use rag_engine::random::Random;
use rag_engine::rwkv::{AdapterScale, Logits, Piece, State};
use rag_engine::{DiskCache, LanguageModel, LanguageModelConfig};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::synthetic::Synthetic;
use super::{answer, collect, config, engine_of, model, plainly, request, text_of, tokenizer};

fn write(path: &Path, tensors: &[(&str, Vec<usize>)]) {
    let mut random = Random::seeded(5);
    let values: Vec<Vec<u8>> = (tensors.iter())
        .map(|(_, shape)| {
            let len: usize = shape.iter().product();
            (0..len).flat_map(|_| (random.unit() as f32 - 0.5).to_le_bytes()).collect()
        })
        .collect();
    let views = (tensors.iter().zip(&values))
        .map(|((name, shape), bytes)| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None::<HashMap<String, String>>, path).unwrap();
}

fn profile(name: &str, read_out: ReadOutConfig) -> ProfileConfig {
    ProfileConfig { name: name.to_string(), state: None, adapter: None, read_out }
}

/// A text writer under a tuned state, one under an adapter, an embedder and a scorer.
fn profiles(folder: &Path) -> Vec<ProfileConfig> {
    let file = |name: &str, tensors: &[(&str, Vec<usize>)]| -> PathBuf {
        let path = folder.join(name);
        write(&path, tensors);
        path
    };
    let states = ["blocks.0.att.time_state", "blocks.1.att.time_state"].map(|name| (name, vec![2, 64, 64]));
    let state = Some(file("state.safetensors", &states));
    let halves = [("blocks.0.att.key.lora_A", vec![4, 128]), ("blocks.0.att.key.lora_B", vec![128, 4])];
    let path = file("lora.safetensors", &halves);
    let adapter = Some(AdapterConfig { path, pissa_start: None, scale: AdapterScale::Alpha(16.0) });
    let head = file("score.safetensors", &[("score.weight", vec![1, 128]), ("score.bias", vec![1])]);
    let pooled = ReadOutConfig::Pooled { pooling: Pooling::Mean, end: vec![2], dense: None, unit: true };
    vec![
        ProfileConfig { state, ..profile("tuned", ReadOutConfig::Language) },
        ProfileConfig { adapter: adapter.clone(), ..profile("adapted", ReadOutConfig::Language) },
        profile("vector", pooled),
        ProfileConfig { adapter, ..profile("score", ReadOutConfig::Score { end: vec![2], head }) },
    ]
}

#[tokio::test]
async fn generation_embedding_and_scoring_run_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let with = LanguageModelConfig { profiles: profiles(folder.path()), ..config() };
    let model = model(with);
    let long = "word1 word2 天气. ".repeat(60);
    let tuned = answer_as(&model, "tuned").await;
    let adapted = answer_as(&model, "adapted").await;
    let vector = model.read_out("vector", "", &long).await.unwrap();
    let score = model.read_out("score", "", &long).await.unwrap();
    assert_ne!(tuned, adapted);
    assert_ne!(tuned, text_of(&plainly("hello", 20)));
    assert_eq!((vector.len(), score.len()), (128, 1));
    assert!((vector.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
    assert_eq!(vector, mean_of_rows(&long));

    // All at once: every result is that of its solo run.
    let plain = model.generate_as(DEFAULT_PROFILE, request("hello", 20)).unwrap();
    let (text, vector_again, score_again, tuned_again, adapted_again) = tokio::join!(
        collect(plain),
        model.read_out("vector", "", &long),
        model.read_out("score", "", &long),
        answer_as(&model, "tuned"),
        answer_as(&model, "adapted"),
    );
    assert_eq!(text.0, text_of(&plainly("hello", 20)));
    assert_eq!((vector_again.unwrap(), score_again.unwrap()), (vector, score));
    assert_eq!((tuned_again, adapted_again), (tuned, adapted));

    for (profile, name) in [("vector", "writes no text"), ("nothing", "does not exist")] {
        let refused = model.generate_as(profile, request("a", 1)).err().unwrap();
        assert!(refused.to_string().contains(name), "{refused}");
    }
    assert!(matches!(model.read_out("tuned", "", "a").await, Err(Error::InvalidInput { .. })));
}

async fn answer_as(model: &LanguageModel, profile: &str) -> String {
    collect(model.generate_as(profile, request("hello", 20)).unwrap()).await.0
}

/// What the profile `vector` means, without the worker.
fn mean_of_rows(text: &str) -> Vec<f32> {
    let mut engine = engine_of(&Synthetic::new(1));
    let mut tokens = tokenizer().encode(text);
    tokens.push(2);
    let mut state = State::zero(engine.config());
    let mut sum = vec![0f32; 128];
    for tokens in tokens.chunks(256) {
        engine.forward(&mut [Piece { tokens, state: &mut state, logits: Logits::Hidden, adapter: None }]);
        for row in engine.hidden().chunks(128) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }
    sum.iter_mut().for_each(|value| *value /= tokens.len() as f32);
    let squares: Vec<f32> = sum.iter().map(|value| value * value).collect();
    let length = rag_engine::cpu::maths::sum(&squares, |x| x).sqrt();
    sum.iter().map(|value| value / length).collect()
}

#[tokio::test]
async fn a_prepared_prefix_is_known_to_its_tenant_only_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let disk = DiskCache { dir: folder.path().join("states"), bytes_max: 64 << 20 };
    let with = || LanguageModelConfig {
        state_cache_bytes: 8 << 20,
        state_cache_disk: Some(disk.clone()),
        ..config()
    };
    let document = "word1 word2 and more. ".repeat(50);
    let prompt = format!("{document}What?");
    let expected = answer(&model(config()), request(&prompt, 8)).await;
    {
        let model = model(with());
        let prepared = model.prepare(DEFAULT_PROFILE, "kb:a", &document).await.unwrap();
        assert!(prepared as usize >= tokenizer().count(&document) - 8);
        let mut known = 0;
        for (tenant, share) in [("kb:b", false), ("kb:a", true)] {
            let asked = rag_core::ports::GenerateRequest { tenant: tenant.into(), ..request(&prompt, 8) };
            assert_eq!(answer(&model, asked).await, expected, "{tenant}");
            let now = model.totals().prompt_tokens_known - known;
            assert_eq!(now >= u64::from(prepared), share, "{tenant}: {now} of {prepared}");
            known += now;
        }
    }
    while fs_err::read_dir(&disk.dir)
        .unwrap()
        .all(|file| file.unwrap().path().extension().is_none_or(|ending| ending != "state"))
    {
        tokio::task::yield_now().await;
    }
    let again = model(with());
    let asked = rag_core::ports::GenerateRequest { tenant: "kb:a".into(), ..request(&prompt, 8) };
    assert_eq!(answer(&again, asked).await, expected);
    assert!(again.totals().prompt_tokens_known > 0);
}

/// Only the last token of a prompt is read when the rest is known: no more work than a prompt of one token.
#[tokio::test]
async fn a_long_known_prefix_costs_one_token() {
    let model = model(LanguageModelConfig { state_cache_bytes: 8 << 20, ..config() });
    let prompt = "x".repeat(4096);
    for known in [0, 4095] {
        let before = model.totals().prompt_tokens_known;
        answer(&model, request(&prompt, 1)).await;
        assert_eq!(model.totals().prompt_tokens_known - before, known);
    }
}
