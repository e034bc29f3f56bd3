//! The thread that owns the encoder: it gathers what waits, runs it in batches, and answers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rag_core::{Error, Result};

use super::gemm::Isa;
#[cfg(feature = "cuda")]
use super::job::output_of_gpu;
use super::job::{Job, Output, Running};
use super::loaded::Loaded;
use super::model::Scratch;
use super::place::OnGpu;

/// Tokens that one thread computes at a time, when there are enough: one passage or a dozen questions. More would not
/// leave the weights of a layer and what passes through it in the second-level cache together.
const GROUP_TOKENS: usize = 192;
/// Of a batch, one part in so many is kept for passages while questions keep coming.
const PATIENT_SHARE: usize = 4;

/// What the thread needs.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) model: Arc<Loaded>,
    pub(super) isa: Isa,
    pub(super) threads: usize,
    pub(super) batch_tokens_max: usize,
    pub(super) queue_max: usize,
}

/// A window in a batch: which call's, and which of its windows.
#[derive(Debug, Clone, Copy)]
struct Place {
    call: usize,
    window: usize,
    tokens: usize,
}

/// Starts the thread; it ends when the sender is dropped and nothing is left to do. A GPU computes in the place of the
/// worker's threads.
pub(super) fn start(worker: Worker, gpu: Option<OnGpu>) -> Result<SyncSender<Job>> {
    let (sender, queue) = sync_channel(worker.queue_max);
    let spawned = thread::Builder::new().name("encoder".to_owned()).spawn(move || worker.run(&queue, gpu));
    spawned.map_err(|error| Error::internal(format!("the embedding thread cannot start: {error}")))?;
    Ok(sender)
}

impl Worker {
    fn run(&self, queue: &Receiver<Job>, mut gpu: Option<OnGpu>) {
        let mut running: VecDeque<Running> = VecDeque::new();
        let mut scratch: Vec<Scratch> = (0..self.threads).map(|_| Scratch::default()).collect();
        loop {
            if running.is_empty() {
                let Ok(job) = queue.recv() else { return };
                running.push_back(Running::new(job, &self.model, self.threads));
            }
            while let Ok(job) = queue.try_recv() {
                running.push_back(Running::new(job, &self.model, self.threads));
            }
            running.retain(|call| !call.abandoned());
            let batch = self.batch(running.make_contiguous());
            let computed = catch_unwind(AssertUnwindSafe(|| match &mut gpu {
                Some(gpu) => on_gpu(gpu, &self.model, &batch, &running),
                None => Ok(self.on_threads(&batch, &running, &mut scratch)),
            }));
            match computed {
                Ok(Ok(outputs)) => outputs
                    .into_iter()
                    .for_each(|(place, output)| running[place.call].set(place.window, output)),
                Ok(Err(error)) => {
                    tracing::error!(%error, "an embedding batch failed");
                    fail_started(&mut running, &error);
                }
                Err(_) => {
                    tracing::error!("an embedding batch failed");
                    scratch = (0..self.threads).map(|_| Scratch::default()).collect();
                    fail_started(&mut running, &Error::internal("an embedding batch failed"));
                }
            }
            let (complete, open): (Vec<Running>, Vec<Running>) =
                running.into_iter().partition(Running::complete);
            running = open.into();
            complete.into_iter().for_each(Running::finish);
        }
    }

    /// Chooses the windows to compute next: urgent calls first, then in the order of arrival.
    fn batch(&self, running: &mut [Running]) -> Vec<Place> {
        let patient = running.iter().any(|call| !call.urgent);
        let urgent_max =
            self.batch_tokens_max - if patient { self.batch_tokens_max / PATIENT_SHARE } else { 0 };
        let mut batch = Vec::new();
        let mut tokens = 0;
        for (urgent, limit) in [(true, urgent_max), (false, self.batch_tokens_max)] {
            for (call, running) in
                running.iter_mut().enumerate().filter(|(_, running)| running.urgent == urgent)
            {
                while let Some(window) = running.windows.get(running.started) {
                    let more = window.ids.len();
                    if tokens + more > limit && !batch.is_empty() {
                        break;
                    }
                    batch.push(Place { call, window: running.started, tokens: more });
                    running.started += 1;
                    tokens += more;
                }
            }
        }
        // Long ones first, so that the threads' last groups are small.
        batch.sort_by_key(|place| std::cmp::Reverse(place.tokens));
        batch
    }

    /// Runs a batch on all threads; they take groups of windows of like length, one after the other.
    fn on_threads(
        &self,
        batch: &[Place],
        running: &VecDeque<Running>,
        scratch: &mut [Scratch],
    ) -> Vec<(Place, Output)> {
        let groups = self.groups(batch);
        let next = AtomicUsize::new(0);
        let work = |scratch: &mut Scratch| {
            let mut outputs = Vec::new();
            while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.forward(group, running, scratch, &mut outputs);
            }
            outputs
        };
        let Some((own, others)) = scratch.split_first_mut() else { return Vec::new() };
        let helpers = others.len().min(groups.len().saturating_sub(1));
        if helpers == 0 {
            return work(own);
        }
        thread::scope(|scope| {
            let handles: Vec<_> =
                others.iter_mut().take(helpers).map(|scratch| scope.spawn(|| work(scratch))).collect();
            let mut outputs = work(own);
            for handle in handles {
                match handle.join() {
                    Ok(more) => outputs.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            outputs
        })
    }

    /// Cuts a batch into groups of about `GROUP_TOKENS`, or fewer so that every thread has one.
    fn groups<'a>(&self, batch: &'a [Place]) -> Vec<&'a [Place]> {
        let total: usize = batch.iter().map(|place| place.tokens).sum();
        let limit = GROUP_TOKENS.min(total.div_ceil(self.threads));
        let mut groups = Vec::new();
        let mut rest = batch;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = |place: &&Place| {
                tokens += place.tokens;
                tokens <= limit
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (group, after) = rest.split_at(count);
            groups.push(group);
            rest = after;
        }
        groups
    }

    fn forward(
        &self,
        group: &[Place],
        running: &VecDeque<Running>,
        scratch: &mut Scratch,
        outputs: &mut Vec<(Place, Output)>,
    ) {
        let windows: Vec<_> = group.iter().map(|place| &running[place.call].windows[place.window]).collect();
        let sequences: Vec<_> = windows.iter().map(|window| window.sequence()).collect();
        let model = &self.model.model;
        model.forward(self.isa, &sequences, scratch);
        let mut rest = scratch.hidden.as_slice();
        for (place, window) in group.iter().zip(windows) {
            let (hidden, after) = rest.split_at(place.tokens * model.width);
            outputs.push((*place, running[place.call].output(window, hidden, &self.model, self.isa)));
            rest = after;
        }
    }
}

#[cfg(feature = "cuda")]
fn on_gpu(
    gpu: &mut OnGpu,
    model: &Loaded,
    batch: &[Place],
    running: &VecDeque<Running>,
) -> Result<Vec<(Place, Output)>> {
    let window = |place: &Place| &running[place.call].windows[place.window];
    let texts: Vec<_> = batch.iter().map(|place| running[place.call].asked(window(place))).collect();
    let answers = gpu.run(&texts)?;
    let outputs = batch.iter().zip(answers);
    Ok(outputs.map(|(place, answer)| (*place, output_of_gpu(window(place), answer, model))).collect())
}

#[cfg(not(feature = "cuda"))]
fn on_gpu(
    gpu: &mut OnGpu,
    _model: &Loaded,
    _batch: &[Place],
    _running: &VecDeque<Running>,
) -> Result<Vec<(Place, Output)>> {
    match *gpu {}
}

/// After a failure: answers the calls whose windows were in the batch.
fn fail_started(running: &mut VecDeque<Running>, error: &Error) {
    let (started, open): (Vec<Running>, Vec<Running>) = running.drain(..).partition(|call| call.started > 0);
    *running = open.into();
    for call in started {
        call.fail(error.clone());
    }
}
