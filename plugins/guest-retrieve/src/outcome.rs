//! What is asked and what comes out: the contract's types without its bindings, and the trace while it is written.

use std::time::Instant;

use crate::{Error, Result};

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    pub question: String,
    /// Earlier rounds, question and answer, oldest first.
    pub history: Vec<(String, String)>,
    /// Hits wanted, 1 to 1 000.
    pub k: u32,
}

/// What one arm thought of a chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    pub arm: String,
    /// From 1.
    pub rank: u32,
    pub score: f32,
}

/// A chunk with its final score.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    pub chunk: String,
    pub score: f32,
    pub evidence: Vec<Evidence>,
}

/// One step of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub name: String,
    pub detail: String,
    pub millis: u32,
}

/// Best first, at most `k`, no chunk twice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    pub hits: Vec<Ranked>,
    pub steps: Vec<Step>,
    /// The question searched for, when it is not the one asked.
    pub rewritten: Option<String>,
}

/// Characters of a step's detail.
const DETAIL_CHARS_MAX: usize = 1_000;

/// The steps so far.
#[derive(Debug, Default)]
pub struct Trace(Vec<Step>);

impl Trace {
    /// Does `work` and says in the trace what came of it: `done` tells of a success, a failure is told by its message.
    pub fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<T>,
        done: impl FnOnce(&T) -> String,
    ) -> Result<T> {
        let start = Instant::now();
        let outcome = work();
        let detail = match &outcome {
            Ok(value) => done(value),
            Err(error) => format!("failed: {}", error.message),
        };
        let millis = u32::try_from(start.elapsed().as_millis()).unwrap_or(u32::MAX);
        let detail = detail.chars().take(DETAIL_CHARS_MAX).collect();
        self.0.push(Step { name: name.to_owned(), detail, millis });
        outcome
    }

    /// The steps, in the order in which they were done.
    pub fn into_steps(self) -> Vec<Step> {
        self.0
    }
}

/// Refuses an empty question.
pub fn check_question(request: &Request) -> Result<()> {
    if request.question.trim().is_empty() {
        return Err(Error::invalid("the question is empty".to_owned()));
    }
    Ok(())
}
