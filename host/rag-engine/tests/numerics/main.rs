//! The model's numbers against those of other programs, and against itself in other batches, orders and formats.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod adapters;
mod consistency;
mod files;
mod ggml;
mod golden;
mod oracle;
mod oracle7;
mod synthetic;

use std::path::PathBuf;

use rag_engine::cpu::pool::Pool;
use rag_engine::cpu::product::Cpu;
use rag_engine::cpu::simd::Simd;
use rag_engine::rwkv::{Engine, Model};

fn oracle_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/oracle").join(name)
}

fn models_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models")
}

fn engine(model: Model, simd: Simd) -> Engine {
    Engine::new(model, Cpu { pool: Pool::new(2).unwrap(), simd })
}

/// Index of the largest value.
fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    best.0 as u32
}
