//! The thread that owns the language model: takes requests from a bounded queue and steps all running ones together.
//!
//! Each step reads one token of every sequence that writes and a piece of the prompts that are still being read, so
//! that weights are read once for all. Before each step, sequences whose caller left are dropped. The worker never
//! waits for a caller: a request's channel holds its longest possible answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvError, TryRecvError};

use rag_core::Error;

use crate::generate::Counters;
use crate::rwkv::engine::ROWS_MAX;
use crate::rwkv::{Engine, Logits, Piece, State};
use crate::slot::{Job, Keep, Slot};
use crate::state_cache::StateCache;
use crate::tokenizer::Tokenizer;

/// Prompt tokens read in one step while others write: some 20 ms of delay for them.
const PROMPT_PIECE_MAX: usize = 64;

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

impl Worker {
    /// Serves the queue until every sender is gone and all sequences have ended.
    pub(crate) fn run(mut self, queue: &Receiver<Job>) {
        let mut slots: Vec<Slot> = Vec::new();
        let mut idle_states: Vec<State> = Vec::new();
        while self.admit(queue, &mut slots, &mut idle_states).is_ok() {
            let mut index = 0;
            while index < slots.len() {
                if slots[index].is_abandoned() {
                    idle_states.push(slots.remove(index).state);
                } else {
                    index += 1;
                }
            }
            if !slots.is_empty() {
                for index in self.step(&mut slots).into_iter().rev() {
                    idle_states.push(slots.remove(index).end());
                }
            }
            self.counters.running.store(slots.len() as u64, Ordering::Relaxed);
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
            if !job.is_abandoned() {
                let state = idle_states.pop().unwrap_or_else(|| State::zero(self.engine.config()));
                slots.push(self.open(job, state));
            }
        }
        Ok(())
    }

    /// Starts from the longest known prefix, else from the profile's initial state.
    fn open(&mut self, job: Job, mut state: State) -> Slot {
        let known = &job.tokens[..Slot::known_max(&job)];
        let read = self.cache.restore(job.scope, known, &mut state);
        if read == 0 {
            state.copy_from(job.from().unwrap_or(&job.profile.state));
        }
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        self.counters.prompt_tokens.fetch_add(job.tokens.len() as u64, Ordering::Relaxed);
        self.counters.prompt_tokens_known.fetch_add(read as u64, Ordering::Relaxed);
        Slot::new(job, state, read)
    }

    /// Moves every slot on; returns the places of those that ended, ascending.
    fn step(&mut self, slots: &mut [Slot]) -> Vec<usize> {
        let writing = slots.iter().filter(|slot| slot.is_writing()).count();
        let mut budget = if writing > 0 { PROMPT_PIECE_MAX } else { ROWS_MAX }.min(ROWS_MAX - writing);
        let mut pieces = Vec::new();
        let mut plans = Vec::with_capacity(slots.len());
        for slot in slots.iter_mut() {
            let len = slot.next_piece(budget);
            if !slot.is_writing() {
                budget -= len;
            }
            let logits = slot.wanted(len);
            plans.push((len, logits));
            if len > 0 {
                let tokens = &slot.tokens[slot.read..slot.read + len];
                let adapter = slot.profile.adapter;
                pieces.push(Piece { tokens, state: &mut slot.state, logits, adapter });
            }
        }
        if !pieces.is_empty() {
            self.engine.forward(&mut pieces);
        }
        let (vocabulary, width) = (self.engine.config().vocabulary, self.engine.config().width);
        let (mut logits, mut hidden) = (self.engine.logits(), self.engine.hidden());
        let mut ended = Vec::new();
        for (index, (slot, (len, wanted))) in slots.iter_mut().zip(plans).enumerate() {
            let result = match wanted {
                _ if len == 0 => None,
                Logits::Last => logits.split_off(..vocabulary),
                Logits::Hidden => hidden.split_off(..len * width),
                Logits::None | Logits::All => None,
            };
            let before = slot.tokens.len();
            let after = slot.advance(len, result, &self.banned, &self.tokenizer);
            self.counters.output_tokens.fetch_add((slot.tokens.len() - before) as u64, Ordering::Relaxed);
            match after.keep {
                Keep::No => {}
                Keep::Yes => self.cache.insert(slot.scope, &slot.tokens[..slot.read], &slot.state),
                Keep::Lasting => {
                    self.cache.insert_lasting(slot.scope, &slot.tokens[..slot.read], &slot.state);
                }
            }
            if after.ended {
                ended.push(index);
            }
        }
        ended
    }
}

/// What a caller sees when the worker ended before the answer did.
pub(crate) fn worker_gone() -> Error {
    Error::Unavailable { message: "the language model stopped; restart the service".to_string() }
}
