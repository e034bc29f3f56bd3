//! Runs a model: tokens of one or several sequences in, logits or hidden rows out, each sequence's state moved on.
//!
//! One call takes any mixture of sequences, long prompts and single tokens alike. Splitting a prompt over calls, or
//! calling for several sequences together, changes no result. Sequences under different adapters may come in one call
//! too: those of one adapter are computed together, over the same matrices.

use rag_core::Result;

use super::adapter::AdapterScale;
use super::config::Config;
use super::model::{Buffers, Model, Segment};
use super::state::State;
use super::weights::Weights;
use crate::cpu::product::Cpu;

/// Rows of one call. More would not read weights noticeably less often, and buffers would leave the cache.
pub const ROWS_MAX: usize = 256;
/// Adapters that an engine holds beside the model as it is.
pub const ADAPTERS_MAX: usize = 64;

/// What a piece wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    None,
    /// The logits after its last token.
    Last,
    /// Those after every token.
    All,
    /// Every token's last normalised row instead: see `Engine::hidden`.
    Hidden,
}

/// An adapter of one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AdapterId(pub(super) usize);

/// Tokens that continue one sequence.
#[derive(Debug)]
pub struct Piece<'a> {
    /// At least one, each below the vocabulary's size.
    pub tokens: &'a [u32],
    /// Moved on by the call.
    pub state: &'a mut State,
    pub logits: Logits,
    /// None is the model as it is.
    pub adapter: Option<AdapterId>,
}

/// A model with a processor and working memory: one at a time computes.
#[derive(Debug)]
pub struct Engine {
    /// The model as it is, then what adapters make of it.
    models: Vec<Model>,
    cpu: Cpu,
    buffers: Buffers,
    logits: Vec<f32>,
    hidden: Vec<f32>,
}

impl Engine {
    pub fn new(model: Model, cpu: Cpu) -> Self {
        let buffers = Buffers::new(ROWS_MAX, &model.config);
        Self { models: vec![model], cpu, buffers, logits: Vec::new(), hidden: Vec::new() }
    }

    pub fn config(&self) -> &Config {
        &self.models[0].config
    }

    /// Where a sequence starts: the state merged into the file, else zero.
    pub fn initial_state(&self) -> State {
        self.models[0].initial_state()
    }

    pub fn threads(&self) -> usize {
        self.cpu.pool.threads()
    }

    /// Bytes of weights that one token reads: all but the embedding table.
    pub fn bytes_read(&self) -> usize {
        self.models[0].bytes_read()
    }

    /// Bytes a second that the engine's threads read from memory.
    pub(crate) fn memory_bandwidth(&self) -> f64 {
        crate::measure::memory_bandwidth(&self.cpu)
    }

    /// Adds an adapter; see `Model::adapted`. `Error::Unavailable` beyond `ADAPTERS_MAX`.
    pub fn add_adapter(
        &mut self,
        adapter: &dyn Weights,
        pissa_start: Option<&dyn Weights>,
        scale: AdapterScale,
    ) -> Result<AdapterId> {
        if self.models.len() > ADAPTERS_MAX {
            return Err(rag_core::Error::Unavailable {
                message: format!("an engine holds {ADAPTERS_MAX} adapters at most"),
            });
        }
        let model = self.models[0].adapted(adapter, pissa_start, scale)?;
        self.models.push(model);
        Ok(AdapterId(self.models.len() - 1))
    }

    /// Moves a sequence on by any number of tokens; returns the logits after the last, [vocabulary]; none for no
    /// tokens.
    pub fn read(&mut self, tokens: &[u32], state: &mut State) -> Option<&[f32]> {
        self.read_with(tokens, state, None)
    }

    /// `read` under an adapter.
    pub fn read_with(
        &mut self,
        tokens: &[u32],
        state: &mut State,
        adapter: Option<AdapterId>,
    ) -> Option<&[f32]> {
        let (chunks, last) = tokens.split_at(tokens.len().checked_sub(1)? / ROWS_MAX * ROWS_MAX);
        for tokens in chunks.chunks(ROWS_MAX) {
            self.forward(&mut [Piece { tokens, state, logits: Logits::None, adapter }]);
        }
        Some(self.forward(&mut [Piece { tokens: last, state, logits: Logits::Last, adapter }]))
    }

    /// Moves sequences on and returns the wanted logits, [rows wanted, vocabulary], in the order of the pieces.
    /// Ids left out of the head have −∞. At most `ROWS_MAX` tokens in all.
    pub fn forward(&mut self, pieces: &mut [Piece<'_>]) -> &[f32] {
        let total: usize = pieces.iter().map(|piece| piece.tokens.len()).sum();
        assert!(total <= ROWS_MAX, "more than {ROWS_MAX} tokens in one call");
        let config = *self.config();
        for piece in &*pieces {
            assert!(!piece.tokens.is_empty(), "a piece without tokens");
            assert_eq!(*piece.state.config(), config, "a state of another model");
            let known = piece.tokens.iter().all(|&id| (id as usize) < config.vocabulary);
            assert!(known, "an id outside the vocabulary");
        }
        // Where each piece's rows go among the results.
        let (mut logits, mut hidden) = (0, 0);
        let mut places = Vec::with_capacity(pieces.len());
        for piece in &*pieces {
            places.push((logits, hidden));
            match piece.logits {
                Logits::None => {}
                Logits::Last => logits += 1,
                Logits::All => logits += piece.tokens.len(),
                Logits::Hidden => hidden += piece.tokens.len(),
            }
        }
        self.logits.resize(logits * config.vocabulary, 0.0);
        self.hidden.resize(hidden * config.width, 0.0);
        for variant in 0..self.models.len() {
            let mut members: Vec<_> = (pieces.iter_mut().zip(&places))
                .filter(|(piece, _)| piece.adapter.map_or(0, |id| id.0) == variant)
                .collect();
            if !members.is_empty() {
                self.run(variant, &mut members);
            }
        }
        &self.logits
    }

    /// What the last call of `forward` returned.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Rows that pieces with `Logits::Hidden` wanted in the last call, [rows, D], in the order of the pieces.
    pub fn hidden(&self) -> &[f32] {
        &self.hidden
    }

    /// Computes the pieces of one adapter; each comes with its place in the results.
    fn run(&mut self, variant: usize, pieces: &mut [(&mut Piece<'_>, &(usize, usize))]) {
        let Self { models, cpu, buffers, logits, hidden } = self;
        let model = &models[variant];
        let mut tokens = Vec::new();
        // Rows of `x`, and where their results go.
        let (mut for_logits, mut for_hidden) = (Vec::new(), Vec::new());
        let mut segments = Vec::with_capacity(pieces.len());
        for (piece, place) in pieces {
            let (first_logits, first_hidden) = **place;
            let rows = tokens.len()..tokens.len() + piece.tokens.len();
            tokens.extend_from_slice(piece.tokens);
            match piece.logits {
                Logits::None => {}
                Logits::Last => for_logits.push((rows.end - 1, first_logits)),
                Logits::All => for_logits.extend(rows.clone().zip(first_logits..)),
                Logits::Hidden => for_hidden.extend(rows.clone().zip(first_hidden..)),
            }
            segments.push(Segment { rows, state: &mut *piece.state });
        }
        model.embed(cpu, buffers, &tokens);
        for layer in 0..model.config.layers {
            model.layer(cpu, buffers, layer, tokens.len(), &mut segments);
        }
        let vocabulary = model.config.vocabulary;
        deliver(&for_logits, vocabulary, logits, |rows, out| model.head(cpu, buffers, rows, out));
        let width = model.config.width;
        deliver(&for_hidden, width, hidden, |rows, out| model.last_norm(cpu, buffers, rows, out));
    }
}

/// Has `write` compute results of `len` values for some rows, and puts them where they belong.
fn deliver(
    wanted: &[(usize, usize)],
    len: usize,
    results: &mut [f32],
    write: impl FnOnce(&[usize], &mut [f32]),
) {
    let Some(&(_, first)) = wanted.first() else { return };
    let rows: Vec<usize> = wanted.iter().map(|&(row, _)| row).collect();
    let together = wanted.iter().zip(first..).all(|(&(_, place), next)| place == next);
    if together {
        return write(&rows, &mut results[first * len..(first + rows.len()) * len]);
    }
    let mut values = vec![0.0; rows.len() * len];
    write(&rows, &mut values);
    for (values, &(_, place)) in values.chunks(len).zip(wanted) {
        results[place * len..(place + 1) * len].copy_from_slice(values);
    }
}
