//! Threads that own what blocks, each group behind one bounded inbox.
//!
//! Work is a closure over the thread's state, e.g. its database connection. A full inbox refuses at once with `Busy`;
//! work whose caller left before its turn is skipped. Urgent work goes before what waits.

use std::collections::VecDeque;
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
/// Goes before the inbox.
type Urgent<S> = Mutex<VecDeque<Task<S>>>;

/// A group of threads; dropping it lets them finish what is in the inbox, and waits for that.
pub(crate) struct Workers<S> {
    inbox: Option<SyncSender<Task<S>>>,
    urgent: Arc<Urgent<S>>,
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
        let urgent = Arc::new(Urgent::default());
        let mut threads = Vec::with_capacity(states.len());
        for state in states {
            let (receiver, urgent) = (Arc::clone(&receiver), Arc::clone(&urgent));
            let builder = std::thread::Builder::new().name(format!("store {what}"));
            threads.push(builder.spawn(move || work(state, &receiver, &urgent, idle))?);
        }
        Ok(Workers { inbox: Some(inbox), urgent, threads, what, inbox_max })
    }

    /// Runs `step` on one of the threads.
    pub(crate) async fn run<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut S) -> Step<T> + Send + 'static,
    {
        let (task, answer) = Self::task(step);
        let Some(inbox) = &self.inbox else { return Err(self.ended()) };
        inbox.try_send(task).map_err(|error| match error {
            TrySendError::Full(_) => self.busy(),
            TrySendError::Disconnected(_) => self.ended(),
        })?;
        answer.await.map_err(|_| self.ended())?
    }

    /// Likewise, before everything that waits and is not urgent.
    pub(crate) async fn run_urgent<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut S) -> Step<T> + Send + 'static,
    {
        let (task, answer) = Self::task(step);
        let Some(inbox) = &self.inbox else { return Err(self.ended()) };
        {
            let mut urgent = self.urgent.lock().unwrap_or_else(PoisonError::into_inner);
            if urgent.len() >= self.inbox_max {
                return Err(self.busy());
            }
            urgent.push_back(task);
        }
        // Wakes a thread that waits. Where the inbox is full none does.
        match inbox.try_send(Box::new(|_| {})) {
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => return Err(self.ended()),
        }
        answer.await.map_err(|_| self.ended())?
    }

    /// Work for a thread, and where its outcome comes.
    fn task<T, F>(step: F) -> (Task<S>, oneshot::Receiver<Result<T>>)
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
        (task, answer)
    }

    fn busy(&self) -> Error {
        Error::Busy { what: self.what, limit: self.inbox_max }
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

fn work<S>(mut state: S, inbox: &Mutex<Receiver<Task<S>>>, urgent: &Urgent<S>, idle: Idle<S>) {
    let first = || urgent.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
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
            Ok(task) => {
                while let Some(urgent) = first() {
                    urgent(&mut state);
                }
                task(&mut state);
            }
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
    async fn urgent_work_goes_first_and_wakes_a_thread_that_waits() {
        let workers = Workers::start("test worker", vec![Vec::new()], 2, |_| None).unwrap();
        let note = |n: u32| {
            move |log: &mut Vec<u32>| {
                log.push(n);
                Ok(())
            }
        };
        workers.run_urgent(note(0)).await.unwrap();
        let (started, wait_started) = oneshot::channel::<()>();
        let (release, wait_release) = std::sync::mpsc::channel::<()>();
        let blocking = workers.run(move |_: &mut Vec<u32>| {
            let _ = started.send(());
            let _ = wait_release.recv();
            Ok(())
        });
        tokio::pin!(blocking);
        tokio::select! { biased; _ = &mut blocking => unreachable!(), _ = wait_started => {} }
        // The inbox is full of the first two; urgent work fits all the same, up to as much.
        let waiting = futures(vec![workers.run(note(1)), workers.run(note(2))]);
        let urgent = futures(vec![workers.run_urgent(note(3)), workers.run_urgent(note(4))]);
        tokio::pin!(waiting, urgent);
        tokio::select! { biased; _ = &mut waiting => unreachable!(), _ = std::future::ready(()) => {} }
        tokio::select! { biased; _ = &mut urgent => unreachable!(), _ = std::future::ready(()) => {} }
        let refused = workers.run_urgent(note(5)).await;
        assert!(matches!(refused, Err(Error::Busy { what: "test worker", limit: 2 })));
        release.send(()).unwrap();
        tokio::join!(async { blocking.await.unwrap() }, urgent, waiting);
        assert_eq!(workers.run(|log: &mut Vec<u32>| Ok(log.clone())).await.unwrap(), [0, 3, 4, 1, 2]);
    }

    /// All of them, polled in order.
    async fn futures<F: Future<Output = Result<()>>>(all: Vec<F>) {
        let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
        std::future::poll_fn(|context| {
            all.retain_mut(|one| match one.as_mut().poll(context) {
                std::task::Poll::Ready(outcome) => {
                    outcome.unwrap();
                    false
                }
                std::task::Poll::Pending => true,
            });
            if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    #[tokio::test]
    async fn a_panic_costs_one_answer() {
        let workers = Workers::start("test worker", vec![()], 4, |()| None).unwrap();
        let panicked: Result<()> = workers.run(|()| panic!("on purpose")).await;
        assert!(matches!(panicked, Err(Error::Internal { .. })));
        assert!(workers.run(|()| Ok(7)).await.is_ok());
    }
}
