//! The port of generations: which step of which transaction answers each call.

use async_trait::async_trait;
use rag_core::Result;
use rag_core::document::BlobHash;
use rag_core::kb::KbName;
use rag_core::ports::{
    DocumentInfo, Generation, GenerationState, Generations, JobId, NewGeneration, SwapReport, UnusedIndex,
};

use super::{generations, indexes};
use crate::store::Store;

#[async_trait]
impl Generations for Store {
    async fn generations(&self, kb: &KbName, limit: u32) -> Result<Vec<Generation>> {
        let kb = kb.clone();
        self.read(move |connection| generations::list(connection, &kb, limit)).await
    }

    async fn generation(&self, kb: &KbName, number: u64) -> Result<Generation> {
        let kb = kb.clone();
        self.read(move |connection| generations::get(connection, &kb, number)).await
    }

    async fn stage_generation(&self, kb: &KbName, new: &NewGeneration) -> Result<Generation> {
        let (kb, new) = (kb.clone(), new.clone());
        self.grow(move |transaction| generations::stage(transaction, &kb, &new)).await
    }

    async fn assign_generation(&self, kb: &KbName, number: u64, job: &JobId) -> Result<Generation> {
        let (kb, job) = (kb.clone(), job.clone());
        self.write(move |transaction| generations::assign(transaction, &kb, number, &job)).await
    }

    async fn ready_generation(&self, kb: &KbName, number: u64, report: &SwapReport) -> Result<Generation> {
        let (kb, report) = (kb.clone(), report.clone());
        self.grow(move |transaction| generations::ready(transaction, &kb, number, &report)).await
    }

    async fn publish_generation(&self, kb: &KbName, number: u64, probation_ms: u64) -> Result<Generation> {
        let kb = kb.clone();
        self.write_urgent(move |transaction| generations::publish(transaction, &kb, number, probation_ms))
            .await
    }

    async fn end_generation(
        &self,
        kb: &KbName,
        number: u64,
        state: GenerationState,
        reason: &str,
    ) -> Result<Generation> {
        let (kb, reason) = (kb.clone(), reason.to_owned());
        self.write(move |transaction| generations::end(transaction, &kb, number, state, &reason)).await
    }

    async fn roll_back(
        &self,
        kb: &KbName,
        live: u64,
        reason: &str,
        probation_only: bool,
    ) -> Result<Generation> {
        let (kb, reason) = (kb.clone(), reason.to_owned());
        self.write_urgent(move |transaction| {
            generations::roll_back(transaction, &kb, live, &reason, probation_only)
        })
        .await
    }

    async fn index_gaps(
        &self,
        kb: &KbName,
        collection: &str,
        limit: u32,
    ) -> Result<(Vec<DocumentInfo>, u64)> {
        let (kb, collection) = (kb.clone(), collection.to_owned());
        self.read(move |connection| indexes::gaps(connection, &kb, &collection, limit)).await
    }

    async fn trim_index(&self, kb: &KbName, collection: &str) -> Result<Vec<BlobHash>> {
        let (kb, collection) = (kb.clone(), collection.to_owned());
        self.erase(move |transaction| indexes::trim(transaction, &kb, &collection)).await
    }

    async fn index_counts(&self, kb: &KbName, collection: &str) -> Result<(u64, u64, u64)> {
        let (kb, collection) = (kb.clone(), collection.to_owned());
        self.read(move |connection| indexes::counts(connection, &kb, &collection)).await
    }

    async fn unused_indexes(&self, kb: &KbName) -> Result<Vec<UnusedIndex>> {
        let kb = kb.clone();
        self.read(move |connection| indexes::unused(connection, &kb)).await
    }

    async fn drop_index(&self, kb: &KbName, collection: &str) -> Result<bool> {
        let (kb, collection) = (kb.clone(), collection.to_owned());
        self.erase(move |transaction| indexes::drop_some(transaction, &kb, &collection)).await
    }

    async fn indexes(&self, kb: &KbName) -> Result<Vec<UnusedIndex>> {
        let kb = kb.clone();
        self.read(move |connection| indexes::list(connection, &kb)).await
    }

    async fn recent_questions(&self, kb: &KbName, limit: u32) -> Result<Vec<String>> {
        let kb = kb.clone();
        self.read(move |connection| indexes::recent_questions(connection, &kb, limit)).await
    }
}
