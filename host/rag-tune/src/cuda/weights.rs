//! A model's weights on the GPU: frozen matrices as they are packed, and all tensors that may be trained in one row.

use rag_core::Result;
use rag_engine::rwkv::Weights;
use rag_engine::rwkv::cuda::Element;

use super::ops::{Buffer, Ops, View, view};
use crate::adam::{Step, factor};
use crate::cpu::frozen::{Frozen, Values};
use crate::cpu::linear::Adapter;
use crate::cpu::tensors::{Id, Tensors};

/// Tensors begin at multiples of this many values, so that whole vectors can be read.
const ALIGNED: usize = 64;
/// Blocks that add up squares, and so sums that are read back.
const SUMS: usize = 1024;

/// A frozen matrix [rows, cols].
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) rows: usize,
    pub(super) cols: usize,
    values: Buffer,
    /// With the kernel that makes the values dense.
    scales: Option<(Buffer, &'static str)>,
}

impl Matrix {
    pub(super) fn upload(ops: &Ops, frozen: &Frozen) -> Result<Self> {
        let (values, scales) = match frozen.values() {
            Values::F32(values) => (ops.upload(values)?, None),
            Values::Bf16(values) => (ops.upload(values)?, None),
            Values::Int8 { levels, scales } => {
                (ops.upload(levels)?, Some((ops.upload(scales)?, "dense_int8")))
            }
            Values::Nf4 { pairs, scales } => (ops.upload(pairs)?, Some((ops.upload(scales)?, "dense_nf4"))),
        };
        Ok(Self { rows: frozen.rows(), cols: frozen.cols(), values, scales })
    }

    /// In the activations' type, in `scratch` where it is not held so.
    pub(super) fn dense(&self, ops: &Ops, scratch: &Buffer) -> Result<View> {
        let Some((scales, kernel)) = &self.scales else { return Ok(view(self.values.first(), self.cols)) };
        let at = [self.values.first(), scales.first(), scratch.first()];
        ops.map(kernel, self.rows * self.cols, &at, 0, &[])?;
        Ok(view(scratch.first(), self.cols))
    }

    /// Its values as they are held, if they are dense.
    pub(super) fn first(&self) -> u64 {
        self.values.first()
    }
}

/// A matrix with what is trained beside it.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) matrix: Matrix,
    pub(super) adapter: Adapter,
    pub(super) number: u64,
}

/// All tensors, those that are trained last, and of these last those with twice the learning rate.
#[derive(Debug)]
pub(super) struct Arena {
    /// Where a tensor begins, and its values.
    places: Vec<(usize, usize)>,
    trained_from: usize,
    doubled_from: usize,
    end: usize,
    values: Buffer,
    /// In bf16, for products.
    shadow: Buffer,
    act: Element,
    gradients: Buffer,
    moments: [Buffer; 2],
    sums: Buffer,
}

impl Arena {
    pub(super) fn upload(ops: &Ops, tensors: &Tensors) -> Result<Self> {
        let mut places = vec![(0, 0); tensors.list().len()];
        let mut end = 0;
        let mut starts = [0; 3];
        for (class, start) in starts.iter_mut().enumerate() {
            *start = end;
            for (place, tensor) in places.iter_mut().zip(tensors.list()) {
                let its = if tensor.trained { factor(&tensor.name) as usize } else { 0 };
                if its == class {
                    *place = (end, tensor.values.len());
                    end += tensor.values.len().next_multiple_of(ALIGNED);
                }
            }
        }
        let [_, trained_from, doubled_from] = starts;
        let trained = end - trained_from;
        let exact = |values: usize| ops.exact(values);
        let bf16 = ops.upload(&vec![0u16; end])?;
        let arena = Self {
            places,
            trained_from,
            doubled_from,
            end,
            values: exact(end)?,
            shadow: bf16,
            act: ops.act,
            gradients: exact(trained)?,
            moments: [exact(trained)?, exact(trained)?],
            sums: exact(2 * SUMS)?,
        };
        for (&(place, _), tensor) in arena.places.iter().zip(tensors.list()) {
            arena.values.memory.write(place * 4, &tensor.values)?;
        }
        arena.refresh(ops)?;
        Ok(arena)
    }

    /// Makes the copies in bf16 again.
    pub(super) fn refresh(&self, ops: &Ops) -> Result<()> {
        ops.map_any("to_bf16", (self.end, 1), &[self.values.first(), self.shadow.first()], 0, &[])
    }

    /// A tensor in f32.
    pub(super) fn exact(&self, id: Id) -> u64 {
        self.values.at(self.places[id].0)
    }

    /// A tensor in the activations' type, for products.
    pub(super) fn act(&self, id: Id) -> u64 {
        match self.act {
            Element::F32 => self.exact(id),
            _ => self.shadow.at(self.places[id].0),
        }
    }

    /// Where a tensor's gradient is added up; none when it is not trained.
    pub(super) fn gradient(&self, id: Id) -> Option<u64> {
        let place = self.places[id].0.checked_sub(self.trained_from)?;
        (self.places[id].1 > 0).then(|| self.gradients.at(place))
    }

    pub(super) fn gradient_norm(&self, ops: &Ops) -> Result<f64> {
        let at = [self.gradients.first(), self.sums.first()];
        let count = self.end - self.trained_from;
        let n = [count % (1 << 30), count >> 30];
        ops.shaped("squares_any", ([SUMS, 1], 256, 0), &at, &n, &[])?;
        let mut sums = vec![0.0f64; SUMS];
        self.sums.memory.read(0, &mut sums)?;
        Ok(sums.iter().sum::<f64>().sqrt())
    }

    /// Adam's update of all that is trained; clears the gradients.
    pub(super) fn update(&self, ops: &Ops, step: &Step) -> Result<()> {
        let correct = |beta: f64| 1.0 - beta.powf(step.number as f64);
        for (from, to, share) in
            [(self.trained_from, self.doubled_from, 1.0), (self.doubled_from, self.end, 2.0)]
        {
            if from == to {
                continue;
            }
            let trained = from - self.trained_from;
            let [first, second] = &self.moments;
            let at = [
                self.values.at(from),
                self.gradients.at(trained),
                first.at(trained),
                second.at(trained),
                self.shadow.at(from),
            ];
            let lr = step.lr * share;
            let f = [
                step.beta1,
                step.beta2,
                lr / correct(step.beta1),
                (1.0 / correct(step.beta2)).sqrt(),
                step.epsilon,
                step.scale,
                1.0 - lr * step.weight_decay,
            ];
            ops.map_any("adam", (to - from, 1), &at, 0, &f.map(|f| f as f32))?;
        }
        self.gradients.memory.clear(0, (self.end - self.trained_from) * 4)
    }

    /// A trained tensor's values, or its gradient.
    pub(super) fn download(&self, id: Id, part: Part) -> Result<Vec<f32>> {
        let (place, len) = self.places[id];
        let mut values = vec![0.0; len];
        let (memory, place) = self.part(part, place);
        memory.read(place * 4, &mut values)?;
        Ok(values)
    }

    /// Takes over a trained tensor's values or moments; `refresh` follows the last.
    pub(super) fn restore(&self, (id, part): (Id, Part), name: &str, saved: &dyn Weights) -> Result<()> {
        let (place, len) = self.places[id];
        let read = saved.read(name)?;
        if read.len() != len {
            return Err(saved.error(format!("{name} has {} values, not {len}", read.len())));
        }
        let (memory, place) = self.part(part, place);
        memory.write(place * 4, &read)
    }

    fn part(&self, part: Part, place: usize) -> (&rag_engine::rwkv::cuda::Memory, usize) {
        let trained = place.saturating_sub(self.trained_from);
        match part {
            Part::Value => (&self.values.memory, place),
            Part::Gradient => (&self.gradients.memory, trained),
            Part::First => (&self.moments[0].memory, trained),
            Part::Second => (&self.moments[1].memory, trained),
        }
    }
}

/// What there is of a trained tensor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Value,
    Gradient,
    First,
    Second,
}
