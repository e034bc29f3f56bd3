//! The recurrence over prompts, with all that follows it up to the gate.

use rag_core::Result;

use super::super::params::{Gate, WkvSeq};
use super::super::weights::Vector;
use super::{Forward, GROUP_EPSILON, Rows};
use crate::rwkv::config::Config;

/// As in the kernels.
const GATE_WARPS: usize = 8;
const SEQ_COLUMNS: usize = 16;

impl Forward {
    /// The recurrence over prompts, and the gate.
    pub(super) fn queue_seq(&self, index: usize, rows: &Rows) -> Result<()> {
        let Config { width, heads, head_size, .. } = self.config;
        let (b, n) = (&self.buffers, rows.rows);
        let bytes = self.many.element.bytes();
        let out = b.scratch.at(0);
        let columns = SEQ_COLUMNS.min(head_size);
        let params = WkvSeq {
            inputs: std::array::from_fn(|i| b.part(5 + i, n, bytes)),
            omega: b.omega.at(0),
            decay: self.weights().vector(index, Vector::Decay),
            bonus: self.weights().vector(index, Vector::Bonus),
            normed: b.normed.at(0),
            states: self.states(),
            offsets: self.control(b.layout.offsets),
            shift: self.layer_at(index),
            heads_at: self.layer_at(index) + width as i64,
            out,
            width: width as i32,
            heads: heads as i32,
        };
        let parts = rows.sequences * heads * (head_size / columns);
        let threads = (columns * head_size / 8).max(32);
        self.launch(self.many.seq, [parts, 1], threads, 0, &params)?;
        let gate = Gate {
            o: out,
            g: b.part(8, n, bytes),
            norm: self.weights().norm(index, Vector::GroupNorm),
            out: b.mixed.at(0),
            rows: n as i32,
            width: width as i32,
            heads: heads as i32,
            epsilon: GROUP_EPSILON,
        };
        self.launch(self.many.gate, [(n * heads).div_ceil(GATE_WARPS), 1], GATE_WARPS * 32, 0, &gate)
    }
}
