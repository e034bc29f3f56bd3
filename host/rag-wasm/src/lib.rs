//! Turns a .wasm component into an implementation of a port and keeps it inside its bounds.
//!
//! `PluginHost` loads components and makes ports of them. A file passes `admit` (is it a plugin?), which compiles it
//! through `artefact` and `compile` and links it through `link`. A port (`parser`, `chunker`, `store`, `retriever`, `connector`) takes an
//! `instance` — fresh for each document, or warm from `lanes` — and calls it on the threads of `runner` under the limits
//! of `config`: `meter` counts processor time, `ticker` makes the guest give way to be counted, `state` bounds memory,
//! `check` judges what comes back, and `fault` says what went wrong. Host functions are in `imports`; what a plugin asks
//! for is its `manifest`.

mod admit;
mod artefact;
mod bindings;
mod check;
mod chunker;
mod compile;
mod config;
mod connector;
mod convert;
mod crossing;
mod engine;
mod fault;
mod host;
mod imports;
mod instance;
mod lanes;
mod link;
mod manifest;
mod meter;
mod parser;
mod retriever;
mod runner;
mod settings;
mod shelf;
mod sink;
mod state;
mod store;
mod ticker;
mod timing;
mod versions;
mod worlds;

pub use artefact::Origin;
pub use compile::{Compile, CompileFault, Compiler, compile_component};
pub use config::{KindLimits, LangLimits, Limits, WasmConfig};
pub use crossing::Crossing;
pub use host::{Kind, Loaded, ParserImports, PluginHost, RetrieverImports, StoreImports};
pub use manifest::{Manifest, Profile};
pub use timing::Step;
