//! Evaluates `flake.nix` without building or downloading: its lock, its outputs and their names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use serde_json::Value;

use crate::shell::{self, Project};
use crate::{plugins, setup, ui};

/// The flake's inputs; `nix-stub/` has a stand-in for each.
const INPUTS: &[&str] = &["crane", "flake-utils", "nixpkgs", "rust-overlay", "systems"];
const STUBS: &str = "host/xtask/nix-stub";

/// What the flake offers, as `output/system/name`, and what each is called.
const OUTPUTS: &[(&str, &str)] = &[
    ("packages/default", "rwkv-rag-VERSION"),
    ("packages/image", "rwkv-rag.tar.gz"),
    ("packages/page", "rwkv-rag-page-VERSION"),
    ("packages/plugins", "rwkv-rag-plugins-VERSION"),
    ("devShells/default", "nix-shell"),
    ("checks/clippy", "rwkv-rag-clippy-VERSION"),
    ("checks/default", "rwkv-rag-VERSION"),
    ("checks/fmt", "rwkv-rag-fmt-VERSION"),
    ("checks/plugins", "rwkv-rag-plugins-VERSION"),
    ("checks/tests", "rwkv-rag-nextest-VERSION"),
    ("apps/default", "app"),
];
const SYSTEMS: &[&str] = &["aarch64-linux", "x86_64-linux"];
/// Only where NVIDIA's compiler runs.
const CUDA: (&str, &str) = ("packages/x86_64-linux/cuda", "rwkv-rag-cuda-VERSION");

/// Asks Nix for every output with the inputs replaced by the stand-ins, and checks the lock file.
pub(crate) fn evaluate(project: &Project) -> Result<()> {
    setup::debian(project, setup::NIX_TOOLS)?;
    check_lock(&fs::read_to_string(project.path("flake.lock"))?)?;
    let flake = copy(project)?;

    let flake_ref = format!("path:{}", flake.display());
    let shown = nix(project, &["flake", "show", "--json", &flake_ref])?;
    let found = outputs(&serde_json::from_str(&shown).context("reading what nix flake show printed")?);
    let version = version(project)?;
    let expected = expected(&version);
    ensure!(found == expected, "the flake offers {found:#?}\nand should offer {expected:#?}");

    // A name can be asked for without the rest; the derivation's path needs every argument.
    for kind in ["packages", "checks", "devShells"] {
        for system in SYSTEMS {
            let attribute = format!("{flake_ref}#{kind}.{system}");
            nix(project, &["eval", "--json", &attribute, "--apply", "builtins.mapAttrs (_: d: d.drvPath)"])?;
        }
    }
    println!("flake: {} outputs evaluated; nothing was built", expected.len());
    Ok(())
}

/// Runs a Nix command on the flake with its inputs replaced; what it printed.
fn nix(project: &Project, args: &[&str]) -> Result<String> {
    let mut command = project.command("nix");
    // A store and a cache of our own: no daemon, no rights, and nothing left outside target/.
    let own = project.path("target/nix");
    command.env("XDG_CACHE_HOME", own.join("cache"));
    command.args(["--extra-experimental-features", "nix-command flakes", "--offline"]);
    command.arg("--store").arg(own.join("store")).args(args).arg("--no-write-lock-file");
    for input in INPUTS {
        let stub = format!("path:{}", project.path(STUBS).join(input).display());
        command.args(["--override-input", input, &stub]);
    }
    shell::quiet_output(&mut command)
}

/// The flake and the files it reads, without the models and the history that Nix would copy otherwise.
fn copy(project: &Project) -> Result<PathBuf> {
    let to = project.path("target/nix/flake");
    if to.exists() {
        fs::remove_dir_all(&to)?;
    }
    let mut files =
        vec!["flake.nix".to_owned(), "flake.lock".into(), "Cargo.toml".into(), "Cargo.lock".into()];
    files.extend(["host/rag/Cargo.toml".to_owned(), "tests/guests/Cargo.lock".into()]);
    files.extend(["package.json", "package-lock.json"].map(|name| format!("{}/{name}", ui::WEB)));
    files.extend(plugins::ids(project)?.iter().map(|id| format!("plugins/{id}/Cargo.toml")));
    for file in files {
        let target = to.join(&file);
        fs::create_dir_all(target.parent().context("a file has a folder")?)?;
        fs::copy(project.path(&file), target)?;
    }
    fs::create_dir_all(to.join("models"))?;
    Ok(to)
}

fn version(project: &Project) -> Result<String> {
    let manifest = fs::read_to_string(project.path("Cargo.toml"))?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = \""));
    Ok(line
        .and_then(|rest| rest.strip_suffix('"'))
        .context("Cargo.toml has no workspace version")?
        .to_owned())
}

fn expected(version: &str) -> BTreeMap<String, String> {
    let mut expected = BTreeMap::new();
    for (output, name) in OUTPUTS {
        for system in SYSTEMS {
            expected
                .insert(output.replacen('/', &format!("/{system}/"), 1), name.replace("VERSION", version));
        }
    }
    expected.insert(CUDA.0.to_owned(), CUDA.1.replace("VERSION", version));
    expected
}

/// Every `kind/system/attribute` in what `nix flake show --json` printed, with its name (an app has only a type).
fn outputs(shown: &Value) -> BTreeMap<String, String> {
    let entries = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let mut found = BTreeMap::new();
    for (kind, systems) in entries(shown) {
        for (system, attributes) in entries(&systems) {
            for (attribute, about) in entries(&attributes) {
                let name = about["name"].as_str().or(about["type"].as_str()).unwrap_or("?");
                found.insert(format!("{kind}/{system}/{attribute}"), name.to_owned());
            }
        }
    }
    found
}

/// Whether the lock names one exact, hashed revision for every input and nothing else.
fn check_lock(text: &str) -> Result<()> {
    let lock: Value = serde_json::from_str(text).context("flake.lock is not JSON")?;
    ensure!(lock["version"] == 7, "flake.lock is not of version 7");
    let nodes = lock["nodes"].as_object().context("flake.lock has no nodes")?;
    let root = lock["root"].as_str().and_then(|root| nodes[root]["inputs"].as_object());
    let inputs: Vec<&str> = root.context("flake.lock has no root")?.keys().map(String::as_str).collect();
    ensure!(inputs == INPUTS, "flake.lock has the inputs {inputs:?}, not {INPUTS:?}");
    for input in INPUTS {
        let locked = &nodes.get(*input).with_context(|| format!("flake.lock has no node {input}"))?["locked"];
        let text = |field: &str| locked[field].as_str().unwrap_or_default();
        let is_hex = text("rev").bytes().all(|byte| byte.is_ascii_hexdigit());
        let hash = text("narHash").strip_prefix("sha256-").unwrap_or_default();
        if text("rev").len() != 40 || !is_hex || hash.len() != 44 || !locked["lastModified"].is_u64() {
            bail!("flake.lock does not pin {input} to a revision with its hash");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lock(change: impl FnOnce(&mut Value)) -> String {
        let project = Project::find().unwrap();
        let text = fs::read_to_string(project.path("flake.lock")).unwrap();
        let mut lock: Value = serde_json::from_str(&text).unwrap();
        change(&mut lock);
        lock.to_string()
    }

    #[test]
    fn the_lock_pins_every_input() {
        check_lock(&lock(|_| ())).unwrap();
        let check = |change: &dyn Fn(&mut Value), expected: &str| {
            let error = check_lock(&lock(change)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&|lock| lock["version"] = json!(6), "version 7");
        check(&|lock| lock["nodes"]["crane"]["locked"]["rev"] = json!("main"), "pin crane");
        check(&|lock| lock["nodes"]["nixpkgs"]["locked"]["narHash"] = json!("sha256-x"), "pin nixpkgs");
        check(&|lock| lock["nodes"]["root"]["inputs"]["extra"] = json!("extra"), "has the inputs");
    }

    #[test]
    fn outputs_are_listed_by_kind_system_and_name() {
        let shown = json!({
            "packages": { "x86_64-linux": { "default": { "name": "p-1", "type": "derivation" } } },
            "apps": { "x86_64-linux": { "default": { "type": "app" } } },
        });
        let found: Vec<_> = outputs(&shown).into_iter().collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            found,
            [pair("apps/x86_64-linux/default", "app"), pair("packages/x86_64-linux/default", "p-1")]
        );
        assert_eq!(expected("9").len(), OUTPUTS.len() * 2 + 1);
    }
}
