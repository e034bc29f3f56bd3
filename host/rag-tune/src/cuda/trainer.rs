//! A model in training on a GPU: batches in, losses out; layer by layer forwards and then backwards.

use rag_core::ports::TuneSettings;
use rag_core::{Error, Result};
use rag_engine::rwkv::cuda::Element;
use rag_engine::rwkv::{Config, Version, Weights};

use super::backward::Back;
use super::buffers::{Carry, Needs, Sizes, Tape, Work};
use super::forward::Layer;
use super::ops::{Buffer, Ops};
use super::weights::{Arena, Linear, Matrix, Part};
use crate::adam::Step;
use crate::cpu::attach::{self, Named};
use crate::cpu::frozen::Precision;
use crate::cpu::linear::Dropout;
use crate::cpu::model::{Batch, Model, Pass};
use crate::cpu::shift::Rows;
use crate::device::{Device, Timing};

/// The recurrence is written for heads of this size, that of every published model.
const HEAD_SIZE: usize = 64;
/// Values of a row that a block can hold.
const WIDTH_MAX: usize = 8192;
/// Parts of a trained tensor that a checkpoint keeps.
const KEPT: [(&str, Part); 3] = [("value", Part::Value), ("first", Part::First), ("second", Part::Second)];

#[derive(Debug)]
pub(super) struct Trainer {
    pub(super) ops: Ops,
    /// Names and places of everything; its frozen matrices are empty.
    pub(super) model: Model,
    pub(super) arena: Arena,
    pub(super) embedding: Matrix,
    pub(super) head: Matrix,
    linears: Vec<Vec<Linear>>,
    pub(super) sizes: Sizes,
    pub(super) pass: Pass,
    pub(super) work: Work,
    /// One a layer, or one for all with checkpointing.
    tapes: Vec<Tape>,
    /// Inputs of all layers, and the last one's output, f32 [R, D].
    pub(super) inputs: Vec<Buffer>,
    before: Vec<Carry>,
    after: Vec<Carry>,
    started_with: usize,
}

/// Whether a model can be trained here at all.
pub(super) fn check(config: &Config, settings: &TuneSettings) -> Result<()> {
    let odd = |what: &str| {
        Err(Error::Unsupported {
            message: format!(
                "{what}: this model can be tuned on the processor only (tuning.device = \"cpu\")"
            ),
        })
    };
    if config.head_size != HEAD_SIZE {
        return odd(&format!(
            "the GPU's kernels are for heads of {HEAD_SIZE}, and this model's have {}",
            config.head_size
        ));
    }
    if config.width > WIDTH_MAX || !config.hidden.is_multiple_of(8) {
        return odd(&format!("{} × {} is no size that the GPU's kernels know", config.width, config.hidden));
    }
    let Version::V6 { mix_rank, decay_rank } = config.version else { return Ok(()) };
    if !mix_rank.is_multiple_of(8) || !decay_rank.is_multiple_of(8) {
        return odd("ranks of mixes that are no multiples of 8");
    }
    if settings.method != rag_core::ports::TuneMethod::State && !settings.rank.is_multiple_of(8) {
        return Err(Error::invalid(format!(
            "on a GPU an adapter's rank is a multiple of 8, not {}",
            settings.rank
        )));
    }
    Ok(())
}

/// All layers' large matrices, eight a layer; the model's own copies are given back one by one.
fn upload_linears(ops: &Ops, model: &mut Model) -> Result<Vec<Vec<Linear>>> {
    let mut linears = Vec::new();
    for (at, (_, linear)) in model.linears().into_iter().enumerate() {
        if at.is_multiple_of(8) {
            linears.push(Vec::with_capacity(8));
        }
        let matrix = Matrix::upload(ops, &linear.frozen)?;
        linear.frozen.release();
        let uploaded = Linear { matrix, adapter: linear.adapter, number: linear.number };
        if let Some(layer) = linears.last_mut() {
            layer.push(uploaded);
        }
    }
    Ok(linears)
}

impl Trainer {
    /// Takes a model over to a GPU.
    pub(super) fn open(
        index: usize,
        mut model: Model,
        settings: &TuneSettings,
        pass: Pass,
        precision: Precision,
    ) -> Result<Self> {
        check(&model.config, settings)?;
        let act = if precision == Precision::F32 { Element::F32 } else { Element::Bf16 };
        let ops = Ops::open(index, act)?;
        let (free, _) = ops.gpu.memory()?;
        let config = model.config;
        let Version::V6 { mix_rank, decay_rank } = config.version else {
            return Err(Error::Unsupported { message: "only RWKV-6 can be tuned".to_owned() });
        };
        let context = settings.context_tokens as usize;
        let sizes = Sizes {
            width: config.width,
            hidden: config.hidden,
            heads: config.heads,
            layers: config.layers,
            vocabulary: model.head.rows(),
            mix: mix_rank,
            decay: decay_rank,
            sequences: settings.micro_batch as usize,
            tokens: pass.chunk_tokens.map_or(context, |chunk| chunk.min(context)),
        };
        let arena = Arena::upload(&ops, &model.tensors)?;
        let embedding = Matrix::upload(&ops, &model.embedding)?;
        let head = Matrix::upload(&ops, &model.head)?;
        model.embedding.release();
        model.head.release();
        let linears = upload_linears(&ops, &mut model)?;
        let dense = matches!(precision, Precision::F32 | Precision::Bf16);
        let needs = Needs {
            dense: if dense { 0 } else { config.width * config.hidden.max(config.width) },
            rank: settings.rank as usize,
            dropout: pass.dropout.share > 0.0,
        };
        let work = Work::new(&ops, &sizes, needs)?;
        let many = |count: usize| (0..count).map(|_| Tape::new(&ops, &sizes)).collect::<Result<Vec<_>>>();
        let tapes = many(if pass.checkpointing { 1 } else { sizes.layers })?;
        let inputs = (0..=sizes.layers).map(|_| ops.exact(sizes.rows() * sizes.width));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let carries = || (0..sizes.layers).map(|_| Carry::new(&ops, &sizes)).collect::<Result<Vec<_>>>();
        let (before, after) = (carries()?, carries()?);
        ops.gpu.wait()?;
        Ok(Self {
            ops,
            model,
            arena,
            embedding,
            head,
            linears,
            sizes,
            pass,
            work,
            tapes,
            inputs,
            before,
            after,
            started_with: free,
        })
    }

    fn layer(&self, layer: usize, rows: Rows, dropout: Dropout) -> Layer<'_> {
        Layer {
            ops: &self.ops,
            arena: &self.arena,
            work: &self.work,
            sizes: &self.sizes,
            block: &self.model.blocks[layer],
            linears: &self.linears[layer],
            rows,
            dropout,
            x: self.inputs[layer].first(),
            tape: &self.tapes[layer % self.tapes.len()],
            before: &self.before[layer],
        }
    }

    /// What layers know at the start of sequences.
    fn start(&self, sequences: usize) -> Result<()> {
        let state = self.sizes.state();
        for (carry, block) in self.before.iter().zip(&self.model.blocks) {
            for shift in [&carry.time_shift, &carry.channel_shift] {
                shift.memory.clear(0, sequences * self.sizes.width * 4)?;
            }
            let at = [self.arena.exact(block.time_mix.state), carry.state.first()];
            self.ops.map_any("repeat", (state, sequences), &at, state, &[])?;
        }
        Ok(())
    }

    fn accumulate_batch(&mut self, batch: &Batch, weight: f32, seed: u64) -> Result<f64> {
        let tokens = batch.tokens.len() / batch.sequences.max(1);
        let each = self.pass.chunk_tokens.unwrap_or(tokens).max(1);
        if batch.sequences > self.sizes.sequences || each.min(tokens) > self.sizes.tokens {
            return Err(Error::internal(format!(
                "a batch of {} × {tokens} tokens is larger than the memory taken for it",
                batch.sequences
            )));
        }
        let dropout = Dropout { seed, ..self.pass.dropout };
        self.start(batch.sequences)?;
        let mut total = 0.0;
        for chunk in self.model.chunks(batch, self.pass.chunk_tokens) {
            total += self.chunk(&chunk, weight, dropout)?;
            std::mem::swap(&mut self.before, &mut self.after);
        }
        Ok(total)
    }

    fn chunk(&self, chunk: &crate::cpu::model::Chunk, weight: f32, dropout: Dropout) -> Result<f64> {
        let rows = chunk.rows;
        self.embed(&chunk.ids, rows)?;
        for layer in 0..self.sizes.layers {
            let out = Some(self.inputs[layer + 1].first());
            self.layer(layer, rows, dropout).forward(out, &self.after[layer])?;
        }
        if chunk.labels.is_empty() {
            return Ok(0.0);
        }
        let total = self.loss(chunk, weight)?;
        let wants_first =
            self.model.first_norm.is_some_and(|norm| self.arena.gradient(norm.weight).is_some());
        for layer in (0..self.sizes.layers).rev() {
            let pass = self.layer(layer, rows, dropout);
            // The tape is still the last layer's when its turn comes.
            if self.pass.checkpointing && layer + 1 < self.sizes.layers {
                pass.forward(None, &self.after[layer])?;
            }
            // Below the first layer there is nothing to train but its own first normalisation.
            let through = layer > 0 || wants_first || self.model.trains_mixes();
            pass.backward(Back {
                from_start: chunk.from_start,
                through,
                states_there: self.pass.checkpointing,
            })?;
        }
        if wants_first {
            self.first_norm_back(&chunk.ids, rows)?;
        }
        // The losses are read once all is queued.
        total.read(self)
    }

    fn trained_ids(&self) -> impl Iterator<Item = (usize, &str)> {
        let tensors = self.model.tensors.list().iter().enumerate();
        tensors.filter(|(_, tensor)| tensor.trained).map(|(id, tensor)| (id, tensor.name.as_str()))
    }
}

impl Device for Trainer {
    fn config(&self) -> &Config {
        &self.model.config
    }

    fn writes(&self, id: u32) -> bool {
        self.model.head_row(id).is_some()
    }

    fn accumulate(&mut self, batch: &Batch, weight: f32, seed: u64) -> Result<f64> {
        self.accumulate_batch(batch, weight, seed)
    }

    fn gradient_norm(&self) -> Result<f64> {
        self.arena.gradient_norm(&self.ops)
    }

    fn gradients(&self) -> Result<Vec<Named>> {
        let named = |(id, name): (usize, &str)| {
            let values = self.arena.download(id, Part::Gradient)?;
            Ok(Named { name: name.to_owned(), shape: vec![values.len()], values })
        };
        self.trained_ids().map(named).collect()
    }

    fn update(&mut self, step: &Step) -> Result<()> {
        self.arena.update(&self.ops, step)
    }

    fn trained(&self) -> Result<Vec<Named>> {
        let mut tensors = self.model.tensors.clone();
        for (id, _) in self.trained_ids() {
            tensors.get_mut(id).values = self.arena.download(id, Part::Value)?;
        }
        Ok(attach::trained(&tensors, self.model.config.head_size))
    }

    fn save(&self) -> Result<Vec<Named>> {
        let mut saved = Vec::new();
        for (id, name) in self.trained_ids() {
            for (part, kind) in KEPT {
                let values = self.arena.download(id, kind)?;
                saved.push(Named { name: format!("{part}.{name}"), shape: vec![values.len()], values });
            }
        }
        Ok(saved)
    }

    fn restore(&mut self, saved: &dyn Weights) -> Result<()> {
        for (id, name) in self.trained_ids() {
            for (part, kind) in KEPT {
                self.arena.restore((id, kind), &format!("{part}.{name}"), saved)?;
            }
        }
        self.arena.refresh(&self.ops)
    }

    fn memory_bytes(&self) -> Option<u64> {
        let (free, _) = self.ops.gpu.memory().ok()?;
        Some(self.started_with.saturating_sub(free) as u64)
    }

    fn start_timing(&mut self) {
        self.ops.start_timing();
    }

    fn timings(&mut self) -> Result<Vec<Timing>> {
        self.ops.timings()
    }
}
