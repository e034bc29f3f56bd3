//! Runs other programs from the project's root and says what failed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The checkout that this tool works on.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    root: PathBuf,
}

/// Where Node.js is put when the system's is missing or old; its programs come first then.
pub(crate) const NODE_FOLDER: &str = "target/node";

impl Project {
    /// Finds the checkout from where cargo built this tool, or from the current folder upwards.
    pub(crate) fn find() -> Result<Self> {
        let start = match std::env::var_os("CARGO_MANIFEST_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => std::env::current_dir().context("reading the current folder")?,
        };
        let root = start
            .ancestors()
            .find(|dir| dir.join("Cargo.toml").is_file() && dir.join("host/xtask").is_dir())
            .with_context(|| format!("{} is not inside a checkout of this project", start.display()))?;
        Ok(Self { root: root.to_path_buf() })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A cargo command in the root, with the toolchain that runs this tool. What makes the next build faster is left
    /// out where there is none: a clean clone of CI needs gigabytes less.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        if std::env::var_os("CI").is_some() {
            cargo.env("CARGO_INCREMENTAL", "0");
        }
        cargo
    }

    /// A command in the root. What cargo set for this tool itself is taken away, or every build script that
    /// watches one of those variables would run again.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        let own_node = self.path(NODE_FOLDER).join("bin");
        if own_node.join("node").is_file() {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let all = std::iter::once(own_node).chain(std::env::split_paths(&path));
            // A PATH that cannot be joined stays as it is.
            if let Ok(path) = std::env::join_paths(all) {
                command.env("PATH", path);
            }
        }
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&*name);
            }
        }
        command
    }
}

/// Runs to the end with the terminal attached; an error when it cannot start or fails.
pub(crate) fn check(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("starting `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs to the end and returns what it printed; its messages go to the terminal.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    printed(command.stderr(Stdio::inherit()))
}

/// Runs to the end and returns what it printed; its messages are part of the error when it fails, else dropped.
pub(crate) fn quiet_output(command: &mut Command) -> Result<String> {
    printed(command.stderr(Stdio::piped()))
}

fn printed(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let result = command.output().with_context(|| format!("starting `{shown}`"))?;
    if !result.status.success() {
        bail!("{}`{shown}` failed ({})", String::from_utf8_lossy(&result.stderr), result.status);
    }
    String::from_utf8(result.stdout).with_context(|| format!("the output of `{shown}` is not UTF-8"))
}

/// Whether a program of this name can be started.
pub(crate) fn has(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The command as a person would type it, without its environment.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_with_its_arguments() {
        let error = check(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c exit 3` failed (exit status: 3)");
    }

    #[test]
    fn output_is_what_was_printed() {
        assert_eq!(output(Command::new("sh").args(["-c", "printf 知识"])).unwrap(), "知识");
        let quiet = |script| quiet_output(Command::new("sh").args(["-c", script]));
        assert_eq!(quiet("echo noise >&2; printf 库").unwrap(), "库");
        assert!(quiet("echo reason >&2; exit 1").unwrap_err().to_string().starts_with("reason\n"));
    }

    #[test]
    fn programs_are_looked_up_on_the_path() {
        assert!(has("sh"));
        assert!(!has("no-such-program-here"));
    }

    #[test]
    fn the_checkout_is_found_from_a_folder_inside_it() {
        let project = Project::find().unwrap();
        assert!(project.path("wit/plugin.wit").is_file());
    }
}
