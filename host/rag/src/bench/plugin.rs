//! What the sandbox costs, with every limit on: B1 to B12, each with its target beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rag_core::document::Section;
use rag_core::error::PluginFault;
use rag_wasm::{Crossing, Limits, PluginHost, Step, WasmConfig};

use super::toy::Toy;
use super::{Figure, quantile, swaps};
use crate::cli::Bench;
use crate::compile;
use crate::config::Config;

/// The component that these calls are made of.
const GUEST: &str = "bench-guest";
const CHUNKER: &str = "chunk-fixed";
/// Of about 300 KB, for loading.
const LOADED: &str = "retrieve-multi-query";
const MIB: usize = 1 << 20;
/// Calls before the first that counts.
const WARM: u32 = 200;
/// Budget of a guest that never ends.
const SPIN_MS: u64 = 50;
/// Calls of neighbours per measurement.
const NEIGHBOURS: usize = 2_000;
/// Swaps of the measurement of generations; `bench swaps` is the long one.
const SWAPS: usize = 200;

pub(super) async fn run(config: &Config, args: &Bench) -> Result<Vec<Figure>> {
    let scratch = Folder::new()?;
    let guest = args
        .guest
        .clone()
        .unwrap_or_else(|| PathBuf::from("target/guests/wasm32-wasip2/release/bench_guest.wasm"));
    if !guest.is_file() {
        bail!("no {}: build it with `cargo xtask guests`, or name it with --guest", guest.display());
    }
    let limits = config.plugins.limits.clone();
    let mut figures = tokio::task::block_in_place(|| {
        let host = host(config, &scratch.0.join("a"), limits.clone())?;
        load(&host, config, &guest)?;
        let mut figures = calls(&host)?;
        figures.extend(data(&host)?);
        figures.extend(memory(&host, config)?);
        Ok::<_, anyhow::Error>(figures)
    })?;
    figures.extend(spinning(config, &scratch.0.join("b"), limits, &guest).await?);
    let few = Bench { swaps: args.swaps.min(SWAPS), ..args.clone() };
    let many = swaps::many(config, &few).await?;
    figures.extend(many.into_iter().map(|figure| Figure { name: format!("B9 {}", figure.name), ..figure }));
    Ok(figures)
}

fn host(config: &Config, cache: &Path, limits: Limits) -> Result<Arc<PluginHost>> {
    let compiler = compile::compiler(&config.plugins.compile);
    let threads = config.plugin_threads();
    Ok(PluginHost::new(WasmConfig { threads, limits, ..WasmConfig::new(cache, compiler) })?)
}

fn load(host: &PluginHost, config: &Config, guest: &Path) -> Result<()> {
    host.load_file(guest)?;
    for id in [CHUNKER, LOADED] {
        let file = config.plugins_dir().join(format!("{id}.wasm"));
        host.load_file(&file).context("build the plugins: cargo xtask plugins")?;
    }
    Ok(())
}

/// Median and 99th percentile in one unit, with the targets told in the name.
fn spread(name: &str, targets: [&str; 2], mut times: Vec<Duration>, unit: Unit) -> Vec<Figure> {
    times.sort_unstable();
    let figure = |share: f64, label: &str, target: &str| {
        let value = quantile(&times, share).as_secs_f64() * unit.0;
        Figure::new(format!("{name}, {label}{target}"), value, unit.1)
    };
    vec![figure(0.5, "median", targets[0]), figure(0.99, "p99", targets[1])]
}

#[derive(Debug, Clone, Copy)]
struct Unit(f64, &'static str);

const NANOS: Unit = Unit(1e9, "ns");
const MICROS: Unit = Unit(1e6, "µs");
const MILLIS: Unit = Unit(1e3, "ms");

fn calls(host: &PluginHost) -> Result<Vec<Figure>> {
    let step = |id: &str, step: Step, rounds: u32| {
        host.time(id, step, WARM)?;
        host.time(id, step, rounds)
    };
    let mut figures = spread(
        "B1 instantiate",
        [" (target 15)", " (target 60)"],
        step(CHUNKER, Step::Instantiate, 5_000)?,
        MICROS,
    );
    let section = section(4 << 10);
    host.time_split(CHUNKER, &section, Arc::new(Toy), WARM)?;
    let cold = host.time_split(CHUNKER, &section, Arc::new(Toy), 5_000)?;
    figures.extend(spread("B2 fresh instance cuts 4 KiB", [" (target 45)", ""], cold, MICROS));
    let nothing = crossing(host, &Crossing::Nothing, 20_000)?;
    let nothing_median = median(&nothing);
    figures.extend(spread("B3 call without work", [" (target 500)", ""], nothing, NANOS));
    let describe = step(CHUNKER, Step::Call, 20_000)?;
    figures.extend(spread("B3 call that gives three texts", [" (target 900)", ""], describe, NANOS));
    let logged = median(&crossing(host, &Crossing::Log(1_000), 500)?).saturating_sub(nothing_median);
    let each = logged.as_secs_f64() * 1e9 / 1e3;
    figures.push(Figure::new("B4 host function, log of a level not kept (target 100)", each, "ns"));
    let loaded = step(LOADED, Step::Load, 300)?;
    let bytes = host.newest(LOADED).map_or(0, |loaded| loaded.bytes);
    let name = format!("B8 load {} KiB", bytes >> 10);
    figures.extend(spread(&name, [" (target 1)", ""], loaded, MILLIS));
    Ok(figures)
}

fn crossing(host: &PluginHost, crossing: &Crossing, rounds: u32) -> Result<Vec<Duration>> {
    host.time_crossing(GUEST, crossing.clone(), (rounds / 20).max(3))?;
    Ok(host.time_crossing(GUEST, crossing.clone(), rounds)?)
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    quantile(&times, 0.5)
}

fn data(host: &PluginHost) -> Result<Vec<Figure>> {
    let time = |what: Crossing| Ok::<_, anyhow::Error>(median(&crossing(host, &what, 300)?).as_secs_f64());
    let speed = |seconds: f64| MIB as f64 / seconds / 1e9;
    let bytes_in = time(Crossing::BytesIn(vec![7_u8; MIB].into()))?;
    let bytes_out = time(Crossing::BytesOut(u32::try_from(MIB)?))?;
    let flat = time(Crossing::Flat(vec![0.5_f32; 1_000 * 768].into()))?;
    let nested = time(Crossing::Nested(vec![vec![0.5_f32; 768]; 1_000].into()))?;
    let text: Arc<str> = section(MIB).text.into();
    let spans = time(Crossing::Spans(text.clone(), 400))?;
    let copies = time(Crossing::Copies(text, 400))?;
    Ok(vec![
        Figure::new("B5 1 MiB of bytes in (target 3)", speed(bytes_in), "GB/s"),
        Figure::new("B5 1 MiB of bytes out (target 3)", speed(bytes_out), "GB/s"),
        Figure::new("B6 1000 × 768 numbers, flat (target 1.5)", flat * 1e3, "ms"),
        Figure::new("B6 the same as lists of their own", nested * 1e3, "ms"),
        Figure::new("B7 1 MiB cut into spans", spans * 1e3, "ms"),
        Figure::new("B7 1 MiB cut into copies", copies * 1e3, "ms"),
        Figure::new("B11 chunk-fixed in the sandbox", mib_per_second(host)?, "MiB/s"),
    ])
}

/// How fast the chunker is; natively: `cargo run --release -p chunk-fixed --example windows`.
fn mib_per_second(host: &PluginHost) -> Result<f64> {
    let section = section(MIB);
    host.time_split(CHUNKER, &section, Arc::new(Toy), 3)?;
    Ok(1.0 / median(&host.time_split(CHUNKER, &section, Arc::new(Toy), 30)?).as_secs_f64())
}

/// Memory of idle plugins, and whether calls leave any behind.
fn memory(host: &PluginHost, config: &Config) -> Result<Vec<Figure>> {
    let before = swaps::resident()?;
    let loaded = host.load_dir(&config.plugins_dir())?.iter().filter(|(_, loaded)| loaded.is_ok()).count();
    let each = (swaps::resident()? - before) / loaded.max(1) as f64;
    let section = section(4 << 10);
    host.time_split(CHUNKER, &section, Arc::new(Toy), 1_000)?;
    let warm = swaps::resident()?;
    host.time_split(CHUNKER, &section, Arc::new(Toy), 10_000)?;
    let after = swaps::resident()?;
    Ok(vec![
        Figure::new("B12 idle plugins", loaded as f64, "plugins"),
        Figure::new("B12 memory of one", each * 1024.0, "KiB"),
        Figure::new("B12 growth over 10000 calls (target within 5)", (after / warm - 1.0) * 100.0, "%"),
    ])
}

/// How soon a guest that never ends is ended, and what its neighbours feel of it.
async fn spinning(config: &Config, cache: &Path, limits: Limits, guest: &Path) -> Result<Vec<Figure>> {
    let mut limits = limits;
    limits.chunker.cpu_ms_max = SPIN_MS;
    let tick = limits.tick_ms;
    let host = tokio::task::block_in_place(|| {
        let host = host(config, cache, limits)?;
        load(&host, config, guest)?;
        Ok::<_, anyhow::Error>(host)
    })?;
    let spinner = host.chunker(GUEST, "{\"do\": \"loop\"}", Arc::new(Toy))?;
    let neighbour = host.chunker(CHUNKER, "{}", Arc::new(Toy))?;
    let section = section(4 << 10);
    let calls = async |stop: &dyn Fn(usize) -> bool| {
        let mut times = Vec::new();
        while !stop(times.len()) {
            let started = Instant::now();
            neighbour.split(section.clone()).await?;
            times.push(started.elapsed());
        }
        Ok::<_, anyhow::Error>(times)
    };
    calls(&|n| n == WARM as usize).await?;
    let alone = calls(&|n| n == NEIGHBOURS).await?;
    let spun = section_of_spinner();
    let spin = tokio::spawn(async move {
        let mut ends = Vec::new();
        for _ in 0..40 {
            let started = Instant::now();
            let outcome = spinner.split(spun.clone()).await;
            ends.push((started.elapsed(), outcome));
        }
        ends
    });
    let beside = calls(&|_| spin.is_finished()).await?;
    let mut ends = Vec::new();
    for (time, outcome) in spin.await? {
        match outcome {
            Err(rag_core::Error::Plugin { fault: PluginFault::CpuLimit, .. }) => ends.push(time),
            other => bail!("a loop without end came to {other:?}"),
        }
    }
    let alone_p99 = percentile(&alone, 0.99);
    let rise = (percentile(&beside, 0.99).as_secs_f64() - alone_p99.as_secs_f64()) * 1e3;
    let mut figures =
        spread("B10 a loop of 50 ms beside neighbours ends", [" (target 60)", ""], ends.clone(), MILLIS);
    figures.extend(spread("B10 neighbours alone", ["", ""], alone, MILLIS));
    figures.extend(spread("B10 neighbours beside it", ["", ""], beside, MILLIS));
    figures.push(Figure::new(format!("B10 neighbours' p99 rises (target {tick}, one tick)"), rise, "ms"));
    Ok(figures)
}

fn percentile(times: &[Duration], share: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    quantile(&times, share)
}

fn section_of_spinner() -> Section {
    section(64)
}

/// A section of about so many bytes, Chinese and English.
fn section(bytes: usize) -> Section {
    let line = "知识库把文档变成可以引用的答案。 A knowledge base turns documents into answers.\n";
    let mut text: String = line.repeat(bytes / line.len() + 1);
    text.truncate(text.floor_char_boundary(bytes));
    Section { text, blocks: Vec::new(), title: None, language: None, outline: Vec::new() }
}

/// A folder of its own, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("rwkv-rag-bench-plugin-{}", std::process::id()));
        fs_err::create_dir_all(&dir)?;
        Ok(Folder(dir))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind in the temporary folder harms nobody.
        let _ = fs_err::remove_dir_all(&self.0);
    }
}
