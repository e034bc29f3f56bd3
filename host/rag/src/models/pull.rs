//! Fetches models from a hub, several files at a time under one name, and registers them when they are whole.

mod fetch;
mod hub;
#[cfg(test)]
mod tests;
mod way;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rag_core::ports::{ModelChange, NewModel, NewPull, Pull, PullFile, PullState, PullsNow};
use rag_core::{Error, Result};
use rag_engine::inspect;
use tokio::task::AbortHandle;

use super::{Inner, blocking, files, now_ms};
use crate::config::Config;
use crate::egress::{Egress, SystemLookup};
use fetch::{Terms, Watch, storage};
use hub::{Hash, Plan, Remote};
use way::Way;

/// Pulls at once; more are refused.
const RUNNING_MAX: usize = 4;
/// Ended ones that are remembered.
const ENDED_MAX: usize = 32;
/// What speed is an average of.
const SPEED_SPAN: Duration = Duration::from_secs(5);
/// What is known of a folder while it is being fetched ends so.
const STAGING: &str = ".part";

/// How downloads wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Silence that counts as a break.
    silence: Duration,
    /// Before trying again, times the number of breaks in a row.
    pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { silence: Duration::from_secs(60), pause: Duration::from_secs(2) }
    }
}

/// Pulls of this process.
#[derive(Default)]
pub(super) struct Pulls {
    list: Mutex<VecDeque<Tracked>>,
    begun: AtomicU64,
    patience: Patience,
}

struct Tracked {
    pull: Pull,
    abort: Option<AbortHandle>,
}

impl Pulls {
    fn list(&self) -> MutexGuard<'_, VecDeque<Tracked>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, id: &str, change: impl FnOnce(&mut Pull)) {
        if let Some(found) = self.list().iter_mut().find(|tracked| tracked.pull.id == id) {
            change(&mut found.pull);
        }
    }

    /// Makes room for one more and lists it.
    fn begin(&self, new: &NewPull) -> Result<Pull> {
        let mut list = self.list();
        let running = || list.iter().filter(|tracked| !tracked.pull.state.ended());
        if running().count() >= RUNNING_MAX {
            return Err(Error::Busy { what: "fetching models", limit: RUNNING_MAX });
        }
        let same = |other: &Pull| {
            other.repository == new.repository || new.name.as_ref().is_some_and(|name| *name == other.name)
        };
        // Files of one repository may have one name; one after the other is simple and fast enough.
        if let Some(other) = running().find(|tracked| same(&tracked.pull)) {
            return Err(Error::Conflict {
                message: format!("'{}' is being fetched (pull {})", other.pull.repository, other.pull.id),
            });
        }
        while list.iter().filter(|tracked| tracked.pull.state.ended()).count() >= ENDED_MAX {
            let oldest = list.iter().rposition(|tracked| tracked.pull.state.ended());
            oldest.and_then(|oldest| list.remove(oldest));
        }
        let pull = Pull {
            id: (self.begun.fetch_add(1, Ordering::Relaxed) + 1).to_string(),
            repository: new.repository.clone(),
            revision: new.revision.clone().unwrap_or_else(|| "main".to_owned()),
            name: new.name.clone().unwrap_or_default(),
            state: PullState::Asking,
            files: Vec::new(),
            bytes_per_second: 0,
            message: None,
            started_ms: now_ms(),
            ended_ms: None,
        };
        list.push_front(Tracked { pull: pull.clone(), abort: None });
        Ok(pull)
    }

    fn end(&self, id: &str, outcome: Result<()>) {
        self.update(id, |pull| {
            if pull.state.ended() {
                return;
            }
            pull.ended_ms = Some(now_ms());
            pull.bytes_per_second = 0;
            (pull.state, pull.message) = match outcome {
                Ok(()) => (PullState::Done, None),
                Err(error) => (PullState::Failed, Some(error.to_string())),
            };
        });
    }
}

impl Inner {
    pub(super) fn pull(self: &Arc<Self>, new: NewPull) -> Result<Pull> {
        if self.config.models.hub.is_empty() {
            return Err(Error::Unsupported {
                message: "no hub is configured (setting models.hub): put the file into the models folder and add it"
                    .to_owned(),
            });
        }
        if let Some(name) = &new.name {
            self.check_new(name)?;
        }
        if new.sha256.as_deref().is_some_and(|given| !matches!(hub::as_hash(given), Hash::Sha256(_))) {
            return Err(Error::invalid("a SHA-256 has 64 hexadecimal digits"));
        }
        let pull = self.pulls.begin(&new)?;
        let (inner, id) = (self.clone(), pull.id.clone());
        let task = tokio::spawn(async move {
            let outcome = inner.run_pull(&id, new).await;
            if let Err(error) = &outcome {
                tracing::warn!(pull = id, %error, "a model was not fetched");
            }
            inner.pulls.end(&id, outcome);
        });
        let mut list = self.pulls.list();
        if let Some(found) = list.iter_mut().find(|tracked| tracked.pull.id == pull.id) {
            found.abort = Some(task.abort_handle());
        }
        Ok(pull)
    }

    pub(super) fn pulls_now(&self) -> PullsNow {
        let pulls = self.pulls.list().iter().map(|tracked| tracked.pull.clone()).collect();
        PullsNow { pulls, hub: self.config.models.hub.clone() }
    }

    pub(super) fn stop_pull(&self, id: &str) -> Result<Pull> {
        let mut list = self.pulls.list();
        let found = list.iter_mut().find(|tracked| tracked.pull.id == id);
        let found = found.ok_or_else(|| Error::NotFound { what: "pull", name: id.to_owned() })?;
        if !matches!(found.pull.state, PullState::Asking | PullState::Fetching) {
            let state = found.pull.state.name();
            return Err(Error::Conflict { message: format!("pull {id} is {state} and cannot be stopped") });
        }
        if let Some(abort) = &found.abort {
            abort.abort();
        }
        (found.pull.state, found.pull.ended_ms) = (PullState::Stopped, Some(now_ms()));
        found.pull.bytes_per_second = 0;
        Ok(found.pull.clone())
    }

    /// That a name may be given to a new model.
    fn check_new(&self, name: &str) -> Result<()> {
        files::check_name(name)?;
        match self.shelf.get(name) {
            Ok(_) => Err(Error::Conflict { message: format!("there is a model '{name}' already") }),
            Err(_) => Ok(()),
        }
    }

    async fn run_pull(self: &Arc<Self>, id: &str, new: NewPull) -> Result<()> {
        let pulls = &self.pulls;
        let egress = Egress::new(self.config.egress.clone(), Arc::new(SystemLookup));
        let way = Way::new(&egress, &self.config.models.hub, pulls.patience.silence)?;
        let revision = new.revision.as_deref().unwrap_or("main");
        let mut plan = hub::plan(&way, &new.repository, revision, new.file.as_deref()).await?;
        hold_to(&mut plan, new.sha256.as_deref())?;
        let name = new.name.clone().unwrap_or_else(|| name_of(&plan));
        self.check_new(&name)?;
        pulls.update(id, |pull| {
            pull.state = PullState::Fetching;
            (pull.name, pull.revision) = (name.clone(), plan.commit.clone());
            let file = |file: &Remote| PullFile { path: file.path.clone(), bytes: file.bytes, done: 0 };
            pull.files = plan.files.iter().map(file).collect();
        });
        let path = self.bring(id, &way, &plan).await?;
        pulls.update(id, |pull| (pull.state, pull.message) = (PullState::Registering, None));
        let mut settings = new.settings;
        settings.source = format!("{} {}", self.config.models.hub, plan.source).chars().take(500).collect();
        if settings.licence.is_empty() {
            settings.licence.clone_from(&plan.licence);
        }
        let path = path.display().to_string();
        self.clone().add(NewModel { name: name.clone(), kind: None, path, sha256: None, settings }).await?;
        if new.online {
            let change = ModelChange { online: Some(true), ..ModelChange::default() };
            self.clone().change(name, change).await?;
        }
        Ok(())
    }

    /// Fetches what is missing; returns where the file or folder is.
    async fn bring(&self, id: &str, way: &Way, plan: &Plan) -> Result<PathBuf> {
        let folder = downloads(&self.config)?;
        let target = folder.join(&plan.target);
        if target.exists() {
            let (found, plan) = (target.clone(), plan.clone());
            blocking(move || already(&found, &plan)).await?;
            self.pulls.update(id, |pull| {
                pull.files.iter_mut().for_each(|file| file.done = file.bytes.unwrap_or(0));
            });
            return Ok(target);
        }
        let staging = folder.join(format!(".{}.{}{STAGING}", plan.target, plan.commit));
        forget_others(&folder, &plan.target, &staging)?;
        for (index, remote) in plan.files.iter().enumerate() {
            let here = staging.join(&remote.path);
            if plan.is_folder && index + 1 == plan.files.len() {
                // Before gigabytes of weights come.
                inspect::configured(&staging)?;
            }
            let watch = Progress::new(&self.pulls, id, index);
            let (checked, hash) = (here.clone(), remote.hash.clone());
            if here.is_file() && blocking(move || fetch::is(&checked, &hash)).await? {
                watch.at(remote.bytes.unwrap_or(0), remote.bytes);
                continue;
            }
            let terms = Terms {
                pause: self.pulls.patience.pause,
                spare: self.config.data.disk_free_min_bytes,
                watch: &watch,
            };
            fetch::fetch(way, remote, &here, &terms).await?;
        }
        let whole = if plan.is_folder { staging.clone() } else { staging.join(&plan.target) };
        fs_err::rename(whole, &target).map_err(storage)?;
        if !plan.is_folder {
            fs_err::remove_dir(staging).map_err(storage)?;
        }
        Ok(target)
    }
}

/// Where fetched models are kept.
fn downloads(config: &Config) -> Result<PathBuf> {
    let folder = config.downloads_dir().map_err(|error| Error::invalid(error.to_string()))?;
    fs_err::create_dir_all(&folder).map_err(storage)?;
    fs_err::canonicalize(folder).map_err(storage)
}

/// That every file of the weights has a hash, and the one that was given.
fn hold_to(plan: &mut Plan, sha256: Option<&str>) -> Result<()> {
    // The weights come last.
    let Some(weights) = plan.files.last_mut() else {
        return Err(Error::internal("nothing to fetch"));
    };
    let path = &weights.path;
    match (&weights.hash, sha256) {
        (Hash::Sha256(told), Some(wanted)) if !told.eq_ignore_ascii_case(wanted) => {
            Err(Error::Conflict { message: format!("the hub tells SHA-256 {told} of {path}, not {wanted}") })
        }
        (Hash::Untold, None) => Err(Error::invalid(format!(
            "the hub tells no hash of {path}: give its SHA-256 (--sha256), from somebody you trust"
        ))),
        (_, Some(wanted)) => {
            weights.hash = Hash::Sha256(wanted.to_ascii_lowercase());
            Ok(())
        }
        (_, None) => Ok(()),
    }
}

/// That what is there from before is exactly this.
fn already(target: &Path, plan: &Plan) -> Result<()> {
    let other = || {
        Err(Error::Conflict {
            message: format!("{} is there already and is something else: move it away", target.display()),
        })
    };
    if target.is_dir() != plan.is_folder {
        return other();
    }
    for remote in &plan.files {
        let file = if plan.is_folder { target.join(&remote.path) } else { target.to_owned() };
        if !file.is_file() || !fetch::is(&file, &remote.hash)? {
            return other();
        }
    }
    Ok(())
}

/// Removes what pulls of other commits left.
fn forget_others(folder: &Path, target: &str, staging: &Path) -> Result<()> {
    let begins = format!(".{target}.");
    for entry in fs_err::read_dir(folder).map_err(storage)? {
        let path = entry.map_err(storage)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // What stands between is a commit, so that another name that begins alike is left alone.
        let commit = name.strip_prefix(&begins).and_then(|rest| rest.strip_suffix(STAGING));
        let other = commit.is_some_and(|commit| commit.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        if other && path != staging && path.is_dir() {
            fs_err::remove_dir_all(path).map_err(storage)?;
        }
    }
    Ok(())
}

/// A model's name after its file or repository.
fn name_of(plan: &Plan) -> String {
    let stem = match plan.is_folder {
        true => plan.target.as_str(),
        false => plan.target.rsplit_once('.').map_or(plan.target.as_str(), |(stem, _)| stem),
    };
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = stem.chars().map(plain).take(64).collect();
    name.trim_start_matches(['.', '-']).to_owned()
}

/// Writes down how far one file of a pull is.
struct Progress<'a> {
    pulls: &'a Pulls,
    id: &'a str,
    index: usize,
    /// When the present span began, and what was here then.
    since: Mutex<Option<(Instant, u64)>>,
}

impl<'a> Progress<'a> {
    fn new(pulls: &'a Pulls, id: &'a str, index: usize) -> Self {
        Progress { pulls, id, index, since: Mutex::new(None) }
    }

    fn speed(&self, done: u64) -> Option<u64> {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (began, from) = *since.get_or_insert((now, done));
        let span = now - began;
        if span >= SPEED_SPAN {
            *since = Some((now, done));
        }
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        // Of a span that has only begun nothing can be said.
        (millis >= 500).then(|| done.saturating_sub(from).saturating_mul(1_000) / millis)
    }
}

impl Watch for Progress<'_> {
    fn at(&self, done: u64, bytes: Option<u64>) {
        let speed = self.speed(done);
        self.pulls.update(self.id, |pull| {
            if let Some(file) = pull.files.get_mut(self.index) {
                (file.done, file.bytes) = (done, bytes);
            }
            pull.bytes_per_second = speed.unwrap_or(pull.bytes_per_second);
        });
    }

    fn broke(&self, error: Option<&Error>) {
        self.pulls.update(self.id, |pull| pull.message = error.map(ToString::to_string));
    }
}
