//! Where a running job's curves go: its own file, TensorBoard's, wandb's folder, and whoever follows it elsewhere.

use std::path::PathBuf;
use std::sync::Arc;

use rag_core::Result;
use rag_core::ports::{TuneJob, TunePoint};

use super::kept;
use crate::tensorboard::EventFile;
use crate::tracker::{End, Tracker};
use crate::training::{Ended, now_ms};
use crate::wandb::RunFile;

pub(super) struct Curves {
    job: String,
    dir: PathBuf,
    events: EventFile,
    run: Option<RunFile>,
    tracker: Option<Arc<dyn Tracker>>,
}

impl Curves {
    /// For a job that goes on after `job.step` updates; later points of its files are cut off.
    pub(super) fn open(
        job: &TuneJob,
        dir: PathBuf,
        project: Option<&str>,
        tracker: Option<Arc<dyn Tracker>>,
    ) -> Result<Self> {
        kept::cut(&dir, job.step)?;
        let now = now_ms();
        let events = EventFile::create(&dir, job.step, now)?;
        let run = project.map(|project| RunFile::create(&dir, project, job, now)).transpose()?;
        if let Some(tracker) = &tracker {
            tracker.begin(job);
        }
        Ok(Curves { job: job.id.clone(), dir, events, run, tracker })
    }

    pub(super) fn point(&mut self, point: &TunePoint) -> Result<()> {
        kept::append(&self.dir, point)?;
        self.events.point(point)?;
        if let Some(run) = &mut self.run {
            run.point(point)?;
        }
        if let Some(tracker) = &self.tracker {
            tracker.point(&self.job, point);
        }
        Ok(())
    }

    /// Passes on how it ended; a file that cannot be closed does not undo a training.
    pub(super) fn end(mut self, ended: Result<Ended>) -> Result<Ended> {
        let end = match &ended {
            Ok(Ended::Done) => End::Done,
            Ok(Ended::Stopped) => End::Stopped,
            Err(_) => End::Failed,
        };
        if let Some(Err(error)) = self.run.as_mut().map(|run| run.end(end)) {
            tracing::warn!(job = self.job, %error, "the end is missing in wandb's folder");
        }
        if let Some(tracker) = &self.tracker {
            tracker.end(&self.job, end);
        }
        ended
    }
}
