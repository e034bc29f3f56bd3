//! The ports beside the catalogue: which step of which transaction answers each call.

use async_trait::async_trait;
use rag_core::Result;
use rag_core::document::{Chunk, ChunkId, DocumentId};
use rag_core::kb::KbName;
use rag_core::ports::{
    Conversation, ConversationKey, ConversationQuery, Conversations, Curation, DocumentInfo, DocumentQuery,
    Evaluations, Job, JobId, Mark, NewRound, Outcome, Question, QuestionSet, Queue, Round, Run, RunSettings,
    Scores, Stored,
};
use rag_core::search::Filter;

use super::{conversations, curation, evaluations, queue};
use crate::keys::random_hex;
use crate::store::Store;

/// Bytes of a set's or run's id.
const ID_BYTES: usize = 8;

#[async_trait]
impl Conversations for Store {
    async fn conversations(&self, query: &ConversationQuery) -> Result<Vec<Conversation>> {
        let query = query.clone();
        self.read(move |connection| conversations::list(connection, &query)).await
    }

    async fn conversation(&self, key: &ConversationKey) -> Result<Conversation> {
        let key = key.clone();
        self.read(move |connection| conversations::get(connection, &key)).await
    }

    async fn rename_conversation(&self, key: &ConversationKey, title: &str) -> Result<Conversation> {
        let (key, title) = (key.clone(), title.to_owned());
        self.write(move |transaction| conversations::rename(transaction, &key, &title)).await
    }

    async fn delete_conversation(&self, key: &ConversationKey) -> Result<()> {
        let name = key.name();
        self.erase(move |transaction| conversations::delete(transaction, &name)).await
    }

    async fn append_round(&self, key: &ConversationKey, round: &NewRound) -> Result<u64> {
        let (key, round) = (key.clone(), round.clone());
        self.grow(move |transaction| conversations::append(transaction, &key, &round)).await
    }

    async fn rounds(&self, key: &ConversationKey, before: Option<u64>, limit: u32) -> Result<Vec<Round>> {
        let key = key.clone();
        self.read(move |connection| conversations::rounds(connection, &key, before, limit)).await
    }

    async fn mark_round(
        &self,
        key: &ConversationKey,
        round: u64,
        mark: Option<Mark>,
        note: Option<&str>,
    ) -> Result<Round> {
        let (key, note) = (key.clone(), note.map(str::to_owned));
        self.write(move |transaction| conversations::mark(transaction, &key, round, mark, note.as_deref()))
            .await
    }

    async fn marked_rounds(&self, kb: &KbName, before: Option<u64>, limit: u32) -> Result<Vec<Round>> {
        let kb = kb.clone();
        self.read(move |connection| conversations::marked(connection, &kb, before, limit)).await
    }
}

#[async_trait]
impl Curation for Store {
    async fn find_documents(&self, kb: &KbName, query: &DocumentQuery) -> Result<Vec<DocumentInfo>> {
        let (kb, query) = (kb.clone(), query.clone());
        self.read(move |connection| curation::find(connection, &kb, &query)).await
    }

    async fn disable_document(&self, id: &DocumentId) -> Result<()> {
        let id = id.clone();
        self.write(move |transaction| curation::disable_document(transaction, &id)).await
    }

    async fn chunk(&self, kb: &KbName, id: &ChunkId) -> Result<Stored> {
        let (kb, id) = (kb.clone(), id.clone());
        self.read(move |connection| curation::chunk(connection, &kb, &id)).await
    }

    async fn disable_chunk(&self, id: &ChunkId) -> Result<()> {
        let id = id.clone();
        self.write(move |transaction| curation::disable_chunk(transaction, &id)).await
    }

    async fn keep_vectors(&self, chunks: &[ChunkId]) -> Result<()> {
        let chunks = chunks.to_vec();
        self.write(move |transaction| curation::keep_vectors(transaction, &chunks)).await
    }

    async fn enable_document(&self, id: &DocumentId, job: &JobId) -> Result<()> {
        let (id, job) = (id.clone(), job.clone());
        self.grow(move |transaction| curation::enable_document(transaction, &id, &job)).await
    }

    async fn enable_chunk(&self, id: &ChunkId) -> Result<()> {
        let id = id.clone();
        self.grow(move |transaction| curation::enable_chunk(transaction, &id)).await
    }

    async fn replace_chunk(&self, old: &ChunkId, new: &Chunk) -> Result<()> {
        let (old, new) = (old.clone(), new.clone());
        // The old text is people's data too.
        self.erase(move |transaction| curation::replace_chunk(transaction, &old, &new)).await
    }

    async fn set_metadata(&self, id: &DocumentId, metadata: &[(String, String)]) -> Result<()> {
        let (id, metadata) = (id.clone(), metadata.to_vec());
        self.grow(move |transaction| curation::set_metadata(transaction, &id, &metadata)).await
    }

    async fn resolve_filter(&self, kb: &KbName, collection: &str, filter: &Filter) -> Result<Filter> {
        let (kb, collection, filter) = (kb.clone(), collection.to_owned(), filter.clone());
        self.read(move |connection| curation::resolve_filter(connection, &kb, &collection, &filter)).await
    }
}

#[async_trait]
impl Queue for Store {
    async fn set_priority(&self, id: &JobId, priority: i32) -> Result<Job> {
        let id = id.clone();
        self.write(move |transaction| queue::set_priority(transaction, &id, priority)).await
    }

    async fn pause(&self, id: &JobId) -> Result<Job> {
        let id = id.clone();
        self.write(move |transaction| queue::pause(transaction, &id)).await
    }

    async fn resume(&self, id: &JobId) -> Result<Job> {
        let id = id.clone();
        self.write(move |transaction| queue::resume(transaction, &id)).await
    }

    async fn postpone(&self, id: &JobId, reason: &str, wait_ms: u64) -> Result<()> {
        let (id, reason) = (id.clone(), reason.to_owned());
        self.write(move |transaction| queue::postpone(transaction, &id, &reason, wait_ms)).await
    }

    async fn interrupted(&self, id: &JobId) -> Result<()> {
        let id = id.clone();
        self.write(move |transaction| queue::interrupted(transaction, &id)).await
    }
}

#[async_trait]
impl Evaluations for Store {
    async fn question_sets(&self, kb: &KbName) -> Result<Vec<QuestionSet>> {
        let kb = kb.clone();
        self.read(move |connection| evaluations::sets(connection, &kb)).await
    }

    async fn question_set(&self, id: &str) -> Result<QuestionSet> {
        let id = id.to_owned();
        self.read(move |connection| evaluations::get_set(connection, &id)).await
    }

    async fn create_question_set(
        &self,
        kb: &KbName,
        name: &str,
        questions: &[Question],
    ) -> Result<QuestionSet> {
        let id = random_hex::<ID_BYTES>()?;
        let (kb, name, questions) = (kb.clone(), name.to_owned(), questions.to_vec());
        self.grow(move |transaction| evaluations::create_set(transaction, &id, &kb, &name, &questions)).await
    }

    async fn replace_question_set(
        &self,
        id: &str,
        name: &str,
        questions: &[Question],
    ) -> Result<QuestionSet> {
        let (id, name, questions) = (id.to_owned(), name.to_owned(), questions.to_vec());
        self.grow(move |transaction| evaluations::replace_set(transaction, &id, &name, &questions)).await
    }

    async fn delete_question_set(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.erase(move |transaction| evaluations::delete_set(transaction, &id)).await
    }

    async fn questions(&self, set: &str) -> Result<Vec<Question>> {
        let set = set.to_owned();
        self.read(move |connection| evaluations::questions(connection, &set)).await
    }

    async fn create_run(&self, set: &str, settings: &RunSettings) -> Result<Run> {
        let id = random_hex::<ID_BYTES>()?;
        let (set, settings) = (set.to_owned(), settings.clone());
        self.grow(move |transaction| evaluations::create_run(transaction, &id, &set, &settings)).await
    }

    async fn assign_run(&self, id: &str, job: &JobId) -> Result<Run> {
        let (id, job) = (id.to_owned(), job.clone());
        self.write(move |transaction| evaluations::assign(transaction, &id, &job)).await
    }

    async fn runs(&self, set: &str) -> Result<Vec<Run>> {
        let set = set.to_owned();
        self.read(move |connection| evaluations::runs(connection, &set)).await
    }

    async fn run(&self, id: &str) -> Result<Run> {
        let id = id.to_owned();
        self.read(move |connection| evaluations::get_run(connection, &id)).await
    }

    async fn delete_run(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.erase(move |transaction| evaluations::delete_run(transaction, &id)).await
    }

    async fn finish_run(&self, id: &str, scores: &Scores, outcomes: &[Outcome]) -> Result<()> {
        let (id, scores, outcomes) = (id.to_owned(), scores.clone(), outcomes.to_vec());
        self.grow(move |transaction| evaluations::finish(transaction, &id, &scores, &outcomes)).await
    }

    async fn outcomes(&self, run: &str) -> Result<Vec<Outcome>> {
        let run = run.to_owned();
        self.read(move |connection| evaluations::outcomes(connection, &run)).await
    }
}
