//! The recurrence over prompts, with all that follows it up to the gate.

use rag_core::Result;

use super::super::params::{Decays, Gate, WkvLink, WkvSeq};
use super::super::weights::Vector;
use super::{Forward, GROUP_EPSILON, Rows};
use crate::rwkv::config::Config;

/// As in the kernels.
const GATE_WARPS: usize = 8;
const SEQ_COLUMNS: usize = 32;
const DECAY_THREADS: usize = 256;
const DECAYS_A_THREAD: usize = 4;
const LINK_THREADS: usize = 256;

/// How sequences are cut.
struct Runs {
    /// Of a sequence, at most.
    runs: usize,
    /// Of a run.
    tokens: usize,
}

impl Forward {
    /// The recurrence over prompts, and the gate.
    pub(super) fn queue_seq(&self, index: usize, rows: &Rows) -> Result<()> {
        let Config { width, heads, head_size, .. } = self.config;
        let (b, n) = (&self.buffers, rows.rows);
        let bytes = self.many.element.bytes();
        let out = b.scratch.at(0);
        let parts = rows.sequences * heads * (head_size / SEQ_COLUMNS.min(head_size));
        // The recurrence's output takes the place of the five inputs; S before each run that of those behind it.
        let starts = out + (n * width * 4) as u64;
        let Runs { runs, tokens } = self.runs(rows, parts);
        let totals = starts + (rows.sequences * runs * width * head_size * 4) as u64;
        self.queue_decays(index, n)?;
        let params = WkvSeq {
            inputs: std::array::from_fn(|i| b.part(5 + i, n, bytes)),
            decays: b.omega.at(0),
            bonus: self.weights().vector(index, Vector::Bonus),
            normed: b.normed.at(0),
            states: self.states(),
            offsets: self.control(b.layout.offsets),
            shift: self.layer_at(index),
            heads_at: self.layer_at(index) + width as i64,
            out,
            starts,
            totals,
            width: width as i32,
            heads: heads as i32,
            runs: runs as i32,
            run_tokens: tokens as i32,
        };
        let threads = (SEQ_COLUMNS.min(head_size) * head_size / 8).max(32);
        if runs > 1 {
            self.launch(self.many.sums, [parts * runs, 1], threads, 0, &params)?;
            let link = WkvLink {
                starts,
                totals,
                states: params.states,
                offsets: params.offsets,
                heads_at: params.heads_at,
                sequences: rows.sequences as i32,
                width: params.width,
                head: head_size as i32,
                runs: params.runs,
                run_tokens: params.run_tokens,
            };
            let blocks = (rows.sequences * width * head_size).div_ceil(LINK_THREADS);
            self.launch(self.common.link, [blocks, 1], LINK_THREADS, 0, &link)?;
        }
        let many = parts * runs > self.gpu.multiprocessors;
        self.launch(self.many.seq[usize::from(many)], [parts * runs, 1], threads, 0, &params)?;
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

    /// Decays in place of what they are made of: once, where each block of a head would make them anew.
    fn queue_decays(&self, index: usize, rows: usize) -> Result<()> {
        let count = rows * self.config.width;
        let params = Decays {
            values: self.buffers.omega.at(0),
            decay: self.weights().vector(index, Vector::Decay),
            count: count as i64,
            width: self.config.width as i32,
        };
        let blocks = count.div_ceil(DECAY_THREADS * DECAYS_A_THREAD);
        self.launch(self.common.decays, [blocks, 1], DECAY_THREADS, 0, &params)
    }

    /// Runs pay where the blocks of whole sequences, `parts`, leave multiprocessors idle.
    fn runs(&self, rows: &Rows, parts: usize) -> Runs {
        let whole = Runs { runs: 1, tokens: rows.rows };
        let tokens = self.tuning.run_tokens;
        if tokens == 0 || rows.rows < 2 * tokens || parts > self.gpu.multiprocessors {
            return whole;
        }
        let Config { width, head_size, .. } = self.config;
        let runs = rows.rows.div_ceil(tokens);
        // Five inputs, less the output in f32.
        let room = rows.rows * width * (5 * self.many.element.bytes()).saturating_sub(4);
        let needed = rows.sequences * runs * width * (head_size + 1) * 4;
        if needed <= room { Runs { runs, tokens } } else { whole }
    }
}
