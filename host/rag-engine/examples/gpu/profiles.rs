//! Whether adapters, tuned states, vectors and scores are on a GPU what they are on the CPU, side by side in one call.

use std::collections::BTreeMap;
use std::path::Path;

use rag_core::Error;
use rag_core::ports::{GenerateRequest, GenerationEvent, Sampling};
use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::pool::Pool;
use rag_engine::cpu::product::Cpu;
use rag_engine::cpu::simd::Simd;
use rag_engine::profile::{AdapterConfig, Pooling, ProfileConfig, ReadOutConfig};
use rag_engine::random::Random;
use rag_engine::rwkv::cuda::{Dense, Engine, Options, Piece, Tuning};
use rag_engine::rwkv::{
    AdapterScale, Config, Engine as CpuEngine, Formats, Logits, Model, Piece as CpuPiece, Version, Weights,
};
use rag_engine::{Device, LanguageModel, LanguageModelConfig, checkpoint};

use super::check::{Outcome, error, within};

const RANK: usize = 16;

/// Tensors by name.
#[derive(Default)]
struct Tensors(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Tensors {
    fn add(&mut self, name: &str, shape: &[usize], reach: f32) {
        let mut random = Random::seeded(name.bytes().map(u64::from).sum());
        let values =
            (0..shape.iter().product()).map(|_| reach * (random.unit() as f32 * 2.0 - 1.0)).collect();
        self.0.insert(name.to_string(), (shape.to_vec(), values));
    }

    /// LoRA of all large matrices, and new values of what is trained beside it.
    fn adapter(config: &Config) -> Self {
        let (width, hidden) = (config.width, config.hidden);
        let square = [width, width];
        let mut tensors = Self::default();
        let sizes = [
            ("att.key", square),
            ("att.value", square),
            ("att.receptance", square),
            ("att.output", square),
            ("ffn.key", [hidden, width]),
            ("ffn.value", [width, hidden]),
        ];
        let (gates, share, decay, rank) = match config.version {
            Version::V6 { decay_rank, .. } => (
                vec![("att.gate", square), ("ffn.receptance", square)],
                "time_maa_k",
                "time_decay_w2",
                decay_rank,
            ),
            Version::V7 { decay_rank, .. } => (Vec::new(), "x_k", "w2", decay_rank),
        };
        for layer in 0..config.layers {
            for &(part, [out, input]) in sizes.iter().chain(&gates) {
                tensors.add(&format!("blocks.{layer}.{part}.lora_A"), &[RANK, input], 0.1);
                tensors.add(&format!("blocks.{layer}.{part}.lora_B"), &[out, RANK], 0.1);
            }
            tensors.add(&format!("blocks.{layer}.att.{share}"), &[width], 0.5);
            tensors.add(&format!("blocks.{layer}.att.{decay}"), &[rank, width], 0.1);
        }
        tensors
    }

    fn write(&self, path: &Path) {
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = (self.0.iter())
            .map(|(name, (shape, values))| {
                (name.clone(), shape.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
            })
            .collect();
        let views = bytes.iter().map(|(name, shape, bytes)| {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
            (name, view.unwrap())
        });
        safetensors::serialize_to_file(views, None, path).unwrap();
    }
}

impl Weights for Tensors {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.get(name).map(|tensor| tensor.0.clone())
    }

    fn read(&self, name: &str) -> rag_core::Result<Vec<f32>> {
        self.0.get(name).map(|tensor| tensor.1.clone()).ok_or_else(|| self.error(format!("no tensor {name}")))
    }

    fn error(&self, message: String) -> Error {
        Error::Model { path: "adapter".to_string(), message }
    }
}

/// Sequences with and without an adapter in one call, prompts and single tokens, against the CPU.
pub(crate) fn adapters(label: &str, weights: &dyn Weights, format: Format, dense: Dense, bound: f64) {
    match adapters_of(weights, format, dense, bound) {
        Ok(text) => println!("ok   {label} {} {dense:?}: adapters: {text}", format.name()),
        Err(error) => println!("FAIL {label} {} {dense:?}: adapters: {error}", format.name()),
    }
}

fn adapters_of(weights: &dyn Weights, format: Format, dense: Dense, bound: f64) -> Outcome {
    let formats = Formats::of(format);
    let cpu = Cpu { pool: Pool::new(2)?, simd: Simd::detect() };
    let mut cpu = CpuEngine::new(Model::read(weights, format)?, cpu);
    let options = Options { device: 0, sequences: 16, formats, dense, tuning: Tuning::default() };
    let mut gpu = Engine::load(weights, &options)?;
    let adapter = Tensors::adapter(cpu.config());
    let scale = AdapterScale::Alpha(RANK as f32);
    let on_cpu = cpu.add_adapter(&adapter, None, scale)?;
    let on_gpu = gpu.add_adapter(&adapter, None, scale)?;
    let texts: [(&[u32], bool); 4] =
        [(&[1, 5, 9, 40, 77, 3], true), (&[8], false), (&[12, 13, 14, 15], false), (&[9], true)];
    let mut worst: f64 = 0.0;
    let mut states = Vec::new();
    for _ in texts {
        states.push(gpu.state()?);
    }
    for round in 1..=3 {
        let mut pieces: Vec<Piece<'_>> = (texts.iter().zip(&mut states))
            .map(|((tokens, adapted), state)| Piece {
                tokens,
                state,
                logits: Logits::Last,
                draw: None,
                adapter: adapted.then_some(on_gpu),
            })
            .collect();
        gpu.forward(&mut pieces)?;
        let vocabulary = gpu.config().vocabulary;
        for (i, (tokens, adapted)) in texts.iter().enumerate() {
            let mut state = cpu.initial_state();
            let tokens = tokens.repeat(round);
            let adapter = adapted.then_some(on_cpu);
            let piece = CpuPiece { tokens: &tokens, state: &mut state, logits: Logits::Last, adapter };
            let want = cpu.forward(&mut [piece]).to_vec();
            let plain = cpu.read(&tokens, &mut cpu.initial_state()).ok_or("no logits")?.to_vec();
            let moved = error(&want, &plain);
            if *adapted && moved < 1e-3 {
                return Err(format!("the adapter changes logits by {moved:.1e} only").into());
            }
            worst = worst.max(error(&gpu.logits()[i * vocabulary..(i + 1) * vocabulary], &want));
        }
    }
    within("logits", worst, bound)
}

/// A served model's profiles on the CPU and on a GPU: `gpu profiles MODEL VOCABULARY`.
pub(crate) fn served(model: &str, vocabulary: &str) {
    match served_by_both(model, vocabulary) {
        Ok(text) => println!("ok   profiles of {model}: {text}"),
        Err(error) => println!("FAIL profiles of {model}: {error}"),
    }
}

fn served_by_both(model: &str, vocabulary: &str) -> Outcome {
    let config = Config::read(&*checkpoint::open(Path::new(model))?)?;
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name);
    Tensors::adapter(&config).write(&path("adapter.safetensors"));
    let mut state = Tensors::default();
    for layer in 0..config.layers {
        state.add(&format!("blocks.{layer}.att.time_state"), &[config.heads, 64, 64], 3.0);
    }
    state.write(&path("state.safetensors"));
    let mut head = Tensors::default();
    head.add("score.weight", &[1, config.width], 0.1);
    head.write(&path("score.safetensors"));
    let adapter = Some(AdapterConfig {
        path: path("adapter.safetensors"),
        pissa_start: None,
        scale: AdapterScale::Alpha(2.0 * RANK as f32),
    });
    let profile = |name: &str, read_out| ProfileConfig {
        name: name.to_string(),
        state: Some(path("state.safetensors")),
        adapter: None,
        read_out,
    };
    let pooled = |pooling| ReadOutConfig::Pooled { pooling, end: vec![1], dense: None, unit: true };
    let profiles = vec![
        ProfileConfig { state: None, ..profile("bare", pooled(Pooling::Mean)) },
        profile("tuned", pooled(Pooling::Mean)),
        ProfileConfig { adapter: adapter.clone(), state: None, ..profile("adapted", pooled(Pooling::Mean)) },
        profile("last", pooled(Pooling::Last)),
        profile("score", ReadOutConfig::Score { end: vec![1], head: path("score.safetensors") }),
        ProfileConfig { adapter, ..profile("written", ReadOutConfig::Language) },
    ];
    let load = |device| {
        LanguageModel::load(LanguageModelConfig {
            weights: model.into(),
            vocabulary: vocabulary.into(),
            name: "checked".to_string(),
            device,
            slots: 16,
            queue_max: 64,
            threads: 2,
            state_cache_bytes: 64 << 20,
            state_cache_disk: None,
            profiles: profiles.clone(),
            quantize: None,
            demonstration: true,
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let cpu = runtime.block_on(outcomes(&*load(Device::Cpu)?))?;
    let gpu = runtime.block_on(outcomes(&*load(Device::Cuda(vec![0]))?))?;
    let mut text = String::new();
    for (name, (cpu, gpu)) in READ.iter().zip(cpu.vectors.iter().zip(&gpu.vectors)) {
        text += &within(&format!("{name}, {} values,", cpu.len()), error(gpu, cpu), 0.06)?;
        text += "; ";
    }
    for (index, name) in [(1, "state"), (2, "adapter")] {
        let moved = error(&gpu.vectors[index], &gpu.vectors[0]);
        if moved < 1e-3 {
            return Err(format!("the {name} changes vectors by {moved:.1e} only").into());
        }
    }
    for (name, (cpu, gpu)) in ["plain", "written"].iter().zip(cpu.texts.iter().zip(&gpu.texts)) {
        let same = cpu.chars().zip(gpu.chars()).take_while(|(a, b)| a == b).count();
        text += &format!("{name}: {same} of {} characters the same; ", cpu.chars().count());
        if same == 0 && !cpu.is_empty() {
            return Err(format!("{name}: {cpu:?} on the CPU, {gpu:?} on the GPU").into());
        }
    }
    Ok(text)
}

/// Profiles that are read out.
const READ: [&str; 5] = ["bare", "tuned", "adapted", "last", "score"];

struct Outcomes {
    vectors: Vec<Vec<f32>>,
    texts: Vec<String>,
}

/// What all profiles give, all at once.
async fn outcomes(model: &LanguageModel) -> Result<Outcomes, Error> {
    let mut vectors = vec![Vec::new(); READ.len()];
    // Together with texts that are written meanwhile.
    let (plain, other, read) = tokio::join!(written(model, ""), written(model, "written"), async {
        for repeat in 1..=6 {
            let passage = "李白是唐代诗人，被称为诗仙。Hangzhou is a city in China. ".repeat(repeat);
            for (name, all) in READ.into_iter().zip(&mut vectors) {
                all.extend(model.read_out(name, "", &passage).await?);
            }
        }
        Ok::<(), Error>(())
    });
    read?;
    Ok(Outcomes { vectors, texts: vec![plain?, other?] })
}

async fn written(model: &LanguageModel, profile: &str) -> Result<String, Error> {
    let request = GenerateRequest {
        prompt: "User: 李白是谁？\n\nAssistant:".to_string(),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        tokens_max: 24,
        stop: Vec::new(),
        tenant: String::new(),
        bounds: None,
        variant: None,
    };
    let mut stream = model.generate_as(profile, request)?;
    let mut text = String::new();
    while let Some(event) = std::future::poll_fn(|context| stream.as_mut().poll_next(context)).await {
        if let GenerationEvent::Text(part) = event? {
            text += &part;
        }
    }
    Ok(text)
}
