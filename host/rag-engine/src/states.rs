//! Tuned states that a running language model learns to start from, each as a profile of its own.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use rag_core::{Error, Result};
use sha2::{Digest, Sha256};

use crate::checkpoint;
use crate::generate::{LanguageModel, PROFILES_MAX};
use crate::profile::Profile;
use crate::rwkv::State;

impl LanguageModel {
    /// Whether there is such a profile.
    pub fn has_profile(&self, name: &str) -> bool {
        let profiles = self.profiles.read().unwrap_or_else(PoisonError::into_inner);
        profiles.iter().any(|profile| profile.name == name)
    }

    /// Adds a profile that writes from a tuned state, or replaces the one of this name; sequences that run keep
    /// theirs.
    ///
    /// # Errors
    /// `Error::Model` for a file that is no state of this model, `Error::Conflict` when there are too many profiles.
    pub fn add_state(&self, name: &str, path: &Path) -> Result<()> {
        let state = State::tuned(&*checkpoint::open(path)?, &self.sizes)?;
        let hash = Sha256::digest(state.to_bytes()).into();
        let profile = Profile { name: name.to_owned(), state, adapter: None, hash, read_out: None };
        let mut profiles = self.profiles.write().unwrap_or_else(PoisonError::into_inner);
        profiles.retain(|profile| profile.name != name);
        if profiles.len() >= PROFILES_MAX {
            return Err(Error::Conflict {
                message: format!(
                    "the language model has {PROFILES_MAX} profiles; take a state offline first"
                ),
            });
        }
        profiles.push(Arc::new(profile));
        Ok(())
    }

    /// Forgets a profile; sequences that run keep theirs.
    pub fn remove_profile(&self, name: &str) {
        self.profiles.write().unwrap_or_else(PoisonError::into_inner).retain(|profile| profile.name != name);
    }
}
