//! Says what went wrong in a guest, in the host's words.

use rag_core::Error;
use rag_core::error::PluginFault;
use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;

use crate::bindings::ragkit::types::types as wit;
use crate::convert::{self, MESSAGE_BYTES_MAX};
use crate::sink::clean;
use crate::state::{State, Stopped};

/// An error of this plugin.
pub(crate) fn new(label: &str, fault: PluginFault, message: impl Into<String>) -> Error {
    Error::Plugin { plugin: label.to_owned(), fault, message: message.into() }
}

/// The guest did not return.
pub(crate) fn of_trap(label: &str, err: &wasmtime::Error, state: &State) -> Error {
    if err.is::<PoolConcurrencyLimitError>() {
        return Error::Busy { what: "the pool of plugin instances", limit: 0 };
    }
    if let Some(Stopped(message)) = err.downcast_ref::<Stopped>() {
        return new(label, PluginFault::HostcallLimit, message.clone());
    }
    if state.bounds.crowded {
        return Error::Busy { what: "the memory of all plugins (bytes)", limit: state.memory_total() };
    }
    if let Some(refused) = &state.bounds.refused {
        return new(label, PluginFault::MemoryLimit, refused.clone());
    }
    let said = match state.sink.last_words() {
        words if words.is_empty() => String::new(),
        words => format!("; its last words: {words}"),
    };
    if let Some(I32Exit(status)) = err.downcast_ref::<I32Exit>() {
        return new(label, PluginFault::Trap, format!("it exited with status {status}{said}"));
    }
    if let Some(trap) = err.downcast_ref::<Trap>() {
        tracing::warn!(target: "plugin", plugin = label, "trap: {err:?}");
        return new(label, PluginFault::Trap, format!("it trapped: {trap}{said}"));
    }
    // What is left comes from moving values across: too much of it, or not what the contract says.
    let message = clean(&format!("{err:#}"), MESSAGE_BYTES_MAX);
    let fault =
        if message.contains("fuel") || message.contains("handle") || message.contains("table has no free") {
            PluginFault::HostcallLimit
        } else {
            PluginFault::InvalidOutput
        };
    new(label, fault, message)
}

/// The guest returned a typed error. One that it only hands on from a host function is the host's own.
pub(crate) fn of_guest(label: &str, err: &wit::Error, state: &mut State) -> Error {
    if let Some((shown, original)) = state.host_error.take()
        && !shown.is_empty()
        && err.message.contains(&shown)
    {
        return original;
    }
    let text = clean(&err.message, MESSAGE_BYTES_MAX);
    let message = if text.is_empty() { "no reason was given".to_owned() } else { text };
    let named = format!("plugin {label}: {message}");
    match err.code {
        wit::ErrorCode::InvalidInput => Error::InvalidInput { message: named },
        wit::ErrorCode::Unsupported => Error::Unsupported { message: named },
        wit::ErrorCode::Conflict => Error::Conflict { message: named },
        wit::ErrorCode::Unavailable => Error::Unavailable { message: named },
        code => new(label, PluginFault::Guest(convert::code_from_guest(code)), message),
    }
}
