//! Tunes a model a little by each method whose files other programs read, and writes what the engine then computes
//! (`cargo xtask oracle`): `tuned BASE.pth IDS OUT`.
//!
//! `BASE` is a model of at least 257 ids; IDS are u32, little-endian. OUT gets a folder per method with `base.pth`'s
//! results as the job made them, `ids`, `logits` (f32, a row an id), and the job's folder of wandb.

#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rag_core::ports::{Tune, TuneMethod, TuneRequest, TuneState};
use rag_engine::checkpoint;
use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::pool::Pool;
use rag_engine::cpu::product::Cpu;
use rag_engine::cpu::simd::Simd;
use rag_engine::rwkv::{AdapterScale, Engine, Model, State};
use rag_tune::{Tuner, TunerConfig};

const METHODS: [TuneMethod; 3] = [TuneMethod::State, TuneMethod::Lora, TuneMethod::Pissa];
const RANK: u32 = 4;
const ALPHA: f64 = 6.0;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let mut next = |what: &'static str| args.next().with_context(|| format!("missing: {what}"));
    let (base, ids, out) = (next("the base model")?, next("its ids")?, next("the folder to write to")?);
    let ids: Vec<u32> =
        fs_err::read(ids)?.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word)).collect();
    for method in METHODS {
        let folder = out.join(method.name());
        tune(&base, method, &folder)?;
        let logits = logits(&base, method, &folder, &ids)?;
        fs_err::write(
            folder.join("logits"),
            logits.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>(),
        )?;
        fs_err::write(folder.join("ids"), ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>())?;
        println!("tuned by {}", method.name());
    }
    Ok(())
}

/// Runs a job to its end and moves what it made to `folder`.
fn tune(base: &Path, method: TuneMethod, folder: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let vocabulary = dir.path().join("bytes.txt");
    // Id 0 ends documents, so byte 0 gets one that no text has.
    let line = |byte: u32| format!("{} b'\\x{byte:02x}' 1\n", if byte == 0 { 256 } else { byte });
    fs_err::write(&vocabulary, (0..256).map(line).collect::<String>())?;
    let tuner = Tuner::open(TunerConfig {
        dir: dir.path().to_path_buf(),
        models: dir.path().to_path_buf(),
        base: base.to_path_buf(),
        vocabulary,
        place: rag_tune::Place::Processor { threads: 1 },
        queue_max: 1,
        wandb: Some("oracle".to_owned()),
        tracker: None,
    })?;
    tuner.add_dataset("few", "{\"text\": \"User: 河边有什么？\\n\\nAssistant: 柳树 and willows\"}\n")?;
    let mut settings = tuner.defaults(None, Some(method))?;
    settings.precision = "f32".to_owned();
    settings.micro_batch = 1;
    settings.epochs = 1;
    settings.epoch_steps = 4;
    settings.warmup_steps = 0;
    if method != TuneMethod::State {
        // Far enough to be seen.
        (settings.rank, settings.lr) = (RANK, 1e-2);
    }
    if method == TuneMethod::Lora {
        settings.alpha = ALPHA;
    }
    let request =
        TuneRequest { name: method.name().to_owned(), base: None, dataset: "few".to_owned(), settings };
    let id = tuner.start(&request)?.id;
    loop {
        match tuner.job(&id)?.state {
            TuneState::Done => break,
            TuneState::Failed(error) => bail!(error),
            _ => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
    drop(tuner);
    if folder.exists() {
        fs_err::remove_dir_all(folder)?;
    }
    copy(&dir.path().join("jobs").join(id), folder)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs_err::create_dir_all(to)?;
    for entry in fs_err::read_dir(from)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        match path.is_dir() {
            true => copy(&path, &to.join(name))?,
            false => fs_err::copy(&path, to.join(name)).map(drop)?,
        }
    }
    Ok(())
}

/// Of the base with what was tuned beside it, token by token.
fn logits(base: &Path, method: TuneMethod, folder: &Path, ids: &[u32]) -> Result<Vec<f32>> {
    let cpu = Cpu { pool: Pool::new(1)?, simd: Simd::detect() };
    let mut engine = Engine::new(Model::read(&*checkpoint::open(base)?, Format::F32)?, cpu);
    let result = checkpoint::open(&folder.join("rwkv-1.pth"))?;
    let (mut state, mut adapter) = (engine.initial_state(), None);
    match method {
        TuneMethod::State => state = State::tuned(&*result, engine.config())?,
        TuneMethod::Pissa => {
            let start = checkpoint::open(&folder.join("init_pissa.pth"))?;
            adapter = Some(engine.add_adapter(&*result, Some(&*start), AdapterScale::One)?);
        }
        _ => {
            let scale = AdapterScale::Alpha(ALPHA as f32);
            adapter = Some(engine.add_adapter(&*result, None, scale)?);
        }
    }
    let mut all = Vec::new();
    for &id in ids {
        all.extend(engine.read_with(&[id], &mut state, adapter).context("an id outside the vocabulary")?);
    }
    Ok(all)
}
