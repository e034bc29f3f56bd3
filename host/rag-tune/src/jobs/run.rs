//! The thread that trains: takes the oldest queued job, runs it, and records how it ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use rag_core::ports::{TuneJob, TunePoint, TuneState};
use rag_core::{Error, Result};

use super::curves::Curves;
use super::{Shared, data, dataset_path, kept};
use crate::estimate;
use crate::training::{Ended, Plan, Training, now_ms};

impl Shared {
    /// Until the end has come.
    pub(super) fn work(&self) {
        while let Some((job, stop)) = self.next() {
            let ran = catch_unwind(AssertUnwindSafe(|| self.run(&job, &stop)));
            let ended =
                ran.unwrap_or_else(|_| Err(Error::internal("the training panicked; the log says where")));
            let state = match ended {
                Ok(Ended::Done) => TuneState::Done,
                // It goes on at the next start.
                Ok(Ended::Stopped) if self.ending.load(Ordering::SeqCst) => continue,
                Ok(Ended::Stopped) => TuneState::Stopped,
                Err(error) => {
                    tracing::warn!(job = job.id, %error, "a tuning job failed");
                    TuneState::Failed(error.to_string())
                }
            };
            let recorded = self.change(&job.id, |entry| {
                entry.job.state = state;
                entry.job.outputs = kept::outputs(&self.job_dir(&job.id));
                Ok(())
            });
            if let Err(error) = recorded {
                tracing::error!(job = job.id, %error, "the end of a tuning job could not be recorded");
            }
        }
    }

    /// Waits for a job and takes it; none when the end has come.
    fn next(&self) -> Option<(TuneJob, Arc<AtomicBool>)> {
        let mut jobs = self.jobs();
        loop {
            if self.ending.load(Ordering::SeqCst) {
                return None;
            }
            let queued = jobs.values_mut().find(|entry| entry.job.state == TuneState::Queued);
            if let Some(entry) = queued {
                entry.job.state = TuneState::Running;
                if let Err(error) = kept::write(&self.job_dir(&entry.job.id), &entry.job) {
                    entry.job.state = TuneState::Failed(error.to_string());
                    continue;
                }
                return Some((entry.job.clone(), entry.stop.clone()));
            }
            jobs = self.wake.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self, job: &TuneJob, stop: &AtomicBool) -> Result<Ended> {
        let dataset = data::info(&self.config.dir, &job.request.dataset)?;
        let needed = self.estimate(&job.request, dataset.documents)?;
        estimate::require(needed.memory_bytes, needed.available_bytes)?;
        let dir = self.job_dir(&job.id);
        let mut training = Training::open(Plan {
            base: self.base(job.request.base.as_deref())?,
            vocabulary: self.config.vocabulary.clone(),
            data: dataset_path(&self.config.dir, &job.request.dataset),
            dir: dir.clone(),
            settings: job.request.settings.clone(),
            place: self.config.place,
        })?;
        let going = TuneJob { step: training.step(), steps: training.steps(), ..job.clone() };
        self.progress(&job.id, |job| (job.step, job.steps) = (going.step, going.steps));
        let mut curves =
            Curves::open(&going, dir, self.config.wandb.as_deref(), self.config.tracker.clone())?;
        let ended = training.run(stop, &mut |point: &TunePoint| {
            curves.point(point)?;
            self.progress(&job.id, |job| {
                job.step = point.step;
                job.last = Some(*point);
            });
            Ok(())
        });
        curves.end(ended)
    }

    /// Changes what people see of a running job; its file follows when its state changes.
    fn progress(&self, id: &str, change: impl FnOnce(&mut TuneJob)) {
        let mut jobs = self.jobs();
        if let Some(entry) = jobs.get_mut(id) {
            change(&mut entry.job);
            entry.job.updated_ms = now_ms();
        }
    }
}
