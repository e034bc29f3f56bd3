//! May this file be a plugin? From bytes to an admitted component: shape, exports, imports, types, who it says it is.

use std::path::Path;
use std::sync::Arc;

use fs_err as fs;
use futures_util::future::BoxFuture;
use rag_core::error::PluginFault;
use rag_core::ports::{PluginAsk, PluginInfo};
use rag_core::{Error, Result};
use wasmtime::Store;
use wasmtime::component::Component as Code;

use crate::artefact::Artefacts;
use crate::bindings::parser::ParserPlugin;
use crate::compile::CompileFault;
use crate::config::KindLimits;
use crate::host::{Component, Loaded};
use crate::instance::{Budget, Description, GuestOutcome, Instance, Plugin, Setup, World};
use crate::manifest::Manifest;
use crate::runner::Runner;
use crate::state::{Grants, State};
use crate::{Kind, check, fault};

const ID_BYTES_MAX: usize = 64;
const VERSION_BYTES_MAX: usize = 64;
const DESCRIPTION_BYTES_MAX: usize = 1 << 10;

/// Reads, checks, compiles and asks a component who it is. Not yet installed.
pub(crate) fn file(runner: &Arc<Runner>, artefacts: &Artefacts, path: &Path) -> Result<(Loaded, Component)> {
    let name =
        path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
    let refused = |message: String| fault::new(&name, PluginFault::Refused, message);
    let wasm = read(path, runner.limits.component_bytes_max)?;
    shape(&wasm).map_err(refused)?;
    let manifest = Manifest::of(&wasm).map_err(refused)?;
    let profile = manifest.as_ref().map(|manifest| manifest.profile).unwrap_or_default();
    let digest = crate::shelf::digest_of(&wasm);
    let (code, origin) = artefacts.load(&runner.engine, &digest, &wasm).map_err(|why| match why {
        CompileFault::Unavailable(_) => Error::Unavailable { message: why.to_string() },
        CompileFault::Invalid(_) | CompileFault::Bound(_) => refused(why.to_string()),
    })?;
    tracing::debug!(digest, "linking a component");
    let kind = crate::link::kind_of(&runner.engine, &code).map_err(refused)?;
    crate::link::check_imports(&runner.engine, &code, kind).map_err(refused)?;
    let imports = crate::link::host_imports(&runner.engine, &code);
    let limits = Arc::new(runner.limits.under(kind, profile));
    let candidate = Candidate { runner, name: &name, digest: &digest, code: &code, limits };
    let (info, component, accepts) = match kind {
        Kind::Parser => {
            let (plugin, accepts) = candidate.admit_parser()?;
            (plugin.info.clone(), Component::Parser(plugin), accepts)
        }
        Kind::Chunker => {
            let plugin = candidate.admit()?;
            (plugin.info.clone(), Component::Chunker(plugin), Vec::new())
        }
        Kind::VectorStore => {
            let plugin = candidate.admit()?;
            (plugin.info.clone(), Component::VectorStore(plugin), Vec::new())
        }
        Kind::Retriever => {
            let plugin = candidate.admit()?;
            (plugin.info.clone(), Component::Retriever(plugin), Vec::new())
        }
        Kind::Connector => {
            let plugin = candidate.admit()?;
            (plugin.info.clone(), Component::Connector(plugin), Vec::new())
        }
    };
    let asks = match &manifest {
        Some(manifest) => {
            manifest.check(&info.id, &info.version, kind, &imports).map_err(refused)?;
            manifest.asks()
        }
        None => imports.iter().map(PluginAsk::whole).collect(),
    };
    let bytes = wasm.len() as u64;
    let path = path.to_owned();
    let settings = Arc::new(manifest.map(|manifest| manifest.settings).unwrap_or_default());
    let loaded = Loaded { info, kind, path, accepts, imports, asks, profile, settings, bytes, origin };
    Ok((loaded, component))
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let failed = |err: std::io::Error| Error::Unavailable { message: err.to_string() };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > bytes_max {
        return Err(Error::TooLarge {
            what: format!("plugin {}", path.display()),
            size,
            limit: bytes_max,
            unit: "bytes",
            setting: "plugins.component_bytes_max",
        });
    }
    fs::read(path).map_err(failed)
}

/// Checks every import and export against the world's types.
pub(crate) fn link<W: World>(runner: &Runner, code: &Code) -> wasmtime::Result<W::Pre> {
    runner.linker(W::KIND).instantiate_pre(code).and_then(W::resolve)
}

/// Tells a component from a module and from anything else, which the compiler's message would not.
fn shape(wasm: &[u8]) -> Result<(), String> {
    match wasm {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            Err("it is a core module, not a component; build it for wasm32-wasip2".to_owned())
        }
        [0, b'a', b's', b'm', ..] => Err("it is WebAssembly of another version".to_owned()),
        [] => Err("the file is empty".to_owned()),
        _ => Err("it is not WebAssembly".to_owned()),
    }
}

/// A component of known kind whose imports are granted.
struct Candidate<'a> {
    runner: &'a Arc<Runner>,
    name: &'a str,
    digest: &'a str,
    code: &'a Code,
    limits: Arc<KindLimits>,
}

impl Candidate<'_> {
    fn admit<W: World>(&self) -> Result<Arc<Plugin<W>>> {
        let plugin = self.nameless::<W>()?;
        tracing::debug!(digest = self.digest, "asking a component who it is");
        let description = ask(&plugin, |world, store| world.describe(store))?;
        self.named(&plugin, description)
    }

    fn admit_parser(&self) -> Result<(Arc<Plugin<ParserPlugin>>, Vec<String>)> {
        let plugin = self.admit::<ParserPlugin>()?;
        let accepts = ask(&plugin, |world, store| {
            Box::pin(async move { Ok(Ok(world.ragkit_plugin_parser().call_accepts(store).await?)) })
        })?;
        check::media_types(&accepts)
            .map_err(|message| fault::new(&plugin.label, PluginFault::InvalidOutput, message))?;
        Ok((plugin, accepts))
    }

    /// Links it; until it said who it is, its file's name stands in messages.
    fn nameless<W: World>(&self) -> Result<Arc<Plugin<W>>> {
        let refused = |err: wasmtime::Error| {
            let message = format!("it does not fit the {} world: {err:#}", W::KIND.name());
            fault::new(self.name, PluginFault::Refused, message)
        };
        let pre = link::<W>(self.runner, self.code).map_err(refused)?;
        Ok(Arc::new(Plugin {
            runner: Arc::clone(self.runner),
            info: PluginInfo {
                id: self.name.to_owned(),
                version: String::new(),
                description: String::new(),
                digest: self.digest.to_owned(),
            },
            label: Arc::from(self.name),
            limits: Arc::clone(&self.limits),
            pre,
        }))
    }

    fn named<W: World>(&self, plugin: &Plugin<W>, description: Description) -> Result<Arc<Plugin<W>>> {
        let (id, version, description) = description;
        check_identity(&id, &version, &description)
            .map_err(|message| fault::new(self.name, PluginFault::InvalidOutput, message))?;
        Ok(Arc::new(Plugin {
            label: Arc::from(format!("{id} {version}")),
            info: PluginInfo { id, version, description, digest: self.digest.to_owned() },
            runner: Arc::clone(&plugin.runner),
            limits: Arc::clone(&plugin.limits),
            pre: plugin.pre.clone(),
        }))
    }
}

/// Calls a function that needs nothing, in an instance that is granted nothing.
fn ask<W: World, T: Send + 'static>(
    plugin: &Arc<Plugin<W>>,
    function: impl for<'a> FnOnce(&'a W, &'a mut Store<State>) -> BoxFuture<'a, GuestOutcome<T>> + Send + 'static,
) -> Result<T> {
    let asked = Arc::clone(plugin);
    plugin.runner.run_blocking(async move {
        let setup = Setup { settings: Arc::from("{}"), grants: Arc::new(Grants::default()) };
        let mut budget = Budget::of(&asked.limits);
        let mut instance = Instance::new(&asked, &setup, &mut budget).await?;
        instance.call(&asked, &mut budget, function).await
    })
}

fn check_identity(id: &str, version: &str, description: &str) -> Result<(), String> {
    let word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if id.len() > ID_BYTES_MAX || !id.split('-').all(word) {
        return Err(format!("'{}' is no id: lower-case words joined by hyphens", id.escape_debug()));
    }
    let numbers: Vec<&str> = version.split(['-', '+']).next().unwrap_or_default().split('.').collect();
    let digits = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    let printable = version.chars().all(|c| c.is_ascii_graphic());
    if version.len() > VERSION_BYTES_MAX || numbers.len() != 3 || !numbers.iter().all(digits) || !printable {
        return Err(format!("'{}' is no version such as 1.2.3", version.escape_debug()));
    }
    if description.len() > DESCRIPTION_BYTES_MAX || description.chars().any(char::is_control) {
        return Err(format!("its description is more than {DESCRIPTION_BYTES_MAX} bytes, or not one line"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_told_apart() {
        for (wasm, expected) in [
            (b"\0asm\x0d\0\x01\0".as_slice(), None),
            (b"\0asm\x01\0\0\0", Some("core module")),
            (b"\0asm\x09\0\0\0", Some("another version")),
            (b"", Some("empty")),
            (b"\x7fELF", Some("not WebAssembly")),
            (b"\0as", Some("not WebAssembly")),
        ] {
            match (shape(wasm), expected) {
                (Ok(()), None) => {}
                (Err(message), Some(part)) => assert!(message.contains(part), "{message}"),
                (outcome, expected) => panic!("{wasm:?}: {outcome:?} for {expected:?}"),
            }
        }
    }

    #[test]
    fn identities_follow_the_contract() {
        for (id, version, good) in [
            ("chunk-sentence", "0.1.0", true),
            ("p2", "1.2.3-beta.1+x", true),
            ("", "0.1.0", false),
            ("Chunk", "0.1.0", false),
            ("chunk--x", "0.1.0", false),
            ("../x", "0.1.0", false),
            ("x", "1.2", false),
            ("x", "1.2.x", false),
            ("x", "1.2.3 ", false),
        ] {
            assert_eq!(check_identity(id, version, "One sentence.").is_ok(), good, "{id} {version}");
        }
        assert!(check_identity("x", "1.0.0", "two\nlines").is_err());
    }
}
