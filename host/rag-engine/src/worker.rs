//! A thread that owns the language model on one device: takes requests from a bounded queue and steps all running ones
//! together.
//!
//! Each step reads one token of every sequence that writes and a piece of the prompts that are still being read, so
//! that weights are read once for all. Before each step, sequences whose caller left are dropped. The worker never
//! waits for a caller: a request's channel holds its longest possible answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvError, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rag_core::{Error, Result};

use crate::dispatch::Queued;
use crate::generate::Counters;
use crate::runner::{Place, Runner, Told, Work};
use crate::rwkv::Logits;
use crate::slot::{Keep, Slot};
use crate::state_cache::StateCache;
use crate::tokenizer::Tokenizer;

/// Steps that may fail one after the other before a worker gives way to those on other devices.
const FAILURES_MAX: u32 = 3;

/// The worker's belongings.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) runner: Runner,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Of all workers of the model.
    pub(crate) cache: Arc<Mutex<StateCache>>,
    pub(crate) slots_max: usize,
    /// Ids that stand for no text.
    pub(crate) banned: Vec<u32>,
    pub(crate) counters: Arc<Counters>,
    /// Workers of the same model that this one could leave alone.
    pub(crate) others: Arc<AtomicUsize>,
}

impl Worker {
    /// Serves the queue until every sender is gone and all sequences have ended.
    pub(crate) fn run(mut self, queue: &Receiver<Queued>) {
        let mut slots: Vec<Slot> = Vec::new();
        let mut idle: Vec<Place> = Vec::new();
        let (mut failures, mut running) = (0, 0);
        while self.admit(queue, &mut slots, &mut idle).is_ok() {
            let mut index = 0;
            while index < slots.len() {
                if slots[index].is_abandoned() {
                    idle.push(slots.remove(index).place);
                } else {
                    index += 1;
                }
            }
            if !slots.is_empty() {
                match self.step(&mut slots) {
                    Ok(ended) => {
                        failures = 0;
                        ended.into_iter().rev().for_each(|index| idle.push(slots.remove(index).end()));
                    }
                    Err(error) => {
                        tracing::error!("the language model failed: {error}");
                        // What the states hold is unknown: new ones are made.
                        slots.drain(..).for_each(|slot| slot.fail(&error));
                        failures += 1;
                    }
                }
            }
            self.counters.running.fetch_add(slots.len() as u64, Ordering::Relaxed);
            self.counters.running.fetch_sub(running, Ordering::Relaxed);
            running = slots.len() as u64;
            if failures >= FAILURES_MAX && self.may_leave() {
                tracing::error!("a device failed {failures} times in a row; the model's other devices go on");
                return;
            }
        }
    }

    /// Whether another worker stays; then this one counts as gone.
    fn may_leave(&self) -> bool {
        let one_less = |others: usize| others.checked_sub(1);
        self.others.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }

    fn cache(&self) -> MutexGuard<'_, StateCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills free slots from the queue; waits for a request when nothing runs. An error ends the worker.
    fn admit(
        &mut self,
        queue: &Receiver<Queued>,
        slots: &mut Vec<Slot>,
        idle: &mut Vec<Place>,
    ) -> std::result::Result<(), RecvError> {
        while slots.len() < self.slots_max {
            let queued = if slots.is_empty() {
                queue.recv()?
            } else {
                match queue.try_recv() {
                    Ok(queued) => queued,
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            };
            if queued.job.is_abandoned() {
                continue;
            }
            match idle.pop().map_or_else(|| self.runner.place(), Ok) {
                Ok(place) => slots.extend(self.open(queued, place)),
                Err(error) => queued.job.fail(&error),
            }
        }
        Ok(())
    }

    /// Starts from the longest known prefix, else from the profile's initial state.
    fn open(&mut self, queued: Queued, mut place: Place) -> Option<Slot> {
        let job = &queued.job;
        let known = &job.tokens[..Slot::known_max(job)];
        let found = self.cache().find(job.scope, known, self.runner.config());
        let (state, read) = found
            .as_ref()
            .map_or((job.from().unwrap_or(&job.profile.state), 0), |(state, read)| (&**state, *read));
        if let Err(error) = place.restore(state) {
            queued.job.fail(&error);
            return None;
        }
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        self.counters.prompt_tokens.fetch_add(job.tokens.len() as u64, Ordering::Relaxed);
        self.counters.prompt_tokens_known.fetch_add(read as u64, Ordering::Relaxed);
        Some(Slot::new(queued, place, read, self.runner.keep_every()))
    }

    /// Moves every slot on; returns the places of those that ended, ascending.
    fn step(&mut self, slots: &mut [Slot]) -> Result<Vec<usize>> {
        let writing = slots.iter().filter(|slot| slot.is_writing()).count();
        let rows = self.runner.rows_max();
        let piece = if writing > 0 { self.runner.prompt_piece_max() } else { rows };
        let mut budget = piece.min(rows - writing);
        let draws = self.runner.draws(slots.iter().map(Slot::penalties).sum());
        let mut works = Vec::new();
        let mut plans = Vec::with_capacity(slots.len());
        for slot in slots.iter_mut() {
            let len = slot.next_piece(budget);
            if !slot.is_writing() {
                budget -= len;
            }
            let logits = slot.wanted(len);
            let draw = if draws && len > 0 && logits == Logits::Last { slot.drawing() } else { None };
            plans.push((len, logits, draw.is_some()));
            if len > 0 {
                let tokens = &slot.tokens[slot.read..slot.read + len];
                let adapter = slot.profile.adapter;
                works.push(Work { tokens, place: &mut slot.place, logits, adapter, draw });
            }
        }
        if !works.is_empty() {
            self.runner.run(works)?;
        }
        let mut results = self.runner.results();
        let mut ended = Vec::new();
        for (index, (slot, (len, logits, drawn))) in slots.iter_mut().zip(plans).enumerate() {
            let told = if len == 0 { Told::Nothing } else { results.next(logits, len, drawn) };
            let before = slot.tokens.len();
            let after = slot.advance(len, told, &self.banned, &self.tokenizer);
            self.counters.output_tokens.fetch_add((slot.tokens.len() - before) as u64, Ordering::Relaxed);
            keep(&self.cache, slot, after.keep)?;
            if after.ended {
                ended.push(index);
            }
        }
        Ok(ended)
    }
}

/// Keeps a copy of a slot's state where that is worth it; the copy is made while others may use the cache.
fn keep(cache: &Mutex<StateCache>, slot: &Slot, keep: Keep) -> Result<()> {
    let (scope, tokens) = (slot.scope, &slot.tokens[..slot.read]);
    let lock = || cache.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = match keep {
        Keep::No => false,
        Keep::Yes => {
            let mut cache = lock();
            cache.keeps() && !cache.knows(scope, tokens)
        }
        Keep::Lasting => true,
    };
    if wanted {
        let state = Arc::new(slot.place.snapshot()?);
        match keep {
            Keep::Lasting => lock().insert_lasting(scope, tokens, state),
            Keep::No | Keep::Yes => lock().insert(scope, tokens, state),
        }
    }
    Ok(())
}

/// What a caller sees when the worker ended before the answer did.
pub(crate) fn worker_gone() -> Error {
    Error::Unavailable { message: "the language model stopped; restart the service".to_string() }
}
