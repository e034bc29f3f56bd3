//! Adapters of a model on a GPU: sequences under different ones in one call, those of one computed together.

use rag_core::{Error, Result};

use super::super::driver::Memory;
use super::super::weights::Adapter;
use super::{Engine, Piece};
use crate::rwkv::engine::ADAPTERS_MAX;
use crate::rwkv::weights::Weights;
use crate::rwkv::{AdapterId, AdapterScale, Logits};

/// What one piece had to tell.
#[derive(Default)]
struct Told {
    logits: Vec<f32>,
    hidden: Vec<f32>,
    drawn: Vec<u32>,
}

impl Engine {
    /// Adds an adapter; see `Model::adapted`. Sequences under it go through products of many rows.
    ///
    /// # Errors
    /// `Error::Model` for a file that does not fit, or that takes the place of k, v, r or g alone; `Error::Unavailable`
    /// beyond `ADAPTERS_MAX` or where the GPU has no room.
    pub fn add_adapter(
        &mut self,
        weights: &dyn Weights,
        pissa_start: Option<&dyn Weights>,
        scale: AdapterScale,
    ) -> Result<AdapterId> {
        if self.forward.models.len() > ADAPTERS_MAX {
            return Err(Error::Unavailable {
                message: format!("an engine holds {ADAPTERS_MAX} adapters at most"),
            });
        }
        let (dense, pruned) = (self.forward.many.element, self.kept_ids.is_some());
        let (gpu, config) = (self.forward.gpu.clone(), *self.config());
        let adapter = Adapter { gpu: &gpu, config: &config, weights, pissa_start, scale, dense, pruned };
        let model = adapter.apply(&self.forward.models[0])?;
        let room = self.limits.rows * model.rank_max() * dense.bytes();
        if room > self.forward.buffers.delta_low.bytes() {
            // Recordings hold the old address.
            self.recordings.clear();
            self.forward.buffers.delta_low = Memory::new(&gpu, room)?;
        }
        gpu.wait()?;
        self.forward.models.push(model);
        Ok(AdapterId(self.forward.models.len() - 1))
    }

    /// Computes pieces, variant by variant where there are several.
    pub(super) fn run_variants(&mut self, pieces: &[&Piece<'_>]) -> Result<()> {
        let variant = |piece: &Piece<'_>| piece.adapter.map_or(0, |id| id.0);
        let first = pieces.first().map_or(0, |piece| variant(piece));
        assert!(pieces.iter().all(|piece| variant(piece) < self.forward.models.len()), "an unknown adapter");
        if pieces.iter().all(|piece| variant(piece) == first) {
            self.forward.variant = first;
            let done = self.run_one(pieces);
            self.forward.variant = 0;
            return done;
        }
        let mut told: Vec<Told> = pieces.iter().map(|_| Told::default()).collect();
        for index in 0..self.forward.models.len() {
            let (places, members): (Vec<usize>, Vec<&Piece<'_>>) = (pieces.iter().enumerate())
                .filter(|(_, piece)| variant(piece) == index)
                .map(|(place, piece)| (place, *piece))
                .unzip();
            if members.is_empty() {
                continue;
            }
            self.forward.variant = index;
            let done = self.run_one(&members);
            self.forward.variant = 0;
            done?;
            self.split(&places, &members, &mut told);
        }
        self.logits.clear();
        self.hidden.clear();
        self.drawn.clear();
        for Told { logits, hidden, drawn } in told {
            self.logits.extend(logits);
            self.hidden.extend(hidden);
            self.drawn.extend(drawn);
        }
        Ok(())
    }

    /// Gives each piece what it wanted of the last results.
    fn split(&self, places: &[usize], pieces: &[&Piece<'_>], told: &mut [Told]) {
        let (vocabulary, width) = (self.config().vocabulary, self.config().width);
        let (mut logits, mut hidden, mut drawn) = (&*self.logits, &*self.hidden, &*self.drawn);
        for (&place, piece) in places.iter().zip(pieces) {
            let len = piece.tokens.len();
            let [rows, hidden_rows, draws] = match piece.logits {
                Logits::Last if piece.draw.is_some() => [0, 0, 1],
                Logits::Last => [1, 0, 0],
                Logits::All => [len, 0, 0],
                Logits::Hidden => [0, len, 0],
                Logits::None => [0, 0, 0],
            };
            let mut own = Told::default();
            own.logits.extend(logits.split_off(..rows * vocabulary).unwrap_or_default());
            own.hidden.extend(hidden.split_off(..hidden_rows * width).unwrap_or_default());
            own.drawn.extend(drawn.split_off(..draws).unwrap_or_default());
            told[place] = own;
        }
    }
}
