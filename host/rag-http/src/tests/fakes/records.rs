//! Conversations, changes of documents, the queue's levers, and what of folders a test needs, in memory.

use super::*;

/// The conversations that are kept: key, title and rounds.
pub(crate) type KeptConversation = (ConversationKey, String, Vec<Round>);

#[async_trait]
impl Conversations for Fake {
    async fn conversations(&self, query: &ConversationQuery) -> Result<Vec<Conversation>> {
        let kept = self.catalog()?;
        let own = kept.conversations.iter().rev().filter(|(key, ..)| key.owner == query.owner);
        let of_kb = own.filter(|(key, ..)| query.kb.as_ref().is_none_or(|kb| key.kb == *kb));
        let worded = of_kb.filter(|(_, title, rounds)| {
            let said = |round: &Round| format!("{}\n{}", round.round.question, round.round.answer);
            let all = rounds.iter().map(said).fold(title.clone(), |all, round| all + "\n" + &round);
            query.words.as_ref().is_none_or(|words| all.contains(words))
        });
        Ok(worded.skip(query.skip as usize).take(query.limit as usize).map(shown).collect())
    }
    async fn conversation(&self, key: &ConversationKey) -> Result<Conversation> {
        let kept = self.catalog()?;
        let found = kept.conversations.iter().find(|(known, ..)| known == key);
        found.map(shown).ok_or_else(|| missing("conversation", &key.id))
    }
    async fn rename_conversation(&self, key: &ConversationKey, title: &str) -> Result<Conversation> {
        let mut kept = self.catalog()?;
        let found = kept.conversations.iter_mut().find(|(known, ..)| known == key);
        let found = found.ok_or_else(|| missing("conversation", &key.id))?;
        found.1 = title.to_owned();
        Ok(shown(found))
    }
    async fn delete_conversation(&self, key: &ConversationKey) -> Result<()> {
        let mut kept = self.catalog()?;
        kept.conversations.retain(|(known, ..)| known != key);
        kept.turns.retain(|(name, _)| *name != key.name());
        Ok(())
    }
    async fn append_round(&self, key: &ConversationKey, round: &NewRound) -> Result<u64> {
        let mut kept = self.catalog()?;
        if !kept.conversations.iter().any(|(known, ..)| known == key) {
            kept.conversations.push((key.clone(), round.question.clone(), Vec::new()));
        }
        if !round.refused {
            let turn = Turn { question: round.question.clone(), answer: round.answer.clone() };
            kept.turns.push((key.name(), turn));
        }
        let id = 1 + kept.conversations.iter().map(|(.., rounds)| rounds.len() as u64).sum::<u64>();
        let new = Round { id, round: round.clone(), mark: None, note: None, created_ms: 1 };
        if let Some(found) = kept.conversations.iter_mut().find(|(known, ..)| known == key) {
            found.2.push(new);
        }
        Ok(id)
    }
    async fn rounds(&self, key: &ConversationKey, before: Option<u64>, limit: u32) -> Result<Vec<Round>> {
        let kept = self.catalog()?;
        let own =
            kept.conversations.iter().filter(|(known, ..)| known == key).flat_map(|(.., rounds)| rounds);
        let mut own: Vec<Round> =
            own.filter(|round| before.is_none_or(|before| round.id < before)).cloned().collect();
        let surplus = own.len().saturating_sub(limit as usize);
        own.drain(..surplus);
        Ok(own)
    }
    async fn mark_round(
        &self,
        key: &ConversationKey,
        id: u64,
        mark: Option<Mark>,
        note: Option<&str>,
    ) -> Result<Round> {
        let mut kept = self.catalog()?;
        let own = kept.conversations.iter_mut().filter(|(known, ..)| known == key);
        let found = own.flat_map(|(.., rounds)| rounds).find(|round| round.id == id);
        let found = found.ok_or_else(|| missing("round", &id.to_string()))?;
        (found.mark, found.note) = (mark, note.map(str::to_owned));
        Ok(found.clone())
    }
    async fn marked_rounds(&self, kb: &KbName, _: Option<u64>, _: u32) -> Result<Vec<Round>> {
        let kept = self.catalog()?;
        let of_kb = kept.conversations.iter().filter(|(key, ..)| key.kb == *kb);
        Ok(of_kb.flat_map(|(.., rounds)| rounds).filter(|round| round.mark.is_some()).cloned().collect())
    }
}

fn shown((key, title, rounds): &KeptConversation) -> Conversation {
    Conversation {
        key: key.clone(),
        title: title.clone(),
        rounds: rounds.len() as u64,
        created_ms: 1,
        updated_ms: 1,
    }
}

impl Fake {
    fn change_document(&self, id: &DocumentId, change: impl FnOnce(&mut DocumentInfo)) -> Result<()> {
        let mut kept = self.catalog()?;
        change(kept.documents.get_mut(id).ok_or_else(|| missing("document", &id.0))?);
        Ok(())
    }

    fn change_job(&self, id: &JobId, change: impl FnOnce(&mut Job)) -> Result<Job> {
        let mut kept = self.catalog()?;
        let job = kept.jobs.iter_mut().find(|job| job.id == *id).ok_or_else(|| missing("job", &id.0))?;
        if !matches!(job.state, JobState::Queued | JobState::Paused | JobState::Running) {
            return Err(Error::Conflict { message: format!("job '{id}' has ended") });
        }
        change(job);
        Ok(job.clone())
    }
}

#[async_trait]
impl Curation for Fake {
    async fn find_documents(&self, kb: &KbName, query: &DocumentQuery) -> Result<Vec<DocumentInfo>> {
        let mut found = self.documents(kb, query.after.as_deref(), u32::MAX).await?;
        found.retain(|document| query.disabled.is_none_or(|disabled| document.disabled == disabled));
        found.retain(|document| query.words.as_ref().is_none_or(|words| document.name.contains(words)));
        found.retain(|document| query.tagged.as_ref().is_none_or(|pair| document.metadata.contains(pair)));
        let all = found.clone();
        let twin = |one: &DocumentInfo| all.iter().any(|other| other.blob == one.blob && other.id != one.id);
        found.retain(|document| !query.duplicates || twin(document));
        found.truncate(query.limit as usize);
        Ok(found)
    }
    async fn disable_document(&self, id: &DocumentId) -> Result<()> {
        self.change_document(id, |document| document.disabled = true)
    }
    async fn chunk(&self, kb: &KbName, id: &ChunkId) -> Result<Stored> {
        let kept = self.catalog()?;
        let found = kept.chunks.iter().find(|(_, chunk)| chunk.id == *id);
        let found = found.filter(|(owner, _)| kept.documents.get(owner).is_some_and(|of| of.kb == *kb));
        let (owner, chunk) = found.ok_or_else(|| missing("chunk", &id.0))?;
        Ok(Stored {
            chunk: chunk.clone(),
            document: owner.clone(),
            disabled: kept.disabled.contains(id),
            edited: chunk.span.end - chunk.span.start != chunk.text.len() as u64,
        })
    }
    async fn disable_chunk(&self, id: &ChunkId) -> Result<()> {
        self.catalog()?.disabled.insert(id.clone());
        Ok(())
    }
    async fn keep_vectors(&self, _: &[ChunkId]) -> Result<()> {
        Ok(())
    }
    async fn enable_document(&self, id: &DocumentId, job: &JobId) -> Result<()> {
        self.change_document(id, |document| document.disabled = false)?;
        self.finish(job, &JobState::Done { document: Some(id.clone()), unchanged: false }).await
    }
    async fn enable_chunk(&self, id: &ChunkId) -> Result<()> {
        self.catalog()?.disabled.remove(id);
        Ok(())
    }
    async fn replace_chunk(&self, old: &ChunkId, new: &Chunk) -> Result<()> {
        let mut kept = self.catalog()?;
        let found = kept.chunks.iter_mut().find(|(_, chunk)| chunk.id == *old);
        found.ok_or_else(|| missing("chunk", &old.0))?.1 = new.clone();
        Ok(())
    }
    async fn set_metadata(&self, id: &DocumentId, metadata: &[(String, String)]) -> Result<()> {
        self.change_document(id, |document| document.metadata = metadata.to_vec())
    }
    async fn resolve_filter(&self, _: &KbName, _: &str, filter: &Filter) -> Result<Filter> {
        Ok(filter.clone())
    }
}

#[async_trait]
impl Queue for Fake {
    async fn set_priority(&self, id: &JobId, priority: i32) -> Result<Job> {
        self.change_job(id, |job| job.priority = priority)
    }
    async fn pause(&self, id: &JobId) -> Result<Job> {
        self.change_job(id, |job| job.state = JobState::Paused)
    }
    async fn resume(&self, id: &JobId) -> Result<Job> {
        self.change_job(id, |job| {
            if job.state == JobState::Paused {
                job.state = JobState::Queued;
            }
        })
    }
    async fn postpone(&self, id: &JobId, reason: &str, wait_ms: u64) -> Result<()> {
        let wait_ms = i64::try_from(wait_ms).unwrap();
        self.change_job(id, |job| {
            job.attempts += 1;
            (job.state, job.reason) = (JobState::Queued, Some(reason.to_owned()));
            job.not_before_ms = Some(1_700_000_000_000 + wait_ms);
        })
        .map(|_| ())
    }
    async fn interrupted(&self, id: &JobId) -> Result<()> {
        self.change_job(id, |job| {
            if job.state == JobState::Running {
                job.state = JobState::Queued;
            }
        })
        .map(|_| ())
    }
}

struct Whole(Option<Bytes>);

#[async_trait]
impl FolderFile for Whole {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.take())
    }
}

#[async_trait]
impl Folders for Fake {
    async fn roots(&self) -> Result<Vec<String>> {
        Ok(vec!["papers".to_owned()])
    }
    async fn list_folder(&self, path: &str, limit: u32) -> Result<Vec<FolderEntry>> {
        self.files_under(path, limit).await
    }
    async fn files_under(&self, path: &str, _: u32) -> Result<Vec<FolderEntry>> {
        if path != "papers" && !path.starts_with("papers/") {
            return Err(Error::Denied { message: "outside".to_owned() });
        }
        let kept = self.kept();
        let entry = |(path, text): (&String, &String)| FolderEntry {
            path: path.clone(),
            folder: false,
            size: text.len() as u64,
        };
        Ok(kept.files.iter().map(entry).collect())
    }
    async fn open_file(&self, path: &str) -> Result<Box<dyn FolderFile>> {
        let text = self.kept().files.get(path).cloned().ok_or_else(|| missing("file", path))?;
        Ok(Box::new(Whole(Some(Bytes::from(text)))))
    }
}
