//! The token shift: each row against the row before it, forwards and backwards.

/// B sequences of T tokens each: row b·T + t.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) sequences: usize,
    pub(crate) tokens: usize,
    pub(crate) width: usize,
}

impl Rows {
    pub(crate) fn count(&self) -> usize {
        self.sequences * self.tokens
    }

    /// previous − x, [R, D]; `before` [B, D] stands before each sequence.
    pub(crate) fn differences(&self, x: &[f32], before: &[f32]) -> Vec<f32> {
        let Self { tokens, width, .. } = *self;
        let mut out = vec![0.0; x.len()];
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            let now = &x[row * width..(row + 1) * width];
            let previous = if row % tokens == 0 {
                &before[row / tokens * width..][..width]
            } else {
                &x[(row - 1) * width..row * width]
            };
            out.iter_mut().zip(previous).zip(now).for_each(|((out, p), x)| *out = p - x);
        }
        out
    }

    /// Adds to `by_x` what `by_differences` means for x; nothing flows to `before`.
    pub(crate) fn differences_back(&self, by_differences: &[f32], by_x: &mut [f32]) {
        let Self { tokens, width, .. } = *self;
        for (row, by_x) in by_x.chunks_exact_mut(width).enumerate() {
            let now = &by_differences[row * width..(row + 1) * width];
            by_x.iter_mut().zip(now).for_each(|(by_x, d)| *by_x -= d);
            if row % tokens + 1 < tokens {
                let next = &by_differences[(row + 1) * width..(row + 2) * width];
                by_x.iter_mut().zip(next).for_each(|(by_x, d)| *by_x += d);
            }
        }
    }

    /// The last row of each sequence, [B, D].
    pub(crate) fn last(&self, x: &[f32]) -> Vec<f32> {
        let row = self.tokens * self.width;
        x.chunks_exact(row).flat_map(|sequence| &sequence[row - self.width..]).copied().collect()
    }
}
