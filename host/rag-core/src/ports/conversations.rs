//! Conversations as people keep them: listed, searched, renamed, deleted, their answers marked.

use async_trait::async_trait;

use crate::error::Result;
use crate::kb::KbName;

/// A conversation: two owners, or two knowledge bases, never share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConversationKey {
    /// Id of the user or key.
    pub owner: String,
    pub kb: KbName,
    /// Chosen by the caller.
    pub id: String,
}

impl ConversationKey {
    /// What `AskRequest::conversation` and `Catalog::turns` call it.
    pub fn name(&self) -> String {
        format!("{}/{}/{}", self.owner, self.kb, self.id)
    }
}

/// A conversation as listed. Times are milliseconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    pub key: ConversationKey,
    /// The first question until somebody renames it.
    pub title: String,
    pub rounds: u64,
    pub created_ms: i64,
    pub updated_ms: i64,
}

/// Which conversations to list, those with the latest rounds first.
#[derive(Debug, Clone, PartialEq)]
pub struct ConversationQuery {
    pub owner: String,
    /// None lists those of every knowledge base.
    pub kb: Option<KbName>,
    /// Part of a title, question or answer; ASCII case is ignored.
    pub words: Option<String>,
    /// Conversations listed before: the page to skip.
    pub skip: u32,
    pub limit: u32,
}

/// What somebody thought of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Good,
    Bad,
}

/// A finished round to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRound {
    pub question: String,
    pub answer: String,
    /// Nothing relevant was found: shown again, but no later round builds on it.
    pub refused: bool,
    /// What the surface shows beside the answer, in its own JSON: opaque here.
    pub detail: String,
}

/// A round as it was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    pub id: u64,
    pub round: NewRound,
    pub mark: Option<Mark>,
    /// What the reader said about the mark.
    pub note: Option<String>,
    pub created_ms: i64,
}

/// Keeps conversations. Implemented by `rag-store`; every method is one transaction.
#[async_trait]
pub trait Conversations: Send + Sync {
    async fn conversations(&self, query: &ConversationQuery) -> Result<Vec<Conversation>>;
    /// `NotFound` for an unknown one.
    async fn conversation(&self, key: &ConversationKey) -> Result<Conversation>;
    async fn rename_conversation(&self, key: &ConversationKey, title: &str) -> Result<Conversation>;
    /// Deleting twice is no error.
    async fn delete_conversation(&self, key: &ConversationKey) -> Result<()>;
    /// Appends a round, creating the conversation when new; returns the round's id.
    async fn append_round(&self, key: &ConversationKey, round: &NewRound) -> Result<u64>;
    /// The last `limit` rounds before round `before`, oldest first; empty for an unknown conversation.
    async fn rounds(&self, key: &ConversationKey, before: Option<u64>, limit: u32) -> Result<Vec<Round>>;
    /// Marks an answer, or takes the mark back.
    async fn mark_round(
        &self,
        key: &ConversationKey,
        round: u64,
        mark: Option<Mark>,
        note: Option<&str>,
    ) -> Result<Round>;
    /// Marked answers of a knowledge base, whoever asked, newest first.
    async fn marked_rounds(&self, kb: &KbName, before: Option<u64>, limit: u32) -> Result<Vec<Round>>;
}
