//! Generations in memory: every swap needs no other index, so it is live or ready at once.

use super::*;

impl Fake {
    fn change_generation(
        &self,
        kb: &KbName,
        number: u64,
        change: impl FnOnce(&mut Generation),
    ) -> Result<Generation> {
        let mut kept = self.catalog()?;
        let mut own = kept.swaps.iter_mut().filter(|one| one.kb == *kb);
        let found = own.find(|one| one.number == number);
        let found = found.ok_or_else(|| missing("generation", &number.to_string()))?;
        change(found);
        Ok(found.clone())
    }

    fn make_live(&self, kb: &KbName, generation: &Generation) -> Result<()> {
        let mut kept = self.catalog()?;
        let kb = kept.kbs.get_mut(kb).ok_or_else(|| missing("knowledge base", kb.as_str()))?;
        kb.settings = kb.settings.clone().with_parts(generation.parts.clone());
        kb.generation = generation.number;
        Ok(())
    }
}

#[async_trait]
impl Generations for Fake {
    async fn generations(&self, kb: &KbName, _: u32) -> Result<Vec<Generation>> {
        let kept = self.catalog()?;
        Ok(kept.swaps.iter().rev().filter(|one| one.kb == *kb).cloned().collect())
    }
    async fn generation(&self, kb: &KbName, number: u64) -> Result<Generation> {
        self.change_generation(kb, number, |_| {})
    }
    async fn stage_generation(&self, kb: &KbName, new: &NewGeneration) -> Result<Generation> {
        let live = self.kb(kb).await?;
        let mut kept = self.catalog()?;
        let generation = Generation {
            kb: kb.clone(),
            number: kept.swaps.iter().filter(|one| one.kb == *kb).count() as u64 + 2,
            parent: Some(new.parent),
            state: GenerationState::Building,
            parts: new.parts.clone(),
            collection: live.collection,
            embedder: live.embedder,
            publish: new.publish,
            job: None,
            report: None,
            reason: None,
            created_ms: 1,
            published_ms: None,
            probation_until_ms: None,
            ended_ms: None,
        };
        kept.swaps.push(generation.clone());
        Ok(generation)
    }
    async fn assign_generation(&self, kb: &KbName, number: u64, job: &JobId) -> Result<Generation> {
        self.change_generation(kb, number, |one| one.job = Some(job.clone()))
    }
    async fn ready_generation(&self, kb: &KbName, number: u64, report: &SwapReport) -> Result<Generation> {
        self.change_generation(kb, number, |one| {
            (one.state, one.report) = (GenerationState::Ready, Some(report.clone()));
        })
    }
    async fn publish_generation(&self, kb: &KbName, number: u64, _: u64) -> Result<Generation> {
        let live = self.change_generation(kb, number, |one| one.state = GenerationState::Live)?;
        self.make_live(kb, &live)?;
        Ok(live)
    }
    async fn end_generation(
        &self,
        kb: &KbName,
        number: u64,
        state: GenerationState,
        reason: &str,
    ) -> Result<Generation> {
        self.change_generation(kb, number, |one| (one.state, one.reason) = (state, Some(reason.to_owned())))
    }
    async fn roll_back(&self, kb: &KbName, live: u64, reason: &str, _: bool) -> Result<Generation> {
        let none = || Error::Conflict { message: "there is none before it".to_owned() };
        let parent =
            self.change_generation(kb, live, |_| {}).ok().and_then(|one| one.parent).ok_or_else(none)?;
        let before = self.generation(kb, parent).await;
        let parts = before.map_or_else(|_| KbSettings::default().parts(), |before| before.parts);
        let new = NewGeneration { parent: live, parts, new_index: false, publish: true };
        let staged = self.stage_generation(kb, &new).await?;
        self.end_generation(kb, live, GenerationState::RolledBack, reason).await?;
        self.publish_generation(kb, staged.number, 0).await
    }
    async fn index_gaps(&self, _: &KbName, _: &str, _: u32) -> Result<(Vec<DocumentInfo>, u64)> {
        Ok((Vec::new(), 0))
    }
    async fn trim_index(&self, _: &KbName, _: &str) -> Result<Vec<BlobHash>> {
        Ok(Vec::new())
    }
    async fn index_counts(&self, kb: &KbName, _: &str) -> Result<(u64, u64, u64)> {
        let kb = self.kb(kb).await?;
        Ok((kb.documents, kb.chunks, 0))
    }
    async fn unused_indexes(&self, _: &KbName) -> Result<Vec<UnusedIndex>> {
        Ok(Vec::new())
    }
    async fn drop_index(&self, _: &KbName, _: &str) -> Result<bool> {
        Ok(false)
    }
    async fn indexes(&self, _: &KbName) -> Result<Vec<UnusedIndex>> {
        Ok(Vec::new())
    }
    async fn recent_questions(&self, _: &KbName, limit: u32) -> Result<Vec<String>> {
        let kept = self.catalog()?;
        Ok(kept.turns.iter().rev().take(limit as usize).map(|(_, turn)| turn.question.clone()).collect())
    }
}
