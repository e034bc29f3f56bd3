//! Writes a base model and what was tuned on it as one model.
//!
//! - Every tensor of the result that the base has too replaces the base's.
//! - LoRA: W ← Q(W) + α/r · B A. PiSSA: W ← Q(W − B₀A₀) + B A. Bone: W[o, q·r + i] ← Q(W)[o, q·r + i] + D[i, o].
//!   Q is the way through the precision that the base had in training.
//! - A state is added as it is: its model starts from it.

use std::path::Path;

use ndarray::s;
use rag_core::ports::{TuneMethod, TuneSettings};
use rag_core::{Error, Result};
use rag_engine::checkpoint;
use rag_engine::inspect::file_sha256;
use rag_engine::rwkv::{Config, Version, Weights};

use crate::cpu::frozen::{Frozen, Precision};
use crate::cpu::linalg::{product, view, view_mut};
use crate::cpu::load;
use crate::files::{Container, Planned, Type};
use crate::saved::WithoutPrefix;
use crate::sidecar::Sidecar;

/// Writes `base` with `result` merged in to `output`, in bf16, as `.pth` or safetensors by its ending. `result` needs
/// its sidecar, and PiSSA's first factors, beside it.
///
/// # Errors
/// `Conflict` when `result` belongs to another base, `Unsupported` for a base that left out rows of its tables,
/// `Model` for files that do not fit each other.
pub fn merge(base: &Path, result: &Path, output: &Path) -> Result<()> {
    merge_as(base, result, output, Type::Bf16)
}

pub(crate) fn merge_as(base: &Path, result: &Path, output: &Path, kind: Type) -> Result<()> {
    let sidecar = Sidecar::read(result)?;
    if file_sha256(base)? != sidecar.base_sha256 {
        return Err(Error::Conflict {
            message: format!(
                "{} was tuned on another model ({}), not on {}",
                result.display(),
                sidecar.base,
                base.display()
            ),
        });
    }
    let weights = checkpoint::open(base)?;
    if weights.kept_ids()?.is_some() {
        return Err(Error::Unsupported {
            message: "this base left out rows of its vocabulary and cannot be written as a whole model: use the result beside it, or tune the full checkpoint".to_owned(),
        });
    }
    let config = Config::read(&*weights)?;
    let start = match &sidecar.pissa_start {
        Some(name) => Some(WithoutPrefix(checkpoint::open(&result.with_file_name(name))?)),
        None => None,
    };
    let merged = Merged {
        base: &*weights,
        config,
        result: checkpoint::open(result)?,
        start,
        settings: (&sidecar.settings).into(),
    };
    let planned = merged.planned(kind)?;
    let container = output.extension().and_then(|ending| Container::parse(&ending.to_string_lossy()));
    let container = container.unwrap_or(Container::Pth);
    container.write(output, &planned, &[("format".to_owned(), "pt".to_owned())], |number| {
        merged.values(&planned[number])
    })
}

struct Merged<'a> {
    base: &'a dyn Weights,
    config: Config,
    result: Box<dyn Weights>,
    start: Option<WithoutPrefix>,
    settings: TuneSettings,
}

impl Merged<'_> {
    fn planned(&self, kind: Type) -> Result<Vec<Planned>> {
        let mut planned = Vec::new();
        let vectors = [
            "time_maa_x",
            "time_maa_w",
            "time_maa_k",
            "time_maa_v",
            "time_maa_r",
            "time_maa_g",
            "time_decay",
        ];
        for name in self.base.names() {
            let mut shape = self.base.shape(&name).unwrap_or_default();
            if vectors.iter().any(|vector| name.ends_with(vector)) {
                // As public checkpoints have them.
                shape = vec![1, 1, shape.iter().product()];
            }
            planned.push(Planned { name, shape, kind });
        }
        if self.settings.method == TuneMethod::State {
            let Config { layers, heads, head_size, .. } = self.config;
            planned.retain(|tensor| !tensor.name.ends_with("time_state"));
            planned.extend((0..layers).map(|layer| Planned {
                name: format!("blocks.{layer}.att.time_state"),
                shape: vec![heads, head_size, head_size],
                kind,
            }));
        }
        Ok(planned)
    }

    fn values(&self, tensor: &Planned) -> Result<Vec<f32>> {
        let Planned { name, shape, .. } = tensor;
        if self.result.shape(name).is_some() {
            let values = self.result.read(name)?;
            if values.len() != shape.iter().product::<usize>() {
                return Err(self.result.error(format!("{name} does not fit the base's {shape:?}")));
            }
            return Ok(values);
        }
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        let adapted =
            ["lora_A", "disha"].iter().any(|part| self.result.shape(&format!("{stem}.{part}")).is_some());
        match *shape.as_slice() {
            [out, input] if adapted => self.adapted(name, stem, [out, input]),
            [out, input] if self.is_large(name) => load::matrix(self.base, name, [out, input]),
            _ => self.plain(name, shape),
        }
    }

    fn is_large(&self, name: &str) -> bool {
        name.ends_with(".weight")
    }

    /// A small tensor in its public orientation; packed bases have the low-rank ones turned.
    fn plain(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let parts = if name.ends_with("time_maa_w2") { 5 } else { 1 };
        let low_rank = ["time_maa_w1", "time_maa_w2", "time_decay_w1", "time_decay_w2"];
        if !low_rank.iter().any(|part| name.ends_with(part)) {
            return self.base.read(name);
        }
        let Version::V6 { .. } = self.config.version else { return self.base.read(name) };
        load::low_rank(self.base, name, shape, parts)
    }

    fn adapted(&self, name: &str, stem: &str, [out, input]: [usize; 2]) -> Result<Vec<f32>> {
        let precision = Precision::parse(&self.settings.precision).unwrap_or(Precision::F32);
        let mut dense = load::matrix(self.base, name, [out, input])?;
        let part = |part: &str| self.result.read(&format!("{stem}.{part}"));
        let fits = |values: &[f32], len: usize| match values.len() == len {
            true => Ok(()),
            false => Err(self.result.error(format!("what was tuned for {name} does not fit it"))),
        };
        let rank = self.settings.rank as usize;
        if self.settings.method == TuneMethod::Bone {
            let d = part("disha")?;
            fits(&d, rank * out)?;
            dense = precision.round(&dense);
            let d = view(&d, rank, out);
            let mut dense_view = view_mut(&mut dense, out, input);
            for first in (0..input).step_by(rank) {
                let cols = rank.min(input - first);
                let mut block = dense_view.slice_mut(s![.., first..first + cols]);
                block += &d.slice(s![..cols, ..]).t();
            }
            return Ok(dense);
        }
        let (a, mut b) = (part("lora_A")?, part("lora_B")?);
        fits(&a, rank * input)?;
        fits(&b, out * rank)?;
        match (&self.start, self.settings.method) {
            (Some(start), TuneMethod::Pissa) => {
                let names = [format!("{stem}.init_lora_A"), format!("{stem}.init_lora_B")];
                let [a0, b0] = [start.read(&names[0])?, start.read(&names[1])?];
                let mut rest = Frozen::pack(&dense, out, input, Precision::F32);
                rest.subtract(&b0, &a0);
                dense = precision.round(&rest.dense());
            }
            _ => {
                dense = precision.round(&dense);
                let scale = (self.settings.alpha / rank as f64) as f32;
                b.iter_mut().for_each(|value| *value *= scale);
            }
        }
        let a = view(&a, rank, input);
        product(view(&b, out, rank), a, 1.0, view_mut(&mut dense, out, input));
        Ok(dense)
    }
}
