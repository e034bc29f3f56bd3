//! Does an implementation of a plugin's port keep the contract of its kind? For any component file, and for native code.
//!
//! A module a kind takes a function that makes the port with given settings over doubles of the host (`doubles`), and
//! returns a [`Report`]: each rule has an id, so that a list of them means the same everywhere. What `wit/` says is
//! checked here on hard, random and failing input; what a host checks on every call shows as a failure of the rule at
//! hand. The suite `conformance` of this project holds its own plugins to more than that.

pub mod chunker;
pub mod connector;
pub mod doubles;
pub mod filters;
pub mod parser;
pub mod random;
pub mod retriever;
pub mod sections;
pub mod store;

use std::fmt::Display;

use rag_core::error::PluginFault;
use rag_core::{Error, ErrorCode, Result};

/// Why a rule is broken.
pub type Checked = Result<(), String>;

/// A rule, and what breaks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Such as `chunker.repeat`; never changes its meaning.
    pub id: &'static str,
    /// The rule in a sentence.
    pub about: &'static str,
    /// None when it is kept.
    pub failure: Option<String>,
}

/// What was checked, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub checks: Vec<Check>,
}

impl Report {
    /// Runs a check and notes it.
    pub async fn check(
        &mut self,
        id: &'static str,
        about: &'static str,
        outcome: impl Future<Output = Checked>,
    ) {
        let failure = outcome.await.err();
        self.checks.push(Check { id, about, failure });
    }

    /// How many rules are broken.
    pub fn failures(&self) -> usize {
        self.checks.iter().filter(|check| check.failure.is_some()).count()
    }
}

/// Fails with the words unless it holds.
pub(crate) fn ensure(holds: bool, words: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(words()) }
}

/// Says what was done when it failed.
pub(crate) fn during<T, E: Display>(what: impl Display, outcome: Result<T, E>) -> Result<T, String> {
    outcome.map_err(|error| format!("{what}: {error}"))
}

/// An error that a plugin may answer with: a value that says who must act, not a fault of its own.
pub(crate) fn typed(error: &Error) -> bool {
    !matches!(error, Error::Plugin { fault, .. } if !matches!(fault, PluginFault::Guest(_)))
        && error.code() != ErrorCode::Internal
}

/// Settings that no plugin has: the refusal names the key.
pub(crate) const UNKNOWN_SETTINGS: &str = r#"{"no_such_key": 1}"#;

/// The outcome of a call with those settings.
pub(crate) fn refused_by_name<T>(outcome: Result<T>) -> Checked {
    match outcome {
        Ok(_) => Err("the setting 'no_such_key' was taken".to_owned()),
        Err(error) if error.code() != ErrorCode::InvalidInput => {
            Err(format!("the error should be invalid-input: {error}"))
        }
        Err(error) => ensure(error.to_string().contains("no_such_key"), || {
            format!("the error does not name 'no_such_key': {error}")
        }),
    }
}
