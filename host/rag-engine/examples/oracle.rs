//! Compares this engine with the logits in a folder that `tests/oracle/make.py` wrote (`cargo xtask oracle`).
//!
//! ```text
//! oracle FOLDER       each NAME.pth in f32: the whole prompt at once, and token by token
//! ```
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::error::Error;
use std::path::{Path, PathBuf};

use rag_engine::checkpoint;
use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::pool::Pool;
use rag_engine::cpu::product::Cpu;
use rag_engine::cpu::simd::Simd;
use rag_engine::rwkv::{Engine, Model, State};

/// Largest difference of a logit, relative to the largest logit of its row.
const DIFFERENCE_MAX: f32 = 1e-4;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).ok_or("see the first lines of this file for the command")?;
    let mut models: Vec<PathBuf> = fs_err::read_dir(&folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    models.retain(|path| path.extension().is_some_and(|ending| ending == "pth"));
    models.sort();
    if models.is_empty() {
        return Err(format!("no model in {folder}").into());
    }
    let mut worst = 0f32;
    for path in &models {
        worst = worst.max(compare(path)?);
    }
    println!("{} models; largest difference {worst:.1e}, allowed {DIFFERENCE_MAX:.0e}", models.len());
    match worst <= DIFFERENCE_MAX {
        true => Ok(()),
        false => Err("the engines differ".into()),
    }
}

/// The largest difference of one model's logits, relative.
fn compare(path: &Path) -> Result<f32> {
    let weights = checkpoint::open(path)?;
    let ids: Vec<u32> = words(&path.with_extension("ids"))?.into_iter().map(u32::from_le_bytes).collect();
    let wanted: Vec<f32> =
        words(&path.with_extension("logits"))?.into_iter().map(f32::from_le_bytes).collect();
    let cpu = Cpu { pool: Pool::new(2)?, simd: Simd::detect() };
    let mut engine = Engine::new(Model::read(&*weights, Format::F32)?, cpu);
    let vocabulary = engine.config().vocabulary;
    if ids.is_empty() || wanted.len() != ids.len() * vocabulary {
        return Err(format!("{} logits for {} ids", wanted.len(), ids.len()).into());
    }
    let rows: Vec<&[f32]> = wanted.chunks_exact(vocabulary).collect();
    let mut state = State::zero(engine.config());
    let mut steps = 0f32;
    for (&id, row) in ids.iter().zip(&rows) {
        steps =
            steps.max(difference(engine.read(&[id], &mut state).ok_or("an id outside the vocabulary")?, row));
    }
    let mut state = State::zero(engine.config());
    let at_once = difference(engine.read(&ids, &mut state).ok_or("no ids")?, rows[rows.len() - 1]);
    println!("{}: token by token {steps:.1e}, at once {at_once:.1e}", path.display());
    Ok(steps.max(at_once))
}

/// NaN where one of them is none, which is no small difference.
fn difference(found: &[f32], wanted: &[f32]) -> f32 {
    let largest = wanted.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let differs = found.iter().zip(wanted).map(|(a, b)| (a - b).abs());
    let most = differs.fold(0f32, |most, next| if next.is_finite() { most.max(next) } else { f32::INFINITY });
    most / largest
}

fn words(path: &Path) -> Result<Vec<[u8; 4]>> {
    Ok(fs_err::read(path)?.as_chunks::<4>().0.to_vec())
}
