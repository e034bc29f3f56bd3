//! Compares the engine with PyPI `rwkv` on random models, where that can be installed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::run::executable;
use crate::shell::{self, Project};

/// The other engine.
const RWKV: &str = "rwkv==0.8.32";
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
    // Named like every other step's build, so that cargo compiles each dependency once.
    let mut cargo = project.cargo();
    cargo.args(["build", "--workspace", "--locked", "--example", "oracle"]);
    let messages = shell::output(cargo.arg("--message-format=json-render-diagnostics"))?;
    let compare = executable(&messages).context("cargo did not say where the example is")?;
    shell::check(project.command(compare).arg(&models))
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
    println!("installing {RWKV} {} into {}", more.join(" "), packages.display());
    let mut pip = project.command(PYTHONS[0]);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"]);
    shell::quiet_output(pip.arg("--target").arg(packages).arg(RWKV).args(more)).map(drop)
}
