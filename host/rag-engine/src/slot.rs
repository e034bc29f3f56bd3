//! A sequence that the worker reads or writes: how far it is, what it is for, what it tells its caller.

use std::sync::Arc;

use rag_core::ports::{FinishReason, GenerationEvent, Usage};
use rag_core::{Error, Result};
use tokio::sync::{mpsc, oneshot};

use crate::beam::Step;
use crate::dispatch::{Queued, Ticket};
use crate::profile::{Pool, Pooling, Profile, ReadOut};
use crate::runner::{Place, Told};
use crate::rwkv::{Logits, State};
use crate::sampler::{Drawing, Sampler};
use crate::state_cache::Scope;
use crate::text_stream::TextStream;
use crate::tokenizer::{END_OF_TEXT, Tokenizer};
use crate::within::Within;

/// Events of a generation that belong to no token: the text held back until the end, and the end.
pub(crate) const EVENTS_BESIDE_TOKENS: usize = 2;

/// A request on its way to the worker.
#[derive(Debug)]
pub(crate) struct Job {
    /// What is read; at least one.
    pub(crate) tokens: Vec<u32>,
    pub(crate) profile: Arc<Profile>,
    /// Of what is kept.
    pub(crate) scope: Scope,
    pub(crate) task: Task,
}

/// What a sequence is for.
#[derive(Debug)]
pub(crate) enum Task {
    Write(Box<Writing>),
    /// Reads everything and answers with the profile's vector or score.
    ReadOut {
        pool: Pool,
        reply: oneshot::Sender<Result<Vec<f32>>>,
    },
    /// Reads everything and keeps the state; answers with the number of tokens.
    Keep {
        reply: oneshot::Sender<Result<u32>>,
    },
    /// Reads everything, from this state where there is one, and answers with the state and the last logits.
    Step {
        from: Option<Arc<State>>,
        logits: Vec<f32>,
        reply: oneshot::Sender<Result<Step>>,
    },
}

impl Job {
    /// Answers with an error what cannot start.
    pub(crate) fn fail(self, error: &Error) {
        self.task.fail(error);
    }
}

/// A text being written.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) sampler: Sampler,
    pub(crate) within: Option<Within>,
    pub(crate) text: TextStream,
    /// At least 1.
    pub(crate) tokens_max: u32,
    /// Room for `tokens_max + EVENTS_BESIDE_TOKENS` events.
    pub(crate) events: mpsc::Sender<Result<GenerationEvent>>,
}

impl Job {
    /// The state that it goes on from, where its caller has one.
    pub(crate) fn from(&self) -> Option<&State> {
        match &self.task {
            Task::Step { from, .. } => from.as_deref(),
            _ => None,
        }
    }

    /// Whether the caller has left.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.task.is_abandoned()
    }
}

impl Task {
    fn is_abandoned(&self) -> bool {
        match self {
            Task::Write(writing) => writing.events.is_closed(),
            Task::ReadOut { reply, .. } => reply.is_closed(),
            Task::Keep { reply } => reply.is_closed(),
            Task::Step { reply, .. } => reply.is_closed(),
        }
    }

    /// The caller may have left; then nobody misses it.
    fn fail(self, error: &Error) {
        match self {
            Task::Write(writing) => drop(writing.events.try_send(Err(error.clone()))),
            Task::ReadOut { reply, .. } => drop(reply.send(Err(error.clone()))),
            Task::Keep { reply } => drop(reply.send(Err(error.clone()))),
            Task::Step { reply, .. } => drop(reply.send(Err(error.clone()))),
        }
    }
}

/// A sequence being read or written.
#[derive(Debug)]
pub(crate) struct Slot {
    /// What was asked and what was written.
    pub(crate) tokens: Vec<u32>,
    prompt_len: usize,
    /// How many of `tokens` the state has seen.
    pub(crate) read: usize,
    pub(crate) place: Place,
    pub(crate) profile: Arc<Profile>,
    pub(crate) scope: Scope,
    task: Task,
    /// A state is kept after each such number of prompt tokens, beside those at the prompt's and the answer's end.
    keep_every: usize,
    /// Counts for the worker until the slot is gone.
    _ticket: Ticket,
}

/// What is to be done with a slot after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct After {
    /// Its state is worth keeping; `Lasting` when it was asked for.
    pub(crate) keep: Keep,
    pub(crate) ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    No,
    Yes,
    Lasting,
}

impl Slot {
    /// Starts a job whose first `read` tokens `place` has seen.
    pub(crate) fn new(queued: Queued, place: Place, read: usize, keep_every: usize) -> Self {
        let Queued { job: Job { tokens, profile, scope, task }, ticket } = queued;
        let prompt_len = tokens.len();
        Self { tokens, prompt_len, read, place, profile, scope, task, keep_every, _ticket: ticket }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.task.is_abandoned()
    }

    /// How many tokens a job's state may have seen already at its start.
    pub(crate) fn known_max(job: &Job) -> usize {
        match (&job.task, &job.profile.read_out) {
            // The last token is always left to be read, for its logits.
            (Task::Write(_) | Task::Step { from: None, .. }, _) => job.tokens.len() - 1,
            (Task::Step { .. }, _) => 0,
            (Task::ReadOut { .. }, Some(ReadOut { pooling: Pooling::Last, .. })) => job.tokens.len() - 1,
            (Task::ReadOut { .. }, _) => 0,
            (Task::Keep { .. }, _) => job.tokens.len(),
        }
    }

    /// Tokens that the state has not seen.
    fn left(&self) -> usize {
        self.tokens.len() - self.read
    }

    /// Whether only the token that was written last is to be read.
    pub(crate) fn is_writing(&self) -> bool {
        matches!(self.task, Task::Write(_)) && self.left() == 1
    }

    /// How many tokens to read now: the one that was written last, or some of the prompt, which stops where a state
    /// is to be kept.
    pub(crate) fn next_piece(&self, budget: usize) -> usize {
        if self.is_writing() {
            return 1;
        }
        let to_next_kept = self.keep_every - self.read % self.keep_every;
        let last_apart = usize::from(matches!(self.task, Task::Write(_)));
        budget.min(to_next_kept).min(self.left() - last_apart)
    }

    /// What the next piece, of so many tokens, has to tell.
    pub(crate) fn wanted(&self, len: usize) -> Logits {
        let last = self.left() == len;
        match (&self.task, &self.profile.read_out) {
            (Task::Write(_) | Task::Step { .. }, _) if last => Logits::Last,
            (Task::ReadOut { .. }, Some(read_out)) if last || read_out.pooling != Pooling::Last => {
                Logits::Hidden
            }
            _ => Logits::None,
        }
    }

    /// How an engine that draws itself is to choose the next token; none where the choice needs more than a sampler.
    pub(crate) fn drawing(&mut self) -> Option<Drawing> {
        match &mut self.task {
            Task::Write(writing) if writing.within.is_none() => Some(writing.sampler.drawing()),
            _ => None,
        }
    }

    /// How many penalties that may have.
    pub(crate) fn penalties(&self) -> usize {
        if let Task::Write(writing) = &self.task { writing.sampler.penalties() } else { 0 }
    }

    /// Takes in what a step gave for `len` tokens.
    pub(crate) fn advance(
        &mut self,
        len: usize,
        told: Told<'_>,
        banned: &[u32],
        tokenizer: &Tokenizer,
    ) -> After {
        self.read += len;
        let left = self.left();
        let at_mark = len > 0 && self.read.is_multiple_of(self.keep_every);
        match &mut self.task {
            Task::Write(writing) if left == 0 => {
                let id = match told {
                    Told::Token(id) => id,
                    Told::Logits(logits) => writing.choose(logits, banned, tokenizer),
                    Told::Nothing | Told::Rows(_) => return After { keep: Keep::No, ended: false },
                };
                let written = self.tokens.len() - self.prompt_len;
                let (token, reason) = writing.write(id, written as u32, tokenizer);
                self.tokens.extend(token);
                let Some(reason) = reason else { return After { keep: Keep::No, ended: false } };
                let output_tokens = (self.tokens.len() - self.prompt_len) as u32;
                writing.finish(reason, Usage { prompt_tokens: self.prompt_len as u32, output_tokens });
                After { keep: Keep::Yes, ended: true }
            }
            Task::Write(_) => {
                let whole_prompt = len > 0 && self.read + 1 == self.prompt_len;
                After { keep: if whole_prompt || at_mark { Keep::Yes } else { Keep::No }, ended: false }
            }
            Task::ReadOut { pool, .. } => {
                if let (Told::Rows(rows), Some(read_out)) = (told, &self.profile.read_out) {
                    let skipped = if read_out.pooling == Pooling::Last { len - 1 } else { 0 };
                    let width = rows.len() / len;
                    rows.chunks(width).skip(skipped).for_each(|row| pool.add(read_out.pooling, row));
                }
                After { keep: Keep::No, ended: left == 0 }
            }
            Task::Step { logits, .. } => {
                if let Told::Logits(told) = told {
                    logits.extend_from_slice(told);
                }
                After { keep: Keep::No, ended: left == 0 }
            }
            Task::Keep { .. } if left == 0 => After { keep: Keep::Lasting, ended: true },
            Task::Keep { .. } => After { keep: if at_mark { Keep::Yes } else { Keep::No }, ended: false },
        }
    }

    /// Ends a slot that has done its work: tells the caller, gives back the state. A caller may have left; then
    /// nobody misses the answer.
    pub(crate) fn end(self) -> Place {
        match self.task {
            Task::Write(_) => {}
            Task::ReadOut { pool, reply } => {
                if let Some(read_out) = &self.profile.read_out {
                    let _ = reply.send(Ok(pool.finish(read_out)));
                }
            }
            Task::Keep { reply } => drop(reply.send(Ok(self.tokens.len() as u32))),
            Task::Step { logits, reply, .. } => {
                let _ = reply.send(self.place.snapshot().map(|state| Step { state, logits }));
            }
        }
        self.place
    }

    /// Ends a slot that cannot go on.
    pub(crate) fn fail(self, error: &Error) {
        self.task.fail(error);
    }
}

impl Writing {
    fn choose(&mut self, logits: &[f32], banned: &[u32], tokenizer: &Tokenizer) -> u32 {
        match &self.within {
            Some(within) => self.sampler.choose(&within.mask(logits, tokenizer), banned),
            None => self.sampler.choose(logits, banned),
        }
    }

    /// Sends the next token's text; the reason when the text ends.
    fn write(&mut self, id: u32, written: u32, tokenizer: &Tokenizer) -> (Option<u32>, Option<FinishReason>) {
        if id == END_OF_TEXT {
            return (None, Some(FinishReason::Stop));
        }
        let bytes = tokenizer.token(id);
        if let Some(within) = &mut self.within {
            within.accept(bytes);
        }
        self.sampler.accept(id, !repeats_freely(bytes));
        let ready = self.text.push(bytes);
        self.send(ready.text);
        let length = written + 1 >= self.tokens_max;
        let reason = match (ready.stopped, length) {
            (true, _) => Some(FinishReason::Stop),
            (false, true) => Some(FinishReason::Length),
            (false, false) => None,
        };
        (Some(id), reason)
    }

    fn finish(&mut self, reason: FinishReason, usage: Usage) {
        let rest = self.text.finish();
        self.send(rest);
        // The caller may have left; then nobody misses it.
        let _ = self.events.try_send(Ok(GenerationEvent::Done { reason, usage }));
    }

    fn send(&self, text: String) {
        if !text.is_empty() && self.events.try_send(Ok(GenerationEvent::Text(text))).is_err() {
            // The channel has room for every event, so the caller has left: the next step drops this slot.
            tracing::debug!("a caller left while the model wrote");
        }
    }
}

/// Upstream's sampler does not count tokens that are part of this run of blanks and digits.
fn repeats_freely(bytes: &[u8]) -> bool {
    const RUN: &[u8] = b" \t0123456789";
    RUN.windows(bytes.len().max(1)).any(|window| window == bytes)
}

#[cfg(test)]
mod tests {
    use super::repeats_freely;

    #[test]
    fn blanks_and_digit_runs_repeat_freely() {
        for (token, free) in
            [(" ", true), ("\t", true), ("12", true), ("21", false), ("a", false), ("", false)]
        {
            assert_eq!(repeats_freely(token.as_bytes()), free, "{token:?}");
        }
    }
}
