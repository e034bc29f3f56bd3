//! Changes of what is known: adding, modifying, taking on- and offline, forgetting; and how models are listed.

use std::sync::{Arc, PoisonError};

use rag_core::ports::{ModelChange, ModelEntry, ModelKind, ModelsNow, NewModel, Variant};
use rag_core::{Error, Result};
use rag_engine::inspect;

use super::loading::add_state;
use super::shelf::{self, Known, MODELS_MAX, Stored};
use super::switch::profile;
use super::{Inner, blocking, files, now_ms};

impl Inner {
    pub(super) async fn add(self: Arc<Self>, new: NewModel) -> Result<ModelEntry> {
        let _one_at_a_time = self.changing.lock().await;
        files::check_name(&new.name)?;
        if self.shelf.get(&new.name).is_ok() {
            return Err(Error::Conflict { message: format!("there is a model '{}' already", new.name) });
        }
        self.check_base(&new.settings.base)?;
        let inner = self.clone();
        blocking(move || inner.register(new)).await
    }

    /// Reads the file and writes it down.
    fn register(&self, new: NewModel) -> Result<ModelEntry> {
        let path = files::permitted(&self.config, &new.path)?;
        let found = files::inspect_file(&self.config, &path, new.settings.quantize.as_deref())?;
        let mut known = Known {
            name: new.name,
            kind: new.kind.unwrap_or(found.kind),
            settings: new.settings,
            online: false,
            configured: false,
            seen: None,
            created_ms: now_ms(),
            path,
        };
        files::check_settings(&self.config, &known)?;
        if known.settings.licence.is_empty() {
            known.settings.licence = shelf::licence(&known.path);
        }
        let seen = files::see(&known.path)?;
        if let Some(wanted) = &new.sha256
            && !wanted.eq_ignore_ascii_case(&seen.sha256)
        {
            let found = &seen.sha256;
            return Err(Error::Conflict { message: format!("the file's SHA-256 is {found}, not {wanted}") });
        }
        known.seen = Some(seen);
        self.shelf.update(|book| {
            if book.models.len() >= MODELS_MAX {
                return Err(Error::Conflict {
                    message: format!("{MODELS_MAX} models are known: remove one"),
                });
            }
            book.models.insert(known.name.clone(), Stored::of(&known));
            Ok(())
        })?;
        Ok(files::entry(&self.config, &known))
    }

    fn check_base(&self, base: &Option<String>) -> Result<()> {
        let Some(base) = base else { return Ok(()) };
        let known = self.shelf.get(base)?;
        match known.kind {
            ModelKind::Language => Ok(()),
            other => Err(Error::invalid(format!("'{base}' is of kind {}, no base", other.name()))),
        }
    }

    pub(super) async fn change(self: Arc<Self>, name: String, change: ModelChange) -> Result<ModelEntry> {
        let _one_at_a_time = self.changing.lock().await;
        let held = self.changeable(&name)?;
        let mut known = held.clone();
        if let Some(settings) = change.settings {
            self.check_base(&settings.base)?;
            known.settings = settings;
        }
        if let Some(path) = change.path {
            let inner = self.clone();
            known = blocking(move || {
                let path = files::permitted(&inner.config, &path)?;
                let seen = Some(files::see(&path)?);
                Ok(Known { path, seen, ..known })
            })
            .await?;
        }
        known.online = change.online.unwrap_or(known.online);
        if !known.online && (self.is_loaded(&held) || self.is_chosen(&held)) {
            return Err(in_use(&name));
        }
        // What broke can still be taken offline.
        if known.online || known.settings != held.settings || known.path != held.path {
            let (inner, checked) = (self.clone(), known.clone());
            blocking(move || files::check_settings(&inner.config, &checked)).await?;
        }
        let goes_online = known.online && !held.online;
        let store = |known: &Known| {
            self.shelf.update(|book| {
                book.models.insert(known.name.clone(), Stored::of(known));
                Ok(())
            })
        };
        store(&known)?;
        if let Err(error) = self.offer(&known, goes_online).await {
            // An adapter or state that the model in use does not take stays as it was.
            store(&held)?;
            return Err(error);
        }
        let inner = self.clone();
        blocking(move || Ok(inner.listed(&known))).await
    }

    /// Lets requests name a state or an adapter of the model in use, or no longer.
    async fn offer(self: &Arc<Self>, known: &Known, goes_online: bool) -> Result<()> {
        let current = self.switch.current();
        let of_current = known.settings.base.as_ref() == Some(&current.name);
        match known.kind {
            ModelKind::State if goes_online => {
                let (language, state) = (self.shelf.get(&current.name)?, known.clone());
                let added = blocking(move || add_state(&current.model, &language, &state)).await;
                if of_current { added } else { Ok(()) }
            }
            ModelKind::State if !known.online => {
                let variant = Variant { state: Some(known.name.clone()), adapter: None };
                current.model.remove_profile(&profile(&variant));
                Ok(())
            }
            ModelKind::Adapter if goes_online && of_current => {
                drop(current);
                self.switch_to(self.target(None)?, true).await
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn remove(self: Arc<Self>, name: String) -> Result<()> {
        let _one_at_a_time = self.changing.lock().await;
        let known = self.changeable(&name)?;
        if self.is_loaded(&known) || self.is_chosen(&known) {
            return Err(in_use(&name));
        }
        let all = self.shelf.all();
        if let Some(user) = all.values().find(|other| other.settings.base.as_ref() == Some(&name)) {
            return Err(Error::Conflict {
                message: format!("'{}' was made for '{name}': remove it first", user.name),
            });
        }
        let gone = Known { online: false, ..known };
        self.offer(&gone, false).await?;
        self.shelf.update(|book| {
            book.models.remove(&name);
            Ok(())
        })
    }

    fn changeable(&self, name: &str) -> Result<Known> {
        let known = self.shelf.get(name)?;
        if known.configured {
            return Err(Error::Conflict {
                message: format!(
                    "'{name}' comes from the configuration ([models], [bus]) and is changed there"
                ),
            });
        }
        Ok(known)
    }

    fn is_chosen(&self, known: &Known) -> bool {
        self.shelf.chosen(known.kind).is_some_and(|chosen| chosen.name == known.name)
    }

    fn listed(&self, known: &Known) -> ModelEntry {
        ModelEntry {
            chosen: self.is_chosen(known),
            in_use: self.is_loaded(known),
            ..files::entry(&self.config, known)
        }
    }

    pub(super) async fn now(self: Arc<Self>) -> Result<ModelsNow> {
        self.hash_configured();
        blocking(move || {
            let entries = self.shelf.all().values().map(|known| self.listed(known)).collect();
            let status = self.status();
            Ok(ModelsNow {
                entries,
                memory_available: inspect::memory_available(),
                switching: status.switching.clone(),
                failure: status.failure.clone(),
                folder: self.config.models_dir().display().to_string(),
            })
        })
        .await
    }

    /// Reads configured models through for their hashes, beside everything else, once somebody looks.
    fn hash_configured(self: &Arc<Self>) {
        let stale = |known: &Known| {
            let seen = known.seen.as_ref().map(|seen| (seen.bytes, seen.modified_ms));
            known.configured && seen != shelf::stamp(&known.path).ok()
        };
        let wanted: Vec<Known> = self.shelf.all().into_values().filter(stale).collect();
        let mut hashing = self.hashing.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.is_empty() || std::mem::replace(&mut *hashing, true) {
            return;
        }
        let inner = self.clone();
        tokio::task::spawn_blocking(move || {
            for known in wanted {
                let seen = files::see(&known.path);
                let kept = seen.and_then(|seen| {
                    inner.shelf.update(|book| {
                        book.configured.insert(known.name.clone(), seen);
                        Ok(())
                    })
                });
                if let Err(error) = kept {
                    tracing::debug!(model = known.name, %error, "no hash");
                }
            }
            *inner.hashing.lock().unwrap_or_else(PoisonError::into_inner) = false;
        });
    }
}

fn in_use(name: &str) -> Error {
    Error::Conflict { message: format!("'{name}' is in use or chosen: choose another one first") }
}
