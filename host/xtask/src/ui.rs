//! Builds the page: host/rag-http/web into its dist/, when something in it changed; keeps its types true to the API.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;

use crate::run::executable;
use crate::setup;
use crate::shell::{self, Project};

/// Sources of the page.
pub(crate) const WEB: &str = "host/rag-http/web";
/// The types that the page's client is checked against, made from the API's own description.
const TYPES: &str = "host/rag-http/web/src/api/schema.d.ts";
/// What a build, or an installation, was made from. Ignored by git as everything beside it.
const STAMP: &str = ".made-from";

/// Builds the page unless it is there for exactly these sources.
pub(crate) fn build(project: &Project) -> Result<()> {
    let web = project.path(WEB);
    let stamp = web.join("dist").join(STAMP);
    let sources = fingerprint(&web)?;
    if is_made_from(&stamp, sources) && web.join("dist/index.html").is_file() {
        return Ok(());
    }
    install(project)?;
    shell::check(npm(project).args(["run", "--silent", "build", "--", "--logLevel", "warn"]))?;
    fs::write(&stamp, sources.to_string())?;
    println!("page built in {WEB}/dist");
    Ok(())
}

/// What CI asks of the page: strict types, both languages complete, its client true to the API, and that it builds.
pub(crate) fn check(project: &Project) -> Result<()> {
    build(project)?;
    install(project)?;
    shell::check(npm(project).args(["run", "--silent", "check"]))?;
    let (committed, current) = (fs::read_to_string(project.path(TYPES))?, types(project)?);
    ensure!(committed == current, "{TYPES} is not what the API says; `cargo xtask ui-types` writes it anew");
    Ok(())
}

/// Writes the types anew after a change of the API.
pub(crate) fn write_types(project: &Project) -> Result<()> {
    install(project)?;
    let current = types(project)?;
    fs::write(project.path(TYPES), current)?;
    Ok(())
}

/// Types made from the OpenAPI document of the present sources.
fn types(project: &Project) -> Result<String> {
    // Named like every other step's build, so that cargo compiles each dependency once.
    let mut cargo = project.cargo();
    cargo.args(["build", "--workspace", "--locked", "--example", "openapi"]);
    let messages = shell::output(cargo.arg("--message-format=json-render-diagnostics"))?;
    let program = executable(&messages).context("cargo did not say where the example is")?;
    let folder = project.path("target/ui");
    fs::create_dir_all(&folder)?;
    let (document, made) = (folder.join("openapi.json"), folder.join("schema.d.ts"));
    fs::write(&document, shell::output(&mut project.command(program))?)?;
    let mut generate = npm(project);
    generate.args(["run", "--silent", "types", "--"]).arg(&document).arg("-o").arg(&made);
    shell::quiet_output(&mut generate)?;
    Ok(fs::read_to_string(made)?)
}

/// Node's packages as the lock file names them; nothing to do while it stays as it is.
fn install(project: &Project) -> Result<()> {
    setup::npm_packages(project, WEB)
}

fn npm(project: &Project) -> std::process::Command {
    let mut npm = project.command("npm");
    npm.current_dir(project.path(WEB));
    npm
}

pub(crate) fn is_made_from(stamp: &Path, sources: u64) -> bool {
    fs::read_to_string(stamp).is_ok_and(|made_from| made_from == sources.to_string())
}

/// A number that changes with any name or content of the page's sources.
fn fingerprint(web: &Path) -> Result<u64> {
    let mut files = Vec::new();
    collect(web, &mut files)?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in &files {
        file.strip_prefix(web)?.hash(&mut hasher);
        fs::read(file)?.hash(&mut hasher);
    }
    if files.is_empty() {
        bail!("{} holds no sources", web.display());
    }
    Ok(hasher.finish())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            if name != "node_modules" && name != "dist" {
                collect(&entry.path(), files)?;
            }
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_made_again_when_a_source_changed_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert!(fingerprint(dir.path()).is_err(), "nothing to build is a slip");
        write("src/main.ts", "one");
        let first = fingerprint(dir.path()).unwrap();
        for built in ["dist/index.html", "node_modules/x/index.js"] {
            write(built, "built");
        }
        assert_eq!(fingerprint(dir.path()).unwrap(), first, "what is built is no source");
        let stamp = dir.path().join("dist").join(STAMP);
        assert!(!is_made_from(&stamp, first));
        fs::write(&stamp, first.to_string()).unwrap();
        assert!(is_made_from(&stamp, first));
        write("src/main.ts", "two");
        let second = fingerprint(dir.path()).unwrap();
        assert!(!is_made_from(&stamp, second));
        write("src/other.ts", "");
        assert_ne!(fingerprint(dir.path()).unwrap(), second);
    }
}
