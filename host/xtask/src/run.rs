//! `cargo xtask run`: from a fresh checkout to a serving program; a second start only checks what changed.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::plugins;
use crate::setup;
use crate::shell::{self, Project};
use crate::ui;

/// Builds what changed and becomes the server. `args` are passed to `rwkv-rag serve`.
pub(crate) fn run(project: &Project, args: &[String]) -> Result<()> {
    setup::wasm_target(project)?;
    setup::debian(project, setup::BUILD_TOOLS)?;
    plugins::build(project)?;
    ui::build(project)?;
    let binary = build_release(project)?;
    let mut serve = project.command(binary);
    serve.args(["serve", "--config", "etc/rag.toml"]).args(args);
    become_it(&mut serve)
}

/// Builds the release binary; cargo itself does nothing when nothing changed. Returns where it put it.
fn build_release(project: &Project) -> Result<PathBuf> {
    let mut cargo = project.cargo();
    cargo.args(["build", "--release", "-p", "rag", "--bin", "rwkv-rag"]);
    cargo.arg("--message-format=json-render-diagnostics").stdin(Stdio::null());
    let messages = shell::output(&mut cargo)?;
    executable(&messages).context("cargo did not say where the binary is")
}

/// The binary named in cargo's messages, one JSON object a line.
pub(crate) fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    })
}

/// Replaces this process, so that signals and the exit status are the server's own.
#[cfg(unix)]
fn become_it(command: &mut std::process::Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let shown = shell::shown(command);
    Err(command.exec()).with_context(|| format!("starting `{shown}`"))
}

#[cfg(not(unix))]
fn become_it(command: &mut std::process::Command) -> Result<()> {
    shell::check(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_executable_in_cargos_messages_is_the_binary() {
        let check = |messages, expected: Option<&str>| {
            assert_eq!(executable(messages), expected.map(PathBuf::from));
        };
        check("", None);
        check("{\"reason\":\"compiler-artifact\",\"executable\":null}\nnot json", None);
        check(
            "{\"executable\":\"/t/rwkv-rag\"}\n{\"reason\":\"build-finished\",\"success\":true}",
            Some("/t/rwkv-rag"),
        );
    }
}
