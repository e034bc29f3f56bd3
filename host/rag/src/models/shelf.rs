//! What is known of each model and what was chosen: kept in one JSON file that processes of one machine may share.
//!
//! Models of the configuration stand beside those that were added; of two with one name the configured one counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rag_core::Error;
use rag_core::ports::{ModelKind, ModelSettings};
use rag_engine::encoder::folder;
use serde::{Deserialize, Serialize};

use crate::assemble;
use crate::config::Config;

/// Models that can be added.
pub(super) const MODELS_MAX: usize = 256;

/// A model as it is known, whether or not its file is there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) kind: ModelKind,
    pub(crate) path: PathBuf,
    pub(crate) settings: ModelSettings,
    pub(crate) online: bool,
    pub(crate) configured: bool,
    pub(crate) seen: Option<Seen>,
    pub(crate) created_ms: i64,
}

/// A file as it was when it was read through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
    pub(crate) modified_ms: i64,
}

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Book {
    pub(super) models: BTreeMap<String, Stored>,
    /// By kind; none is none at all.
    pub(super) chosen: BTreeMap<String, Option<String>>,
    /// Of configured models, by name.
    pub(super) configured: BTreeMap<String, Seen>,
}

/// An added model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    kind: String,
    path: PathBuf,
    online: bool,
    seen: Option<Seen>,
    created_ms: i64,
    licence: String,
    source: String,
    quantize: Option<String>,
    demonstration: bool,
    base: Option<String>,
    adapter_alpha: Option<f64>,
    adapter_start: Option<String>,
}

/// The file, and what the configuration adds to it.
pub(super) struct Shelf {
    file: PathBuf,
    configured: Vec<Known>,
    kept: Mutex<Kept>,
}

struct Kept {
    book: Book,
    /// When the file that `book` came from was written.
    modified: Option<SystemTime>,
}

impl Shelf {
    /// Reads the file; one that is not there is empty.
    pub(super) fn open(config: &Config) -> Result<Self> {
        let file = match config.models.registry.as_os_str().is_empty() {
            true => config.data_dir()?.join("models.json"),
            false => config.models.registry.clone(),
        };
        let kept = Mutex::new(read(&file)?);
        Ok(Shelf { file, configured: configured(config), kept })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every model by name.
    pub(super) fn all(&self) -> BTreeMap<String, Known> {
        let book = &self.kept().book;
        let mut all: BTreeMap<_, _> = book
            .models
            .iter()
            .filter_map(|(name, stored)| Some((name.clone(), stored.known(name)?)))
            .collect();
        for known in &self.configured {
            let seen = book.configured.get(&known.name).cloned();
            all.insert(known.name.clone(), Known { seen, ..known.clone() });
        }
        all
    }

    pub(super) fn get(&self, name: &str) -> rag_core::Result<Known> {
        self.all().remove(name).ok_or_else(|| Error::NotFound { what: "model", name: name.to_owned() })
    }

    /// The chosen model of a kind while it is online, else the configured one.
    pub(super) fn chosen(&self, kind: ModelKind) -> Option<Known> {
        let all = self.all();
        let choice = self.kept().book.chosen.get(kind.name()).cloned();
        match choice {
            Some(None) => return None,
            Some(Some(name)) => {
                let found = all.get(&name).filter(|known| known.kind == kind && known.online);
                if found.is_some() {
                    return found.cloned();
                }
                tracing::warn!(
                    model = name,
                    "the chosen model is gone or offline; the configured one is used"
                );
            }
            None => {}
        }
        self.default(kind).and_then(|name| all.get(&name).cloned())
    }

    /// The configured model of a kind: the first of its kind.
    pub(super) fn default(&self, kind: ModelKind) -> Option<String> {
        self.configured.iter().find(|known| known.kind == kind).map(|known| known.name.clone())
    }

    /// Changes the book as it stands in the file now, whoever wrote it last, and writes it.
    pub(super) fn update<T>(
        &self,
        change: impl FnOnce(&mut Book) -> rag_core::Result<T>,
    ) -> rag_core::Result<T> {
        let mut kept = self.kept();
        let failed = |error: anyhow::Error| Error::Storage { message: format!("{error:#}") };
        let lock = self.lock().map_err(failed)?;
        let mut now = read(&self.file).map_err(failed)?;
        let changed = change(&mut now.book)?;
        write(&self.file, &now.book).map_err(failed)?;
        now.modified = modified(&self.file);
        *kept = now;
        drop(lock);
        Ok(changed)
    }

    /// Reads the file again when somebody else wrote it; whether it was so.
    pub(super) fn refresh(&self) -> Result<bool> {
        let mut kept = self.kept();
        if modified(&self.file) == kept.modified {
            return Ok(false);
        }
        *kept = read(&self.file)?;
        Ok(true)
    }

    /// Held while the file is changed; another process waits.
    fn lock(&self) -> Result<fs_err::File> {
        if let Some(folder) = self.file.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let lock = fs_err::File::create(self.file.with_extension("lock"))?;
        lock.file().lock().with_context(|| format!("{} cannot be locked", self.file.display()))?;
        Ok(lock)
    }
}

fn read(file: &Path) -> Result<Kept> {
    let modified = modified(file);
    let text = match fs_err::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Kept { book: Book::default(), modified: None });
        }
        Err(error) => return Err(error.into()),
    };
    let book = serde_json::from_slice(&text)
        .with_context(|| format!("{} is damaged: repair it or move it away", file.display()))?;
    Ok(Kept { book, modified })
}

/// Beside, then renamed: the file is whole at any time.
fn write(file: &Path, book: &Book) -> Result<()> {
    let beside = file.with_extension("new");
    let new = fs_err::File::create(&beside)?;
    serde_json::to_writer_pretty(&new, book)?;
    new.sync_all()?;
    Ok(fs_err::rename(beside, file)?)
}

fn modified(file: &Path) -> Option<SystemTime> {
    fs_err::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

/// A file's size and time, without reading it; of an encoder's folder, those of its files together.
pub(super) fn stamp(path: &Path) -> std::io::Result<(u64, i64)> {
    if !path.is_dir() {
        let metadata = fs_err::metadata(path)?;
        return Ok((metadata.len(), ms(metadata.modified()?)));
    }
    let (mut bytes, mut newest) = (0, 0);
    for (_, file) in folder::files(path).map_err(std::io::Error::other)? {
        let (size, modified) = stamp(&file)?;
        (bytes, newest) = (bytes + size, newest.max(modified));
    }
    Ok((bytes, newest))
}

pub(super) fn ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The models that the configuration names: those in use first, then those that clients may name.
fn configured(config: &Config) -> Vec<Known> {
    let models = &config.models;
    let mut found: Vec<Known> = Vec::new();
    let mut push = |kind: ModelKind, name: Option<&str>, file: &Path, settings: ModelSettings| {
        if file.as_os_str().is_empty() {
            return;
        }
        let path = config.models_dir().join(file);
        let mut name = name.map_or_else(|| assemble::model_name(&path), str::to_owned);
        if found.iter().any(|known| known.name == name) {
            name = format!("{name}-{}", kind.name());
        }
        let settings =
            ModelSettings { licence: licence(&path), source: "configuration".to_owned(), ..settings };
        let (online, configured) = (true, true);
        found.push(Known { name, kind, path, settings, online, configured, seen: None, created_ms: 0 });
    };
    let base = Some(assemble::stem(&models.language));
    let quantize = (!models.quantize.is_empty()).then(|| models.quantize.clone());
    let language =
        ModelSettings { quantize, demonstration: models.demonstration, ..ModelSettings::default() };
    let start = &models.adapter_start;
    let adapter = ModelSettings {
        base: base.clone(),
        adapter_alpha: (models.adapter_alpha != 0.0).then_some(models.adapter_alpha),
        adapter_start: (!start.as_os_str().is_empty())
            .then(|| config.models_dir().join(start).display().to_string()),
        ..ModelSettings::default()
    };
    push(ModelKind::Language, None, &models.language, language.clone());
    push(ModelKind::Encoder, None, &models.encoder, ModelSettings::default());
    push(ModelKind::Reranker, None, &models.reranker, ModelSettings::default());
    push(ModelKind::State, None, &models.state, ModelSettings { base, ..ModelSettings::default() });
    push(ModelKind::Adapter, None, &models.adapter, adapter);
    for (name, file) in &config.bus.base_models {
        push(ModelKind::Language, Some(name), file, language.clone());
    }
    found
}

/// The first line of `NAME.LICENSE` beside a file or folder; empty where there is none.
pub(super) fn licence(path: &Path) -> String {
    let text = fs_err::read_to_string(path.with_extension("LICENSE")).unwrap_or_default();
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().chars().take(200).collect()
}

impl Stored {
    pub(super) fn of(known: &Known) -> Self {
        let settings = known.settings.clone();
        Stored {
            kind: known.kind.name().to_owned(),
            path: known.path.clone(),
            online: known.online,
            seen: known.seen.clone(),
            created_ms: known.created_ms,
            licence: settings.licence,
            source: settings.source,
            quantize: settings.quantize,
            demonstration: settings.demonstration,
            base: settings.base,
            adapter_alpha: settings.adapter_alpha,
            adapter_start: settings.adapter_start,
        }
    }

    /// None for a kind that a later version knows.
    fn known(&self, name: &str) -> Option<Known> {
        let settings = ModelSettings {
            licence: self.licence.clone(),
            source: self.source.clone(),
            quantize: self.quantize.clone(),
            demonstration: self.demonstration,
            base: self.base.clone(),
            adapter_alpha: self.adapter_alpha,
            adapter_start: self.adapter_start.clone(),
        };
        Some(Known {
            name: name.to_owned(),
            kind: ModelKind::parse(&self.kind)?,
            path: self.path.clone(),
            settings,
            online: self.online,
            configured: false,
            seen: self.seen.clone(),
            created_ms: self.created_ms,
        })
    }
}
