//! What a sequence has read, in a GPU's memory.

use std::sync::Arc;

use rag_core::Result;

use super::driver::{Gpu, Memory};
use crate::rwkv::State;
use crate::rwkv::config::Config;

/// The state of one sequence on a GPU: the same values in the same order as `State`.
#[derive(Debug)]
pub struct DeviceState {
    memory: Memory,
    config: Config,
}

impl DeviceState {
    /// Zero. `Error::Unavailable` when the GPU has no room.
    pub(super) fn new(gpu: &Arc<Gpu>, config: &Config) -> Result<Self> {
        Ok(Self { memory: Memory::new(gpu, config.state_len() * 4)?, config: *config })
    }

    pub(super) fn at(&self) -> u64 {
        self.memory.at(0)
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Takes over a saved past.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        assert_eq!(*state.config(), self.config, "a state of another model");
        self.memory.write(0, state.values())
    }

    /// A copy in the host's memory: what `restore` takes up to the bit.
    pub fn snapshot(&self) -> Result<State> {
        let mut state = State::zero(&self.config);
        self.memory.read(0, state.values_mut())?;
        Ok(state)
    }
}
