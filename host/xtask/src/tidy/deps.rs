//! Who may depend on whom, read from `cargo metadata`: the arrows of host/ARCHITECTURE.md.

use anyhow::{Context, Result};
use serde_json::Value;

/// One member of the workspace and the names it depends on, development dependencies included.
#[derive(Debug)]
pub(super) struct Package {
    name: String,
    /// Lives under plugins/: a component, or a library that components share.
    is_plugin: bool,
    is_component: bool,
    dependencies: Vec<Dependency>,
}

#[derive(Debug)]
struct Dependency {
    name: String,
    is_dev: bool,
}

/// Which of our crates each of our crates may name. What lives under plugins/ may name shared libraries there.
const ALLOWED_OURS: &[(&str, &[&str])] = &[
    ("rag-core", &[]),
    ("rag-slice", &[]),
    ("rag-wasm", &["rag-core", "rag-slice"]),
    ("rag-engine", &["rag-core"]),
    ("rag-store", &["rag-core", "rag-slice"]),
    ("rag-bus", &["rag-core"]),
    ("rag-http", &["rag-core"]),
    ("rag-kit", &["rag-core"]),
    ("rag-tune", &["rag-core", "rag-engine"]),
    (
        "rag",
        &["rag-core", "rag-wasm", "rag-engine", "rag-tune", "rag-store", "rag-bus", "rag-http", "rag-kit"],
    ),
    (
        "rag-tests",
        &[
            "rag-core",
            "rag-wasm",
            "rag-engine",
            "rag-tune",
            "rag-store",
            "rag-bus",
            "rag-http",
            "rag-kit",
            "rag",
        ],
    ),
    ("xtask", &[]),
];

/// Libraries that belong to one place; a name covers itself and everything that starts with it and a dash.
const OWNED: &[(&str, &[&str])] = &[
    ("wasmtime", &["rag-wasm"]),
    ("candle", &["rag-engine", "rag-tune"]),
    ("rusqlite", &["rag-store"]),
    ("libsqlite3-sys", &["rag-store"]),
    ("zeromq", &["rag-bus"]),
    ("axum", &["rag-http"]),
];

/// All that rag-core may use: nothing that performs I/O.
const CORE_MAY_USE: &[&str] = &["async-trait", "bytes", "futures-core", "sha2", "thiserror"];

/// What a component must not pull in: it has no threads, sockets or files, and stays small.
const NOT_IN_PLUGINS: &[&str] = &["tokio", "hyper", "reqwest", "ureq", "mio", "rayon", "fs-err", "tracing"];

/// The members of the workspace in what `cargo metadata --no-deps` printed.
pub(super) fn packages(metadata: &Value) -> Result<Vec<Package>> {
    let listed = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    listed.iter().map(package).collect()
}

fn package(value: &Value) -> Result<Package> {
    let text = |field: &Value| field.as_str().map(str::to_owned).context("a package without a name");
    let manifest = text(&value["manifest_path"])?.replace('\\', "/");
    let mut dependencies = Vec::new();
    for dependency in value["dependencies"].as_array().into_iter().flatten() {
        let is_dev = dependency["kind"].as_str() == Some("dev");
        dependencies.push(Dependency { name: text(&dependency["name"])?, is_dev });
    }
    let is_plugin = manifest.rsplit('/').nth(2) == Some("plugins");
    let kinds =
        value["targets"].as_array().into_iter().flatten().flat_map(|target| target["kind"].as_array());
    let is_component = is_plugin && kinds.flatten().any(|kind| kind == "cdylib");
    Ok(Package { name: text(&value["name"])?, is_plugin, is_component, dependencies })
}

/// One sentence for every arrow that is not allowed.
pub(super) fn check(packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages {
        for dependency in &package.dependencies {
            let to = &dependency.name;
            if let Some(reason) = refusal(packages, package, dependency) {
                problems.push(format!("{} depends on {to}: {reason}", package.name));
            }
        }
    }
    problems
}

fn refusal(packages: &[Package], from: &Package, to: &Dependency) -> Option<String> {
    if let Some(ours) = packages.iter().find(|package| package.name == to.name) {
        if from.is_plugin && ours.is_plugin {
            return ours.is_component.then(|| "a component stands alone".to_owned());
        }
        let allowed = ALLOWED_OURS.iter().find(|(name, _)| *name == from.name).map_or(&[][..], |(_, a)| a);
        return match allowed {
            [] => Some("it may use none of our crates".to_owned()),
            _ if allowed.contains(&to.name.as_str()) => None,
            _ => Some(format!("of our crates it may use {}", allowed.join(", "))),
        };
    }
    let belongs = |name: &str| to.name == name || to.name.starts_with(&format!("{name}-"));
    if let Some((_, owners)) = OWNED.iter().find(|(name, _)| belongs(name)) {
        return (!owners.contains(&from.name.as_str()))
            .then(|| format!("that belongs to {}", owners.join(", ")));
    }
    if from.name == "rag-core" && !to.is_dev && !CORE_MAY_USE.contains(&to.name.as_str()) {
        return Some(format!("the core may use {} and nothing else", CORE_MAY_USE.join(", ")));
    }
    if from.is_plugin && !to.is_dev && NOT_IN_PLUGINS.contains(&to.name.as_str()) {
        return Some("a component is wit-bindgen and pure libraries".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(packages: &Value) -> Vec<String> {
        check(&super::packages(&json!({ "packages": packages })).unwrap())
    }

    fn member(name: &str, folder: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<_> =
            dependencies.iter().map(|(name, kind)| json!({ "name": name, "kind": kind })).collect();
        let kind = if name.starts_with("guest-") { "lib" } else { "cdylib" };
        json!({
            "name": name,
            "manifest_path": format!("/x/{folder}/{name}/Cargo.toml"),
            "targets": [{ "kind": [kind, "rlib"] }],
            "dependencies": dependencies,
        })
    }

    #[test]
    fn the_allowed_arrows_pass() {
        let packages = json!([
            member("rag-core", "host", &[("thiserror", None), ("tempfile", Some("dev"))]),
            member("rag-wasm", "host", &[("rag-core", None), ("wasmtime", None), ("wasmtime-wasi", None)]),
            member("rag-engine", "host", &[("rag-core", None), ("candle-core", None)]),
            member("rag-tune", "host", &[("rag-engine", None), ("candle-core", None)]),
            member("rag", "host", &[("rag-wasm", None), ("rag-engine", None), ("tokio", None)]),
            member("guest-x", "plugins", &[("serde_json", None)]),
            member("chunk-x", "plugins", &[("wit-bindgen", None), ("guest-x", None)]),
        ]);
        assert_eq!(problems(&packages), [""; 0]);
    }

    #[test]
    fn each_forbidden_arrow_is_named_with_its_reason() {
        let core = member("rag-core", "host", &[]);
        let check = |bad: Value, expected: &str| {
            let others = [member("rag-store", "host", &[]), member("chunk-x", "plugins", &[])];
            assert_eq!(problems(&json!([core, others[0], others[1], bad])), [expected]);
        };
        check(
            member("rag-http", "host", &[("rag-store", None)]),
            "rag-http depends on rag-store: of our crates it may use rag-core",
        );
        check(
            member("rag-http", "host", &[("rag-store", Some("dev"))]),
            "rag-http depends on rag-store: of our crates it may use rag-core",
        );
        check(
            member("rag-http", "host", &[("wasmtime-wasi", None)]),
            "rag-http depends on wasmtime-wasi: that belongs to rag-wasm",
        );
        check(
            member("rag", "host", &[("axum", Some("build"))]),
            "rag depends on axum: that belongs to rag-http",
        );
        check(
            member("parse-x", "plugins", &[("rag-core", None)]),
            "parse-x depends on rag-core: it may use none of our crates",
        );
        check(
            member("parse-x", "plugins", &[("chunk-x", None)]),
            "parse-x depends on chunk-x: a component stands alone",
        );
        check(
            member("parse-x", "plugins", &[("tokio", None)]),
            "parse-x depends on tokio: a component is wit-bindgen and pure libraries",
        );
        check(
            member("rag-newcomer", "host", &[("rag-core", None)]),
            "rag-newcomer depends on rag-core: it may use none of our crates",
        );
    }

    #[test]
    fn the_core_uses_its_short_list_only() {
        let packages = json!([member("rag-core", "host", &[("serde", None)])]);
        let found = problems(&packages);
        assert!(
            found.len() == 1 && found[0].starts_with("rag-core depends on serde: the core may use"),
            "{found:?}"
        );
    }
}
