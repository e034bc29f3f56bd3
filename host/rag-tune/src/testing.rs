//! What tests share: the trained byte-level oracle model as a file, its vocabulary, examples, and greedy answers.

use std::path::{Path, PathBuf};

use rag_core::ports::{TuneEstimate, TuneJob, TuneMethod, TuneRequest, TuneSettings, TuneState};
use rag_engine::checkpoint;
use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::pool::Pool;
use rag_engine::cpu::product::Cpu;
use rag_engine::cpu::simd::Simd;
use rag_engine::rwkv::{AdapterScale, Config, Engine, Model, State, Weights};

use crate::cpu::attach::Named;
use crate::device::Place;
use crate::files::{Container, Type};
use crate::settings;
use crate::training::Plan;

#[path = "../../rag-engine/tests/numerics/ggml.rs"]
mod ggml;

/// The oracle model (3.3 M weights, ids are bytes) as `base.pth` in f32, and a vocabulary of bytes.
pub(crate) fn write_base(dir: &Path) -> (PathBuf, PathBuf) {
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rag-engine/tests/fixtures/oracle");
    let file = ggml::GgmlFile::open(&oracle.join("tiny-rwkv-6v0-3m-Q5_1.bin"));
    let tensors: Vec<Named> = file
        .names()
        .into_iter()
        .map(|name| Named { shape: file.shape(&name).unwrap(), values: file.read(&name).unwrap(), name })
        .collect();
    let base = dir.join("base.pth");
    Container::Pth.write_all(&base, &tensors, Type::F32, &[]).unwrap();
    let vocabulary = dir.join("vocabulary.txt");
    // Id 0 ends documents, so byte 0 gets one that no text has.
    let line = |byte: u32| format!("{} b'\\x{byte:02x}' 1\n", if byte == 0 { 256 } else { byte });
    fs_err::write(&vocabulary, (0..256).map(line).collect::<String>()).unwrap();
    (base, vocabulary)
}

const WORDS: [&str; 20] = [
    "tree", "house", "river", "stone", "bird", "cloud", "apple", "horse", "light", "water", "table", "glass",
    "paper", "green", "night", "north", "smile", "bread", "chair", "dream",
];

/// 200 examples of one way to answer; `at` beyond them were never seen.
pub(crate) fn question(at: usize) -> String {
    let (a, b) = (WORDS[at % 20], WORDS[(at / 20 + at) % 20]);
    format!("User: {a} {b}?\n\nAssistant:")
}

pub(crate) const ANSWER: &str = " ok";

pub(crate) fn write_examples(dir: &Path) -> PathBuf {
    let lines: String = (0..200)
        .map(|at| serde_json::json!({ "text": format!("{}{ANSWER}", question(at)) }).to_string() + "\n")
        .collect();
    let path = dir.join("examples.jsonl");
    fs_err::write(&path, lines).unwrap();
    path
}

/// 200 updates on one example each.
pub(crate) fn plan(dir: &Path, method: TuneMethod, change: impl FnOnce(&mut TuneSettings)) -> Plan {
    let (base, vocabulary) = write_base(dir);
    let data = write_examples(dir);
    let config = Config::read(&*checkpoint::open(&base).unwrap()).unwrap();
    let mut settings = settings::defaults(method, &config);
    settings.micro_batch = 1;
    settings.epochs = 1;
    if method != TuneMethod::State {
        settings.rank = 8;
        settings.alpha = if method == TuneMethod::Lora { 16.0 } else { 0.0 };
        settings.lr = 1e-3;
        settings.lr_final = 1e-4;
    }
    change(&mut settings);
    let job = dir.join("job");
    fs_err::create_dir_all(&job).unwrap();
    Plan { base, vocabulary, data, dir: job, settings, place: Place::Processor { threads: 1 } }
}

/// A result as the engine uses it.
pub(crate) enum Tuned<'a> {
    Nothing,
    State(&'a Path),
    Adapter { path: &'a Path, start: Option<PathBuf>, scale: AdapterScale },
}

/// What an engine makes of a base and a result: greedy bytes after each prompt, and the logits after the prompt.
pub(crate) fn answers(base: &Path, tuned: &Tuned<'_>, prompts: &[String]) -> Vec<(String, Vec<f32>)> {
    let model = Model::read(&*checkpoint::open(base).unwrap(), Format::F32).unwrap();
    let mut engine = Engine::new(model, Cpu { pool: Pool::new(1).unwrap(), simd: Simd::detect() });
    let (mut start, mut adapter) = (engine.initial_state(), None);
    match tuned {
        Tuned::Nothing => {}
        Tuned::State(path) => {
            start = State::tuned(&*checkpoint::open(path).unwrap(), engine.config()).unwrap()
        }
        Tuned::Adapter { path, start, scale } => {
            let start = start.as_ref().map(|path| checkpoint::open(path).unwrap());
            let weights = checkpoint::open(path).unwrap();
            adapter = Some(engine.add_adapter(&*weights, start.as_deref(), *scale).unwrap());
        }
    }
    let answer = |prompt: &String| {
        let mut state = start.clone();
        let ids: Vec<u32> = prompt.bytes().map(u32::from).collect();
        let first = engine.read_with(&ids, &mut state, adapter).unwrap().to_vec();
        let (mut logits, mut text) = (first.clone(), Vec::new());
        for _ in 0..6 {
            let best = (0..256).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            if best == 0 {
                break;
            }
            text.push(best as u8);
            logits = engine.read_with(&[best as u32], &mut state, adapter).unwrap().to_vec();
        }
        (String::from_utf8_lossy(&text).into_owned(), first)
    };
    prompts.iter().map(answer).collect()
}

/// A job as `start` makes it.
pub(crate) fn job(id: &str) -> TuneJob {
    let settings = settings::defaults(TuneMethod::State, &Config::published("0b1").unwrap());
    let estimate = TuneEstimate { memory_bytes: 1, available_bytes: None, trained_values: 8, steps: 5 };
    TuneJob {
        id: id.to_owned(),
        request: TuneRequest { name: "试".into(), base: None, dataset: "examples".into(), settings },
        state: TuneState::Queued,
        step: 0,
        steps: 5,
        last: None,
        estimate,
        outputs: Vec::new(),
        created_ms: 0,
        updated_ms: 0,
    }
}
