//! Checks the rules that no compiler knows: who may depend on whom, file sizes, unfinished work, licences.

mod deps;
mod files;
mod licences;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde_json::Value;

use crate::plugins;
use crate::shell::{self, Project};

/// Prints every broken rule; an error when there is one.
pub(crate) fn run(project: &Project) -> Result<()> {
    let metadata = metadata(project, &["--no-deps"])?;
    let mut problems = deps::check(&deps::packages(&metadata)?);
    problems.extend(files::check(project.root(), &tracked(project)?)?);
    problems.extend(check_plugins(project)?);
    // The resolved graph of the machines that this is built for; others' packages need not be downloaded.
    let resolved = metadata_for_linux(project)?;
    let allowed = licences::allowed(&fs::read_to_string(project.path(".deny.toml"))?)?;
    problems.extend(licences::check(&resolved, &allowed)?);

    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    if !problems.is_empty() {
        bail!("{} broken rules", problems.len());
    }
    println!("tidy: nothing to mend");
    Ok(())
}

fn metadata_for_linux(project: &Project) -> Result<Value> {
    metadata(project, &["--filter-platform", "x86_64-unknown-linux-gnu"])
}

/// What `cargo metadata` says; `--locked` so that a stale lock file is an error and not a silent change.
fn metadata(project: &Project, args: &[&str]) -> Result<Value> {
    let mut cargo = project.cargo();
    cargo.args(["metadata", "--locked", "--format-version", "1"]).args(args);
    serde_json::from_str(&shell::output(&mut cargo)?).context("reading what cargo metadata printed")
}

/// Files that are in the repository or about to be: tracked, or new and not ignored.
fn tracked(project: &Project) -> Result<Vec<String>> {
    let mut git = project.command("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let names = shell::output(&mut git)?;
    let mut files: Vec<String> =
        names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    files.retain(|name| project.path(name).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}

/// Every plugin has a manifest of its own name and a place in the conformance tests.
fn check_plugins(project: &Project) -> Result<Vec<String>> {
    let mut conformance = String::new();
    for name in tracked(project)?.iter().filter(|name| name.starts_with("tests/conformance/")) {
        if name.ends_with(".rs") {
            conformance.push_str(&fs::read_to_string(project.path(name))?);
        }
    }
    let mut problems = Vec::new();
    for id in plugins::ids(project)? {
        let manifest = fs::read_to_string(project.path("plugins").join(&id).join("plugin.toml"));
        problems.extend(check_plugin(&id, manifest.ok().as_deref(), &conformance));
    }
    Ok(problems)
}

fn check_plugin(id: &str, manifest: Option<&str>, conformance: &str) -> Vec<String> {
    let quoted = format!("\"{id}\"");
    let mut problems = Vec::new();
    match manifest {
        None => problems.push(format!("plugins/{id} has no plugin.toml")),
        Some(text) => {
            let names_itself = text.lines().any(|line| {
                line.split_once('=').is_some_and(|(k, v)| k.trim() == "id" && v.trim() == quoted)
            });
            if !names_itself {
                problems.push(format!("plugins/{id}/plugin.toml does not say id = {quoted}"));
            }
        }
    }
    if !conformance.contains(&quoted) {
        problems.push(format!("plugins/{id} has no line in tests/conformance"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_needs_a_manifest_that_names_it_and_a_conformance_line() {
        let check = |manifest, conformance, expected: &[&str]| {
            assert_eq!(check_plugin("chunk-x", manifest, conformance), expected);
        };
        check(Some("id = \"chunk-x\"\n"), "run(\"chunk-x\")", &[]);
        check(None, "run(\"chunk-x\")", &["plugins/chunk-x has no plugin.toml"]);
        check(
            Some("id = \"chunk-y\""),
            "\"chunk-x-2\"",
            &[
                "plugins/chunk-x/plugin.toml does not say id = \"chunk-x\"",
                "plugins/chunk-x has no line in tests/conformance",
            ],
        );
    }
}
