//! What comes after the layers: the last normalisation, logits, the draw of tokens.

use rag_core::Result;

use super::super::blas::Element;
use super::super::driver::Kernel;
use super::super::params::{Ahead, Epilogue, LastNorm, Sample};
use super::super::weights::Storage;
use super::few::Job;
use super::{Forward, NORM_EPSILON, Rows, SAMPLE_THREADS};

impl Forward {
    /// Queues the last normalisation of the wanted rows for reading it out: `scratch` [wanted, D] f32.
    pub(in super::super) fn queue_hidden(&self, wanted: usize) -> Result<()> {
        self.queue_last_norm(self.common.last_norm, self.buffers.scratch.at(0), wanted)
    }

    fn queue_last_norm(&self, kernel: Kernel, out: u64, wanted: usize) -> Result<()> {
        let params = LastNorm {
            x: self.buffers.x.at(0),
            wanted: self.control(self.buffers.layout.wanted),
            norm: self.weights().last_norm(),
            out,
            rows: wanted as i32,
            width: self.config.width as i32,
            epsilon: NORM_EPSILON,
        };
        self.launch(kernel, [wanted, 1], self.norm_threads(), 0, &params)
    }

    /// Queues the logits of the wanted rows: `scratch` [wanted, rows of the head] f32.
    pub(in super::super) fn queue_head(&self, wanted: usize) -> Result<()> {
        let few = self.variant == 0
            && wanted <= self.tuning.few_max.max(1)
            && self.few.gemv(self.weights().head.storage, wanted).is_some();
        let (head, x, out) = (&self.weights().head, self.buffers.mixed.at(0), self.buffers.scratch.at(0));
        let dense = matches!(head.storage, Storage::Dense(_));
        let norm = if few && dense && self.few.element == Element::Int8 {
            self.common.last_norm
        } else {
            self.path(few).last_norm
        };
        self.queue_last_norm(norm, x, wanted)?;
        if !few {
            return self.queue_parts(head, x, (out, Element::F32, head.rows), [wanted, 1], false);
        }
        let rows = Rows { rows: wanted, sequences: wanted, single: true, wanted };
        let job = Job::whole(head, x, out, Epilogue::Store);
        self.queue_gemv(&[job], self.config.width, &rows, 0, Ahead::default())
    }

    /// Queues the draw of one token for each wanted row.
    pub(in super::super) fn queue_sample(&self, wanted: usize) -> Result<()> {
        let layout = &self.buffers.layout;
        let params = Sample {
            logits: self.buffers.scratch.at(0),
            draws: self.control(layout.draws),
            penalties: self.control(layout.penalties),
            banned: self.buffers.banned.at(0),
            out: self.buffers.drawn.at(0),
            vocabulary: self.weights().head.rows as i32,
        };
        self.launch(self.common.sample, [wanted, 1], SAMPLE_THREADS, 0, &params)
    }
}
