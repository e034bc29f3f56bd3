//! Whether a GPU computes what the CPU does: logits, states, greedy texts, draws; in every format and grouping.

#[path = "long.rs"]
mod long;

use std::path::{Path, PathBuf};

use rag_core::Error;
use rag_engine::checkpoint;
use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::pool::Pool;
use rag_engine::cpu::product::Cpu;
use rag_engine::cpu::simd::Simd;
use rag_engine::random::Random;
use rag_engine::rwkv::cuda::{Dense, DeviceState, Engine, Options, Piece, Tuning};
use rag_engine::rwkv::{
    Config, Engine as CpuEngine, Formats, Logits, Model, RandomModel, State, Version, Weights,
};
use rag_engine::sampler::Drawing;

use super::ggml::GgmlFile;

pub(crate) type Outcome = Result<String, Box<dyn std::error::Error>>;
type Check = fn(&mut Pair) -> Outcome;

pub(crate) fn run(models: &[String], tuning: Tuning, only: &[String]) {
    let models_of = |name: &str, weights: &dyn Weights| models_of(name, weights, tuning, only);
    let six = Version::V6 { mix_rank: 32, decay_rank: 64 };
    let seven = Version::V7 { decay_rank: 64, rate_rank: 32, gate_rank: 96, value_rank: 32 };
    // Widths that are no multiple of what a warp or block takes at once, and blocks of 64 columns.
    let odd_seven = Version::V7 { decay_rank: 40, rate_rank: 24, gate_rank: 72, value_rank: 8 };
    let of = |version, width, vocabulary, seed| RandomModel::new(&config(version, width, vocabulary), seed);
    models_of("random-128", &of(six, 128, 300, 1));
    models_of("random-192", &of(six, 192, 1000, 2));
    models_of("random-v7-128", &of(seven, 128, 300, 3));
    models_of("random-v7-192", &of(odd_seven, 192, 1000, 4));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/oracle");
    let fixtures = std::env::var_os("ORACLES").map_or(fixtures, PathBuf::from);
    for name in ["tiny-rwkv-6v0-3m-Q5_1", "tiny-rwkv-7v0-834K-FP32"] {
        let oracle = fixtures.join(format!("{name}.bin"));
        if oracle.is_file() {
            models_of(name, &GgmlFile::open(&oracle));
        }
    }
    let logits = fixtures.join("expected-logits-7v0-834K.bin");
    if logits.is_file() && wanted(only, "published logits of v7") {
        match published(&GgmlFile::open(&fixtures.join("tiny-rwkv-7v0-834K-FP32.bin")), &logits, tuning) {
            Ok(text) => println!("ok   published logits of RWKV-7: {text}"),
            Err(error) => println!("FAIL published logits of RWKV-7: {error}"),
        }
    }
    for path in models {
        match checkpoint::open(Path::new(path)) {
            Ok(weights) => models_of(path, &*weights),
            Err(error) => println!("FAIL {path}: {error}"),
        }
    }
}

/// The logits after the bytes `"in` that rwkv.cpp publishes with its model, token by token and at once.
fn published(weights: &dyn Weights, logits: &Path, tuning: Tuning) -> Outcome {
    let formats = Formats::of(Format::F32);
    let options = Options { device: 0, sequences: 2, formats, dense: Dense::F32, tuning };
    let mut gpu = Engine::load(weights, &options)?;
    let want: Vec<f32> =
        fs_err::read(logits)?.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let prompt = [34, 105, 110];
    let mut text = String::new();
    for each in [1, 3] {
        let mut state = gpu.state()?;
        let mut got = Vec::new();
        for part in prompt.chunks(each) {
            got = gpu.read(part, &mut state)?.ok_or("no logits")?.to_vec();
        }
        text += &within(&format!("by {each}:"), error(&got, &want), 1e-4)?;
        text += " ";
    }
    Ok(text)
}

fn config(version: Version, width: usize, vocabulary: usize) -> Config {
    Config {
        vocabulary,
        width,
        layers: 2,
        heads: width / 64,
        head_size: 64,
        hidden: width * 7 / 2 / 32 * 32,
        version,
    }
}

/// What errors are relative to: the length of the right vector.
pub(crate) fn error(got: &[f32], want: &[f32]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let (mut off, mut all) = (0.0, 0.0);
    for (&got, &want) in got.iter().zip(want) {
        if got.is_finite() || want.is_finite() {
            off += (f64::from(got) - f64::from(want)).powi(2);
            all += f64::from(want).powi(2);
        }
    }
    if off.is_nan() { f64::INFINITY } else { (off / all.max(1e-30)).sqrt() }
}

pub(crate) fn within(what: &str, error: f64, bound: f64) -> Outcome {
    let text = format!("{what} {error:.2e} (at most {bound:.0e})");
    if error <= bound { Ok(text) } else { Err(text.into()) }
}

/// Whether a check's line has every word.
pub(crate) fn wanted(only: &[String], line: &str) -> bool {
    only.iter().all(|word| line.contains(word.as_str()))
}

fn models_of(name: &str, weights: &dyn Weights, tuning: Tuning, only: &[String]) {
    let packed = weights.packed_bytes().is_some();
    for (format, dense) in [
        (Format::F32, Dense::F32),
        (Format::F32, Dense::Bf16),
        (Format::Int8, Dense::Bf16),
        (Format::Int4, Dense::Bf16),
        (Format::Nf4, Dense::Bf16),
    ] {
        let label = format!("{name} {} {dense:?}", format.name());
        let of_pair = CHECKS.iter().filter(|(what, _)| wanted(only, &format!("{label}: {what}")));
        let adapters = wanted(only, &format!("{label}: adapters"));
        if of_pair.clone().count() == 0 && !adapters {
            continue;
        }
        match Pair::new(weights, format, dense, tuning) {
            Ok(mut pair) => {
                of_pair.for_each(|(what, check)| match check(&mut pair) {
                    Ok(text) => println!("ok   {label}: {what}: {text}"),
                    Err(error) => println!("FAIL {label}: {what}: {error}"),
                });
                let bound = pair.bounds[1];
                drop(pair);
                if adapters {
                    super::profiles::adapters(name, weights, format, dense, bound);
                }
            }
            Err(error) => println!("FAIL {label}: {error}"),
        }
        if packed {
            break;
        }
    }
}

const CHECKS: [(&str, Check); 9] = [
    ("one by one", Pair::one_by_one),
    ("at once", Pair::at_once),
    ("long", Pair::long),
    ("together", Pair::together),
    ("batches", Pair::batches),
    ("saved", Pair::saved),
    ("greedy", Pair::greedy),
    ("draws", Pair::draws),
    ("hidden", Pair::hidden),
];

struct Pair {
    cpu: CpuEngine,
    gpu: Engine,
    /// Relative error against the CPU: few rows at a time, many rows at a time.
    bounds: [f64; 2],
}

impl Pair {
    fn new(weights: &dyn Weights, format: Format, dense: Dense, tuning: Tuning) -> Result<Self, Error> {
        let model = Model::read(weights, format)?;
        let formats = Formats::of(format);
        let gpu = Engine::load(weights, &Options { device: 0, sequences: 16, formats, dense, tuning })?;
        let packed = weights.packed_bytes().is_some();
        let bounds = match (format, dense) {
            _ if packed => [0.06, 0.12],
            (Format::F32, Dense::F32) => [1e-4, 1e-4],
            // Random weights carry rounding on where trained ones dampen it.
            (Format::F32, Dense::Bf16) => [0.05, 0.05],
            // Random weights carry rounding on, trained ones dampen it; the tests of the CPU's formats allow as much.
            (Format::Int8, _) => [0.15, 0.2],
            _ => [0.5, 0.5],
        };
        // RWKV-7 normalises what a head reads, so that the first token's rounding is carried on whole: on the CPU alone
        // int8 is .24 of the logits away from f32 there, nf4 .5.
        let seven = matches!(model.config().version, Version::V7 { .. }) && bounds[0] > 1e-3;
        let bounds = if seven { bounds.map(|bound| 2.0 * bound) } else { bounds };
        let cpu = CpuEngine::new(model, Cpu { pool: Pool::new(2)?, simd: Simd::detect() });
        Ok(Self { cpu, gpu, bounds })
    }

    fn tokens(&self, len: usize, seed: u64) -> Vec<u32> {
        let mut random = Random::seeded(seed);
        (0..len).map(|_| random.below(self.gpu.config().vocabulary.min(256) as u64) as u32).collect()
    }

    fn cpu_logits(&mut self, tokens: &[u32]) -> (Vec<f32>, State) {
        let mut state = self.cpu.initial_state();
        let mut logits = Vec::new();
        for part in tokens.chunks(100) {
            let piece = Piece2 { tokens: part, state: &mut state, logits: Logits::All, adapter: None };
            logits.extend_from_slice(self.cpu.forward(&mut [piece]));
        }
        (logits, state)
    }

    fn start(&self) -> Result<DeviceState, Error> {
        let mut state = self.gpu.state()?;
        state.restore(&self.gpu.initial_state())?;
        Ok(state)
    }

    fn gpu_logits(&mut self, tokens: &[u32], each: usize) -> Result<(Vec<f32>, State), Error> {
        let (mut state, mut logits) = (self.start()?, Vec::new());
        for part in tokens.chunks(each) {
            let piece =
                Piece { tokens: part, state: &mut state, logits: Logits::All, draw: None, adapter: None };
            self.gpu.forward(&mut [piece])?;
            logits.extend_from_slice(self.gpu.logits());
        }
        Ok((logits, state.snapshot()?))
    }

    fn one_by_one(&mut self) -> Outcome {
        let tokens = self.tokens(24, 1);
        let (want, want_state) = self.cpu_logits(&tokens);
        let mut state = self.start()?;
        let mut got = Vec::new();
        for token in &tokens {
            let piece = Piece {
                tokens: &[*token],
                state: &mut state,
                logits: Logits::Last,
                draw: None,
                adapter: None,
            };
            self.gpu.forward(&mut [piece])?;
            got.extend_from_slice(self.gpu.logits());
        }
        let last = self.gpu.config().layers - 1;
        let heads = error(state.snapshot()?.heads(last), want_state.heads(last));
        let text = within("logits", error(&got, &want), self.bounds[0])?;
        Ok(format!("{text}, {}", within("state", heads, self.bounds[0] * 2.0)?))
    }

    fn at_once(&mut self) -> Outcome {
        let tokens = self.tokens(75, 2);
        let (want, want_state) = self.cpu_logits(&tokens);
        let mut text = String::new();
        for each in [75, 33, 17] {
            let (got, state) = self.gpu_logits(&tokens, each)?;
            let last = self.gpu.config().layers - 1;
            let heads = error(state.heads(last), want_state.heads(last));
            text += &within(&format!("by {each}: logits"), error(&got, &want), self.bounds[1])?;
            text += &within(", state", heads, self.bounds[1] * 2.0)?;
            text += "; ";
        }
        Ok(text)
    }

    /// Sequences of different lengths in one call, twice, so that states go on.
    fn together(&mut self) -> Outcome {
        let lengths = [1, 30, 1, 7, 64, 1];
        let texts: Vec<Vec<u32>> = lengths.iter().map(|&len| self.tokens(len, len as u64 + 3)).collect();
        let mut states = Vec::new();
        for _ in &texts {
            states.push(self.start()?);
        }
        let mut worst: f64 = 0.0;
        for round in 1..=2 {
            let mut pieces: Vec<Piece<'_>> = (texts.iter().zip(&mut states))
                .map(|(tokens, state)| Piece {
                    tokens,
                    state,
                    logits: Logits::Last,
                    draw: None,
                    adapter: None,
                })
                .collect();
            self.gpu.forward(&mut pieces)?;
            let got = self.gpu.logits().to_vec();
            let vocabulary = self.gpu.config().vocabulary;
            for (i, tokens) in texts.iter().enumerate() {
                let twice: Vec<u32> = tokens.repeat(round);
                let (want, _) = self.cpu_logits(&twice);
                let want = &want[want.len() - vocabulary..];
                worst = worst.max(error(&got[i * vocabulary..(i + 1) * vocabulary], want));
            }
        }
        within("logits", worst, self.bounds[1])
    }

    /// Batches of single tokens of all sizes, run, recorded and replayed.
    fn batches(&mut self) -> Outcome {
        let mut text = String::new();
        let vocabulary = self.gpu.config().vocabulary;
        for batch in [1, 2, 3, 5, 8, 9, 16] {
            let mut states = Vec::new();
            for _ in 0..batch {
                states.push(self.start()?);
            }
            let texts: Vec<Vec<u32>> = (0..batch).map(|i| self.tokens(4, 100 + i as u64)).collect();
            let mut worst: f64 = 0.0;
            for step in 0..4 {
                let mut pieces: Vec<Piece<'_>> = (texts.iter().zip(&mut states))
                    .map(|(tokens, state)| Piece {
                        tokens: &tokens[step..=step],
                        state,
                        logits: Logits::Last,
                        draw: None,
                        adapter: None,
                    })
                    .collect();
                self.gpu.forward(&mut pieces)?;
                if step < 3 {
                    continue;
                }
                let got = self.gpu.logits().to_vec();
                for (i, tokens) in texts.iter().enumerate() {
                    let (want, _) = self.cpu_logits(tokens);
                    let want = &want[want.len() - vocabulary..];
                    worst = worst.max(error(&got[i * vocabulary..(i + 1) * vocabulary], want));
                }
            }
            let bound = if batch <= 8 { self.bounds[0] } else { self.bounds[1] };
            text += &within(&format!("{batch}:"), worst, bound)?;
            text += " ";
        }
        Ok(text)
    }

    fn saved(&mut self) -> Outcome {
        let (before, after) = (self.tokens(40, 4), self.tokens(20, 5));
        let mut state = self.start()?;
        self.gpu.read(&before, &mut state)?;
        let saved = state.snapshot()?;
        let bytes = saved.to_bytes();
        let first = self.gpu.read(&after, &mut state)?.ok_or("no logits")?.to_vec();
        state.restore(&saved)?;
        let again = self.gpu.read(&after, &mut state)?.ok_or("no logits")?.to_vec();
        let mut other = self.gpu.state()?;
        other.restore(&State::from_bytes(&bytes, self.gpu.config()).ok_or("not a state")?)?;
        let elsewhere = self.gpu.read(&after, &mut other)?.ok_or("no logits")?.to_vec();
        let same = first == again && first == elsewhere && other.snapshot()? == state.snapshot()?;
        if same { Ok("the same to the bit".to_string()) } else { Err("not the same to the bit".into()) }
    }

    fn greedy(&mut self) -> Outcome {
        let prompt = self.tokens(12, 6);
        let mut state = self.start()?;
        let mut cpu_state = self.cpu.initial_state();
        let draw = Some(Drawing::default());
        let piece = Piece {
            tokens: &prompt,
            state: &mut state,
            logits: Logits::Last,
            draw: draw.clone(),
            adapter: None,
        };
        self.gpu.forward(&mut [piece])?;
        let mut token = self.gpu.drawn()[0];
        let mut want = largest(self.cpu.read(&prompt, &mut cpu_state).ok_or("no logits")?);
        let (mut same, steps) = (0, 32);
        for _ in 0..steps {
            same += usize::from(token == want);
            // Follow the CPU's text, so that one different choice is one difference.
            let piece = Piece {
                tokens: &[want],
                state: &mut state,
                logits: Logits::Last,
                draw: draw.clone(),
                adapter: None,
            };
            self.gpu.forward(&mut [piece])?;
            token = self.gpu.drawn()[0];
            want = largest(self.cpu.read(&[want], &mut cpu_state).ok_or("no logits")?);
        }
        let needed = if self.bounds[0] <= 1e-3 { steps } else { steps / 2 };
        let text = format!("{same} of {steps} tokens are the CPU's");
        if same >= needed { Ok(text) } else { Err(text.into()) }
    }

    /// Evenly spread random numbers must draw every token as often as its share says.
    fn draws(&mut self) -> Outcome {
        let prompt = self.tokens(9, 7);
        let mut text = String::new();
        let penalties = vec![(3, 0.5), (prompt[0], 1.5)];
        for (temperature, top_p, top_k) in
            [(1.0, 0.7, 0), (0.7, 0.9, 5), (1.6, 1.0, 20), (1.0, 0.0, 0), (1.0, 1.0, 1), (0.5, 0.3, 0)]
        {
            let mut state = self.start()?;
            let logits = self.gpu.read(&prompt, &mut state)?.ok_or("no logits")?.to_vec();
            let want = shares(&logits, &penalties, temperature, top_p, top_k);
            let trials = 160;
            let mut counts = vec![0.0; logits.len()];
            for first in (0..trials).step_by(16) {
                let mut states = Vec::new();
                for _ in 0..16 {
                    states.push(self.start()?);
                }
                let mut pieces: Vec<Piece<'_>> = (states.iter_mut().enumerate())
                    .map(|(i, state)| Piece {
                        tokens: &prompt,
                        state,
                        logits: Logits::Last,
                        draw: Some(Drawing {
                            temperature,
                            top_p,
                            top_k,
                            unit: ((first + i) as f32 + 0.5) / trials as f32,
                            penalties: penalties.clone(),
                        }),
                        adapter: None,
                    })
                    .collect();
                self.gpu.forward(&mut pieces)?;
                self.gpu.drawn().iter().for_each(|&id| counts[id as usize] += 1.0);
            }
            let off =
                (counts.iter().zip(&want)).map(|(count, share)| f64::abs(count - share * trials as f64));
            let off = off.fold(0.0, f64::max);
            let report = format!("T {temperature} p {top_p} k {top_k}: {off:.1} off; ");
            // Rounding of logits between two groupings may move a share a little.
            if off > 3.0 + self.bounds[1] * trials as f64 {
                return Err(report.into());
            }
            text += &report;
        }
        Ok(text)
    }

    fn hidden(&mut self) -> Outcome {
        let tokens = self.tokens(21, 8);
        let mut cpu_state = self.cpu.initial_state();
        let piece = Piece2 { tokens: &tokens, state: &mut cpu_state, logits: Logits::Hidden, adapter: None };
        self.cpu.forward(&mut [piece]);
        let want = self.cpu.hidden().to_vec();
        let mut state = self.start()?;
        let piece =
            Piece { tokens: &tokens, state: &mut state, logits: Logits::Hidden, draw: None, adapter: None };
        self.gpu.forward(&mut [piece])?;
        within("rows", error(self.gpu.hidden(), &want), self.bounds[1])
    }
}

use rag_engine::rwkv::Piece as Piece2;

fn largest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// Each id's share by the sampler's definition, in f64.
fn shares(logits: &[f32], penalties: &[(u32, f32)], temperature: f32, top_p: f32, top_k: u32) -> Vec<f64> {
    let mut values: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
    for &(id, amount) in penalties {
        values[id as usize] -= f64::from(amount);
    }
    let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let p: Vec<f64> = values.iter().map(|value| (value - top).exp()).collect();
    let mut order: Vec<usize> = (0..p.len()).filter(|&id| p[id] > 0.0).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let wanted = f64::from(top_p) * p.iter().sum::<f64>();
    let (mut sum, mut kept) = (0.0, 0);
    for &id in &order {
        sum += p[id];
        kept += 1;
        if sum >= wanted {
            break;
        }
    }
    order.truncate(kept);
    if top_k > 0 {
        order.truncate(top_k as usize);
    }
    let weight = |id: usize| p[id].powf(1.0 / f64::from(temperature));
    let total: f64 = order.iter().map(|&id| weight(id)).sum();
    let mut shares = vec![0.0; p.len()];
    order.iter().for_each(|&id| shares[id] = weight(id) / total);
    shares
}
