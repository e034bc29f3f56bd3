//! `plugin new`: a folder with a plugin that builds, passes the tests of its kind and waits to be changed.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::cli::{Lang, PluginKind, PluginNew};
use crate::output;

/// The specification, put beside every plugin: no network is needed to build against it.
const WIT: [(&str, &str); 3] = [
    ("wit/plugin.wit", include_str!("../../../../../wit/plugin.wit")),
    ("wit/deps/ragkit-host/host.wit", include_str!("../../../../../wit/deps/ragkit-host/host.wit")),
    ("wit/deps/ragkit-types/types.wit", include_str!("../../../../../wit/deps/ragkit-types/types.wit")),
];

/// Files of a plugin: name in its folder, and text in which the words below are replaced.
type Template = Vec<(&'static str, &'static str)>;

/// What the templates have in the place of the plugin's id and description.
const ID: &str = "PLUGIN_ID";
const DESCRIPTION: &str = "PLUGIN_DESCRIPTION";

/// Bytes of an id, as the host takes them.
const ID_BYTES_MAX: usize = 64;

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../../../templates/", $path))
    };
}

pub(crate) fn run(args: &PluginNew, json: bool) -> Result<()> {
    let id = &args.name;
    check_id(id)?;
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(id));
    if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} exists and is not empty", dir.display());
    }
    let template = template(args.kind, args.lang)?;
    let description = description(args.kind);
    let fill = |text: &str| text.replace(ID, id).replace(DESCRIPTION, description);
    for (name, text) in template {
        write(&dir.join(name), &fill(text))?;
    }
    write(&dir.join("plugin.toml"), &manifest(id, args.kind, args.lang))?;
    for (name, text) in WIT {
        write(&dir.join(name), text)?;
    }
    if json {
        output::json(&serde_json::json!({"id": id, "kind": args.kind.name(), "dir": dir}));
        return Ok(());
    }
    let (shown, source) = (dir.display(), source(args.lang));
    output::line(format_args!("{shown}/{source} is a {} to change; then:", args.kind.name()));
    for line in super::build::needs(&dir, args.lang) {
        output::line(format_args!("  {line}"));
    }
    output::line(format_args!("  rwkv-rag plugin build {shown}"));
    output::line(format_args!("  rwkv-rag plugin test {shown}"));
    Ok(())
}

fn check_id(id: &str) -> Result<()> {
    let word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let begins = id.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins || id.len() > ID_BYTES_MAX || !id.split('-').all(word) {
        bail!("'{id}' is no id: lower-case words joined by hyphens, such as chunk-verses");
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent)?;
    }
    Ok(fs_err::write(path, text)?)
}

/// The file that people change.
fn source(lang: Lang) -> &'static str {
    match lang {
        Lang::Rust => "src/lib.rs",
        Lang::Js => "plugin.js",
        Lang::Python => "plugin.py",
    }
}

fn template(kind: PluginKind, lang: Lang) -> Result<Template> {
    let text = match (lang, kind) {
        (Lang::Rust, PluginKind::Chunker) => template!("rust/chunker.rs"),
        (Lang::Rust, PluginKind::Parser) => template!("rust/parser.rs"),
        (Lang::Rust, PluginKind::Retriever) => template!("rust/retriever.rs"),
        (Lang::Rust, PluginKind::VectorStore) => template!("rust/vector-store.rs"),
        (Lang::Rust, PluginKind::Connector) => template!("rust/connector.rs"),
        (Lang::Js, PluginKind::Chunker) => template!("js/chunker.js"),
        (Lang::Js, PluginKind::Retriever) => template!("js/retriever.js"),
        (Lang::Python, PluginKind::Chunker) => template!("python/chunker.py"),
        (Lang::Python, PluginKind::Retriever) => template!("python/retriever.py"),
        (Lang::Js | Lang::Python, kind) => bail!(
            "there is no template of a {} in {}: chunker and retriever have one, every kind has one in rust",
            kind.name(),
            lang.name()
        ),
    };
    let mut files = vec![(source(lang), text)];
    files.extend(match lang {
        Lang::Rust => {
            vec![("Cargo.toml", template!("rust/Cargo.toml.in")), (".gitignore", "/target\n/dist\n")]
        }
        Lang::Js => vec![
            ("package.json", template!("js/package.json.in")),
            ("build.mjs", template!("js/build.mjs")),
            (".gitignore", "/node_modules\n/dist\n"),
        ],
        Lang::Python => vec![
            ("requirements.txt", template!("python/requirements.txt")),
            (".gitignore", "/.venv\n/dist\n__pycache__\n"),
        ],
    });
    Ok(files)
}

fn description(kind: PluginKind) -> &'static str {
    match kind {
        PluginKind::Chunker => "Makes every paragraph a chunk.",
        PluginKind::Parser => "Reads text line by line.",
        PluginKind::Retriever => "Finds the nearest chunks by vector.",
        PluginKind::VectorStore => "Keeps vectors in the host's own store.",
        PluginKind::Connector => "Asks a server that answers one result a line.",
    }
}

fn manifest(id: &str, kind: PluginKind, lang: Lang) -> String {
    let profile = match lang {
        Lang::Rust => "",
        Lang::Js | Lang::Python => {
            "# It brings the run time of its language, which takes more memory and time.\nprofile = \"lang\"\n"
        }
    };
    let (media_types, grants) = match kind {
        PluginKind::Chunker => ("", ""),
        PluginKind::Parser => ("media_types = [\"text/x-lines\"]\n", ""),
        PluginKind::Retriever => ("", "embed = true\nsearch = true\n"),
        PluginKind::VectorStore => ("", "vector-index = true\n"),
        PluginKind::Connector => ("", "http = [\"https://example.org\"]\n"),
    };
    format!(
        "id = \"{id}\"\nversion = \"0.1.0\"\nkind = \"{}\"\ndescription = \"{}\"\n{media_types}{profile}\n\
         # Host interfaces that it wants beyond log and config; what is not here it does not get.\n\
         [grants]\n{grants}\n\
         # JSON Schema of the settings: there are none.\n\
         [settings]\ntype = \"object\"\nadditionalProperties = false\n",
        kind.name(),
        description(kind)
    )
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use rag_wasm::Manifest;

    use super::*;

    #[test]
    fn every_template_is_whole_and_its_manifest_is_read() {
        for kind in PluginKind::value_variants() {
            for lang in Lang::value_variants() {
                let manifest = Manifest::parse(&manifest("my-own", *kind, *lang)).unwrap();
                assert_eq!(manifest.kind, kind.name());
                let Ok(files) = template(*kind, *lang) else {
                    assert!(
                        *lang != Lang::Rust && !matches!(kind, PluginKind::Chunker | PluginKind::Retriever)
                    );
                    continue;
                };
                assert!(files.iter().any(|(name, text)| *name == source(*lang) && text.contains("settings")));
                let in_code = files.iter().any(|(_, text)| text.contains(ID) && text.contains("0.1.0"));
                assert!(in_code, "{} in {} says who it is", kind.name(), lang.name());
            }
        }
    }

    #[test]
    fn a_folder_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let new = |name: &str| PluginNew {
            name: name.to_owned(),
            kind: PluginKind::Chunker,
            lang: Lang::Rust,
            dir: Some(dir.path().join("made")),
        };
        run(&new("chunk-verses"), true).unwrap();
        let cargo = fs_err::read_to_string(dir.path().join("made/Cargo.toml")).unwrap();
        assert!(cargo.contains("name = \"chunk-verses\"") && !cargo.contains("PLUGIN_"));
        assert!(dir.path().join("made/wit/deps/ragkit-host/host.wit").is_file());
        assert!(run(&new("chunk-verses"), true).unwrap_err().to_string().contains("not empty"));
        for bad in ["", "Verses", "a_b", "-a", "9-lives", "../up"] {
            let error = run(&new(bad), true).unwrap_err().to_string();
            assert!(error.contains("is no id"), "{bad}: {error}");
        }
    }
}
