//! Threads that own what blocks, each group behind one bounded inbox.
//!
//! Work is a closure over the thread's state, e.g. its database connection. A full inbox refuses at once with `Busy`;
//! work whose caller left before its turn is skipped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rag_core::{Error, Result};
use tokio::sync::oneshot;

use crate::fault::Step;

type Task<S> = Box<dyn FnOnce(&mut S) + Send>;
type Idle<S> = fn(&mut S) -> Option<Duration>;

/// A group of threads; dropping it lets them finish what is in the inbox, and waits for that.
pub(crate) struct Workers<S> {
    inbox: Option<SyncSender<Task<S>>>,
    threads: Vec<JoinHandle<()>>,
    what: &'static str,
    inbox_max: usize,
}

impl<S: Send + 'static> Workers<S> {
    /// One thread for each state. `idle` runs whenever a thread finds the inbox empty, and says after how long
    /// without work it wants to run again.
    pub(crate) fn start(
        what: &'static str,
        states: Vec<S>,
        inbox_max: usize,
        idle: Idle<S>,
    ) -> std::io::Result<Self> {
        let (inbox, receiver) = sync_channel(inbox_max);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut threads = Vec::with_capacity(states.len());
        for state in states {
            let receiver = Arc::clone(&receiver);
            let builder = std::thread::Builder::new().name(format!("store {what}"));
            threads.push(builder.spawn(move || work(state, &receiver, idle))?);
        }
        Ok(Workers { inbox: Some(inbox), threads, what, inbox_max })
    }

    /// Runs `step` on one of the threads.
    pub(crate) async fn run<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut S) -> Step<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let task: Task<S> = Box::new(move |state| {
            if reply.is_closed() {
                return;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| step(state)));
            let outcome = match outcome {
                Ok(outcome) => outcome.map_err(Error::from),
                Err(_) => {
                    Err(Error::internal("the store failed on this request; its transaction was undone"))
                }
            };
            // The caller may have left meanwhile; the work is done all the same.
            let _ = reply.send(outcome);
        });
        let Some(inbox) = &self.inbox else { return Err(self.ended()) };
        inbox.try_send(task).map_err(|error| match error {
            TrySendError::Full(_) => Error::Busy { what: self.what, limit: self.inbox_max },
            TrySendError::Disconnected(_) => self.ended(),
        })?;
        answer.await.map_err(|_| self.ended())?
    }

    fn ended(&self) -> Error {
        Error::internal(format!("the {} has ended", self.what))
    }
}

impl<S> Drop for Workers<S> {
    fn drop(&mut self) {
        self.inbox = None;
        for thread in self.threads.drain(..) {
            // A thread that drops the last handle to the store would wait for itself.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!(what = self.what, "a thread of the store ended by a panic");
            }
        }
    }
}

fn work<S>(mut state: S, inbox: &Mutex<Receiver<Task<S>>>, idle: Idle<S>) {
    loop {
        // The lock is held while waiting, so that one thread waits for work and the others for the lock.
        let next = {
            let inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
            match inbox.try_recv() {
                Ok(task) => Ok(task),
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => match idle(&mut state) {
                    None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    Some(pause) => inbox.recv_timeout(pause),
                },
            }
        };
        match next {
            Ok(task) => task(&mut state),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_inbox_refuses_and_abandoned_work_never_runs() {
        let workers = Workers::start("test worker", vec![Vec::new()], 1, |_| None).unwrap();
        let (started, wait_started) = oneshot::channel::<()>();
        let (release, wait_release) = std::sync::mpsc::channel::<()>();
        let first = workers.run(move |_: &mut Vec<u32>| {
            let _ = started.send(());
            let _ = wait_release.recv();
            Ok(())
        });
        tokio::pin!(first);
        tokio::select! { biased; _ = &mut first => unreachable!(), _ = wait_started => {} }

        let mut abandoned = Box::pin(workers.run(|log: &mut Vec<u32>| {
            log.push(1);
            Ok(())
        }));
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(abandoned.as_mut().poll(context).is_pending())
        });
        assert!(polled.await);
        let refused = workers.run(|_: &mut Vec<u32>| Ok(())).await;
        assert!(matches!(refused, Err(Error::Busy { what: "test worker", limit: 1 })));

        drop(abandoned);
        release.send(()).unwrap();
        first.await.unwrap();
        let log = loop {
            match workers.run(|log: &mut Vec<u32>| Ok(log.clone())).await {
                // The abandoned work has not left the inbox yet.
                Err(Error::Busy { .. }) => tokio::task::yield_now().await,
                log => break log.unwrap(),
            }
        };
        assert!(log.is_empty(), "{log:?}");
    }

    #[tokio::test]
    async fn a_panic_costs_one_answer() {
        let workers = Workers::start("test worker", vec![()], 4, |()| None).unwrap();
        let panicked: Result<()> = workers.run(|()| panic!("on purpose")).await;
        assert!(matches!(panicked, Err(Error::Internal { .. })));
        assert!(workers.run(|()| Ok(7)).await.is_ok());
    }
}
