//! One training from start to end: updates, checkpoints, points of its curves, files at the end of each epoch.
//!
//! Everything that an update depends on is its number, the settings, the data and what the last checkpoint holds: a
//! training that was stopped, or killed, goes on to the same values bit by bit.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rag_core::ports::{TuneMethod, TunePoint, TuneSettings};
use rag_core::{Error, Result};
use rag_engine::checkpoint;
use rag_engine::inspect::file_sha256;
use rag_engine::tokenizer::Tokenizer;

use crate::adam::{Rate, Step};
use crate::cpu::attach::Named;
use crate::dataset::samples::{Corpus, Sampler};
use crate::device::{self, Device, Opened, Place};
use crate::files::{Container, Type, safetensors};
use crate::saved;
use crate::settings::{self, Checked};
use crate::sidecar::Sidecar;

/// Share of the newest update in the shown speed.
const SPEED_NEW: f64 = 0.1;
/// PiSSA's first factors.
const PISSA_START: &str = "init_pissa.pth";

/// What is trained, on what, and where its files go.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) base: PathBuf,
    pub(crate) vocabulary: PathBuf,
    pub(crate) data: PathBuf,
    /// Of the job: checkpoints and results.
    pub(crate) dir: PathBuf,
    pub(crate) settings: TuneSettings,
    pub(crate) place: Place,
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Done,
    Stopped,
}

pub(crate) struct Training {
    plan: Plan,
    checked: Checked,
    rate: Rate,
    tokenizer: Tokenizer,
    corpus: Corpus,
    device: Box<dyn Device>,
    base_hash: String,
    /// Updates done.
    step: u64,
    epoch_steps: u64,
    tokens: u64,
    loss: f64,
}

impl Training {
    /// Loads base and data, and the newest checkpoint that there is.
    ///
    /// # Errors
    /// `InvalidInput` for settings or data that cannot work, `Model` for a base that is none, `Conflict` when the
    /// base or the data changed since the checkpoint.
    pub(crate) fn open(plan: Plan) -> Result<Self> {
        let checked = settings::check(&plan.settings)?;
        let tokenizer = Tokenizer::load(&plan.vocabulary)?;
        let corpus = Corpus::open(&plan.data, &tokenizer)?;
        let weights = checkpoint::open(&plan.base)?;
        let start = plan.dir.join(PISSA_START);
        let start = (plan.settings.method == TuneMethod::Pissa && start.is_file())
            .then(|| checkpoint::open(&start).map(saved::WithoutPrefix))
            .transpose()?;
        let start = start.as_ref().map(|start| start as &dyn rag_engine::rwkv::Weights);
        let Opened { device, pissa_start } =
            device::open(&*weights, &plan.settings, checked.precision, plan.place, start)?;
        let vocabulary = device.config().vocabulary;
        if usize::from(corpus.largest()) >= vocabulary {
            return Err(Error::invalid(format!(
                "the data has token {} and the model only {vocabulary}: they are of different vocabularies",
                corpus.largest()
            )));
        }
        if start.is_none() && !pissa_start.is_empty() {
            let prefixed = |named: &Named| Named { name: format!("model.{}", named.name), ..named.clone() };
            let tensors: Vec<Named> = pissa_start.iter().map(prefixed).collect();
            Container::Pth.write_all(&plan.dir.join(PISSA_START), &tensors, Type::F32, &[])?;
        }
        let epoch_steps = epoch_steps(&plan.settings, corpus.len() as u64);
        let steps = epoch_steps * u64::from(plan.settings.epochs);
        let rate = Rate::of(&plan.settings, steps)?;
        let base_hash = file_sha256(&plan.base)?;
        let mut training = Self {
            plan,
            checked,
            rate,
            tokenizer,
            corpus,
            device,
            base_hash,
            step: 0,
            epoch_steps,
            tokens: 0,
            loss: f64::NAN,
        };
        training.restore()?;
        Ok(training)
    }

    pub(crate) fn step(&self) -> u64 {
        self.step
    }

    pub(crate) fn steps(&self) -> u64 {
        self.rate.steps
    }

    /// Trains until done or told to stop; `point` gets every update. A checkpoint is written before it returns.
    ///
    /// # Errors
    /// `InvalidInput` when the loss is no number any more, `Storage` when a file cannot be written. The last
    /// checkpoint is whole in any case.
    pub(crate) fn run(
        &mut self,
        stop: &AtomicBool,
        point: &mut dyn FnMut(&TunePoint) -> Result<()>,
    ) -> Result<Ended> {
        let mut speed: Option<f64> = None;
        while self.step < self.rate.steps {
            if stop.load(Ordering::Relaxed) {
                self.save()?;
                return Ok(Ended::Stopped);
            }
            let started = Instant::now();
            let (loss, gradient_norm, tokens, lr) = self.update()?;
            let now = tokens as f64 / started.elapsed().as_secs_f64().max(1e-9);
            let shown = speed.map_or(now, |before| before + SPEED_NEW * (now - before));
            speed = Some(shown);
            point(&TunePoint {
                step: self.step,
                loss,
                lr,
                gradient_norm,
                tokens: self.tokens,
                tokens_per_s: shown,
                memory_bytes: self.device.memory_bytes().unwrap_or_else(memory_bytes),
                time_ms: now_ms(),
            })?;
            let epoch_ends = self.step.is_multiple_of(self.epoch_steps);
            if epoch_ends || self.step.is_multiple_of(u64::from(self.plan.settings.checkpoint_steps)) {
                self.save()?;
            }
            if epoch_ends {
                self.write_output(self.step / self.epoch_steps)?;
            }
        }
        Ok(Ended::Done)
    }

    /// One update: its loss, the length of its gradients, the tokens read, and its learning rate.
    fn update(&mut self) -> Result<(f64, f64, u64, f64)> {
        let s = &self.plan.settings;
        let sampler = Sampler {
            corpus: &self.corpus,
            tokenizer: &self.tokenizer,
            mask: self.checked.mask,
            sampling: self.checked.sampling,
            context_tokens: s.context_tokens as usize,
            seed: s.seed,
        };
        let (micro, accumulate) = (s.micro_batch as usize, s.accumulate as usize);
        let first = self.step * (micro * accumulate) as u64;
        let (batches, tokens) = sampler.batches(first, micro, accumulate, |id| self.device.writes(id))?;
        let labels: usize = batches.iter().map(|batch| batch.labels.iter().flatten().count()).sum();
        let lr = self.rate.at(self.step);
        let (mut total, mut norm) = (0.0, 0.0);
        if labels > 0 {
            for (number, batch) in batches.iter().enumerate() {
                let seed = s.seed ^ (self.step << 16 | number as u64);
                total += self.device.accumulate(batch, 1.0 / labels as f32, seed)?;
            }
            norm = self.device.gradient_norm()?;
            if !total.is_finite() || !norm.is_finite() {
                return Err(self.diverged(total));
            }
            let scale = if s.clip > 0.0 && norm > s.clip { s.clip / norm } else { 1.0 };
            self.device.update(&Step {
                number: self.step + 1,
                lr,
                beta1: s.beta1,
                beta2: s.beta2,
                epsilon: s.epsilon,
                weight_decay: s.weight_decay,
                scale,
            })?;
        }
        self.step += 1;
        self.tokens += tokens;
        self.loss = total / labels.max(1) as f64;
        Ok((self.loss, norm, tokens, lr))
    }

    fn diverged(&self, loss: f64) -> Error {
        let step = self.step + 1;
        let kept = saved::steps(&self.plan.dir).last().copied();
        let kept = kept.map_or("no checkpoint was written yet".to_owned(), |step| {
            format!("the checkpoint of update {step} is whole")
        });
        Error::invalid(format!(
            "update {step} gave the loss {loss}: the training diverged; {kept}. Start again with a smaller lr, clip or batch"
        ))
    }

    /// Writes a checkpoint of the present step.
    fn save(&self) -> Result<()> {
        let metadata = [
            ("step", self.step.to_string()),
            ("tokens", self.tokens.to_string()),
            ("loss", self.loss.to_string()),
            ("base", self.base_hash.clone()),
            ("data", self.corpus.hash()),
        ];
        saved::write(&self.plan.dir, self.step, &self.device.save()?, &metadata)
    }

    fn restore(&mut self) -> Result<()> {
        let Some((path, found)) = saved::newest(&self.plan.dir) else { return Ok(()) };
        let text = |key: &str| found.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        for (what, key, now) in
            [("base model", "base", self.base_hash.clone()), ("data", "data", self.corpus.hash())]
        {
            if text(key) != now {
                return Err(Error::Conflict {
                    message: format!("the {what} changed since the checkpoint of this job: start a new one"),
                });
            }
        }
        self.device.restore(&*checkpoint::open(&path)?)?;
        self.step = text("step").parse().unwrap_or(0);
        self.tokens = text("tokens").parse().unwrap_or(0);
        self.loss = text("loss").parse().unwrap_or(f64::NAN);
        Ok(())
    }

    /// Writes what was trained as `rwkv-EPOCH`, with its sidecar.
    fn write_output(&self, epoch: u64) -> Result<()> {
        let container = self.checked.container;
        let path = self.plan.dir.join(format!("rwkv-{epoch}.{}", container.ending()));
        // States are published in bf16; adapters stay exact, because PiSSA subtracts nearly equal products.
        let kind = if self.plan.settings.method == TuneMethod::State { Type::Bf16 } else { Type::F32 };
        let tensors = self.device.trained()?;
        container.write_all(&path, &tensors, kind, &[("format".to_owned(), "pt".to_owned())])?;
        Sidecar {
            settings: (&self.plan.settings).into(),
            base: self
                .plan
                .base
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            base_sha256: self.base_hash.clone(),
            data_sha256: self.corpus.hash(),
            documents: self.corpus.len() as u64,
            pissa_start: (self.plan.settings.method == TuneMethod::Pissa).then(|| PISSA_START.to_owned()),
            step: self.step,
            loss: self.loss,
        }
        .write(&path)
    }
}

/// Updates of an epoch.
pub(crate) fn epoch_steps(settings: &TuneSettings, documents: u64) -> u64 {
    match settings.epoch_steps {
        0 => documents.div_ceil(u64::from(settings.micro_batch) * u64::from(settings.accumulate)).max(1),
        steps => u64::from(steps),
    }
}

/// Memory of this process that is in use, where the system says.
fn memory_bytes() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Milliseconds since 1970 (UTC).
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

/// Metadata of a checkpoint.
pub(crate) type Metadata = serde_json::Map<String, serde_json::Value>;

pub(crate) fn metadata(path: &Path) -> Option<Metadata> {
    safetensors::metadata(path)
}

#[cfg(test)]
mod tests;
