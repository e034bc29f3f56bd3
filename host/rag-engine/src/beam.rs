//! Beam search: several continuations of a prompt side by side, of which the likeliest in all is the answer.
//!
//! Each continuation has a copy of the state; a step reads the last token of each, and of all their next tokens the
//! likeliest ones live on. A text that ended is weighed by its mean log-probability, so that longer ones are not put
//! behind shorter ones for their length.

use std::sync::Arc;

use rag_core::ports::GenerateRequest;
use rag_core::{Error, Result};
use tokio::sync::oneshot;

use crate::generate::{LanguageModel, check};
use crate::profile::Profile;
use crate::rwkv::State;
use crate::slot::Task;
use crate::text_stream::TextStream;
use crate::tokenizer::END_OF_TEXT;
use crate::worker::worker_gone;

/// Continuations side by side.
pub const BEAMS_MAX: usize = 16;
/// States of one search, in bytes.
const STATE_BYTES_MAX: usize = 1 << 30;

/// A state after reading tokens, and the logits that came of the last of them.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) state: State,
    pub(crate) logits: Vec<f32>,
}

/// A continuation that goes on.
#[derive(Debug, Clone)]
struct Beam {
    /// What was written.
    tokens: Vec<u32>,
    /// Log-probability of it.
    score: f32,
    /// The state before its last token.
    state: Arc<State>,
}

/// A continuation that ended.
#[derive(Debug)]
struct Ended {
    tokens: Vec<u32>,
    /// Mean log-probability of a token, the end included.
    mean: f32,
}

impl LanguageModel {
    /// The likeliest answer that `beams` continuations find, under a profile. Of the request, sampling and bounds are
    /// not used.
    ///
    /// # Errors
    /// As `generate_as`; `Error::InvalidInput` for more than `BEAMS_MAX` beams, or more than the memory set aside for
    /// their states holds.
    pub async fn beam(&self, profile: &str, request: GenerateRequest, beams: usize) -> Result<String> {
        check(&request)?;
        let states_max = STATE_BYTES_MAX / (self.sizes.state_len() * 4).max(1);
        if !(1..=BEAMS_MAX.min(states_max)).contains(&beams) {
            let allowed = BEAMS_MAX.min(states_max);
            return Err(Error::invalid(format!("{beams} beams; this model may have 1 to {allowed}")));
        }
        let profile = self.profile(profile)?;
        let prompt = self.tokens_of(self.tokenizer().encode(&request.prompt))?;
        let first =
            self.step(&profile, &request.tenant, None, prompt)?.await.map_err(|_| worker_gone())??;
        let state = Arc::new(first.state);
        let mut search = Search { model: self, stop: &request.stop, beams, ended: Vec::new() };
        let start = Beam { tokens: Vec::new(), score: 0.0, state: state.clone() };
        let mut running = search.grow(&[(start, state, first.logits)]);
        for _ in 1..request.tokens_max {
            if running.is_empty() || search.is_settled(&running) {
                break;
            }
            // All at once: the worker steps them together.
            let steps: Vec<_> = running
                .iter()
                .map(|beam| {
                    let last = beam.tokens.last().copied().into_iter().collect();
                    self.step(&profile, &request.tenant, Some(beam.state.clone()), last)
                })
                .collect::<Result<_>>()?;
            let mut read = Vec::with_capacity(running.len());
            for (beam, step) in running.into_iter().zip(steps) {
                let step = step.await.map_err(|_| worker_gone())??;
                read.push((beam, Arc::new(step.state), step.logits));
            }
            running = search.grow(&read);
        }
        Ok(search.finish(running))
    }

    /// Reads tokens from a state, or from the profile's start.
    fn step(
        &self,
        profile: &Arc<Profile>,
        tenant: &str,
        from: Option<Arc<State>>,
        tokens: Vec<u32>,
    ) -> Result<oneshot::Receiver<Result<Step>>> {
        let (reply, answer) = oneshot::channel();
        self.queue(tokens, profile.clone(), tenant, Task::Step { from, logits: Vec::new(), reply })?;
        Ok(answer)
    }
}

struct Search<'a> {
    model: &'a LanguageModel,
    stop: &'a [String],
    beams: usize,
    ended: Vec<Ended>,
}

impl Search<'_> {
    /// The likeliest continuations by one token; those that end are put aside. Each comes with its state after, and
    /// the logits of, its last token.
    fn grow(&mut self, read: &[(Beam, Arc<State>, Vec<f32>)]) -> Vec<Beam> {
        let mut candidates: Vec<(f32, usize, u32)> = Vec::new();
        for (index, (beam, _, logits)) in read.iter().enumerate() {
            let best = self.likeliest(logits);
            candidates.extend(best.into_iter().map(|(id, log)| (beam.score + log, index, id)));
        }
        // Of equals the earlier beam and the smaller id: the same request gives the same answer.
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let mut next = Vec::with_capacity(self.beams);
        for (rank, (score, index, id)) in candidates.into_iter().enumerate() {
            let (beam, state, _) = &read[index];
            let mut tokens = beam.tokens.clone();
            if id == END_OF_TEXT {
                // An end counts only where it would have been among the best.
                if rank < self.beams {
                    self.end(tokens, score, 1);
                }
                continue;
            }
            tokens.push(id);
            if self.stops(&tokens) {
                if rank < self.beams {
                    self.end(tokens, score, 0);
                }
            } else if next.len() < self.beams {
                next.push(Beam { tokens, score, state: state.clone() });
            }
        }
        next
    }

    /// Ids and log-probabilities of the likeliest next tokens: twice the beams, since some may end.
    fn likeliest(&self, logits: &[f32]) -> Vec<(u32, f32)> {
        let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit - greatest).exp()).sum();
        let log_sum = sum.ln() as f32 + greatest;
        let written = |id: u32| id == END_OF_TEXT || !self.model.tokenizer().token(id).is_empty();
        let mut ids: Vec<u32> = (0..logits.len() as u32).filter(|&id| written(id)).collect();
        let keep = (2 * self.beams).min(ids.len());
        let by_logit = |a: &u32, b: &u32| {
            let (left, right) = (logits[*a as usize], logits[*b as usize]);
            right.total_cmp(&left).then(a.cmp(b))
        };
        if keep < ids.len() {
            ids.select_nth_unstable_by(keep, by_logit);
            ids.truncate(keep);
        }
        ids.into_iter().map(|id| (id, logits[id as usize] - log_sum)).collect()
    }

    fn end(&mut self, tokens: Vec<u32>, score: f32, beside: usize) {
        let mean = score / (tokens.len() + beside).max(1) as f32;
        self.ended.push(Ended { tokens, mean });
        self.ended.sort_by(|a, b| b.mean.total_cmp(&a.mean));
        self.ended.truncate(self.beams);
    }

    /// Whether no continuation can become better than what has ended.
    fn is_settled(&self, running: &[Beam]) -> bool {
        let worst = if self.ended.len() < self.beams { None } else { self.ended.last() };
        let best =
            running.iter().map(|beam| beam.score / beam.tokens.len().max(1) as f32).fold(f32::MIN, f32::max);
        worst.is_some_and(|worst| worst.mean >= best)
    }

    fn stops(&self, tokens: &[u32]) -> bool {
        let mut text = TextStream::new(self.stop);
        tokens.iter().any(|&id| text.push(self.model.tokenizer().token(id)).stopped)
    }

    /// The best text, without what stopped it.
    fn finish(mut self, running: Vec<Beam>) -> String {
        for beam in running {
            self.end(beam.tokens, beam.score, 0);
        }
        let best = self.ended.into_iter().next().map(|ended| ended.tokens).unwrap_or_default();
        let mut stream = TextStream::new(self.stop);
        let mut text = String::new();
        for id in best {
            let ready = stream.push(self.model.tokenizer().token(id));
            text.push_str(&ready.text);
            if ready.stopped {
                return text;
            }
        }
        text.push_str(&stream.finish());
        text
    }
}
