//! A model under an adapter, on a GPU: what the adapter leaves alone, or changes by low rank, is shared with the model.

use std::collections::BTreeSet;
use std::sync::Arc;

use rag_core::Result;

use super::super::blas::Element;
use super::super::driver::{Gpu, Memory};
use super::{
    Choice, Delta, Loader, Matrix, ModelWeights, Source, bf16_bits, low_ranks, projections, vector_names,
};
use crate::cpu::matrix::Format;
use crate::rwkv::adapter::{AdapterScale, Halves, nothing_left};
use crate::rwkv::config::Config;
use crate::rwkv::weights::{Formats, Kind, Weights};

/// Everything that reading an adapter needs.
pub(in super::super) struct Adapter<'a> {
    pub(in super::super) gpu: &'a Arc<Gpu>,
    pub(in super::super) config: &'a Config,
    pub(in super::super) weights: &'a dyn Weights,
    pub(in super::super) pissa_start: Option<&'a dyn Weights>,
    pub(in super::super) scale: AdapterScale,
    /// Of matrices that are not quantised.
    pub(in super::super) dense: Element,
    /// Whether rows of the tables were left out.
    pub(in super::super) pruned: bool,
}

impl Adapter<'_> {
    /// `base` under this adapter; see `Model::adapted`.
    pub(in super::super) fn apply(&self, base: &ModelWeights) -> Result<ModelWeights> {
        let Config { width, hidden, vocabulary, .. } = *self.config;
        let mut left: BTreeSet<String> = self.weights.names().into_iter().collect();
        let mut model = base.clone();
        self.vectors(&mut model, &mut left)?;
        let square = [width, width];
        for (index, layer) in model.layers.iter_mut().enumerate() {
            let att = |part: &str| format!("blocks.{index}.att.{part}");
            let ffn = |part: &str| format!("blocks.{index}.ffn.{part}");
            for (matrix, part) in layer.low.iter_mut().zip(low_ranks(self.config, index)) {
                let name = att(part.name);
                if left.remove(&name) {
                    *matrix = self.loader().low_rank(&name, part.size, part.turned)?;
                }
            }
            for (part, name) in projections(self.config).iter().enumerate() {
                if left.contains(&format!("{}.weight", att(name))) {
                    return Err(self.weights.error(format!(
                        "a GPU does not take the place of {} alone: merge the adapter, or set models.device to cpu",
                        att(name)
                    )));
                }
                self.change(&mut layer.projections, part * width, &att(name), square, &mut left)?;
            }
            self.replace(&mut layer.output, &att("output"), square, Kind::Output, &mut left)?;
            self.replace(&mut layer.key, &ffn("key"), [hidden, width], Kind::ChannelMix, &mut left)?;
            if let Some(gate) = &mut layer.receptance {
                self.replace(gate, &ffn("receptance"), square, Kind::ChannelMix, &mut left)?;
            }
            self.replace(&mut layer.value, &ffn("value"), [width, hidden], Kind::ChannelMix, &mut left)?;
        }
        if !self.pruned {
            let table = [vocabulary, width];
            self.replace(&mut model.head, "head", table, Kind::Head, &mut left)?;
            self.replace(&mut model.embedding, "emb", table, Kind::Embedding, &mut left)?;
        }
        nothing_left(self.weights, &left)?;
        Ok(model)
    }

    fn loader(&self) -> Loader<'_> {
        Loader {
            gpu: self.gpu,
            source: Source::File(self.weights),
            choice: Choice { formats: Formats::of(Format::F32), dense: self.dense },
            config: self.config,
            kept: None,
            made: 0,
        }
    }

    /// New values of norms, mixes and decays.
    fn vectors(&self, model: &mut ModelWeights, left: &mut BTreeSet<String>) -> Result<()> {
        let names = vector_names(self.config, model.has_first_norm);
        if names.iter().all(|name| !left.contains(name)) {
            return Ok(());
        }
        let mut all = vec![0.0f32; names.len() * model.width];
        model.vectors.read(0, &mut all)?;
        for (name, place) in names.iter().zip(all.chunks_mut(model.width)) {
            // The last norm may stand for a first one that is not there.
            if self.weights.shape(name).is_none() {
                continue;
            }
            left.remove(name);
            let values = self.weights.read(name)?;
            if values.len() != place.len() {
                let (got, want) = (values.len(), place.len());
                return Err(self.weights.error(format!("{name} has {got} values instead of {want}")));
            }
            place.copy_from_slice(&values);
        }
        model.vectors = Arc::new(Memory::of(self.gpu, &all)?);
        Ok(())
    }

    /// A new matrix where there is one, and what is added to it.
    fn replace(
        &self,
        matrix: &mut Matrix,
        stem: &str,
        size: [usize; 2],
        kind: Kind,
        left: &mut BTreeSet<String>,
    ) -> Result<()> {
        let name = format!("{stem}.weight");
        if left.remove(&name) {
            *matrix = self.loader().matrix(&[&name], size, kind)?;
        }
        if kind == Kind::Embedding { Ok(()) } else { self.change(matrix, 0, stem, size, left) }
    }

    /// A change of low rank to the rows from `first_row` on.
    fn change(
        &self,
        matrix: &mut Matrix,
        first_row: usize,
        stem: &str,
        size: [usize; 2],
        left: &mut BTreeSet<String>,
    ) -> Result<()> {
        let halves = Halves::of(self.weights, self.pissa_start, self.scale, stem, size)?;
        let Some(halves) = halves else { return Ok(()) };
        Halves::taken(stem, left);
        matrix.deltas.push(Delta {
            first_row,
            rows: size[0],
            rank: halves.rank(),
            down: self.dense_memory(&halves.down.concat())?,
            up: self.dense_memory(&halves.up.concat())?,
        });
        Ok(())
    }

    fn dense_memory(&self, values: &[f32]) -> Result<Arc<Memory>> {
        let memory = match self.dense {
            Element::F32 => Memory::of(self.gpu, values)?,
            Element::Bf16 | Element::F16 | Element::Int8 => {
                let halves: Vec<u16> = values.iter().map(|&value| bf16_bits(value)).collect();
                Memory::of(self.gpu, &halves)?
            }
        };
        Ok(Arc::new(memory))
    }
}

impl ModelWeights {
    /// The largest rank of what an adapter adds.
    pub(in super::super) fn rank_max(&self) -> usize {
        self.matrices().flat_map(|matrix| &matrix.deltas).map(|delta| delta.rank).max().unwrap_or(0)
    }
}
