//! Runs a model on a GPU: tokens of one or several sequences in; logits, hidden rows or drawn tokens out.

mod build;
mod variants;

use std::collections::HashMap;
use std::sync::Arc;

use build::{build_forward, check_config};
use rag_core::{Error, Result};

use super::blas::{Element, WORKSPACE_BYTES};
use super::buffers::{Buffers, Limits, PENALTIES_MAX};
use super::driver::{Gpu, Graph};
use super::forward::{Forward, Rows};
use super::params::{Draw, Penalty};
use super::weights::{Choice, Loader, Source};
use super::{Dense, DeviceState, Options, Tuning};
use crate::cpu::matrix::Format;
use crate::rwkv::config::Config;
use crate::rwkv::weights::Weights;
use crate::rwkv::{AdapterId, Formats, Logits, State};
use crate::sampler::Drawing;

/// Numbers of sequences that batches of single tokens are filled up to, each a recording of its own.
const BATCHES: [usize; 17] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512];
/// Of the driver, of cuBLAS's own code, and room for what other programs do meanwhile.
const RESERVE_BYTES: usize = 400 << 20;

/// Tokens that continue one sequence.
#[derive(Debug)]
pub struct Piece<'a> {
    /// At least one, each below the vocabulary's size.
    pub tokens: &'a [u32],
    pub state: &'a mut DeviceState,
    pub logits: Logits,
    /// Draws a token from the last logits (`Logits::Last`) instead of giving them to the caller.
    pub draw: Option<Drawing>,
    /// None is the model as it is.
    pub adapter: Option<AdapterId>,
}

/// A model on a GPU.
#[derive(Debug)]
pub struct Engine {
    forward: Forward,
    limits: Limits,
    kept_ids: Option<Vec<u32>>,
    initial: Option<State>,
    /// By variant of the model, sequences, and whether tokens are drawn. None: run once, to be recorded the next time.
    recordings: HashMap<(usize, usize, bool), Option<Graph>>,
    /// Of the sequences that fill up a batch.
    spare: DeviceState,
    logits: Vec<f32>,
    hidden: Vec<f32>,
    drawn: Vec<u32>,
}

impl Engine {
    /// Reads a model. `Error::Unavailable` when it does not fit, before anything is read.
    pub fn load(weights: &dyn Weights, options: &Options) -> Result<Self> {
        let config = Config::read(weights)?;
        let kept_ids = weights.kept_ids()?;
        let merged = weights.shape("blocks.0.att.time_state").is_some();
        let initial = merged.then(|| State::tuned(weights, &config)).transpose()?;
        let packed = weights.packed_bytes();
        Self::build(Source::File(weights), &config, options, (kept_ids, packed), initial)
    }

    /// Makes a model of random weights, for measuring.
    pub fn random(config: &Config, seed: u64, options: &Options) -> Result<Self> {
        Self::build(Source::Seed(seed), config, options, (None, None), None)
    }

    fn build(
        source: Source<'_>,
        config: &Config,
        options: &Options,
        (kept_ids, packed): (Option<Vec<u32>>, Option<usize>),
        initial: Option<State>,
    ) -> Result<Self> {
        check_config(config)?;
        let gpu = Gpu::open(options.device)?;
        let quantised = packed.is_some() || options.formats != Formats::of(Format::F32);
        let dense = match options.dense {
            Dense::F32 if !quantised => Element::F32,
            Dense::F32 | Dense::Bf16 => Element::Bf16,
        };
        let choice = Choice { formats: options.formats, dense };
        let sequences = options.sequences.clamp(1, BATCHES[BATCHES.len() - 1]);
        let limits = Limits::of(config, dense.bytes(), sequences);
        // A packed file's embedding table is made dense.
        let weights_bytes = match packed {
            Some(bytes) => bytes + config.vocabulary * config.width * dense.bytes(),
            None => choice.bytes(config).0,
        };
        let states = (sequences + 1) * config.state_len() * 4;
        let dense_max = config.width * (4 * config.width).max(config.hidden);
        let buffers = limits.bytes(config, dense.bytes(), dense_max) + WORKSPACE_BYTES;
        let (free, _) = gpu.memory()?;
        let need = weights_bytes + states + buffers + RESERVE_BYTES;
        if need > free {
            return Err(Error::Unavailable {
                message: format!(
                    "the model needs {} MiB of the memory of {} ({} of weights, {} of states) and {} MiB are free; \
                     choose int8 or nf4, fewer slots, or a smaller model",
                    need >> 20,
                    gpu.name,
                    weights_bytes >> 20,
                    states >> 20,
                    free >> 20
                ),
            });
        }
        let kept = kept_ids.as_ref().map(Vec::len);
        let weights = Loader { gpu: &gpu, source, choice, config, kept, made: 0 }.load()?;
        let forward = build_forward(&gpu, config, weights, &limits, dense, options)?;
        let spare = DeviceState::new(&gpu, config)?;
        gpu.wait()?;
        Ok(Self {
            forward,
            limits,
            kept_ids,
            initial,
            recordings: HashMap::new(),
            spare,
            logits: Vec::new(),
            hidden: Vec::new(),
            drawn: Vec::new(),
        })
    }

    pub fn config(&self) -> &Config {
        &self.forward.config
    }

    pub(super) fn gpu(&self) -> &Arc<Gpu> {
        &self.forward.gpu
    }

    /// Changes what may be switched; what was recorded before is forgotten.
    pub fn tune(&mut self, tuning: Tuning) {
        self.forward.tuning = tuning;
        self.recordings.clear();
    }

    /// The GPU's name.
    pub fn name(&self) -> &str {
        &self.forward.gpu.name
    }

    /// Tokens of one call.
    pub fn rows_max(&self) -> usize {
        self.limits.rows
    }

    /// Sequences of one call.
    pub fn sequences_max(&self) -> usize {
        self.limits.sequences
    }

    /// Bytes of weights that one token reads.
    pub fn bytes_read(&self) -> usize {
        self.forward.weights().bytes_read()
    }

    /// Bytes of the GPU's memory that are taken, by whomever.
    pub fn memory_taken(&self) -> Result<usize> {
        let (free, total) = self.forward.gpu.memory()?;
        Ok(total - free)
    }

    /// Where a sequence starts: the state merged into the file, else zero.
    pub fn initial_state(&self) -> State {
        self.initial.clone().unwrap_or_else(|| State::zero(self.config()))
    }

    /// A zero state for a sequence. `Error::Unavailable` when the GPU has no room.
    pub fn state(&self) -> Result<DeviceState> {
        DeviceState::new(&self.forward.gpu, self.config())
    }

    /// Ids that are never drawn.
    pub fn ban(&mut self, ids: &[u32]) -> Result<()> {
        let mut bits = vec![0u32; self.forward.weights().head.rows.div_ceil(32)];
        for row in ids.iter().filter_map(|&id| self.head_row(id)) {
            bits[row / 32] |= 1 << (row % 32);
        }
        self.forward.buffers.banned.write(0, &bits)
    }

    /// Whether so many penalties of all sequences together can be taken into account when tokens are drawn.
    pub fn takes_penalties(&self, count: usize) -> bool {
        count <= PENALTIES_MAX
    }

    fn head_row(&self, id: u32) -> Option<usize> {
        match &self.kept_ids {
            None => Some(id as usize),
            Some(ids) => ids.binary_search(&id).ok(),
        }
    }

    fn embedding_row(&self, token: u32) -> i32 {
        match &self.kept_ids {
            None => token as i32,
            // The row after the last stands for all that were left out.
            Some(ids) => ids.binary_search(&token).unwrap_or(ids.len()) as i32,
        }
    }

    /// Moves one sequence on by any number of tokens; returns the logits after the last, none for no tokens.
    pub fn read(&mut self, tokens: &[u32], state: &mut DeviceState) -> Result<Option<&[f32]>> {
        let Some(before_last) = tokens.len().checked_sub(1) else { return Ok(None) };
        let (chunks, last) = tokens.split_at(before_last / self.limits.rows * self.limits.rows);
        for tokens in chunks.chunks(self.limits.rows) {
            self.forward(&mut [Piece { tokens, state, logits: Logits::None, draw: None, adapter: None }])?;
        }
        self.forward(&mut [Piece { tokens: last, state, logits: Logits::Last, draw: None, adapter: None }])?;
        Ok(Some(&self.logits))
    }

    /// Logits that pieces wanted in the last call and no token was drawn from, [rows, vocabulary], in the order of the
    /// pieces.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Rows that pieces with `Logits::Hidden` wanted, [rows, D].
    pub fn hidden(&self) -> &[f32] {
        &self.hidden
    }

    /// Tokens drawn in the last call, one for each piece that wanted it, in their order.
    pub fn drawn(&self) -> &[u32] {
        &self.drawn
    }

    /// Moves sequences on by at most `rows_max` tokens in all, of at most `sequences_max` sequences.
    pub fn forward(&mut self, pieces: &mut [Piece<'_>]) -> Result<()> {
        let total: usize = pieces.iter().map(|piece| piece.tokens.len()).sum();
        assert!(total <= self.limits.rows && pieces.len() <= self.limits.sequences, "too much for one call");
        for piece in &*pieces {
            assert!(!piece.tokens.is_empty(), "a piece without tokens");
            assert_eq!(*piece.state.config(), *self.config(), "a state of another model");
            let known = piece.tokens.iter().all(|&id| (id as usize) < self.config().vocabulary);
            assert!(known, "an id outside the vocabulary");
        }
        let pieces: Vec<&Piece<'_>> = pieces.iter().collect();
        self.run_variants(&pieces)
    }

    /// Computes pieces of one variant of the model; results are those of this call alone.
    fn run_one(&mut self, pieces: &[&Piece<'_>]) -> Result<()> {
        self.logits.clear();
        self.hidden.clear();
        self.drawn.clear();
        let decode = pieces.iter().all(|piece| piece.tokens.len() == 1 && piece.logits == Logits::Last);
        let wanted = if decode { self.run_batch(pieces)? } else { self.run(pieces)? };
        self.collect(pieces, &wanted)?;
        // What is in pinned memory may be written again.
        self.forward.gpu.wait()
    }

    /// One token of each sequence, with logits: from a recording where there is one.
    fn run_batch(&mut self, pieces: &[&Piece<'_>]) -> Result<Vec<usize>> {
        let filled = BATCHES.iter().copied().find(|&size| size >= pieces.len()).unwrap_or(pieces.len());
        let count = filled.min(self.limits.sequences);
        let draws = pieces.iter().any(|piece| piece.draw.is_some());
        let rows = Rows { rows: count, sequences: count, single: true, wanted: count };
        let wanted: Vec<usize> = (0..count).collect();
        self.describe(pieces, &rows, &wanted)?;
        let Self { forward, recordings, .. } = self;
        let key = (forward.variant, count, draws);
        let queue = || {
            forward.queue_layers(&rows)?;
            forward.queue_head(count)?;
            if draws { forward.queue_sample(count) } else { Ok(()) }
        };
        if !forward.tuning.recorded {
            queue()?;
            return Ok(wanted);
        }
        match recordings.get_mut(&key) {
            None => {
                queue()?;
                recordings.insert(key, None);
            }
            Some(Some(recording)) => recording.queue()?,
            Some(none) => none.insert(forward.gpu.record(queue)?).queue()?,
        }
        Ok(wanted)
    }

    /// Anything else. Returns the rows whose logits were computed.
    fn run(&mut self, pieces: &[&Piece<'_>]) -> Result<Vec<usize>> {
        let mut wanted = Vec::new();
        let (mut at, mut hidden) = (0, Vec::new());
        for piece in pieces {
            let end = at + piece.tokens.len();
            match piece.logits {
                Logits::None => {}
                Logits::Last => wanted.push(end - 1),
                Logits::All => wanted.extend(at..end),
                Logits::Hidden => hidden.extend(at..end),
            }
            at = end;
        }
        let single = pieces.iter().all(|piece| piece.tokens.len() == 1);
        let rows = Rows { rows: at, sequences: pieces.len(), single, wanted: wanted.len() };
        let first = &wanted[..wanted.len().min(self.limits.sequences)];
        self.describe(pieces, &rows, first)?;
        let forward = &self.forward;
        forward.queue_layers(&rows)?;
        let width = forward.config.width;
        let chunk = self.limits.rows;
        for rows in hidden.chunks(chunk) {
            let list: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
            forward.buffers.control.write(forward.buffers.layout.wanted, &list)?;
            forward.queue_hidden(rows.len())?;
            let start = self.hidden.len();
            self.hidden.resize(start + rows.len() * width, 0.0);
            forward.buffers.scratch.read(0, &mut self.hidden[start..])?;
        }
        if !wanted.is_empty() && !hidden.is_empty() {
            let list: Vec<i32> = first.iter().map(|&row| row as i32).collect();
            forward.buffers.control.write(forward.buffers.layout.wanted, &list)?;
        }
        if !wanted.is_empty() && wanted.len() <= self.limits.sequences {
            forward.queue_head(wanted.len())?;
            if pieces.iter().any(|piece| piece.draw.is_some()) {
                forward.queue_sample(wanted.len())?;
            }
        }
        Ok(wanted)
    }

    /// Tells the GPU what the call is about.
    fn describe(&mut self, pieces: &[&Piece<'_>], rows: &Rows, wanted: &[usize]) -> Result<()> {
        let layout = self.forward.buffers.layout;
        let spare = self.spare.at();
        let embedded: Vec<i32> =
            pieces.iter().flat_map(|piece| piece.tokens).map(|&id| self.embedding_row(id)).collect();
        let mut penalties: Vec<Penalty> = Vec::new();
        let mut draws = Vec::with_capacity(pieces.len());
        for piece in pieces.iter().filter(|piece| piece.logits == Logits::Last) {
            let mut draw = Draw { penalties_at: penalties.len() as i32, ..Draw::default() };
            if let Some(Drawing { temperature, top_p, top_k, unit, penalties: list }) = &piece.draw {
                (draw.temperature, draw.top_p, draw.unit) = (*temperature, *top_p, *unit);
                draw.top_k = i32::try_from(*top_k).unwrap_or(i32::MAX);
                for &(id, amount) in list {
                    let Some(row) = self.head_row(id) else { continue };
                    penalties.push(Penalty { id: row as i32, amount });
                    draw.penalties += 1;
                }
            }
            draws.push(draw);
        }
        assert!(penalties.len() <= PENALTIES_MAX, "too many penalties");
        let Buffers { control, control_pinned: pinned, .. } = &mut self.forward.buffers;
        let states = pinned.values::<u64>(layout.states, rows.sequences);
        states.fill(spare);
        states.iter_mut().zip(pieces).for_each(|(at, piece)| *at = piece.state.at());
        let tokens = pinned.values::<i32>(layout.tokens, rows.rows);
        tokens.fill(0);
        tokens[..embedded.len()].copy_from_slice(&embedded);
        let (mut starts, mut ends) = (vec![-1; rows.rows], vec![-1; rows.rows]);
        let mut offsets = vec![0; rows.sequences + 1];
        for sequence in 0..rows.sequences {
            let len = pieces.get(sequence).map_or(1, |piece| piece.tokens.len());
            let start = offsets[sequence] as usize;
            (starts[start], ends[start + len - 1]) = (sequence as i32, sequence as i32);
            offsets[sequence + 1] = (start + len) as i32;
        }
        pinned.values::<i32>(layout.starts, rows.rows).copy_from_slice(&starts);
        pinned.values::<i32>(layout.ends, rows.rows).copy_from_slice(&ends);
        pinned.values::<i32>(layout.offsets, rows.sequences + 1).copy_from_slice(&offsets);
        let list = pinned.values::<i32>(layout.wanted, wanted.len());
        list.iter_mut().zip(wanted).for_each(|(to, &row)| *to = row as i32);
        let to = pinned.values::<Draw>(layout.draws, self.limits.sequences);
        to.fill(Draw::default());
        to.iter_mut().zip(draws).for_each(|(to, draw)| *to = draw);
        pinned.values::<Penalty>(layout.penalties, penalties.len()).copy_from_slice(&penalties);
        let used = layout.penalties + size_of_val(penalties.as_slice());
        control.write_pinned(pinned, used)
    }

    /// Brings what was wanted to the host.
    fn collect(&mut self, pieces: &[&Piece<'_>], wanted: &[usize]) -> Result<()> {
        let sequences = self.limits.sequences;
        let rows = self.forward.weights().head.rows;
        if pieces.iter().any(|piece| piece.draw.is_some()) {
            let buffers = &mut self.forward.buffers;
            buffers.drawn.read_pinned(&buffers.drawn_pinned, wanted.len().min(sequences) * 4)?;
            self.forward.gpu.wait()?;
            let drawn = buffers.drawn_pinned.values::<u32>(0, wanted.len().min(sequences));
            let asked = pieces.iter().filter(|piece| piece.logits == Logits::Last);
            for (piece, &row) in asked.zip(&*drawn) {
                if piece.draw.is_some() {
                    self.drawn.push(self.kept_ids.as_ref().map_or(row, |ids| ids[row as usize]));
                }
            }
        }
        let all: usize = pieces
            .iter()
            .map(|piece| match piece.logits {
                Logits::Last if piece.draw.is_none() => 1,
                Logits::All => piece.tokens.len(),
                _ => 0,
            })
            .sum();
        if all == 0 {
            return Ok(());
        }
        if wanted.len() > sequences {
            return self.collect_in_parts(wanted);
        }
        // Which of the computed rows go to the host.
        let mut row = 0;
        for piece in pieces {
            let count = match piece.logits {
                Logits::Last => 1,
                Logits::All => piece.tokens.len(),
                _ => 0,
            };
            if piece.draw.is_none() && count > 0 {
                self.fetch_logits(row, count, rows)?;
            }
            row += count;
        }
        Ok(())
    }

    /// More rows than there is room for logits.
    fn collect_in_parts(&mut self, wanted: &[usize]) -> Result<()> {
        let rows = self.forward.weights().head.rows;
        for part in wanted.chunks(self.limits.sequences) {
            let list: Vec<i32> = part.iter().map(|&row| row as i32).collect();
            self.forward.buffers.control.write(self.forward.buffers.layout.wanted, &list)?;
            self.forward.queue_head(part.len())?;
            self.fetch_logits(0, part.len(), rows)?;
        }
        Ok(())
    }

    /// Appends `count` rows of logits; ids left out of the head get −∞.
    fn fetch_logits(&mut self, first: usize, count: usize, rows: usize) -> Result<()> {
        let scratch = &self.forward.buffers.scratch;
        let vocabulary = self.forward.config.vocabulary;
        let start = self.logits.len();
        let Some(ids) = &self.kept_ids else {
            self.logits.resize(start + count * rows, 0.0);
            return scratch.read(first * rows * 4, &mut self.logits[start..]);
        };
        let mut kept = vec![0.0f32; count * rows];
        scratch.read(first * rows * 4, &mut kept)?;
        self.logits.resize(start + count * vocabulary, f32::NEG_INFINITY);
        for (logits, kept) in self.logits[start..].chunks_mut(vocabulary).zip(kept.chunks(rows)) {
            ids.iter().zip(kept).for_each(|(&id, &logit)| logits[id as usize] = logit);
        }
        Ok(())
    }
}
