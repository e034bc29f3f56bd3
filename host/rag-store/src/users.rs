//! Users: a name, an argon2id hash of the password, rights; and the log of what people changed.

use std::sync::{Arc, OnceLock};

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use async_trait::async_trait;
use rag_core::kb::KbName;
use rag_core::ports::{Accounts, AuditEntry, AuditQuery, Principal, Rights, Role, User, UserChange};
use rag_core::{Error, Result};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::catalog::{delete_conversations_of, kb_row};
use crate::fault::{Fault, Step, signed};
use crate::keys::{code, kbs_in, kbs_json, random_hex, role_of};
use crate::store::{Store, now_ms};

/// What every user's id begins with.
const PREFIX: &str = "user-";
const ID_BYTES: usize = 8;
/// Characters of a password; longer ones only cost time.
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 10..=256;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 100;
/// Users of one installation.
const USERS_MAX: u64 = 10_000;
/// Entries of the audit log; the oldest make room.
const AUDIT_MAX: u64 = 100_000;
/// Bytes of a text of an audit entry.
const AUDIT_BYTES_MAX: usize = 1_024;

/// 19 MiB, two passes, one lane: the OWASP recommendation for argon2id.
fn hasher() -> Result<Argon2<'static>> {
    let params = Params::new(19 * 1024, 2, 1, None)
        .map_err(|error| Error::internal(format!("argon2 parameters: {error}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &str) -> Result<String> {
    let mut salt = [0_u8; 16];
    getrandom::fill(&mut salt).map_err(|error| Error::Unavailable {
        message: format!("the operating system gives no random numbers: {error}"),
    })?;
    let failed = |error| Error::internal(format!("a password could not be hashed: {error}"));
    let salt = SaltString::encode_b64(&salt).map_err(failed)?;
    Ok(hasher()?.hash_password(password.as_bytes(), &salt).map_err(failed)?.to_string())
}

/// Whether the password fits; an absent hash costs the same work and never does.
fn fits(password: &str, stored: Option<&str>) -> Result<bool> {
    static NOBODY: OnceLock<String> = OnceLock::new();
    let against = match stored {
        Some(stored) => stored,
        None => match NOBODY.get() {
            Some(nobody) => nobody,
            None => {
                let fresh = hash("nobody has this password")?;
                NOBODY.get_or_init(|| fresh)
            }
        },
    };
    let parsed = PasswordHash::new(against)
        .map_err(|error| Error::Storage { message: format!("a user's password hash is damaged: {error}") })?;
    Ok(hasher()?.verify_password(password.as_bytes(), &parsed).is_ok() && stored.is_some())
}

#[async_trait]
impl Accounts for Store {
    async fn users(&self) -> Result<Vec<User>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
            let rows = statement.query_map([], user)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn create_user(&self, name: &str, password: &str, rights: &Rights) -> Result<User> {
        let name = name.trim().to_owned();
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
            return Err(Error::invalid(format!(
                "a user's name has 1 to {NAME_CHARS_MAX} characters, none of them control characters"
            )));
        }
        let hash = self.hashed(&name, password).await?;
        let id = format!("{PREFIX}{}", random_hex::<ID_BYTES>()?);
        let user = User { id, name, rights: rights.clone(), disabled: false, created_ms: now_ms() };
        self.grow(move |transaction| insert(transaction, &user, &hash).map(|()| user)).await
    }

    async fn update_user(&self, id: &str, change: &UserChange) -> Result<User> {
        let (id, change) = (id.to_owned(), change.clone());
        let hash = match &change.password {
            Some(password) => {
                let wanted = id.clone();
                let user = self.read(move |connection| get(connection, &wanted)).await?;
                Some(self.hashed(&user.name, password).await?)
            }
            None => None,
        };
        self.write(move |transaction| {
            let mut user = get(transaction, &id)?;
            user.rights = change.rights.unwrap_or(user.rights);
            user.disabled = change.disabled.unwrap_or(user.disabled);
            let (kbs, of_kbs) = rights_json(transaction, &user.rights)?;
            keeping_an_administrator(transaction, || Ok(transaction.execute(
                "UPDATE users SET role = ?2, kbs = ?3, of_kbs = ?4, disabled = ?5, password = coalesce(?6, password)
                 WHERE id = ?1",
                params![id, code(user.rights.role), kbs, of_kbs, user.disabled, hash],
            )?))?;
            Ok(user)
        })
        .await
    }

    async fn delete_user(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.erase(move |transaction| {
            get(transaction, &id)?;
            keeping_an_administrator(transaction, || {
                Ok(transaction.execute("DELETE FROM users WHERE id = ?1", [&id])?)
            })?;
            delete_conversations_of(transaction, &id)
        })
        .await
    }

    async fn check_password(&self, name: &str, password: &str) -> Result<Option<Principal>> {
        let name = name.trim().to_owned();
        let found = self
            .read(move |connection| {
                let mut statement =
                    connection.prepare_cached(&format!("{SELECT} WHERE name = ?1 AND disabled = 0"))?;
                Ok(statement
                    .query_row([&name], |row| Ok((user(row)?, row.get::<_, String>(6)?)))
                    .optional()?)
            })
            .await?;
        let (user, stored) = found.unzip();
        // A password too long to be one costs no work.
        let password: String = password.chars().take(*PASSWORD_CHARS.end() + 1).collect();
        let right = self.files.run(move |()| Ok(fits(&password, stored.as_deref())?)).await?;
        Ok(user.filter(|_| right).map(principal))
    }

    async fn user_principal(&self, id: &str) -> Result<Option<Principal>> {
        if !id.starts_with(PREFIX) {
            return Ok(None);
        }
        let id = id.to_owned();
        let found = self.read(move |connection| find(connection, &id)).await?;
        Ok(found.filter(|user| !user.disabled).map(principal))
    }

    async fn audit(&self, entry: &AuditEntry) -> Result<()> {
        let entry = entry.clone();
        self.write(move |transaction| write_audit(transaction, &entry)).await
    }

    async fn audit_log(&self, query: &AuditQuery) -> Result<Vec<(u64, AuditEntry)>> {
        let query = query.clone();
        self.read(move |connection| read_audit(connection, &query)).await
    }
}

impl Store {
    /// On a file thread: hashing is meant to be slow.
    async fn hashed(&self, name: &str, password: &str) -> Result<String> {
        if !PASSWORD_CHARS.contains(&password.chars().count()) {
            return Err(Error::invalid(format!(
                "a password has {} to {} characters",
                PASSWORD_CHARS.start(),
                PASSWORD_CHARS.end()
            )));
        }
        if password.to_lowercase().contains(&name.to_lowercase()) && name.chars().count() > 3 {
            return Err(Error::invalid("the password must not contain the user's name"));
        }
        let (password, files) = (password.to_owned(), Arc::clone(&self.files));
        files.run(move |()| hash(&password).map_err(Fault::from)).await
    }
}

fn insert(transaction: &Transaction<'_>, user: &User, hash: &str) -> Step<()> {
    let users: u64 = transaction.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?;
    if users >= USERS_MAX {
        let message = format!("there are {USERS_MAX} users already; delete some");
        return Err(Error::Conflict { message }.into());
    }
    let (kbs, of_kbs) = rights_json(transaction, &user.rights)?;
    let inserted = transaction.execute(
        "INSERT INTO users (id, name, password, role, kbs, of_kbs, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (name) DO NOTHING",
        params![user.id, user.name, hash, code(user.rights.role), kbs, of_kbs, user.created_ms],
    )?;
    if inserted == 0 {
        let message = format!("there is a user '{}' already", user.name.escape_debug());
        return Err(Error::Conflict { message }.into());
    }
    Ok(())
}

/// Lists of knowledge bases as the columns hold them; each must exist.
fn rights_json(transaction: &Transaction<'_>, rights: &Rights) -> Step<(Option<String>, String)> {
    let named = rights.kbs.iter().flatten().chain(rights.of_kbs.iter().map(|(kb, _)| kb));
    for kb in named {
        kb_row(transaction, kb)?;
    }
    let of_kbs: Vec<(&str, i64)> =
        rights.of_kbs.iter().map(|(kb, role)| (kb.as_str(), code(*role))).collect();
    Ok((kbs_json(rights.kbs.as_deref()), serde_json::json!(of_kbs).to_string()))
}

/// Does something, unless it takes the last administrator of everything away, whether a user or the holder of a key.
pub(crate) fn keeping_an_administrator<T>(
    transaction: &Transaction<'_>,
    step: impl FnOnce() -> Step<T>,
) -> Step<T> {
    let administered = || -> Step<bool> {
        Ok(transaction.query_row(
            "SELECT EXISTS (SELECT 1 FROM users WHERE role = ?1 AND kbs IS NULL AND disabled = 0
                UNION ALL SELECT 1 FROM keys WHERE role = ?1 AND kbs IS NULL)",
            [code(Role::Admin)],
            |row| row.get(0),
        )?)
    };
    let before = administered()?;
    let done = step()?;
    if before && !administered()? {
        let message = "nobody would administer this any more; make another administrator first".to_owned();
        return Err(Error::Conflict { message }.into());
    }
    Ok(done)
}

const SELECT: &str = "SELECT id, name, role, kbs, of_kbs, disabled, password, created_ms FROM users";

fn get(connection: &Connection, id: &str) -> Step<User> {
    find(connection, id)?.ok_or_else(|| Error::NotFound { what: "user", name: id.to_owned() }.into())
}

fn find(connection: &Connection, id: &str) -> Step<Option<User>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
    Ok(statement.query_row([id], user).optional()?)
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    let of_kbs: Vec<(String, i64)> =
        serde_json::from_str(row.get_ref(4)?.as_str()?).map_err(|error| damaged(4, error.into()))?;
    let of_kbs: Result<Vec<(KbName, Role)>> =
        of_kbs.iter().map(|(kb, role)| Ok((KbName::parse(kb)?, role_of(*role)))).collect();
    let rights = Rights {
        role: role_of(row.get(2)?),
        kbs: kbs_in(row, 3)?,
        of_kbs: of_kbs.map_err(|error| damaged(4, error.into()))?,
    };
    Ok(User { id: row.get(0)?, name: row.get(1)?, rights, disabled: row.get(5)?, created_ms: row.get(7)? })
}

fn damaged(column: usize, error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error)
}

fn principal(user: User) -> Principal {
    Principal { key_id: user.id, name: user.name, rights: user.rights, created_ms: user.created_ms }
}

fn write_audit(transaction: &Transaction<'_>, entry: &AuditEntry) -> Step<()> {
    let cut = |text: &str| text[..text.floor_char_boundary(AUDIT_BYTES_MAX)].to_owned();
    transaction.execute(
        "INSERT INTO audit (at_ms, actor, actor_name, action, target, status, peer, request_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            entry.at_ms,
            entry.actor,
            cut(&entry.actor_name),
            cut(&entry.action),
            cut(&entry.target),
            entry.status,
            entry.peer,
            entry.request_id
        ],
    )?;
    let newest = transaction.last_insert_rowid();
    transaction.execute("DELETE FROM audit WHERE row <= ?1", [newest - signed(AUDIT_MAX)?])?;
    Ok(())
}

fn read_audit(connection: &Connection, query: &AuditQuery) -> Step<Vec<(u64, AuditEntry)>> {
    let mut statement = connection.prepare_cached(
        "SELECT row, at_ms, actor, actor_name, action, target, status, peer, request_id FROM audit
         WHERE (?1 IS NULL OR actor = ?1) AND (?2 IS NULL OR instr(target, ?2)) AND (?3 IS NULL OR row < ?3)
         ORDER BY row DESC LIMIT ?4",
    )?;
    let before = query.before.map(signed).transpose()?;
    let rows = statement.query_map(params![query.actor, query.target, before, query.limit], |row| {
        let entry = AuditEntry {
            at_ms: row.get(1)?,
            actor: row.get(2)?,
            actor_name: row.get(3)?,
            action: row.get(4)?,
            target: row.get(5)?,
            status: row.get(6)?,
            peer: row.get(7)?,
            request_id: row.get(8)?,
        };
        Ok((row.get(0)?, entry))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests;
