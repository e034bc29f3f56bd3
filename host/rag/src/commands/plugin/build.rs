//! `plugin build`: sources become a component with its manifest in it; a tool that is missing is named with the command
//! that installs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rag_wasm::{Kind, Manifest};
use serde_json::{Value, json};

use crate::cli::Lang;
use crate::output;

/// What Rust compiles components for.
const TARGET: &str = "wasm32-wasip2";

/// Builds, and says where the component is.
pub(crate) fn run(dir: &Path, json: bool) -> Result<()> {
    let path = build(dir)?;
    let bytes = fs_err::metadata(&path)?.len();
    if json {
        output::json(&json!({"path": path, "bytes": bytes}));
    } else {
        output::line(format_args!("{} ({} KiB)", path.display(), bytes.div_ceil(1 << 10)));
    }
    Ok(())
}

/// Builds the plugin in a folder; where its component is: `dist/<id>.wasm`.
pub(crate) fn build(dir: &Path) -> Result<PathBuf> {
    let text = manifest_text(dir)?;
    let manifest = Manifest::parse(&text).map_err(|why| anyhow::anyhow!("{}: {why}", dir.display()))?;
    let kind = manifest.kind().with_context(|| format!("'{}' is no kind", manifest.kind))?;
    // Tools run in the folder itself.
    let dir = fs_err::canonicalize(dir)?;
    let dist = dir.join("dist");
    fs_err::create_dir_all(&dist)?;
    let made = match lang(&dir)? {
        Lang::Rust => rust(&dir)?,
        Lang::Js => js(&dir, kind, &narrow(&dir, &dist, kind, &manifest)?, &dist)?,
        Lang::Python => python(&dir, kind, &narrow(&dir, &dist, kind, &manifest)?, &dist)?,
    };
    let component = Manifest::embed(&fs_err::read(&made)?, &text).map_err(anyhow::Error::msg)?;
    if made.starts_with(&dist) {
        fs_err::remove_file(&made)?;
    }
    let path = dist.join(format!("{}.wasm", manifest.id));
    // A host that watches the folder never reads half a file.
    let part = dist.join(format!("{}.part", manifest.id));
    fs_err::write(&part, component)?;
    fs_err::rename(&part, &path)?;
    Ok(path)
}

fn manifest_text(dir: &Path) -> Result<String> {
    let path = dir.join("plugin.toml");
    if !path.is_file() {
        bail!("{} has no plugin.toml; `rwkv-rag plugin new` makes a plugin", dir.display());
    }
    Ok(fs_err::read_to_string(path)?)
}

/// The language of a plugin's folder.
pub(crate) fn lang(dir: &Path) -> Result<Lang> {
    let has = |name: &str| dir.join(name).is_file();
    match () {
        () if has("Cargo.toml") => Ok(Lang::Rust),
        () if has("package.json") => Ok(Lang::Js),
        () if has("requirements.txt") || has("plugin.py") => Ok(Lang::Python),
        () => bail!(
            "{} has neither Cargo.toml (rust), package.json (js) nor requirements.txt (python)",
            dir.display()
        ),
    }
}

/// What is to be installed once before a fresh plugin builds, as commands.
pub(crate) fn needs(dir: &Path, lang: Lang) -> Vec<String> {
    let shown = dir.display();
    match lang {
        Lang::Rust => vec![format!("rustup target add {TARGET}")],
        Lang::Js => vec![format!("npm install --prefix {shown}")],
        Lang::Python => vec![
            format!("python3 -m venv {shown}/.venv"),
            format!("{shown}/.venv/bin/pip install -r {shown}/requirements.txt"),
        ],
    }
}

fn missing(what: &str, dir: &Path, lang: Lang) -> anyhow::Error {
    anyhow::anyhow!("{what} is missing; install it with `{}`", needs(dir, lang).join(" && "))
}

fn rust(dir: &Path) -> Result<PathBuf> {
    let libraries =
        quiet(Command::new("rustc").current_dir(dir).args(["--print", "target-libdir", "--target", TARGET]))
            .context("Rust is missing; install it as https://rustup.rs says")?;
    if !Path::new(libraries.trim()).is_dir() {
        return Err(missing(&format!("Rust's library for {TARGET}"), dir, Lang::Rust));
    }
    let mut cargo = Command::new("cargo");
    cargo.current_dir(dir).args(["build", "--release", "--quiet", "--target", TARGET]);
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped()).stdin(Stdio::null());
    let built = cargo.spawn().context("starting cargo")?.wait_with_output()?;
    if !built.status.success() {
        bail!("cargo could not build it ({}); what it said stands above", built.status);
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    component_of(&messages)
        .context("cargo built no component: does Cargo.toml have crate-type = [\"cdylib\"]?")
}

/// The component named last in cargo's messages, one JSON object a line.
fn component_of(messages: &str) -> Option<PathBuf> {
    messages.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
        files.map(PathBuf::from).find(|file| file.extension().is_some_and(|e| e == "wasm"))
    })
}

fn js(dir: &Path, kind: Kind, wit: &Path, dist: &Path) -> Result<PathBuf> {
    quiet(Command::new("node").arg("--version"))
        .context("Node.js is missing; install version 20 or newer as https://nodejs.org says")?;
    if !dir.join("node_modules/@bytecodealliance/componentize-js").is_dir() {
        return Err(missing("componentize-js", dir, Lang::Js));
    }
    let made = dist.join("made.part");
    let mut node = Command::new("node");
    node.current_dir(dir).arg("build.mjs").arg(wit).arg(world(kind)).arg(&made);
    run_tool(&mut node, "build.mjs")?;
    Ok(made)
}

fn python(dir: &Path, kind: Kind, wit: &Path, dist: &Path) -> Result<PathBuf> {
    let own = dir.join(".venv/bin/componentize-py");
    let tool = if own.is_file() { own } else { PathBuf::from("componentize-py") };
    if quiet(Command::new(&tool).arg("--version")).is_err() {
        return Err(missing("componentize-py", dir, Lang::Python));
    }
    let made = dist.join("made.part");
    let mut command = Command::new(&tool);
    command.current_dir(dir).arg("--quiet").arg("--wit-path").arg(wit).args(["--world", &world(kind)]);
    // Without the stubs Python's library would import files and sockets, which no plugin has.
    command.args(["componentize", "--stub-wasi", "--python-path", ".", "plugin", "--output"]).arg(&made);
    run_tool(&mut command, "componentize-py")?;
    Ok(made)
}

fn run_tool(command: &mut Command, name: &str) -> Result<()> {
    // What it prints is for people; ours is data.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("starting {name}"))?;
    if !status.success() {
        bail!("{name} could not build it ({status}); what it said stands above");
    }
    Ok(())
}

fn quiet(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    if !done.status.success() {
        bail!("it ended with {}", done.status);
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn world(kind: Kind) -> String {
    format!("{}-plugin", kind.name())
}

/// The plugin's WIT with only those imports in its world that the manifest asks for: tools for JavaScript and Python
/// import the whole world, used or not.
fn narrow(dir: &Path, dist: &Path, kind: Kind, manifest: &Manifest) -> Result<PathBuf> {
    let (from, to) = (dir.join("wit"), dist.join("wit"));
    for name in ["deps/ragkit-host/host.wit", "deps/ragkit-types/types.wit"] {
        let target = to.join(name);
        fs_err::create_dir_all(target.parent().context("a file lies in a folder")?)?;
        fs_err::copy(from.join(name), target)?;
    }
    let asked: Vec<String> = manifest.asks().into_iter().map(|ask| ask.interface).collect();
    let text = fs_err::read_to_string(from.join("plugin.wit"))?;
    fs_err::write(to.join("plugin.wit"), only_asked(&text, &world(kind), &asked))?;
    Ok(to)
}

fn only_asked(wit: &str, world: &str, asked: &[String]) -> String {
    let mut inside = false;
    let mut kept = String::with_capacity(wit.len());
    for line in wit.lines() {
        if let Some(rest) = line.trim_start().strip_prefix("world ") {
            inside = rest.trim_start().starts_with(&format!("{world} "));
        }
        let import = line.trim().strip_prefix("import ragkit:host/").and_then(|rest| rest.split('@').next());
        let wanted =
            |name: &str| matches!(name, "log" | "config" | "blob") || asked.iter().any(|asked| asked == name);
        if !inside || import.is_none_or(wanted) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_keeps_what_is_asked_for() {
        let wit = include_str!("../../../../../wit/plugin.wit");
        let kept = only_asked(wit, "chunker-plugin", &["tokens".to_owned()]);
        let gone: Vec<&str> = wit.lines().filter(|line| !kept.lines().any(|other| other == *line)).collect();
        assert!(gone.is_empty(), "embed is still imported by retrievers: {gone:?}");
        assert_eq!(wit.matches("import ragkit:host/embed@").count(), 2);
        assert_eq!(kept.matches("import ragkit:host/embed@").count(), 1);
        assert_eq!(kept.matches("import ragkit:host/tokens@").count(), 1);
    }

    #[test]
    fn the_component_is_found_among_cargos_messages() {
        let messages =
            "{\"reason\":\"compiler-artifact\",\"filenames\":[\"/t/libx.rlib\",\"/t/x.wasm\"]}\nnoise\n{}";
        assert_eq!(component_of(messages), Some(PathBuf::from("/t/x.wasm")));
        assert_eq!(component_of("{\"filenames\":[\"/t/libx.rlib\"]}"), None);
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_brings_it() {
        let dir = tempfile::tempdir().unwrap();
        let check = |expected: &str| {
            let error = format!("{:#}", build(dir.path()).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        check("has no plugin.toml; `rwkv-rag plugin new`");
        let manifest = "id = 'a'\nversion = '0.1.0'\nkind = 'chunker'\ndescription = 'd'\n";
        fs_err::write(dir.path().join("plugin.toml"), format!("{manifest}extra = 1\n")).unwrap();
        check("extra");
        fs_err::write(dir.path().join("plugin.toml"), manifest).unwrap();
        check("neither Cargo.toml (rust), package.json (js) nor requirements.txt (python)");
        let shown = dir.path().display().to_string();
        assert_eq!(needs(dir.path(), Lang::Js), [format!("npm install --prefix {shown}")]);
        assert!(
            missing("x", dir.path(), Lang::Rust).to_string().contains("`rustup target add wasm32-wasip2`")
        );
    }
}
