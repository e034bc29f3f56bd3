//! Which components are installed: by digest, since one plugin may be there in several versions at a time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use rag_core::{Error, Result};

use crate::Kind;
use crate::host::{Component, Loaded};

/// A component that was admitted.
pub(crate) struct Installed {
    pub(crate) loaded: Loaded,
    pub(crate) component: Component,
    pub(crate) came: Came,
}

/// How a component came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// Read at the start, or again: the one that is meant by its id alone.
    Loaded,
    /// Put beside what is there while the host runs: nothing changes that means an id alone.
    Offered,
    /// Likewise, by somebody who means this very component: it may have the version of another.
    Installed,
    /// Kept for a knowledge base that means this very version.
    Kept,
}

/// All installed components.
#[derive(Default)]
pub(crate) struct Versions {
    by_digest: BTreeMap<String, Installed>,
    by_id: BTreeMap<String, OfId>,
    /// Counts the changes.
    pub(crate) revision: u64,
}

fn from_folder(came: Came) -> bool {
    matches!(came, Came::Loaded | Came::Offered)
}

/// The digests of one id.
#[derive(Debug)]
struct OfId {
    /// The one that the id alone means.
    first: String,
    /// The one that came last, which a new choice means.
    newest: String,
}

impl Versions {
    /// Installs a component. `Conflict` when two files of the plugins folder hold the same id and version.
    pub(crate) fn add(&mut self, new: Installed) -> Result<Loaded> {
        let (loaded, came) = (new.loaded.clone(), new.came);
        let (id, digest) = (&loaded.info.id, &loaded.info.digest);
        if from_folder(came)
            && let Some(other) = self.twin(&loaded)
        {
            return Err(Error::Conflict {
                message: format!(
                    "plugin '{id}' {} of {} is taken by {}: give one of them another id or version",
                    loaded.info.version,
                    loaded.path.display(),
                    other.display()
                ),
            });
        }
        let of_id = self
            .by_id
            .entry(id.clone())
            .or_insert_with(|| OfId { first: digest.clone(), newest: digest.clone() });
        let before = std::mem::replace(
            of_id,
            match came {
                Came::Loaded => OfId { first: digest.clone(), newest: digest.clone() },
                Came::Offered | Came::Installed => {
                    OfId { first: of_id.first.clone(), newest: digest.clone() }
                }
                Came::Kept => OfId { first: of_id.first.clone(), newest: of_id.newest.clone() },
            },
        );
        // What a start read from a file that has other content by now is nobody's, unless somebody means it.
        if came == Came::Loaded
            && before.first != *digest
            && self.by_digest.get(&before.first).is_some_and(|old| old.loaded.path == loaded.path)
        {
            self.by_digest.remove(&before.first);
        }
        match self.by_digest.entry(digest.clone()) {
            Entry::Vacant(free) => {
                free.insert(new);
            }
            // Its file moved: the same component is read from there when it is to be kept.
            Entry::Occupied(mut held) if !held.get().loaded.path.exists() => {
                held.get_mut().loaded.path.clone_from(&new.loaded.path);
            }
            Entry::Occupied(_) => {}
        }
        self.revision += 1;
        Ok(loaded)
    }

    /// The path of another component with this one's id and version.
    fn twin(&self, loaded: &Loaded) -> Option<&Path> {
        let twin = |other: &&Installed| {
            from_folder(other.came)
                && other.loaded.info.id == loaded.info.id
                && other.loaded.info.version == loaded.info.version
                && other.loaded.info.digest != loaded.info.digest
                && other.loaded.path != loaded.path
                && other.loaded.path.exists()
        };
        self.by_digest.values().find(twin).map(|other| other.loaded.path.as_path())
    }

    /// Takes one out; what is bound to it keeps it. The id then means another version, if there is one.
    pub(crate) fn remove(&mut self, digest: &str) -> Option<Loaded> {
        let gone = self.by_digest.remove(digest)?.loaded;
        let left = self.by_digest.values().filter(|other| other.loaded.info.id == gone.info.id);
        match left.map(|other| other.loaded.info.digest.clone()).next_back() {
            None => {
                self.by_id.remove(&gone.info.id);
            }
            Some(other) => {
                if let Some(of_id) = self.by_id.get_mut(&gone.info.id) {
                    for meant in [&mut of_id.first, &mut of_id.newest] {
                        if meant == digest {
                            meant.clone_from(&other);
                        }
                    }
                }
            }
        }
        self.revision += 1;
        Some(gone)
    }

    /// By digest, or the one that an id alone means.
    pub(crate) fn find(&self, key: &str) -> Option<&Installed> {
        let digest = self.by_id.get(key).map_or(key, |of_id| of_id.first.as_str());
        self.by_digest.get(digest)
    }

    /// By digest, or the one of an id that came last.
    pub(crate) fn newest(&self, key: &str) -> Option<&Installed> {
        let digest = self.by_id.get(key).map_or(key, |of_id| of_id.newest.as_str());
        self.by_digest.get(digest)
    }

    /// By id, the one that came last first.
    pub(crate) fn all(&self) -> Vec<Loaded> {
        let mut all: Vec<Loaded> = self.by_digest.values().map(|one| one.loaded.clone()).collect();
        let newest =
            |one: &Loaded| self.by_id.get(&one.info.id).is_some_and(|of| of.newest == one.info.digest);
        all.sort_by_key(|one| (one.info.id.clone(), !newest(one), one.info.digest.clone()));
        all
    }

    /// Of a kind, those that an id alone means, by id.
    pub(crate) fn first_of(&self, kind: Kind) -> Vec<Loaded> {
        let first = self.by_id.values().filter_map(|of_id| self.by_digest.get(&of_id.first));
        first.filter(|one| one.loaded.kind == kind).map(|one| one.loaded.clone()).collect()
    }
}
