//! A registry of models in memory: an in-use language model and whatever a test adds.

use super::*;

#[async_trait]
impl ModelRegistry for Fake {
    async fn models(&self) -> Result<ModelsNow> {
        let kept = self.kept();
        let mut entries = vec![ModelEntry {
            in_use: kept.chosen_model.is_none(),
            chosen: kept.chosen_model.is_none(),
            configured: true,
            online: true,
            ..entry("fake-rwkv", "fake.pth", &ModelSettings::default())
        }];
        entries.extend(kept.models.iter().cloned().map(|mut entry| {
            entry.in_use = kept.chosen_model.as_ref() == Some(&entry.name);
            entry.chosen = entry.in_use;
            entry
        }));
        Ok(ModelsNow { entries, memory_available: Some(1 << 30), ..ModelsNow::default() })
    }
    async fn add(&self, new: NewModel) -> Result<ModelEntry> {
        if new.path.contains("missing") {
            return Err(missing("file", &new.path));
        }
        let added = ModelEntry {
            kind: new.kind.unwrap_or(ModelKind::Language),
            sha256: new.sha256,
            ..entry(&new.name, &new.path, &new.settings)
        };
        self.kept().models.push(added.clone());
        Ok(added)
    }
    async fn change(&self, name: &str, change: ModelChange) -> Result<ModelEntry> {
        let mut kept = self.kept();
        let found = kept.models.iter_mut().find(|entry| entry.name == name);
        let found = found.ok_or_else(|| missing("model", name))?;
        found.online = change.online.unwrap_or(found.online);
        found.path = change.path.unwrap_or(found.path.clone());
        found.settings = change.settings.unwrap_or(found.settings.clone());
        Ok(found.clone())
    }
    async fn remove(&self, name: &str) -> Result<()> {
        let mut kept = self.kept();
        let at = kept.models.iter().position(|entry| entry.name == name);
        kept.models.remove(at.ok_or_else(|| missing("model", name))?);
        Ok(())
    }
    async fn choose(&self, kind: ModelKind, name: Option<&str>, when: When) -> Result<ModelsNow> {
        {
            let mut kept = self.kept();
            let name = name.ok_or_else(|| Error::invalid("a language model there must be"))?;
            let found = kept.models.iter().find(|entry| entry.name == name && entry.kind == kind);
            if !found.ok_or_else(|| missing("model", name))?.online {
                return Err(Error::Conflict { message: format!("{name} is offline") });
            }
            if when == When::Now {
                kept.chosen_model = Some(name.to_owned());
            }
        }
        self.models().await
    }
    async fn restart(&self) -> Result<ModelsNow> {
        self.models().await
    }
    async fn pull(&self, new: NewPull) -> Result<Pull> {
        if new.repository.contains("missing") {
            return Err(missing("repository", &new.repository));
        }
        let mut kept = self.kept();
        let pull = Pull {
            id: (kept.pulls.len() + 1).to_string(),
            repository: new.repository,
            revision: new.revision.unwrap_or_else(|| "main".to_owned()),
            name: new.name.unwrap_or_default(),
            state: PullState::Fetching,
            files: vec![PullFile { path: new.file.unwrap_or_default(), bytes: Some(1_000), done: 250 }],
            bytes_per_second: 50,
            message: Some("it broke off".to_owned()),
            started_ms: 1,
            ended_ms: None,
        };
        kept.pulls.push(pull.clone());
        Ok(pull)
    }
    async fn pulls(&self) -> Result<PullsNow> {
        Ok(PullsNow { pulls: self.kept().pulls.clone(), hub: "https://hub.example".to_owned() })
    }
    async fn stop_pull(&self, id: &str) -> Result<Pull> {
        let mut kept = self.kept();
        let found = kept.pulls.iter_mut().find(|pull| pull.id == id);
        let found = found.ok_or_else(|| missing("pull", id))?;
        if found.state.ended() {
            return Err(Error::Conflict { message: "it has ended".to_owned() });
        }
        (found.state, found.ended_ms) = (PullState::Stopped, Some(2));
        Ok(found.clone())
    }
}

fn entry(name: &str, path: &str, settings: &ModelSettings) -> ModelEntry {
    ModelEntry {
        name: name.to_owned(),
        kind: ModelKind::Language,
        path: path.to_owned(),
        settings: settings.clone(),
        online: false,
        configured: false,
        chosen: false,
        in_use: false,
        architecture: "RWKV-6 2 × 64".to_owned(),
        bytes: 7,
        memory_bytes: Some(9),
        sha256: None,
        problem: None,
        created_ms: 1,
    }
}
