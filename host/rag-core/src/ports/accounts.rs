//! Who works with the system: users with passwords and roles, and the log of what they changed.

use async_trait::async_trait;

use super::host::{Principal, Role};
use crate::error::Result;
use crate::kb::KbName;

/// What a user or key may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// In every knowledge base reached, unless `of_kbs` says otherwise.
    pub role: Role,
    /// The only knowledge bases reached beside those in `of_kbs`; none reaches all.
    pub kbs: Option<Vec<KbName>>,
    /// Roles in single knowledge bases, instead of `role`.
    pub of_kbs: Vec<(KbName, Role)>,
}

impl Rights {
    /// The role within a knowledge base; none when it is not reached.
    pub fn in_kb(&self, kb: &KbName) -> Option<Role> {
        let own = self.of_kbs.iter().find(|(name, _)| name == kb).map(|(_, role)| *role);
        own.or_else(|| self.kbs.as_ref().is_none_or(|kbs| kbs.contains(kb)).then_some(self.role))
    }
}

/// A user as listed; passwords are kept only as argon2id hashes. Times are milliseconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Begins with `user-`, which no key's id does.
    pub id: String,
    pub name: String,
    pub rights: Rights,
    pub disabled: bool,
    pub created_ms: i64,
}

/// What to change about a user; none leaves it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserChange {
    pub rights: Option<Rights>,
    pub disabled: Option<bool>,
    pub password: Option<String>,
}

/// Something that somebody changed, or tried to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub at_ms: i64,
    /// Id of the user or key; empty for a failed login.
    pub actor: String,
    /// Name at that time.
    pub actor_name: String,
    /// Method and route, e.g. `DELETE /api/v1/kbs/{kb}`.
    pub action: String,
    /// The path asked for.
    pub target: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// Address of the other end.
    pub peer: String,
    pub request_id: String,
}

/// Which entries to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    pub actor: Option<String>,
    /// Part of the target.
    pub target: Option<String>,
    /// Entries older than this one.
    pub before: Option<u64>,
    pub limit: u32,
}

/// Users and the audit log. Implemented by `rag-store`; every method is one transaction.
#[async_trait]
pub trait Accounts: Send + Sync {
    async fn users(&self) -> Result<Vec<User>>;
    /// `Conflict` when the name is taken (ASCII case ignored), `InvalidInput` for a name or password that will not do.
    async fn create_user(&self, name: &str, password: &str, rights: &Rights) -> Result<User>;
    /// `Conflict` when it would leave no administrator among users and keys.
    async fn update_user(&self, id: &str, change: &UserChange) -> Result<User>;
    /// Takes the user's conversations along. `Conflict` as for `update_user`.
    async fn delete_user(&self, id: &str) -> Result<()>;
    /// None for an unknown name, a wrong password or a disabled user, after the same work.
    async fn check_password(&self, name: &str, password: &str) -> Result<Option<Principal>>;
    /// None once the user is gone or disabled.
    async fn user_principal(&self, id: &str) -> Result<Option<Principal>>;
    /// The oldest entries make room.
    async fn audit(&self, entry: &AuditEntry) -> Result<()>;
    /// Each with its number, by which `AuditQuery::before` goes on.
    async fn audit_log(&self, query: &AuditQuery) -> Result<Vec<(u64, AuditEntry)>>;
}
