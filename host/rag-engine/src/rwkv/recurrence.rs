//! Spreads a time mix's recurrence over heads, sequences and threads: a head of a sequence is one task, token by token.

use std::ops::Range;

use super::model::Segment;
use crate::cpu::Parts;
use crate::cpu::product::Cpu;

/// Multiply-adds of recurrence below which another thread costs more than it gives.
const WORK_MIN: usize = 64 * 1024;

/// One token of one head.
pub(super) struct Place<'a> {
    /// Of the head, among the D columns.
    pub(super) columns: Range<usize>,
    /// The same in a buffer [R, D].
    pub(super) at: Range<usize>,
    /// S, moved on by the token.
    pub(super) state: &'a mut [f32],
    /// The head's output, [N].
    pub(super) out: &'a mut [f32],
}

/// Calls `token` for each token of each head of each sequence, the tokens of a head in order; `out` is [R, D].
pub(super) fn run(
    cpu: &Cpu,
    layer: usize,
    segments: &mut [Segment<'_>],
    out: &mut [f32],
    token: impl Fn(Place<'_>) + Sync,
) {
    let Some(first) = segments.first() else { return };
    let (width, size) = (first.state.config().width, first.state.config().head_size);
    let heads = width / size;
    let rows: usize = segments.iter().map(|segment| segment.rows.len()).sum();
    let jobs: Vec<_> = segments
        .iter_mut()
        .map(|segment| (segment.rows.clone(), Parts::new(segment.state.layer(layer).heads)))
        .collect();
    let out = Parts::new(out);
    let work = (rows * size * width / (jobs.len() * heads)).max(1);
    cpu.pool.split(jobs.len() * heads, WORK_MIN / work, |range| {
        for task in range {
            let (ref rows, state) = jobs[task / heads];
            let head = task % heads;
            let columns = head * size..(head + 1) * size;
            // SAFETY: each task is one head of one sequence and belongs to one range.
            let state = unsafe { state.part(head * size * size..(head + 1) * size * size) };
            for row in rows.clone() {
                let at = row * width + columns.start..row * width + columns.end;
                // SAFETY: these columns of this row are this task's alone.
                let out = unsafe { out.part(at.clone()) };
                token(Place { columns: columns.clone(), at, state: &mut *state, out });
            }
        }
    });
}
