//! Charges a guest for the processor time that it uses: the time spent polling its call, less what the host did for it.
//!
//! The store yields at every epoch tick, so a poll lasts about one tick and the meter gets its turn. Counting ticks
//! instead would charge waits for the host to the guest.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rustix::time::{ClockId, clock_gettime};

/// A first poll timed by the clock on the wall counts at most this, because that clock also runs while the system lets
/// something else run. Most calls end in their first poll, and asking for processor time costs as much as such a call.
const FIRST_POLL_MAX: Duration = Duration::from_millis(10);

/// Nanoseconds that host functions used on behalf of the guest.
pub(crate) type HostNanos = Arc<AtomicU64>;

/// The budget ran out; the call was dropped.
#[derive(Debug)]
pub(crate) struct CpuSpent;

/// A guest call that stops once its share of processor time is used.
pub(crate) struct Metered<'a, 'b, T> {
    call: BoxFuture<'a, T>,
    host: &'b HostNanos,
    budget: &'b mut Duration,
    /// When a first poll that is timed roughly began.
    rough: Option<Instant>,
    /// How long the whole call took by the clock on the wall, where that is known without another look.
    took: &'b mut Option<Duration>,
}

impl<'a, 'b, T> Metered<'a, 'b, T> {
    /// What is left of `budget` afterwards is the caller's for the next call. With `rough`, which is now, the first poll
    /// is only timed roughly, without another look at a clock; a budget of many calls must not have it. `took` is then set
    /// when the call ends in that poll.
    pub(crate) fn new(
        call: BoxFuture<'a, T>,
        host: &'b HostNanos,
        budget: &'b mut Duration,
        rough: Option<Instant>,
        took: &'b mut Option<Duration>,
    ) -> Self {
        Metered { call, host, budget, rough, took }
    }
}

impl<T> Future for Metered<'_, '_, T> {
    type Output = Result<T, CpuSpent>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let host_before = this.host.load(Relaxed);
        let (outcome, spent) = if let Some(started) = this.rough.take() {
            let outcome = this.call.as_mut().poll(cx);
            let elapsed = started.elapsed();
            *this.took = outcome.is_ready().then_some(elapsed);
            (outcome, elapsed.min(FIRST_POLL_MAX))
        } else {
            let started = thread_time();
            let outcome = this.call.as_mut().poll(cx);
            (outcome, thread_time().saturating_sub(started))
        };
        let host = Duration::from_nanos(this.host.load(Relaxed).saturating_sub(host_before));
        *this.budget = this.budget.saturating_sub(spent.saturating_sub(host));
        match outcome {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending if this.budget.is_zero() => Poll::Ready(Err(CpuSpent)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A host function's future whose time is not the guest's.
pub(crate) struct OnHost<F> {
    work: Pin<Box<F>>,
    host: HostNanos,
}

impl<F: Future> OnHost<F> {
    pub(crate) fn new(work: F, host: HostNanos) -> Self {
        OnHost { work: Box::pin(work), host }
    }
}

impl<F: Future> Future for OnHost<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let started = thread_time();
        let outcome = self.work.as_mut().poll(cx);
        let spent = thread_time().saturating_sub(started);
        self.host.fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        outcome
    }
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}
