//! The kernels that a model needs, looked up once: for few rows with our own products, for many with the library's.

use std::sync::Arc;

use rag_core::Result;

use super::blas::Element;
use super::driver::{Gpu, Kernel};
use super::weights::Storage;
use crate::cpu::matrix::Format;

/// Numbers of inputs that products of few inputs are compiled for.
pub(super) const FEW: [usize; 4] = [1, 2, 4, 8];

/// Kernels whose inputs of products are of one type.
#[derive(Debug)]
pub(super) struct Path {
    /// Of the inputs of products.
    pub(super) element: Element,
    /// Before the time mix's low-rank product, and before the channel mix.
    pub(super) ln_mix: [Kernel; 2],
    /// For one row at a time and for eight.
    pub(super) lerp: [Kernel; 2],
    /// The mixes of many rows, after cuBLAS.
    pub(super) mix_rows: Kernel,
    pub(super) step: Kernel,
    /// The recurrence over prompts, for few blocks and for many.
    pub(super) seq: [Kernel; 2],
    /// What runs of long prompts add to the state.
    pub(super) sums: Kernel,
    pub(super) gate: Kernel,
    pub(super) combine: Kernel,
    pub(super) squares: Kernel,
    pub(super) tanh: Kernel,
    pub(super) sigmoid: Kernel,
    /// RWKV-7's.
    pub(super) ln_mix7: Kernel,
    pub(super) step7: Kernel,
    pub(super) seq7: Kernel,
    pub(super) last_norm: Kernel,
    /// By the weights' storage, then by the number of inputs as in `FEW`.
    gemv: Vec<(Storage, [Kernel; 4])>,
}

impl Path {
    /// `inputs` is the type that the recurrence of single tokens reads, `low` that of the low-rank weights; `storages`
    /// are those of all matrices.
    pub(super) fn load(
        gpu: &Arc<Gpu>,
        [element, inputs, low]: [Element; 3],
        head_size: usize,
        storages: &[Storage],
    ) -> Result<Self> {
        let [e, i, l] = [element, inputs, low].map(name_of);
        // Low-rank weights are dense: their inputs are not int8, nor is anything of many rows.
        let dense = if element == Element::Int8 { "f32" } else { e };
        let mut gemv = Vec::new();
        for &storage in storages {
            let Some(weights) = weights_name(storage, element) else { continue };
            let mut kernels = Vec::with_capacity(FEW.len());
            for inputs in FEW {
                kernels.push(gpu.kernel(&format!("gemv_{weights}_{inputs}"))?);
            }
            if let Ok(kernels) = kernels.try_into() {
                gemv.push((storage, kernels));
            }
        }
        Ok(Self {
            element,
            ln_mix: [gpu.kernel(&format!("ln_mix_{dense}"))?, gpu.kernel(&format!("ln_mix_{e}"))?],
            lerp: [gpu.kernel(&format!("lerp1_{l}_{e}"))?, gpu.kernel(&format!("lerp8_{l}_{e}"))?],
            mix_rows: gpu.kernel(&format!("mix_rows_{dense}"))?,
            step: gpu.kernel(&format!("wkv_step{head_size}_{i}_{e}_{l}"))?,
            seq: [
                gpu.kernel(&format!("wkv_seq{head_size}_{dense}"))?,
                gpu.kernel(&format!("wkv_many{head_size}_{dense}"))?,
            ],
            sums: gpu.kernel(&format!("wkv_sums{head_size}_{dense}"))?,
            gate: gpu.kernel(&format!("gate{head_size}_{dense}"))?,
            combine: gpu.kernel(&format!("combine_{dense}"))?,
            squares: gpu.kernel(&format!("squared_positive_{dense}"))?,
            tanh: gpu.kernel(&format!("tanh_{dense}"))?,
            sigmoid: gpu.kernel(&format!("sigmoid_{dense}"))?,
            ln_mix7: gpu.kernel(&format!("ln_mix7_{e}"))?,
            step7: gpu.kernel(&format!("wkv7_step_{i}_{e}_{l}"))?,
            seq7: gpu.kernel(&format!("wkv7_seq_{dense}"))?,
            last_norm: gpu.kernel(&format!("last_norm_{e}"))?,
            gemv,
        })
    }

    /// For weights of this storage and so many inputs; none where the library is to be used.
    pub(super) fn gemv(&self, storage: Storage, inputs: usize) -> Option<Kernel> {
        let size = FEW.iter().position(|&few| inputs <= few)?;
        let (_, kernels) = self.gemv.iter().find(|(known, _)| *known == storage)?;
        Some(kernels[size])
    }
}

fn name_of(element: Element) -> &'static str {
    match element {
        Element::F32 => "f32",
        Element::Bf16 => "bf16",
        Element::F16 => "f16",
        Element::Int8 => "int8",
    }
}

/// What kernels are called by their weights and inputs, where there are some.
fn weights_name(storage: Storage, inputs: Element) -> Option<&'static str> {
    match (storage, inputs) {
        (Storage::Dense(Element::F32), Element::F32) => Some("f32_f32"),
        (Storage::Dense(Element::Bf16), Element::Bf16) => Some("bf16_bf16"),
        (Storage::Dense(Element::Bf16), Element::Int8) => Some("bf16_f32"),
        (Storage::Quantised(format), Element::Int8) => match format {
            Format::F32 => None,
            Format::Int8 => Some("int8_int8"),
            Format::Int4 => Some("int4_int8"),
            Format::Nf4 => Some("nf4_int8"),
        },
        _ => None,
    }
}

/// Kernels that do not depend on the type of inputs.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) embed: Kernel,
    pub(super) sample: Kernel,
    pub(super) decays: Kernel,
    pub(super) link: Kernel,
    /// The last normalisation as it is read out, f32.
    pub(super) last_norm: Kernel,
    pub(super) dequantise: [Kernel; 3],
}

impl Common {
    pub(super) fn load(gpu: &Arc<Gpu>, embedding: Element) -> Result<Self> {
        Ok(Self {
            embed: gpu.kernel(&format!("embed_{}", name_of(embedding)))?,
            sample: gpu.kernel("sample_rows")?,
            decays: gpu.kernel("wkv_decays")?,
            link: gpu.kernel("wkv_link")?,
            last_norm: gpu.kernel("last_norm_f32")?,
            dequantise: [
                gpu.kernel("dequantise_int8")?,
                gpu.kernel("dequantise_int4")?,
                gpu.kernel("dequantise_nf4")?,
            ],
        })
    }

    pub(super) fn dequantise(&self, format: Format) -> Kernel {
        match format {
            Format::Int8 | Format::F32 => self.dequantise[0],
            Format::Int4 => self.dequantise[1],
            Format::Nf4 => self.dequantise[2],
        }
    }
}
