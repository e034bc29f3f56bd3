//! Which worker a request goes to where a model runs on several devices: the one with the least to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use rag_core::{Error, Result};

use crate::slot::Job;
use crate::worker::worker_gone;

/// The way to a model's workers. Dropping it ends them once they have done what they were given.
#[derive(Debug)]
pub(crate) struct Dispatch {
    lines: Vec<Line>,
    /// Requests that wait at most, for all workers together.
    queue_max: usize,
}

/// The queue of one worker.
#[derive(Debug)]
struct Line {
    queue: SyncSender<Queued>,
    load: Arc<AtomicUsize>,
}

/// A request on its way, counted for its worker until it has ended in whatever way.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) job: Job,
    pub(crate) ticket: Ticket,
}

/// Counts for a worker as long as it lives.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<AtomicUsize>);

impl Ticket {
    fn new(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Dispatch {
    /// The way to so many workers (at least one), and the end of each one's queue.
    pub(crate) fn new(workers: usize, queue_max: usize) -> (Self, Vec<Receiver<Queued>>) {
        let each = queue_max.div_ceil(workers.max(1)).max(1);
        let (lines, ends) = (0..workers.max(1))
            .map(|_| {
                let (queue, end) = sync_channel(each);
                (Line { queue, load: Arc::default() }, end)
            })
            .unzip();
        (Self { lines, queue_max: each * workers.max(1) }, ends)
    }

    /// Hands a job to the worker with the fewest requests that takes it. `Error::Busy` when all queues are full,
    /// `Error::Unavailable` when no worker is left.
    pub(crate) fn send(&self, mut job: Job) -> Result<()> {
        let mut lines: Vec<(usize, &Line)> =
            self.lines.iter().map(|line| (line.load.load(Ordering::Relaxed), line)).collect();
        lines.sort_by_key(|(load, _)| *load);
        let mut full = false;
        for (_, line) in lines {
            job = match line.queue.try_send(Queued { job, ticket: Ticket::new(&line.load) }) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(queued)) => {
                    full = true;
                    queued.job
                }
                // A worker that gave up: the others go on.
                Err(TrySendError::Disconnected(queued)) => queued.job,
            };
        }
        if full {
            Err(Error::Busy { what: "the language model", limit: self.queue_max })
        } else {
            Err(worker_gone())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rag_core::Error;
    use tokio::sync::oneshot;

    use super::*;
    use crate::profile::Profile;
    use crate::rwkv::{Config, State};
    use crate::slot::Task;
    use crate::state_cache::Scope;

    fn job() -> Job {
        let config = Config::published("0b1").unwrap();
        let profile = Profile {
            name: String::new(),
            state: State::zero(&config),
            adapter: None,
            hash: [0; 32],
            read_out: None,
        };
        let (reply, _) = oneshot::channel();
        Job { tokens: vec![1], profile: Arc::new(profile), scope: Scope::of(&[]), task: Task::Keep { reply } }
    }

    fn waiting(end: &Receiver<Queued>) -> Vec<Queued> {
        end.try_iter().collect()
    }

    #[test]
    fn requests_go_where_the_fewest_are() {
        let (dispatch, ends) = Dispatch::new(3, 9);
        (0..6).for_each(|_| dispatch.send(job()).unwrap());
        let mut held: Vec<Vec<Queued>> = ends.iter().map(waiting).collect();
        assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
        // The second has done its work; the others still hold theirs, although their queues are empty.
        held[1].clear();
        (0..2).for_each(|_| dispatch.send(job()).unwrap());
        assert_eq!(ends.iter().map(|end| waiting(end).len()).collect::<Vec<_>>(), [0, 2, 0]);
    }

    #[test]
    fn full_queues_refuse_and_workers_that_left_are_passed_by() {
        let (dispatch, mut ends) = Dispatch::new(2, 4);
        (0..4).for_each(|_| dispatch.send(job()).unwrap());
        assert!(matches!(dispatch.send(job()), Err(Error::Busy { limit: 4, .. })));
        // Both have two requests: the first would be asked first.
        drop(ends.remove(0));
        assert!(matches!(dispatch.send(job()), Err(Error::Busy { .. })));
        let held = waiting(&ends[0]);
        dispatch.send(job()).unwrap();
        assert_eq!((held.len(), waiting(&ends[0]).len()), (2, 1));
        ends.clear();
        assert!(matches!(dispatch.send(job()), Err(Error::Unavailable { .. })));
    }
}
