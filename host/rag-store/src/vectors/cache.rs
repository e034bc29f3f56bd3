//! The collections that are in memory: loaded when first searched, kept equal to the database, dropped when unused.
//!
//! Every transaction that changes a collection raises its version. A search takes the state that is there and reads
//! it without any lock; the writer changes the state after its commit, copying only what a search still holds.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::snapshot::Snapshot;
use crate::fault::Step;

/// What a committed transaction did to a collection.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// `values` is row-major: `dim` for each of `rows`, of which later ones override earlier ones.
    Upsert {
        rows: Vec<i64>,
        dim: usize,
        values: Vec<f32>,
    },
    Delete {
        rows: Vec<i64>,
    },
}

pub(crate) struct Cache {
    entries: Mutex<HashMap<i64, Arc<Entry>>>,
    bytes_max: u64,
    clock: AtomicU64,
}

struct Entry {
    state: Mutex<State>,
    loaded: Condvar,
    /// When it was last searched, by the cache's clock.
    used: AtomicU64,
}

struct State {
    /// The newest version whose change passed here.
    latest: u64,
    content: Content,
}

enum Content {
    Empty,
    /// Being read from the database; changes meanwhile wait.
    Loading(Vec<(u64, Change)>),
    Ready(u64, Arc<Snapshot>),
}

impl Cache {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Cache { entries: Mutex::default(), bytes_max, clock: AtomicU64::new(0) }
    }

    /// The collection's present state, by `load` when it is not in memory. Others who want it meanwhile wait.
    pub(super) fn get(
        &self,
        collection: i64,
        load: impl FnOnce() -> Step<(u64, Snapshot)>,
    ) -> Step<Arc<Snapshot>> {
        let entry = self.entry(collection);
        entry.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let mut state = lock(&entry.state);
        loop {
            match &state.content {
                Content::Ready(_, snapshot) => return Ok(Arc::clone(snapshot)),
                Content::Loading(_) => {
                    state = entry.loaded.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Content::Empty => break,
            }
        }
        state.content = Content::Loading(Vec::new());
        drop(state);
        // Whatever happens below, nobody must wait for ever.
        let release = Release(&entry);
        let (version, snapshot) = load()?;
        let snapshot = release.publish(version, snapshot);
        self.evict(collection);
        Ok(snapshot)
    }

    /// Call on the writer's thread after the commit that gave the collection this version.
    pub(crate) fn apply(&self, collection: i64, version: u64, change: Change) {
        let entry = self.entry(collection);
        let mut state = lock(&entry.state);
        state.latest = state.latest.max(version);
        match &mut state.content {
            Content::Empty => {}
            Content::Loading(waiting) => waiting.push((version, change)),
            Content::Ready(held, snapshot) if version == *held + 1 => {
                change.apply(Arc::make_mut(snapshot));
                *held = version;
            }
            // Loaded after the commit, so the change is in it.
            Content::Ready(held, _) if version <= *held => {}
            Content::Ready(..) => state.content = Content::Empty,
        }
        drop(state);
        self.evict(collection);
    }

    /// Collections that are gone.
    pub(crate) fn forget(&self, collections: &[i64]) {
        let mut entries = lock(&self.entries);
        collections.iter().for_each(|collection| {
            entries.remove(collection);
        });
    }

    /// Bytes of vectors in memory.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.entries).values().map(|entry| entry.bytes()).sum()
    }

    fn entry(&self, collection: i64) -> Arc<Entry> {
        let mut entries = lock(&self.entries);
        let entry = entries.entry(collection).or_insert_with(|| {
            let state = State { latest: 0, content: Content::Empty };
            Arc::new(Entry { state: Mutex::new(state), loaded: Condvar::new(), used: AtomicU64::new(0) })
        });
        Arc::clone(entry)
    }

    /// Makes room by emptying what was searched longest ago; the one in use stays.
    fn evict(&self, in_use: i64) {
        let mut others: Vec<Arc<Entry>> = {
            let entries = lock(&self.entries);
            entries
                .iter()
                .filter(|(collection, _)| **collection != in_use)
                .map(|(_, entry)| Arc::clone(entry))
                .collect()
        };
        let mut total = self.entry(in_use).bytes() + others.iter().map(|entry| entry.bytes()).sum::<u64>();
        others.sort_unstable_by_key(|entry| Reverse(entry.used.load(Ordering::Relaxed)));
        while total > self.bytes_max {
            let Some(oldest) = others.pop() else { return };
            total -= oldest.empty();
        }
    }
}

impl Entry {
    fn bytes(&self) -> u64 {
        match &lock(&self.state).content {
            Content::Ready(_, snapshot) => snapshot.bytes(),
            Content::Empty | Content::Loading(_) => 0,
        }
    }

    /// Returns the bytes set free.
    fn empty(&self) -> u64 {
        let mut state = lock(&self.state);
        match &state.content {
            Content::Ready(_, snapshot) => {
                let bytes = snapshot.bytes();
                state.content = Content::Empty;
                bytes
            }
            Content::Empty | Content::Loading(_) => 0,
        }
    }
}

/// Ends a loading: with its result, or empty when it failed.
struct Release<'a>(&'a Entry);

impl Release<'_> {
    /// Brings what was loaded up to date. It is kept only when no change is missing: one may have passed before the
    /// loading began but after the database was looked at.
    fn publish(self, version: u64, mut snapshot: Snapshot) -> Arc<Snapshot> {
        let mut state = lock(&self.0.state);
        let waiting = match &mut state.content {
            Content::Loading(waiting) => std::mem::take(waiting),
            Content::Empty | Content::Ready(..) => Vec::new(),
        };
        let mut held = version;
        for (version, change) in waiting {
            if version == held + 1 {
                change.apply(&mut snapshot);
                held = version;
            }
        }
        let snapshot = Arc::new(snapshot);
        if held >= state.latest {
            state.content = Content::Ready(held, Arc::clone(&snapshot));
        }
        snapshot
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if matches!(state.content, Content::Loading(_)) {
            state.content = Content::Empty;
        }
        self.0.loaded.notify_all();
    }
}

impl Change {
    fn apply(&self, snapshot: &mut Snapshot) {
        match self {
            Change::Upsert { rows, dim, values } => {
                for (row, vector) in rows.iter().zip(values.chunks_exact((*dim).max(1))) {
                    snapshot.upsert(*row, vector);
                }
            }
            Change::Delete { rows } => snapshot.delete(rows),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
