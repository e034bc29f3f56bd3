//! Builds the components: plugins/* into plugins/dist/, and the misbehaving ones of tests/guests for the tests.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::setup;
use crate::shell::{self, Project};

/// What components are compiled for.
pub(crate) const TARGET: &str = "wasm32-wasip2";
/// Where finished plugins lie, each with its manifest beside it; the host's default `plugins_dir`.
pub(crate) const DIST: &str = "plugins/dist";

/// Builds every plugin and puts `<id>.wasm` and `<id>.toml` into `plugins/dist`. Files that did not change are not
/// written again, so a running host that watches the folder sees only what is new.
pub(crate) fn build(project: &Project) -> Result<()> {
    setup::wasm_target(project)?;
    let ids = ids(project)?;
    // Outside the host's build folder: other flags, and one cache whatever CARGO_TARGET_DIR says.
    let built = project.path("target/plugins");
    let mut cargo = project.cargo();
    cargo.args(["build", "--quiet", "--profile", "plugin", "--target", TARGET]);
    cargo.arg("--target-dir").arg(&built).env("RUSTFLAGS", "-C target-feature=+simd128");
    cargo.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_ENCODED_RUSTFLAGS");
    for id in &ids {
        cargo.args(["-p", id]);
    }
    shell::check(&mut cargo)?;

    let dist = project.path(DIST);
    fs::create_dir_all(&dist)?;
    for id in &ids {
        let component = built.join(TARGET).join("plugin").join(format!("{}.wasm", id.replace('-', "_")));
        let mut component = fs::read(component)?;
        let manifest = project.path("plugins").join(id).join("plugin.toml");
        if manifest.is_file() {
            let text = fs::read(manifest)?;
            push_manifest(&mut component, &text);
            place(&text, &dist.join(format!("{id}.toml")))?;
        }
        place(&component, &dist.join(format!("{id}.wasm")))?;
    }
    remove_strangers(&dist, &ids)?;
    println!("{} plugins in {DIST}", ids.len());
    Ok(())
}

/// Builds the hostile components: a workspace of its own, since nothing else may depend on them.
pub(crate) fn build_guests(project: &Project) -> Result<()> {
    setup::wasm_target(project)?;
    let guests = project.path("tests/guests");
    if !guests.join("Cargo.toml").is_file() {
        bail!("tests/guests has no Cargo.toml: the hostile components are missing");
    }
    let mut cargo = project.cargo();
    cargo.args(["build", "--quiet", "--release", "--target", TARGET]);
    cargo.arg("--target-dir").arg(project.path("target/guests"));
    cargo.env_remove("CARGO_TARGET_DIR").current_dir(guests);
    shell::check(&mut cargo)
}

/// The folders of plugins/ that hold a component (a `cdylib`; a plain library there is shared by several). A folder's
/// name is the plugin's id.
pub(crate) fn ids(project: &Project) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(project.path("plugins"))? {
        let path = entry?.path();
        if fs::read_to_string(path.join("Cargo.toml")).is_ok_and(|manifest| manifest.contains("\"cdylib\"")) {
            let name = path.file_name().and_then(|name| name.to_str());
            ids.push(name.with_context(|| format!("{} is not UTF-8", path.display()))?.to_owned());
        }
    }
    ids.sort();
    Ok(ids)
}

/// Adds the manifest as the custom section in which a host looks for it (`rag-wasm/src/manifest.rs`).
fn push_manifest(component: &mut Vec<u8>, manifest: &[u8]) {
    const NAME: &[u8] = b"ragkit:manifest";
    let mut length = 1 + NAME.len() + manifest.len();
    component.push(0);
    while length >= 0x80 {
        component.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    component.push(length as u8);
    component.push(NAME.len() as u8);
    component.extend_from_slice(NAME);
    component.extend_from_slice(manifest);
}

/// Writes through a temporary name, so that nobody ever reads half a file; leaves an equal file alone.
fn place(bytes: &[u8], to: &Path) -> Result<()> {
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let part = PathBuf::from(format!("{}.{}.part", to.display(), std::process::id()));
    fs::write(&part, bytes)?;
    fs::rename(&part, to)?;
    Ok(())
}

/// Removes what an earlier build left of a plugin that no longer exists.
fn remove_strangers(dist: &Path, ids: &[String]) -> Result<()> {
    for entry in fs::read_dir(dist)? {
        let path = entry?.path();
        let (stem, extension) = (path.file_stem(), path.extension().and_then(|e| e.to_str()));
        let known = ids.iter().any(|id| stem == Some(id.as_ref()));
        if matches!(extension, Some("wasm" | "toml")) && !known {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_folders_with_a_component_in_order() {
        let ids = ids(&Project::find().unwrap()).unwrap();
        assert!(ids.is_sorted());
        assert!(ids.contains(&"chunk-sentence".to_owned()));
        for not_a_component in ["dist", "guest-settings"] {
            assert!(!ids.contains(&not_a_component.to_owned()));
        }
    }

    #[test]
    fn an_equal_file_is_left_alone_and_a_changed_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("b");
        place(b"one", &to).unwrap();
        let first = fs::metadata(&to).unwrap().modified().unwrap();
        place(b"one", &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), first);
        place(b"two", &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn only_leftovers_of_removed_plugins_go() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["chunk-old.wasm", "chunk-old.toml", "chunk-new.wasm", "notes.md"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        remove_strangers(dir.path(), &["chunk-new".to_owned()]).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["chunk-new.wasm", "notes.md"]);
    }
}
