//! Compares the engine, and what tuning makes, with PyPI `rwkv` and PyTorch on random models; and has PyPI `wandb` upload
//! a job's folder. Where these can be installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::run::executable;
use crate::shell::{self, Project};

/// The other engine.
const RWKV: &str = "rwkv==0.8.32";
/// The client that uploads a job's folder.
const WANDB: &str = "wandb==0.31.0";
/// Updates of `host/rag-tune/examples/tuned.rs`.
const TUNED_UPDATES: &str = "4";
/// Of these the first that has PyTorch: Debian's `python3-torch` belongs to Debian's Python.
const PYTHONS: [&str; 2] = ["python3", "/usr/bin/python3"];
const FOLDER: &str = "target/oracle";
/// Random models of each version.
const SEEDS: std::ops::Range<u32> = 0..4;

/// Makes the models, lets the other engine compute their logits, and compares ours with them. Where the other engine
/// cannot be installed it says so and does nothing.
pub(crate) fn run(project: &Project) -> Result<()> {
    let packages = project.path(FOLDER).join("packages");
    let python = match installed(project, &packages) {
        Some(python) => python,
        None => {
            let failed = install(project, &packages).err();
            match (installed(project, &packages), failed) {
                (Some(python), _) => python,
                (None, failed) => {
                    let why = failed.map(|error| format!(": {error:#}")).unwrap_or_default();
                    println!("skipped: {RWKV} with torch and numpy cannot be installed here{why}");
                    return Ok(());
                }
            }
        }
    };
    let models = project.path(FOLDER).join("models");
    if models.exists() {
        fs::remove_dir_all(&models)?;
    }
    fs::create_dir_all(&models)?;
    for version in ["6", "7"] {
        for seed in SEEDS {
            let mut make = with(project, python, &packages);
            make.args(["tests/oracle/make.py", version, &seed.to_string()]).arg(&models);
            // It prints what it loads.
            if let Err(error) = shell::quiet_output(&mut make) {
                bail!("RWKV-{version}, seed {seed}: {error:#}");
            }
        }
    }
    let compare = example(project, "oracle")?;
    shell::check(project.command(compare).arg(&models))?;
    tuned(project, python, &packages, &models)
}

/// What tuning makes, against PyTorch; its folder of wandb, against wandb's own client.
fn tuned(project: &Project, python: &str, packages: &Path, models: &Path) -> Result<()> {
    let (base, folder) = (models.join("v6-0.pth"), project.path(FOLDER).join("tuned"));
    let tune = example(project, "tuned")?;
    shell::check(project.command(tune).arg(&base).arg(base.with_extension("ids")).arg(&folder))?;
    shell::check(with(project, python, packages).arg("tests/oracle/tuned.py").arg(&base).arg(&folder))?;
    let packages = project.path(FOLDER).join("wandb");
    let there =
        || shell::quiet_output(with(project, PYTHONS[0], &packages).args(["-c", "import wandb"])).is_ok();
    if !there()
        && let Err(error) = pip(project, &packages, &[WANDB])
    {
        println!("skipped: {WANDB} cannot be installed here: {error:#}");
        return Ok(());
    }
    let mut runs = fs::read_dir(folder.join("state/wandb"))?;
    let run = runs.next().context("the job wrote no folder for wandb")??.path();
    let mut sync = with(project, PYTHONS[0], &packages);
    shell::check(sync.arg("tests/oracle/wandb_sync.py").arg(run).arg(TUNED_UPDATES))
}

/// Built like in every other step, so that cargo compiles each dependency once.
fn example(project: &Project, name: &str) -> Result<PathBuf> {
    let mut cargo = project.cargo();
    cargo.args(["build", "--workspace", "--locked", "--example", name]);
    let messages = shell::output(cargo.arg("--message-format=json-render-diagnostics"))?;
    executable(&messages).context("cargo did not say where the example is")
}

/// A Python that sees what is installed in a folder of ours.
fn with(project: &Project, python: &str, packages: &Path) -> Command {
    let mut command = project.command(python);
    command.env("PYTHONPATH", packages);
    command
}

fn installed(project: &Project, packages: &Path) -> Option<&'static str> {
    let imports = |python: &&str| {
        shell::quiet_output(with(project, python, packages).args(["-c", "import rwkv, torch, numpy"])).is_ok()
    };
    PYTHONS.into_iter().find(imports)
}

fn install(project: &Project, packages: &Path) -> Result<()> {
    let has_torch = |python: &str| {
        shell::quiet_output(project.command(python).args(["-c", "import torch, numpy"])).is_ok()
    };
    let more: &[&str] = if PYTHONS.into_iter().any(has_torch) { &["--no-deps"] } else { &["torch", "numpy"] };
    pip(project, packages, &[&[RWKV], more].concat())
}

fn pip(project: &Project, packages: &Path, wanted: &[&str]) -> Result<()> {
    println!("installing {} into {}", wanted.join(" "), packages.display());
    let mut pip = project.command(PYTHONS[0]);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"]);
    shell::quiet_output(pip.arg("--target").arg(packages).args(wanted)).map(drop)
}
