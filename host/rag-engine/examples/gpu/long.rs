//! Whether prompts that are cut into runs, side by side, give what the CPU's do.

use rag_engine::rwkv::Logits;
use rag_engine::rwkv::cuda::Piece;

use super::{Outcome, Pair, error, within};

impl Pair {
    /// Prompts long enough to be cut into runs: whole, in parts of which none is, and two of different lengths at once.
    pub(super) fn long(&mut self) -> Outcome {
        let tokens = self.tokens(531, 9);
        let (want, want_state) = self.cpu_logits(&tokens);
        let vocabulary = self.gpu.config().vocabulary;
        let (want, last) = (&want[want.len() - vocabulary..], self.gpu.config().layers - 1);
        let mut text = String::new();
        for each in [531, 300, 100] {
            let mut state = self.start()?;
            let mut got = Vec::new();
            for part in tokens.chunks(each) {
                got = self.gpu.read(part, &mut state)?.ok_or("no logits")?.to_vec();
            }
            let heads = error(state.snapshot()?.heads(last), want_state.heads(last));
            text += &within(&format!("by {each}: logits"), error(&got, want), self.bounds[1])?;
            text += &within(", state", heads, self.bounds[1] * 2.0)?;
            text += "; ";
        }
        let mut states = [self.start()?, self.start()?];
        let mut pieces: Vec<Piece<'_>> = ([&tokens[..290], &tokens[..]].into_iter().zip(&mut states))
            .map(|(tokens, state)| Piece { tokens, state, logits: Logits::Last, draw: None, adapter: None })
            .collect();
        self.gpu.forward(&mut pieces)?;
        let got = self.gpu.logits()[vocabulary..].to_vec();
        text += &within("beside another: logits", error(&got, want), self.bounds[1])?;
        Ok(text)
    }
}
