//! Compares the engine with PyPI `rwkv` on random models, where that can be installed.

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::setup;
use crate::shell::{self, Project};

/// What the other engine is.
const PACKAGES: [&str; 3] = ["rwkv==0.8.32", "torch", "numpy"];
const FOLDER: &str = "target/oracle";
/// Random models of each version.
const SEEDS: std::ops::Range<u32> = 0..4;

/// Makes the models, lets the other engine compute their logits, and compares ours with them. Where the other engine
/// cannot be installed it says so and does nothing, unless one of its files is wrong.
pub(crate) fn run(project: &Project) -> Result<()> {
    let python = project.path(FOLDER).join("bin/python");
    let installed =
        || shell::quiet_output(project.command(&python).args(["-c", "import rwkv, torch, numpy"]));
    if installed().is_err()
        && let Err(error) = install(project).and_then(|()| installed().context("importing them").map(drop))
    {
        println!("skipped: {} cannot be installed here: {error:#}", PACKAGES.join(", "));
        return Ok(());
    }
    let models = project.path(FOLDER).join("models");
    if models.exists() {
        fs::remove_dir_all(&models)?;
    }
    fs::create_dir_all(&models)?;
    for version in ["6", "7"] {
        for seed in SEEDS {
            let mut make = project.command(&python);
            make.args(["tests/oracle/make.py", version, &seed.to_string()]).arg(&models);
            // It prints what it loads.
            if let Err(error) = shell::quiet_output(&mut make) {
                bail!("RWKV-{version}, seed {seed}: {error:#}");
            }
        }
    }
    let mut compare = project.cargo();
    compare.args(["run", "--quiet", "--locked", "-p", "rag-engine", "--example", "oracle", "--"]);
    shell::check(compare.arg(&models))
}

fn install(project: &Project) -> Result<()> {
    println!("installing {} (a download of gigabytes)", PACKAGES.join(", "));
    let interpreter = setup::venv(project, &project.path(FOLDER))?;
    let mut pip = project.command(interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    shell::check(pip.args(PACKAGES))
}
