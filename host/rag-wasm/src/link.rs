//! Which interfaces each kind of plugin may import, and nothing else.

use rag_core::{Error, Result};
use wasmtime::Engine;
use wasmtime::component::{Component, HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings::{cli, clocks, io, random};
use wasmtime_wasi::random::WasiRandom;

use crate::Kind;
use crate::bindings::ragkit::{host, types};
use crate::imports::wasi_http;
use crate::state::State;

/// What the standard library of a Rust guest imports even when it never uses it, plus clocks: no files, no sockets.
const WASI: [&str; 17] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// Host interfaces that may be imported without asking for them: what every plugin has, the document that a parser is
/// given, and what answers `unsupported` to a parser that does not ask for it.
pub(crate) const FREE: [&str; 4] = ["log", "config", "blob", "ocr"];

/// Host interfaces by kind, as the worlds in `wit/plugin.wit` list them.
pub(crate) fn granted(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Parser => &["log", "config", "blob", "ocr", "http"],
        Kind::Chunker => &["log", "config", "tokens", "embed"],
        Kind::VectorStore => &["log", "config", "http", "sql", "kv", "vector-index"],
        Kind::Connector => &["log", "config", "http"],
        Kind::Retriever => &["log", "config", "search", "embed", "rerank", "generate", "kv"],
    }
}

/// Which kind a component is, by what it exports; else what is wrong with it.
pub(crate) fn kind_of(engine: &Engine, component: &Component) -> Result<Kind, String> {
    let ty = component.component_type();
    let exports: Vec<String> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let has = |interface: &str| exports.iter().any(|export| export == &export_name(interface));
    if let Some(other) = exports.iter().find_map(|export| other_version(export)) {
        return Err(made_for(other, "ragkit:plugin"));
    }
    let mut kinds = Kind::ALL.into_iter().filter(|kind| has(kind.name()));
    let kind = kinds.next().ok_or_else(|| {
        let all = Kind::ALL.map(|kind| export_name(kind.name())).join(", ");
        let found = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
        format!("it exports none of {all}; it exports {found}")
    })?;
    if let Some(second) = kinds.next() {
        return Err(format!(
            "it exports both {} and {}; a plugin is of one kind",
            kind.name(),
            second.name()
        ));
    }
    if !has("info") {
        return Err(format!("it does not export {}", export_name("info")));
    }
    Ok(kind)
}

/// The version of an interface of ours, where it is not the one that this host speaks.
fn other_version(name: &str) -> Option<&str> {
    let ours = ["ragkit:plugin/", "ragkit:host/", "ragkit:types/"];
    let (_, version) = ours.iter().find_map(|package| name.strip_prefix(package))?.split_once('@')?;
    (version != VERSION).then_some(version)
}

fn made_for(version: &str, what: &str) -> String {
    format!(
        "it is made for version {version} of {what}, and this host speaks {VERSION}: build it with the wit/ of this host, \
         or use a host of that version"
    )
}

/// The host interfaces that a component imports, each once, such as `http`, which `wasi:http` is another way to.
pub(crate) fn host_imports(engine: &Engine, component: &Component) -> Vec<String> {
    let ty = component.component_type();
    let mut interfaces: Vec<String> = Vec::new();
    for (import, _) in ty.imports(engine) {
        let name = import.split_once('@').map_or(import, |(name, _)| name);
        let own = name.strip_prefix("ragkit:host/");
        let interface = own.or_else(|| wasi_http::INTERFACES.contains(&name).then_some("http"));
        if let Some(interface) = interface.filter(|interface| interfaces.iter().all(|own| own != interface)) {
            interfaces.push(interface.to_owned());
        }
    }
    interfaces
}

/// Refuses a component that imports what its kind is not granted, naming every such import.
pub(crate) fn check_imports(engine: &Engine, component: &Component, kind: Kind) -> Result<(), String> {
    let ty = component.component_type();
    let refused: Vec<String> =
        ty.imports(engine).map(|(name, _)| name.to_owned()).filter(|name| !is_granted(name, kind)).collect();
    if refused.is_empty() {
        return Ok(());
    }
    if let Some((import, version)) = refused.iter().find_map(|import| Some((import, other_version(import)?)))
    {
        return Err(made_for(version, import.split_once('@').map_or(import.as_str(), |(name, _)| name)));
    }
    let http = |import: &String| import.starts_with("wasi:http/") || import.starts_with("ragkit:host/http@");
    let hint = if refused.iter().any(http) { http_hint() } else { String::new() };
    Err(format!("it imports {}, which a {} is not granted{hint}", refused.join(", "), kind.name()))
}

/// Who may ask servers, and how.
fn http_hint() -> String {
    let kinds: Vec<&str> =
        Kind::ALL.into_iter().filter(|kind| granted(*kind).contains(&"http")).map(Kind::name).collect();
    format!(
        "; for HTTP, a {} may import ragkit:host/http, or types and outgoing-handler of wasi:http 0.2, and an operator \
         grants it servers",
        kinds.join(", ")
    )
}

fn is_granted(import: &str, kind: Kind) -> bool {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    if let Some(interface) = name.strip_prefix("ragkit:host/") {
        return version == VERSION && granted(kind).contains(&interface);
    }
    if name == "ragkit:types/types" {
        return version == VERSION;
    }
    let http = wasi_http::INTERFACES.contains(&name) && granted(kind).contains(&"http");
    (http || WASI.contains(&name)) && version.starts_with("0.2.")
}

/// Of every `ragkit` package.
const VERSION: &str = "0.1.0";

fn export_name(interface: &str) -> String {
    format!("ragkit:plugin/{interface}@{VERSION}")
}

/// One of each kind, in the order of `Kind::ALL`.
pub(crate) fn linkers(engine: &Engine) -> Result<[Linker<State>; 5]> {
    let [parser, chunker, vector_store, retriever, connector] = Kind::ALL.map(|kind| linker(engine, kind));
    Ok([parser?, chunker?, vector_store?, retriever?, connector?])
}

/// Everything that a kind may import.
fn linker(engine: &Engine, kind: Kind) -> Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    let linked = link_wasi(&mut linker).and_then(|()| link_host(&mut linker, kind));
    linked.map_err(|err| Error::internal(format!("cannot link {}s: {err:#}", kind.name())))?;
    Ok(linker)
}

type Own = HasSelf<State>;

fn link_host(l: &mut Linker<State>, kind: Kind) -> wasmtime::Result<()> {
    types::types::add_to_linker::<State, Own>(l, |s| s)?;
    for interface in granted(kind) {
        match *interface {
            "log" => host::log::add_to_linker::<State, Own>(l, |s| s)?,
            "config" => host::config::add_to_linker::<State, Own>(l, |s| s)?,
            "blob" => host::blob::add_to_linker::<State, Own>(l, |s| s)?,
            "ocr" => host::ocr::add_to_linker::<State, Own>(l, |s| s)?,
            "tokens" => host::tokens::add_to_linker::<State, Own>(l, |s| s)?,
            "embed" => host::embed::add_to_linker::<State, Own>(l, |s| s)?,
            "rerank" => host::rerank::add_to_linker::<State, Own>(l, |s| s)?,
            "generate" => host::generate::add_to_linker::<State, Own>(l, |s| s)?,
            "search" => host::search::add_to_linker::<State, Own>(l, |s| s)?,
            "http" => {
                host::http::add_to_linker::<State, Own>(l, |s| s)?;
                wasi_http::link(l)?;
            }
            "sql" => host::sql::add_to_linker::<State, Own>(l, |s| s)?,
            "kv" => host::kv::add_to_linker::<State, Own>(l, |s| s)?,
            "vector-index" => host::vector_index::add_to_linker::<State, Own>(l, |s| s)?,
            unknown => return Err(wasmtime::format_err!("no host interface '{unknown}'")),
        }
    }
    Ok(())
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

fn link_wasi(l: &mut Linker<State>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<State, HasTable>(l, |s| &mut s.table)?;
    io::poll::add_to_linker::<State, HasTable>(l, |s| &mut s.table)?;
    io::streams::add_to_linker::<State, HasTable>(l, |s| &mut s.table)?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    random::random::add_to_linker::<State, WasiRandom>(l, |s| s.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(l, |s| s.ctx().ctx.random())?;
    cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_links() {
        let engine = crate::engine::new(&crate::Limits::default()).unwrap();
        for kind in Kind::ALL {
            linker(&engine, kind).unwrap();
        }
    }

    #[test]
    fn who_may_ask_servers_is_told_as_it_is() {
        let hint = http_hint();
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| hint.contains(kind.name())).collect();
        assert_eq!(kinds, [Kind::Parser, Kind::VectorStore, Kind::Connector], "{hint}");
        assert!(hint.contains("ragkit:host/http") && hint.contains("wasi:http 0.2"), "{hint}");
    }

    #[test]
    fn imports_are_granted_by_name_version_and_kind() {
        for (import, kind, expected) in [
            ("ragkit:host/log@0.1.0", Kind::Chunker, true),
            ("ragkit:host/log@0.2.0", Kind::Chunker, false),
            ("ragkit:host/search@0.1.0", Kind::Chunker, false),
            ("ragkit:host/search@0.1.0", Kind::Retriever, true),
            ("ragkit:types/types@0.1.0", Kind::Parser, true),
            ("wasi:cli/exit@0.2.6", Kind::Parser, true),
            ("wasi:cli/exit@0.3.0", Kind::Parser, false),
            ("wasi:filesystem/preopens@0.2.6", Kind::Parser, false),
            ("wasi:sockets/tcp@0.2.0", Kind::VectorStore, false),
            ("wasi:http/outgoing-handler@0.2.3", Kind::Parser, true),
            ("wasi:http/types@0.2.12", Kind::VectorStore, true),
            ("wasi:http/types@0.3.0", Kind::VectorStore, false),
            ("wasi:http/incoming-handler@0.2.3", Kind::VectorStore, false),
            ("wasi:http/types@0.2.12", Kind::Chunker, false),
            ("wasi:http/outgoing-handler@0.2.3", Kind::Retriever, false),
            ("surprise", Kind::VectorStore, false),
        ] {
            assert_eq!(is_granted(import, kind), expected, "{import} for {kind:?}");
        }
    }
}
