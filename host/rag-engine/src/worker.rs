//! The thread that owns the language model: takes requests from a bounded queue and steps all running ones together.
//!
//! Each step reads one token of every sequence that writes and a piece of the prompts that are still being read, so
//! that weights are read once for all. Before each step, sequences whose caller left are dropped. The worker never
//! waits for a caller: a request's channel holds its longest possible answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvError, TryRecvError};

use rag_core::ports::{FinishReason, GenerationEvent, Usage};
use rag_core::{Error, Result};
use tokio::sync::mpsc::Sender;

use crate::generate::Counters;
use crate::rwkv::engine::ROWS_MAX;
use crate::rwkv::{Engine, Logits, Piece, State};
use crate::sampler::Sampler;
use crate::state_cache::StateCache;
use crate::text_stream::TextStream;
use crate::tokenizer::{END_OF_TEXT, Tokenizer};
use crate::within::Within;

/// Prompt tokens read in one step while others write: some 20 ms of delay for them.
const PROMPT_PIECE_MAX: usize = 64;
/// A state is kept after each such number of prompt tokens, beside those at the prompt's and the answer's end.
const KEEP_EVERY: usize = 256;

/// A request on its way to the worker.
#[derive(Debug)]
pub(crate) struct Job {
    /// The prompt; at least one.
    pub(crate) tokens: Vec<u32>,
    pub(crate) sampler: Sampler,
    pub(crate) within: Option<Within>,
    pub(crate) stop: Vec<String>,
    /// At least 1.
    pub(crate) tokens_max: u32,
    /// Room for `tokens_max + EVENTS_BESIDE_TOKENS` events.
    pub(crate) events: Sender<Result<GenerationEvent>>,
}

/// Events of a generation that belong to no token: the text held back until the end, and the end.
pub(crate) const EVENTS_BESIDE_TOKENS: usize = 2;

/// The worker's belongings.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) engine: Engine,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) cache: StateCache,
    pub(crate) slots_max: usize,
    /// Ids that stand for no text.
    pub(crate) banned: Vec<u32>,
    pub(crate) counters: Arc<Counters>,
}

/// A sequence being read or written.
#[derive(Debug)]
struct Slot {
    /// The prompt and what was written.
    tokens: Vec<u32>,
    prompt_len: usize,
    /// How many of `tokens` the state has seen; always fewer than all.
    read: usize,
    state: State,
    sampler: Sampler,
    within: Option<Within>,
    text: TextStream,
    tokens_max: u32,
    events: Sender<Result<GenerationEvent>>,
}

impl Worker {
    /// Serves the queue until every sender is gone and all sequences have ended.
    pub(crate) fn run(mut self, queue: &Receiver<Job>) {
        let mut slots: Vec<Slot> = Vec::new();
        let mut idle_states: Vec<State> = Vec::new();
        while self.admit(queue, &mut slots, &mut idle_states).is_ok() {
            let mut index = 0;
            while index < slots.len() {
                if slots[index].events.is_closed() {
                    idle_states.push(slots.remove(index).state);
                } else {
                    index += 1;
                }
            }
            if slots.is_empty() {
                continue;
            }
            for index in self.step(&mut slots).into_iter().rev() {
                idle_states.push(slots.remove(index).state);
            }
        }
    }

    /// Fills free slots from the queue; waits for a request when nothing runs. An error ends the worker.
    fn admit(
        &mut self,
        queue: &Receiver<Job>,
        slots: &mut Vec<Slot>,
        idle_states: &mut Vec<State>,
    ) -> Result<(), RecvError> {
        while slots.len() < self.slots_max {
            let job = if slots.is_empty() {
                queue.recv()?
            } else {
                match queue.try_recv() {
                    Ok(job) => job,
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            };
            if !job.events.is_closed() {
                let state = idle_states.pop().unwrap_or_else(|| State::zero(self.engine.config()));
                slots.push(self.open(job, state));
            }
        }
        Ok(())
    }

    /// Starts from the longest known prefix; the last token is always left to be read, for its logits.
    fn open(&mut self, job: Job, mut state: State) -> Slot {
        let before_last = &job.tokens[..job.tokens.len() - 1];
        let read = match self.cache.longest(before_last) {
            Some((len, known)) => {
                state.copy_from(known);
                len
            }
            None => {
                state.clear();
                0
            }
        };
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        self.counters.prompt_tokens.fetch_add(job.tokens.len() as u64, Ordering::Relaxed);
        self.counters.prompt_tokens_known.fetch_add(read as u64, Ordering::Relaxed);
        Slot {
            prompt_len: job.tokens.len(),
            tokens: job.tokens,
            read,
            state,
            sampler: job.sampler,
            within: job.within,
            text: TextStream::new(&job.stop),
            tokens_max: job.tokens_max,
            events: job.events,
        }
    }

    /// Moves every slot on; returns the places of those that ended, ascending.
    fn step(&mut self, slots: &mut [Slot]) -> Vec<usize> {
        let writing = slots.iter().filter(|slot| slot.left() == 1).count();
        let mut budget = if writing > 0 { PROMPT_PIECE_MAX } else { ROWS_MAX }.min(ROWS_MAX - writing);
        let mut pieces = Vec::new();
        let mut lens = Vec::new();
        for slot in slots.iter_mut() {
            let len = slot.next_piece(budget);
            if slot.left() > 1 {
                budget -= len;
            }
            lens.push(len);
            if len > 0 {
                let tokens = &slot.tokens[slot.read..slot.read + len];
                let last = slot.read + len == slot.tokens.len();
                let logits = if last { Logits::Last } else { Logits::None };
                pieces.push(Piece { tokens, state: &mut slot.state, logits, adapter: None });
            }
        }
        let vocabulary = self.engine.config().vocabulary;
        let mut logits = self.engine.forward(&mut pieces).chunks_exact(vocabulary);
        let mut ended = Vec::new();
        for (index, (slot, len)) in slots.iter_mut().zip(lens).enumerate() {
            slot.read += len;
            if slot.left() > 0 {
                let whole_prompt = slot.read + 1 == slot.prompt_len;
                if len > 0 && (whole_prompt || slot.read.is_multiple_of(KEEP_EVERY)) {
                    self.cache.insert(&slot.tokens[..slot.read], &slot.state);
                }
                continue;
            }
            let Some(logits) = logits.next() else { continue };
            self.counters.output_tokens.fetch_add(1, Ordering::Relaxed);
            if let Some(reason) = slot.write(logits, &self.banned, &self.tokenizer) {
                self.cache.insert(&slot.tokens[..slot.read], &slot.state);
                slot.finish(reason);
                ended.push(index);
            }
        }
        ended
    }
}

impl Slot {
    /// Tokens that the state has not seen.
    fn left(&self) -> usize {
        self.tokens.len() - self.read
    }

    /// How many tokens to read now: the one that was written last, or some of the prompt, which stops where a state
    /// is to be kept.
    fn next_piece(&self, budget: usize) -> usize {
        if self.left() == 1 {
            return 1;
        }
        let to_next_kept = KEEP_EVERY - self.read % KEEP_EVERY;
        budget.min(to_next_kept).min(self.left() - 1)
    }

    /// Chooses the next token and sends its text; the reason when it is the last.
    fn write(&mut self, logits: &[f32], banned: &[u32], tokenizer: &Tokenizer) -> Option<FinishReason> {
        let id = match &self.within {
            Some(within) => self.sampler.choose(&within.mask(logits, tokenizer), banned),
            None => self.sampler.choose(logits, banned),
        };
        if id == END_OF_TEXT {
            return Some(FinishReason::Stop);
        }
        self.tokens.push(id);
        let bytes = tokenizer.token(id);
        if let Some(within) = &mut self.within {
            within.accept(bytes);
        }
        self.sampler.accept(id, !repeats_freely(bytes));
        let ready = self.text.push(bytes);
        self.send(ready.text);
        if ready.stopped {
            return Some(FinishReason::Stop);
        }
        (self.written() >= self.tokens_max).then_some(FinishReason::Length)
    }

    fn written(&self) -> u32 {
        (self.tokens.len() - self.prompt_len) as u32
    }

    fn finish(&mut self, reason: FinishReason) {
        let rest = self.text.finish();
        self.send(rest);
        let usage = Usage { prompt_tokens: self.prompt_len as u32, output_tokens: self.written() };
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

/// What a caller sees when the worker ended before the answer did.
pub(crate) fn worker_gone() -> Error {
    Error::Unavailable { message: "the language model stopped; restart the service".to_string() }
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
