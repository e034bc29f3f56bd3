//! The workers of a service and how loaded each one is.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::connection::ConnectionId;

/// A worker's place in the order of choice: least loaded first, then the one that waited longest.
type Place = (u64, u64, ConnectionId);

/// Workers with room stand in `free`, in the order in which they are chosen.
#[derive(Debug, Default)]
pub(super) struct Pool {
    workers: HashMap<ConnectionId, Worker>,
    free: BTreeSet<Place>,
    turn: u64,
}

#[derive(Debug)]
struct Worker {
    ours: bool,
    capacity: u32,
    draining: bool,
    tickets: HashSet<u64>,
    place: Option<Place>,
}

impl Pool {
    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    /// Adds a worker, or takes note of its new capacity.
    pub(super) fn insert(&mut self, id: ConnectionId, ours: bool, capacity: u32) {
        let worker = self.workers.entry(id).or_insert_with(|| Worker {
            ours,
            capacity,
            draining: false,
            tickets: HashSet::new(),
            place: None,
        });
        worker.capacity = capacity.max(1);
        self.place(id);
    }

    /// Takes a worker out; returns what it was working on.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Vec<u64> {
        let Some(worker) = self.workers.remove(&id) else { return Vec::new() };
        if let Some(place) = worker.place {
            self.free.remove(&place);
        }
        let mut tickets: Vec<u64> = worker.tickets.into_iter().collect();
        // They go to the front of the queue one by one: the oldest last, so that it is first there.
        tickets.sort_unstable_by(|a, b| b.cmp(a));
        tickets
    }

    /// The worker gets nothing more.
    pub(super) fn drain(&mut self, id: ConnectionId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.draining = true;
            self.place(id);
        }
    }

    /// The worker to take next and whether it speaks our envelope; none while all are full.
    pub(super) fn least_loaded(&self, ours_only: bool) -> Option<(ConnectionId, bool)> {
        let ours = |id: &ConnectionId| self.workers.get(id).is_some_and(|worker| worker.ours);
        let mut ids = self.free.iter().map(|(_, _, id)| *id);
        let id = if ours_only { ids.find(ours) } else { ids.next() }?;
        Some((id, ours(&id)))
    }

    pub(super) fn assign(&mut self, id: ConnectionId, ticket: u64) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.tickets.insert(ticket);
            self.place(id);
        }
    }

    /// Whether the worker had this ticket.
    pub(super) fn release(&mut self, id: ConnectionId, ticket: u64) -> bool {
        let had = self.workers.get_mut(&id).is_some_and(|worker| worker.tickets.remove(&ticket));
        if had {
            self.place(id);
        }
        had
    }

    pub(super) fn speaks_ours(&self, id: ConnectionId) -> bool {
        self.workers.get(&id).is_some_and(|worker| worker.ours)
    }

    fn place(&mut self, id: ConnectionId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if let Some(place) = worker.place.take() {
            self.free.remove(&place);
        }
        let open = worker.tickets.len() as u64;
        if worker.draining || open >= u64::from(worker.capacity) {
            return;
        }
        self.turn += 1;
        let load = open * 1_000_000 / u64::from(worker.capacity);
        let place = (load, self.turn, id);
        worker.place = Some(place);
        self.free.insert(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_loaded_share_is_chosen_then_the_longest_idle() {
        let (a, b, c) = (ConnectionId(1), ConnectionId(2), ConnectionId(3));
        let mut pool = Pool::default();
        pool.insert(a, true, 1);
        pool.insert(b, true, 4);
        pool.insert(c, false, 1);
        let mut chosen = Vec::new();
        for ticket in 0..7 {
            let Some((id, _)) = pool.least_loaded(false) else { break };
            pool.assign(id, ticket);
            chosen.push(id);
        }
        assert_eq!(chosen, [a, b, c, b, b, b], "six places, and no more");
        assert!(pool.release(c, 2));
        assert_eq!(pool.least_loaded(true), None);
        assert_eq!(pool.least_loaded(false), Some((c, false)));
        pool.drain(c);
        assert_eq!(pool.least_loaded(false), None);
        assert_eq!(pool.remove(b), [5, 4, 3, 1]);
        assert!(!pool.release(b, 1));
    }
}
