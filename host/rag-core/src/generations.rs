//! How the plugins of a knowledge base change while it answers.
//!
//! pin → try → stage → fill a second index where the change needs one (a job, `reindex`) → compare with what is live →
//! publish, in one transaction → probation → the index before the last goes. A request keeps the generation that it
//! began with; the way back is one transaction as well.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::compare;
use crate::error::{Error, ErrorCode, PluginFault, Result};
use crate::kb::{Kb, KbName, KbParts, KbSettings, PluginChoice};
use crate::limits;
use crate::ports::{
    Binding, Generation, GenerationState, JobKind, JobState, NewGeneration, PluginInfo, UnusedIndex, kb_with,
};
use crate::rag::Rag;

/// What is to change; what is none stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SwapRequest {
    /// The generation that must be live; none takes whichever is.
    pub expected: Option<u64>,
    pub chunker: Option<PluginChoice>,
    pub store: Option<PluginChoice>,
    pub retriever: Option<PluginChoice>,
    /// Fixes the versions of these parsers.
    pub parsers: Vec<PluginChoice>,
    /// Ids of parsers that are fixed no longer: the newest version reads again, and one that sends documents out no more.
    pub release: Vec<String>,
    /// Encoder of the registry; none within is the one for all. Documents are embedded anew when the index was made
    /// with another one, be it under the same name.
    pub encoder: Option<Option<String>>,
    /// Whether it is published as soon as it is ready; otherwise somebody looks at the comparison first.
    pub publish: bool,
}

impl Rag {
    /// Stages a generation with other plugins. One that needs no other index is ready, or live, on return; otherwise a
    /// job fills the second index and the live one goes on answering.
    pub async fn swap(&self, name: &str, request: SwapRequest) -> Result<Generation> {
        let kb = self.kb(name).await?;
        expect(&kb, request.expected)?;
        let publish = request.publish;
        let embeds = request.encoder.is_some();
        let current = kb.settings.parts();
        let parts = self.pinned(&current, request).await?;
        let embeds_anew = embeds && self.embeds_otherwise(&kb, &parts);
        if parts == current && !embeds_anew {
            return Err(Error::Conflict {
                message: format!(
                    "knowledge base '{name}' binds exactly these plugins and this encoder already"
                ),
            });
        }
        self.check_settings(&kb.name, &kb.settings.clone().with_parts(parts.clone())).await?;
        if parts.store != current.store {
            self.bindings.store_of(&kb, &parts.store, &format!("{name}-probe")).await?.ping().await?;
        }
        let new_index = embeds_anew || !parts.indexes_like(&current);
        let new = NewGeneration { parent: kb.generation, parts, new_index, publish };
        let staged = self.records.stage_generation(&kb.name, &new).await?;
        if new_index && kb.documents > 0 {
            return self.start_reindex(&kb.name, staged.number).await;
        }
        self.prove(&kb, &staged).await
    }

    /// Makes a ready generation the live one. When documents came meanwhile, they are added to its index first.
    pub async fn publish(&self, name: &str, number: u64) -> Result<Generation> {
        let kb = self.kb(name).await?;
        let staged = self.records.generation(&kb.name, number).await?;
        // Its first question need not wait for this.
        self.bindings.bind(&kb_with(&kb, &staged)).await?;
        let published = self.records.publish_generation(&kb.name, number, limits::PROBATION_MS).await?;
        if published.state == GenerationState::Building {
            return self.start_reindex(&kb.name, number).await;
        }
        sweep(self, &kb.name).await?;
        Ok(published)
    }

    /// Goes back to the plugins and the index before the live ones, at once. Documents that came or changed since are
    /// ingested again.
    pub async fn roll_back(&self, name: &str, expected: Option<u64>, reason: &str) -> Result<Generation> {
        let kb = self.kb(name).await?;
        expect(&kb, expected)?;
        let live = self.records.roll_back(&kb.name, kb.generation, reason, false).await?;
        (self.wake_jobs)();
        Ok(live)
    }

    /// Gives a staged generation up, with its job and its index.
    pub async fn abandon(&self, name: &str, number: u64, reason: &str) -> Result<Generation> {
        let kb = self.kb(name).await?;
        let ended = self.records.end_generation(&kb.name, number, GenerationState::Abandoned, reason).await?;
        if let Some(job) = &ended.job {
            match self.cancel(job).await {
                // It ended so long ago that it is forgotten.
                Err(error) if error.code() == ErrorCode::NotFound => {}
                result => result.map(|_| ())?,
            }
        }
        sweep(self, &kb.name).await?;
        Ok(ended)
    }

    /// Takes a component out of the host. `Conflict` names the knowledge bases that mean it, live, one step back or staged.
    pub async fn remove_plugin(&self, digest: &str) -> Result<()> {
        let installed = self.bindings.installed().into_iter();
        let missing = || Error::NotFound { what: "plugin", name: digest.to_owned() };
        let (_, plugin) = installed.into_iter().find(|(_, one)| one.digest == digest).ok_or_else(missing)?;
        let users = users_of(self, &plugin).await?;
        if !users.is_empty() {
            let users: Vec<&str> = users.iter().map(KbName::as_str).collect();
            return Err(Error::Conflict {
                message: format!(
                    "plugin {} {} is bound by {}; swap it there first, and let go of the generation before",
                    plugin.id,
                    plugin.version,
                    users.join(", ")
                ),
            });
        }
        self.bindings.remove(digest).await
    }

    /// Parts for a new or changed knowledge base: each the version that is meant today.
    pub(crate) async fn pinned(&self, current: &KbParts, change: SwapRequest) -> Result<KbParts> {
        let mut parts = current.clone();
        for (kind, wanted, part) in [
            ("chunker", change.chunker, &mut parts.chunker),
            ("vector-store", change.store, &mut parts.store),
            ("retriever", change.retriever, &mut parts.retriever),
        ] {
            if let Some(wanted) = wanted {
                *part = self.bindings.pin(kind, &wanted).await?;
            }
        }
        for id in change.release {
            let fixed = parts.parsers.len();
            parts.parsers.retain(|parser| parser.id != id);
            if parts.parsers.len() == fixed {
                return Err(Error::NotFound { what: "fixed parser", name: id });
            }
        }
        for wanted in change.parsers {
            let pinned = self.bindings.pin("parser", &wanted).await?;
            parts.parsers.retain(|parser| parser.id != pinned.id);
            parts.parsers.push(pinned);
        }
        parts.parsers.sort_by(|a, b| a.id.cmp(&b.id));
        if let Some(wanted) = change.encoder {
            parts.encoder = match wanted {
                Some(name) => Some(self.bindings.pin_encoder(&name).await?),
                None => None,
            };
        }
        Ok(parts)
    }

    /// Whether the index holds vectors of another encoder than these parts mean.
    fn embeds_otherwise(&self, kb: &Kb, parts: &KbParts) -> bool {
        let meant = match &parts.encoder {
            Some(choice) => choice.identity.as_deref(),
            None => Some(self.embedder.identity()),
        };
        kb.embedder.as_ref().is_some_and(|held| meant.is_some_and(|meant| meant != held.identity))
    }

    /// Changes settings of a knowledge base; other plugins or another encoder among them are a swap that publishes itself.
    pub(crate) async fn update(&self, kb: &Kb, settings: KbSettings) -> Result<Kb> {
        let current = &kb.settings;
        let encoder = |settings: &KbSettings| settings.encoder.as_ref().map(|encoder| encoder.name.clone());
        let other = |new: &PluginChoice, old: &PluginChoice| {
            // The same plugin keeps its version until another one is asked for.
            let digest = new.digest.clone().or_else(|| old.digest.clone().filter(|_| new.id == old.id));
            let new = PluginChoice { digest, ..new.clone() };
            (new != *old).then_some(new)
        };
        let request = SwapRequest {
            expected: Some(kb.generation),
            chunker: other(&settings.chunker, &current.chunker),
            store: other(&settings.store, &current.store),
            retriever: other(&settings.retriever, &current.retriever),
            parsers: Vec::new(),
            release: Vec::new(),
            encoder: (encoder(&settings) != encoder(current)).then(|| encoder(&settings)),
            publish: true,
        };
        let swaps =
            SwapRequest { expected: None, publish: false, ..request.clone() } != SwapRequest::default();
        if let Some(reranker) =
            settings.reranker.as_ref().filter(|new| current.reranker.as_ref() != Some(new))
        {
            self.bindings.check_reranker(reranker).await?;
        }
        let answering = settings.with_parts(current.parts());
        if !swaps {
            self.check_settings(&kb.name, &answering).await?;
        } else {
            let staged = self.swap(kb.name.as_str(), request).await?;
            if let (GenerationState::Failed, Some(reason)) = (staged.state, staged.reason) {
                return Err(Error::Conflict { message: reason });
            }
        }
        self.catalog.update_kb(&kb.name, &answering).await
    }

    async fn start_reindex(&self, kb: &KbName, number: u64) -> Result<Generation> {
        let job = match self.enqueue(kb, &JobKind::Reindex(number)).await {
            Ok(job) => job,
            Err(error) => {
                let reason = format!("its index could not be filled: {error}");
                self.records.end_generation(kb, number, GenerationState::Failed, &reason).await?;
                return Err(error);
            }
        };
        let staged = self.records.assign_generation(kb, number, &job.id).await?;
        self.prioritise(job, limits::PRIORITY_REINDEX).await?;
        Ok(staged)
    }

    /// Compares a complete generation with the live one; then it is ready, and live if that was asked.
    pub(crate) async fn prove(&self, kb: &Kb, staged: &Generation) -> Result<Generation> {
        let report = compare::compare(self, kb, &kb_with(kb, staged)).await?;
        let failed = report.questions.iter().find_map(|question| question.error.clone());
        let ready = self.records.ready_generation(&kb.name, staged.number, &report).await?;
        if let Some(error) = failed {
            let reason = format!("it fails at questions that the live generation answers: {error}");
            return self
                .records
                .end_generation(&kb.name, staged.number, GenerationState::Failed, &reason)
                .await;
        }
        if ready.publish { self.publish(kb.name.as_str(), staged.number).await } else { Ok(ready) }
    }

    /// Counts a failure of a plugin; whether that was one too many for a generation on probation, which is live no more.
    pub(crate) async fn struck(&self, binding: &Binding, item: &str, error: &Error) -> Result<bool> {
        let Error::Plugin { plugin, fault, message } = error else { return Ok(false) };
        if matches!(fault, PluginFault::Guest(_)) {
            return Ok(false);
        }
        let kb = &binding.kb;
        if self.strikes.count(&kb.name, kb.generation, item) <= limits::STRIKES_MAX {
            return Ok(false);
        }
        let reason = format!("plugin {plugin} failed too often: {message}");
        match self.blamed(kb, plugin).await? {
            true => match self.records.roll_back(&kb.name, kb.generation, &reason, true).await {
                Ok(_) => {
                    (self.wake_jobs)();
                    Ok(true)
                }
                // Somebody was quicker, or its probation is over.
                Err(error) if error.code() == ErrorCode::Conflict => Ok(false),
                Err(error) => Err(error),
            },
            false => Ok(false),
        }
    }

    /// Whether the live generation is the one that brought this plugin.
    async fn blamed(&self, kb: &Kb, plugin: &str) -> Result<bool> {
        let live = self.records.generation(&kb.name, kb.generation).await?;
        let Some(parent) = live.parent else { return Ok(false) };
        let before = choices(&self.records.generation(&kb.name, parent).await?.parts);
        let brought = |choice: &PluginChoice| {
            plugin.split(' ').next() == Some(choice.id.as_str()) && !before.contains(choice)
        };
        Ok(choices(&live.parts).iter().any(brought))
    }
}

fn expect(kb: &Kb, expected: Option<u64>) -> Result<()> {
    match expected {
        Some(expected) if expected != kb.generation => Err(Error::Conflict {
            message: format!(
                "generation {} of knowledge base '{}' is live, not {expected}: look at it, then decide again",
                kb.generation, kb.name
            ),
        }),
        _ => Ok(()),
    }
}

fn choices(parts: &KbParts) -> Vec<PluginChoice> {
    let mut all = vec![parts.chunker.clone(), parts.store.clone(), parts.retriever.clone()];
    all.extend(parts.parsers.iter().cloned());
    all
}

/// The knowledge bases whose live, earlier or staged generation means a component, by name.
pub async fn users_of(rag: &Rag, plugin: &PluginInfo) -> Result<Vec<KbName>> {
    let mut users = Vec::new();
    for kb in rag.catalog.kbs().await? {
        let generations = rag.records.generations(&kb.name, limits::GENERATIONS_SHOWN).await?;
        let before = generations.iter().find(|one| one.number == kb.generation).and_then(|live| live.parent);
        let needed = |one: &&Generation| {
            one.number == kb.generation
                || Some(one.number) == before
                || matches!(one.state, GenerationState::Building | GenerationState::Ready)
        };
        let means = |choice: &PluginChoice| match &choice.digest {
            Some(digest) => *digest == plugin.digest,
            None => choice.id == plugin.id,
        };
        if generations.iter().filter(needed).any(|one| choices(&one.parts).iter().any(means)) {
            users.push(kb.name);
        }
    }
    Ok(users)
}

/// Removes indexes that no generation needs, from their vector stores and then from the catalogue. One that a request
/// still searches stays for the next time.
pub(crate) async fn sweep(rag: &Rag, name: &KbName) -> Result<()> {
    for UnusedIndex { collection, store } in rag.records.unused_indexes(name).await? {
        let kb = rag.catalog.kb(name).await?;
        if !rag.bindings.retire(&kb, &collection) {
            continue;
        }
        match rag.bindings.store_of(&kb, &store, &collection).await {
            Ok(store) => store.drop_collection(&collection).await?,
            // A store that is not installed any more keeps what it has.
            Err(error) if error.code() == ErrorCode::NotFound => {}
            Err(error) => return Err(error),
        }
        while rag.records.drop_index(name, &collection).await? {}
    }
    Ok(())
}

/// Sees to it that every knowledge base can be bound after a start. One whose live generation does not load goes back to
/// the one before. Returns what somebody should know, by knowledge base.
pub(crate) async fn recover(rag: &Rag, kb: &Kb) -> Result<Option<String>> {
    let Err(error) = rag.bindings.bind(kb).await else { return Ok(None) };
    let reason = format!("generation {} did not load at the start: {error}", kb.generation);
    match rag.records.roll_back(&kb.name, kb.generation, &reason, false).await {
        Ok(live) => Ok(Some(format!("{reason}; generation {} answers as before it", live.number))),
        Err(_) => Err(error),
    }
}

/// Goes on with a generation that was being made when the process ended, and that no job has: nobody else would.
pub(crate) async fn resume(rag: &Rag, kb: &Kb) -> Result<()> {
    let all = rag.records.generations(&kb.name, limits::GENERATIONS_SHOWN).await?;
    let goes_on = |one: &Generation| {
        one.state == GenerationState::Building || one.state == GenerationState::Ready && one.publish
    };
    let Some(staged) = all.into_iter().find(goes_on) else { return Ok(()) };
    if let Some(job) = &staged.job {
        match rag.catalog.job(job).await {
            Ok(job) if !matches!(job.state, JobState::Done { .. }) => return Ok(()),
            Err(error) if error.code() != ErrorCode::NotFound => return Err(error),
            _ => {}
        }
    }
    if staged.parent != Some(kb.generation) {
        let reason = format!("generation {} became live meanwhile", kb.generation);
        rag.records.end_generation(&kb.name, staged.number, GenerationState::Abandoned, &reason).await?;
    } else if staged.collection != kb.collection && kb.documents > 0 {
        rag.start_reindex(&kb.name, staged.number).await?;
    } else {
        rag.prove(kb, &staged).await?;
    }
    Ok(())
}

/// Failures of plugins lately, by knowledge base.
#[derive(Debug, Default)]
pub struct Strikes(Mutex<HashMap<KbName, Struck>>);

#[derive(Debug, Default)]
struct Struck {
    generation: u64,
    /// Each with what it happened at, so that one poisonous question or document counts once.
    items: VecDeque<(Instant, String)>,
}

/// Items remembered; more than ever decide.
const ITEMS_MAX: usize = 64;

impl Strikes {
    /// Counts one; returns at how many different items this generation failed within the window.
    fn count(&self, kb: &KbName, generation: u64, item: &str) -> usize {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let struck = all.entry(kb.clone()).or_default();
        if struck.generation != generation {
            *struck = Struck { generation, items: VecDeque::new() };
        }
        let window = Duration::from_millis(limits::STRIKE_WINDOW_MS);
        struck.items.retain(|(at, known)| at.elapsed() < window && known != item);
        struck.items.truncate(ITEMS_MAX);
        struck.items.push_front((Instant::now(), item.to_owned()));
        struck.items.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_item_strikes_once_and_a_new_generation_starts_anew() {
        let strikes = Strikes::default();
        let kb = KbName::parse("initial").unwrap();
        let count = |generation, item: &str| strikes.count(&kb, generation, item);
        assert_eq!(count(1, "a"), 1);
        assert_eq!(count(1, "a"), 1);
        assert_eq!(count(1, "b"), 2);
        assert_eq!(count(2, "c"), 1);
        for item in 0..200 {
            count(2, &item.to_string());
        }
        assert!(count(2, "last") <= ITEMS_MAX + 1);
    }
}
