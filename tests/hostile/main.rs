//! Every way in which a component can misbehave has a typed outcome, and the next good call passes.
//!
//! The components are those of tests/guests, built by `cargo xtask guests` into `target/guests`; another folder is
//! named by `RAG_GUESTS_DIR`.

mod admission;
mod cancel;
mod chunker;
mod fakes;
mod parser;
mod retriever;
mod store;
mod wasi_http;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rag_core::error::PluginFault;
use rag_core::{Error, ErrorCode};
use rag_wasm::{Compiler, Limits, PluginHost, WasmConfig};

/// Folder of the built components. Panics when they were not built: a test that finds nothing to test must fail.
fn guests() -> PathBuf {
    let dir = match std::env::var_os("RAG_GUESTS_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/wasm32-wasip2/release"),
    };
    let built = dir.join("hostile_chunker.wasm").is_file();
    assert!(built, "no components in {}: build them with `cargo xtask guests`", dir.display());
    dir
}

fn guest(name: &str) -> PathBuf {
    guests().join(format!("hostile_{name}.wasm"))
}

/// Limits that end a loop quickly and leave a good call far below them on a loaded machine.
fn limits() -> Limits {
    let mut limits = Limits::default();
    for kind in [&mut limits.parser, &mut limits.chunker, &mut limits.vector_store, &mut limits.retriever] {
        kind.cpu_ms_max = 250;
        kind.wall_ms_max = 60_000;
    }
    limits.parser.memory_bytes_max = 128 << 20;
    limits.parser.document_bytes_extra = 1 << 20;
    limits
}

/// A host with all four hostile plugins. Compiled components are kept beside the built ones.
fn host_with(limits: Limits) -> Arc<PluginHost> {
    let config = WasmConfig { limits, ..WasmConfig::new(guests().join("compiled"), Compiler::Here) };
    let host = PluginHost::new(config).unwrap();
    for name in ["chunker", "parser", "store", "retriever"] {
        host.load_file(&guest(name)).unwrap();
    }
    host
}

/// The host that most tests share.
fn host() -> Arc<PluginHost> {
    static HOST: OnceLock<Arc<PluginHost>> = OnceLock::new();
    Arc::clone(HOST.get_or_init(|| host_with(limits())))
}

fn settings(behaviour: &str) -> String {
    format!(r#"{{"do":"{behaviour}"}}"#)
}

/// What a call must come to.
#[derive(Debug)]
enum Expected {
    /// A fault of the plugin, with a part of the message.
    Fault(PluginFault, &'static str),
    /// An error of the host's own with this code, with a part of the message.
    Code(ErrorCode, &'static str),
}

use Expected::{Code, Fault};

#[track_caller]
fn assert_error(err: &Error, expected: &Expected, behaviour: &str) {
    let message = err.to_string();
    assert!(message.len() <= 5_000, "{behaviour}: a message of {} bytes", message.len());
    assert!(!message.chars().any(char::is_control), "{behaviour}: {message:?}");
    match (err, expected) {
        (Error::Plugin { plugin, fault, .. }, Fault(fault_expected, part)) => {
            assert_eq!(fault, fault_expected, "{behaviour}: {message}");
            assert!(message.contains(part), "{behaviour}: {message}");
            assert!(plugin.starts_with("hostile"), "{behaviour}: {message}");
        }
        (Error::Plugin { fault: PluginFault::Guest(_), .. }, Code(..)) | (_, Code(..)) => {
            let Code(code, part) = expected else { unreachable!("matched above") };
            assert!(!matches!(err, Error::Plugin { .. }), "{behaviour}: a fault of the plugin: {err:?}");
            assert_eq!(err.code(), *code, "{behaviour}: {message}");
            assert!(message.contains(part), "{behaviour}: {message}");
        }
        _ => panic!("{behaviour}: {err:?}, expected {expected:?}"),
    }
}
