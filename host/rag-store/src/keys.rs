//! API keys: a random secret that is shown once, of which only the SHA-256 stays.
//!
//! A secret is `rag_`, the key's id, and 256 random bits, all hexadecimal. With so many bits a plain hash cannot be guessed back: it needs no salt and no slow hash.

use async_trait::async_trait;
use rag_core::kb::KbName;
use rag_core::ports::{Keys, Principal, Rights, Role};
use rag_core::{Error, Result};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::catalog::kb_row;
use crate::fault::Step;
use crate::store::{Store, now_ms};
use crate::users::keeping_an_administrator;

/// What every secret begins with, so that people and scanners recognise one.
const PREFIX: &str = "rag_";
const SECRET_BYTES: usize = 32;
const ID_BYTES: usize = 6;
/// Bytes of a key's name.
const NAME_BYTES_MAX: usize = 200;
/// Keys of one installation.
const KEYS_MAX: u64 = 10_000;

#[async_trait]
impl Keys for Store {
    async fn create(&self, name: &str, role: Role, kbs: Option<&[KbName]>) -> Result<(String, Principal)> {
        let name = name.trim().to_owned();
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Error::invalid(format!("a key's name has 1 to {NAME_BYTES_MAX} bytes")));
        }
        let key_id = random_hex::<ID_BYTES>()?;
        let secret = format!("{PREFIX}{key_id}{}", random_hex::<SECRET_BYTES>()?);
        let principal = Principal {
            key_id,
            name,
            rights: Rights { role, kbs: kbs.map(<[KbName]>::to_vec), of_kbs: Vec::new() },
            created_ms: now_ms(),
        };
        let hash = hash_of(&secret);
        self.grow(move |transaction| insert(transaction, &principal, &hash).map(|()| (secret, principal)))
            .await
    }

    async fn verify(&self, secret: &str) -> Result<Option<Principal>> {
        let after_prefix = secret.strip_prefix(PREFIX).and_then(|rest| rest.get(..2 * ID_BYTES));
        let Some(key_id) = after_prefix.map(str::to_owned) else { return Ok(None) };
        let hash = hash_of(secret);
        self.read(move |connection| find(connection, &key_id, &hash)).await
    }

    async fn list(&self) -> Result<Vec<Principal>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY row"))?;
            let rows = statement.query_map([], stored)?;
            rows.map(|row| Ok(row?.0)).collect()
        })
        .await
    }

    async fn revoke(&self, key_id: &str) -> Result<()> {
        let key_id = key_id.to_owned();
        self.write(move |transaction| revoke(transaction, &key_id)).await
    }
}

pub(crate) fn random_hex<const BYTES: usize>() -> Result<String> {
    let mut bytes = [0_u8; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Error::Unavailable {
        message: format!("the operating system gives no random numbers: {error}"),
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn hash_of(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

fn insert(transaction: &Transaction<'_>, principal: &Principal, hash: &[u8]) -> Step<()> {
    let keys: u64 = transaction.query_row("SELECT count(*) FROM keys", [], |row| row.get(0))?;
    if keys >= KEYS_MAX {
        return Err(
            Error::Conflict { message: format!("there are {KEYS_MAX} keys already; revoke some") }.into()
        );
    }
    let rights = &principal.rights;
    for kb in rights.kbs.iter().flatten() {
        kb_row(transaction, kb)?;
    }
    let kbs = kbs_json(rights.kbs.as_deref());
    transaction.execute(
        "INSERT INTO keys (id, name, role, kbs, hash, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![principal.key_id, principal.name, code(rights.role), kbs, hash, principal.created_ms],
    )?;
    Ok(())
}

/// The id is no secret; the hash is compared in constant time.
fn find(connection: &Connection, key_id: &str, hash: &[u8]) -> Step<Option<Principal>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
    let found = statement.query_row([key_id], stored).optional()?;
    Ok(found.filter(|(_, stored)| bool::from(stored.as_slice().ct_eq(hash))).map(|(principal, _)| principal))
}

/// The last administrator of everything stays.
fn revoke(transaction: &Transaction<'_>, key_id: &str) -> Step<()> {
    keeping_an_administrator(transaction, || {
        match transaction.execute("DELETE FROM keys WHERE id = ?1", [key_id])? {
            0 => Err(Error::NotFound { what: "key", name: key_id.to_owned() }.into()),
            _ => Ok(()),
        }
    })
}

const SELECT: &str = "SELECT id, name, role, kbs, hash, created_ms FROM keys";

fn stored(row: &Row<'_>) -> rusqlite::Result<(Principal, Vec<u8>)> {
    let rights = Rights { role: role_of(row.get(2)?), kbs: kbs_in(row, 3)?, of_kbs: Vec::new() };
    let principal = Principal { key_id: row.get(0)?, name: row.get(1)?, rights, created_ms: row.get(5)? };
    Ok((principal, row.get(4)?))
}

/// A list of knowledge bases as a column holds it; none reaches all.
pub(crate) fn kbs_json(kbs: Option<&[KbName]>) -> Option<String> {
    let names: Option<Vec<&str>> = kbs.map(|kbs| kbs.iter().map(KbName::as_str).collect());
    names.map(|names| serde_json::json!(names).to_string())
}

/// Such a list in a column of a result.
pub(crate) fn kbs_in(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Vec<KbName>>> {
    let damaged = |error: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error)
    };
    let json: Option<String> = row.get(column)?;
    let Some(json) = json else { return Ok(None) };
    let names: Vec<String> = serde_json::from_str(&json).map_err(|error| damaged(error.into()))?;
    let parsed: Result<Vec<KbName>> = names.iter().map(|name| KbName::parse(name)).collect();
    parsed.map(Some).map_err(|error| damaged(error.into()))
}

pub(crate) fn role_of(code: i64) -> Role {
    match code {
        2 => Role::Admin,
        1 => Role::Editor,
        _ => Role::Reader,
    }
}

pub(crate) fn code(role: Role) -> i64 {
    match role {
        Role::Reader => 0,
        Role::Editor => 1,
        Role::Admin => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestStore, kb};

    #[tokio::test]
    async fn a_secret_opens_until_it_is_revoked_and_is_stored_nowhere() {
        let store = TestStore::with_kb().await;
        let (admin_secret, admin) = Keys::create(&**store, "first", Role::Admin, None).await.unwrap();
        let (secret, reader) = Keys::create(&**store, " 读者 ", Role::Reader, Some(&[kb()])).await.unwrap();
        assert!(secret.starts_with("rag_") && secret.len() == 80, "{secret}");
        assert_eq!((reader.name.as_str(), reader.rights.kbs.as_deref()), ("读者", Some(&[kb()][..])));
        assert_eq!(store.verify(&secret).await.unwrap(), Some(reader.clone()));
        assert_eq!(Keys::list(&**store).await.unwrap(), [admin.clone(), reader.clone()]);
        let mut other = secret.clone();
        other.replace_range(79.., if secret.ends_with('0') { "1" } else { "0" });
        for wrong in
            [other.as_str(), "", "rag_", "rag_字字字字字字字字字字字字字", &secret[..79], &secret[4..]]
        {
            assert_eq!(store.verify(wrong).await.unwrap(), None, "{wrong}");
        }
        store.revoke(&reader.key_id).await.unwrap();
        assert_eq!(store.verify(&secret).await.unwrap(), None);

        let store = store.reopen();
        assert_eq!(store.verify(&admin_secret).await.unwrap(), Some(admin));
        for entry in fs_err::read_dir(store.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let bytes = fs_err::read(path).unwrap();
                let tail = &admin_secret.as_bytes()[16..];
                assert!(!bytes.windows(tail.len()).any(|window| window == tail));
            }
        }
    }

    #[tokio::test]
    async fn the_last_administrator_stays() {
        let store = TestStore::with_kb().await;
        let create = async |role, kbs: Option<&[KbName]>| {
            Keys::create(&**store, "k", role, kbs).await.unwrap().1.key_id
        };
        let first = create(Role::Admin, None).await;
        let editor = create(Role::Editor, None).await;
        let of_one_kb = create(Role::Admin, Some(&[kb()])).await;
        assert!(
            matches!(store.revoke(&first).await, Err(Error::Conflict { .. })),
            "only it reaches everything"
        );
        let second = create(Role::Admin, None).await;
        store.revoke(&first).await.unwrap();
        store.revoke(&of_one_kb).await.unwrap();
        store.revoke(&editor).await.unwrap();
        assert!(matches!(store.revoke(&second).await, Err(Error::Conflict { .. })));
        assert!(matches!(store.revoke(&first).await, Err(Error::NotFound { what: "key", .. })));
    }

    #[tokio::test]
    async fn names_and_knowledge_bases_are_checked() {
        let store = TestStore::with_kb().await;
        for name in ["", "  ", &"x".repeat(201)] {
            let refused = Keys::create(&**store, name, Role::Reader, None).await;
            assert!(matches!(refused, Err(Error::InvalidInput { .. })));
        }
        let nowhere = [KbName::parse("nowhere").unwrap()];
        let refused = Keys::create(&**store, "k", Role::Reader, Some(&nowhere)).await;
        assert!(matches!(refused, Err(Error::NotFound { .. })));
        assert!(Keys::list(&**store).await.unwrap().is_empty());
    }
}
