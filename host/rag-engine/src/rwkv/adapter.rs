//! Adapters: what LoRA, PiSSA or bone training made of a model, used on the fly beside the model as it is.
//!
//! A file in RWKV-PEFT's naming holds, for some linear layers, `NAME.lora_A` [rank, in] and `NAME.lora_B` [out, rank],
//! and new values of any other tensors. LoRA computes W x + α/rank · B (A x). PiSSA trained W − B₀A₀ and B A, so that
//! on the unchanged W the change is B A − B₀A₀: one adapter of twice the rank. A₀ and B₀ are in `init_pissa.pth`, as
//! `NAME.init_lora_A` and `_B`, with or without `model.` before them. DiSHA ("bone") has one `NAME.disha` D [rank, out]:
//! it adds Dᵀ times the sum of the input's pieces of `rank` values, which is B = Dᵀ and an A of unit matrices side by side.

use std::collections::BTreeSet;
use std::sync::Arc;

use rag_core::Result;

use super::linear::Delta;
use super::model::Model;
use super::weights::{Formats, Slot, Weights, read_slot};
use crate::cpu::matrix::{Format, Matrix};

/// Checkpoints do not say it: α of LoRA. PiSSA has none, its scale is 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AdapterScale {
    /// Scale α / rank.
    Alpha(f32),
    One,
}

impl Model {
    /// This model under an adapter. Matrices that the adapter leaves alone, or changes by low rank, are shared.
    ///
    /// # Errors
    /// `Error::Model` when a tensor fits nothing in this model, has another shape, or lacks its other half.
    pub fn adapted(
        &self,
        adapter: &dyn Weights,
        pissa_start: Option<&dyn Weights>,
        scale: AdapterScale,
    ) -> Result<Self> {
        let mut model = self.clone();
        let mut left: BTreeSet<String> = adapter.names().into_iter().collect();
        let found = left.clone();
        let config = self.config;
        let formats = Formats::of(Format::F32);
        model.parameters.tensors(&config, &mut |name, mut slot| {
            if found.contains(name) {
                read_slot(adapter, &config, &formats, name, reborrow(&mut slot))?;
                left.remove(name);
            }
            let Slot::Matrix { linear, size, .. } = slot else { return Ok(()) };
            let Some(stem) = name.strip_suffix(".weight") else { return Ok(()) };
            let Some(delta) = Halves::of(adapter, pissa_start, scale, stem, size)? else { return Ok(()) };
            linear.delta = Some(Arc::new(delta.into()));
            Halves::taken(stem, &mut left);
            Ok(())
        })?;
        nothing_left(adapter, &left)?;
        Ok(model)
    }
}

/// `Error::Model` when tensors of an adapter found no place.
pub(super) fn nothing_left(adapter: &dyn Weights, left: &BTreeSet<String>) -> Result<()> {
    let Some(name) = left.first() else { return Ok(()) };
    Err(adapter.error(format!("{} of its tensors fit nothing in this model, e.g. {name}", left.len())))
}

fn reborrow<'a>(slot: &'a mut Slot<'_>) -> Slot<'a> {
    match slot {
        Slot::Vector(vector) => Slot::Vector(vector),
        Slot::Matrix { linear, kind, part, size } => {
            Slot::Matrix { linear, kind: *kind, part: *part, size: *size }
        }
    }
}

/// Names of A₀ and B₀ as this file has them.
fn start_names(start: &dyn Weights, stem: &str) -> [String; 2] {
    let prefixed = start.shape(&format!("model.{stem}.init_lora_A")).is_some();
    let prefix = if prefixed { "model." } else { "" };
    ["A", "B"].map(|half| format!("{prefix}{stem}.init_lora_{half}"))
}

fn disha_name(stem: &str) -> String {
    format!("{stem}.disha")
}

/// A and B of one layer.
pub(super) struct Halves {
    /// Rows of A, of length `in`.
    pub(super) down: Vec<Vec<f32>>,
    /// Rows of B, of length `rank`.
    pub(super) up: Vec<Vec<f32>>,
}

impl Halves {
    /// What an adapter adds to the layer `stem` of `size` [out, in]: B A with its scale, less what PiSSA started from.
    pub(super) fn of(
        adapter: &dyn Weights,
        pissa_start: Option<&dyn Weights>,
        scale: AdapterScale,
        stem: &str,
        size: [usize; 2],
    ) -> Result<Option<Self>> {
        let (names, disha) = (Self::names(stem), disha_name(stem));
        let low_rank = names.iter().any(|name| adapter.shape(name).is_some());
        let mut delta = match (low_rank, adapter.shape(&disha).is_some()) {
            (false, false) => return Ok(None),
            (false, true) => return Halves::blocks(adapter, &disha, size).map(Some),
            (true, false) => Halves::read(adapter, &names, size)?,
            (true, true) => {
                return Err(adapter.error(format!("it has both {} and {disha}: a layer takes one", names[0])));
            }
        };
        let scale = match scale {
            AdapterScale::Alpha(alpha) => alpha / delta.rank() as f32,
            AdapterScale::One => 1.0,
        };
        delta.up.iter_mut().flatten().for_each(|value| *value *= scale);
        if let Some(start) = pissa_start {
            delta.subtract(Halves::read(start, &start_names(start, stem), size)?);
        }
        Ok(Some(delta))
    }

    /// Removes the tensors of `of` from the names that have no place yet.
    pub(super) fn taken(stem: &str, left: &mut BTreeSet<String>) {
        for name in Self::names(stem).iter().chain([&disha_name(stem)]) {
            left.remove(name);
        }
    }

    fn names(stem: &str) -> [String; 2] {
        ["A", "B"].map(|half| format!("{stem}.lora_{half}"))
    }

    /// DiSHA's one matrix D [rank, out] as two.
    fn blocks(weights: &dyn Weights, name: &str, [out, input]: [usize; 2]) -> Result<Self> {
        let values = weights.read(name)?;
        let rank = values.len() / out.max(1);
        if rank == 0 || rank > input || rank * out != values.len() {
            let shape = weights.shape(name).unwrap_or_default();
            return Err(weights.error(format!("{name} {shape:?} is no change to a {out} × {input} matrix")));
        }
        let unit = |row: usize| (0..input).map(|column| f32::from(column % rank == row)).collect();
        let up = |row: usize| (0..rank).map(|i| values[i * out + row]).collect();
        Ok(Self { down: (0..rank).map(unit).collect(), up: (0..out).map(up).collect() })
    }

    fn read(weights: &dyn Weights, [a, b]: &[String; 2], [out, input]: [usize; 2]) -> Result<Self> {
        let shape = |name: &str| weights.shape(name).unwrap_or_default();
        let rows = |name: &str, cols: usize| -> Result<Vec<Vec<f32>>> {
            Ok(weights.read(name)?.chunks(cols.max(1)).map(<[f32]>::to_vec).collect())
        };
        let (down, up) = (rows(a, input)?, rows(b, shape(b).last().copied().unwrap_or(0))?);
        let rank = down.len();
        // An axis of size 1 in front is dropped from shapes: lengths tell what they would.
        let fits = rank > 0
            && up.len() == out
            && down.iter().all(|row| row.len() == input)
            && up.iter().all(|row| row.len() == rank);
        if !fits {
            let (a_shape, b_shape) = (shape(a), shape(b));
            return Err(weights.error(format!(
                "{a} {a_shape:?} and {b} {b_shape:?} are no change to a {out} × {input} matrix"
            )));
        }
        Ok(Self { down, up })
    }

    pub(super) fn rank(&self) -> usize {
        self.down.len()
    }

    /// Makes it B A − B₀ A₀.
    fn subtract(&mut self, start: Halves) {
        self.down.extend(start.down);
        for (row, start) in self.up.iter_mut().zip(start.up) {
            row.extend(start.into_iter().map(|value| -value));
        }
    }
}

impl From<Halves> for Delta {
    fn from(halves: Halves) -> Self {
        let (rank, out) = (halves.down.len(), halves.up.len());
        let (down, up) = (halves.down.concat(), halves.up.concat());
        let input = down.len() / rank;
        Delta {
            down: Matrix::pack(&down, rank, input, Format::F32),
            up: Matrix::pack(&up, out, rank, Format::F32),
        }
    }
}
