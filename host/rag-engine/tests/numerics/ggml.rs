//! Reads the rwkv.cpp files of the oracle: f32 and Q5_1 tensors.

use std::collections::BTreeMap;
use std::path::Path;

use rag_core::{Error, Result};
use rag_engine::rwkv::Weights;

pub(crate) struct GgmlFile {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl GgmlFile {
    pub(crate) fn open(path: &Path) -> Self {
        let bytes = fs_err::read(path).unwrap();
        let mut at = 24;
        let mut tensors = BTreeMap::new();
        while at < bytes.len() {
            let mut int = || {
                at += 4;
                i32::from_le_bytes(bytes[at - 4..at].try_into().unwrap()) as usize
            };
            let (axes, name_len, dtype) = (int(), int(), int());
            // Sizes come fastest axis first.
            let mut shape: Vec<usize> = (0..axes).map(|_| int()).collect();
            shape.reverse();
            let name = String::from_utf8(bytes[at..at + name_len].to_vec()).unwrap();
            at += name_len;
            let len: usize = shape.iter().product();
            let values: Vec<f32> = match dtype {
                0 => bytes[at..at + 4 * len].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                8 => bytes[at..at + 24 * len / 32].as_chunks().0.iter().flat_map(q5_1).collect(),
                other => panic!("type {other} of {name}"),
            };
            at += if dtype == 0 { 4 * len } else { 24 * len / 32 };
            if let Some(layer) = name.strip_suffix("x_rwkvag") {
                // The six shares of RWKV-7 in one tensor.
                for (part, values) in ["r", "w", "k", "v", "a", "g"].iter().zip(values.chunks(len / 6)) {
                    tensors.insert(format!("{layer}x_{part}"), (vec![len / 6], values.to_vec()));
                }
                continue;
            }
            let (shape, values) = canonical(&name, shape, values);
            tensors.insert(name, (shape, values));
        }
        Self { tensors }
    }
}

/// 32 weights: scale and minimum in half precision, 32 fifth bits, 32 nibbles.
fn q5_1(block: &[u8; 24]) -> [f32; 32] {
    let half = |at: usize| {
        let bits = u16::from_le_bytes([block[at], block[at + 1]]);
        // Only normal numbers and zero occur.
        if bits & 0x7fff == 0 {
            return 0.0;
        }
        let exponent = i32::from(bits >> 10 & 31) - 15;
        let magnitude = (1.0 + f32::from(bits & 1023) / 1024.0) * 2f32.powi(exponent);
        if bits >> 15 == 1 { -magnitude } else { magnitude }
    };
    let (scale, minimum) = (half(0), half(2));
    let fifth = u32::from_le_bytes(block[4..8].try_into().unwrap());
    std::array::from_fn(|i| {
        let nibble = block[8 + i % 16] >> (i / 16 * 4) & 15;
        let level = u32::from(nibble) | (fifth >> i & 1) << 4;
        scale * level as f32 + minimum
    })
}

/// rwkv.cpp stores the low-rank matrices transposed.
fn canonical(name: &str, mut shape: Vec<usize>, values: Vec<f32>) -> (Vec<usize>, Vec<f32>) {
    if name.ends_with("time_faaaa") {
        shape.pop();
    }
    let low_rank = [
        "time_maa_w1",
        "time_maa_w2",
        "time_decay_w1",
        "time_decay_w2",
        "att.w1",
        "att.w2",
        "att.a1",
        "att.a2",
        "att.g1",
        "att.g2",
        "att.v1",
        "att.v2",
    ];
    if !low_rank.iter().any(|part| name.ends_with(part)) {
        return (shape, values);
    }
    let axes = shape.len();
    let (rows, cols) = (shape[axes - 2], shape[axes - 1]);
    shape.swap(axes - 2, axes - 1);
    let transposed = values
        .chunks(rows * cols)
        .flat_map(|slice| (0..cols * rows).map(move |i| slice[i % rows * cols + i / rows]))
        .collect();
    (shape, transposed)
}

impl Weights for GgmlFile {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|tensor| tensor.0.clone())
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.tensors.get(name).ok_or_else(|| self.error(format!("no tensor {name}")))?;
        Ok(tensor.1.clone())
    }

    fn error(&self, message: String) -> Error {
        Error::Model { path: "oracle".to_string(), message }
    }
}
