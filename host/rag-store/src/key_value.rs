//! Small durable state of one plugin in one knowledge base.

use std::sync::Arc;

use async_trait::async_trait;
use rag_core::kb::KbName;
use rag_core::ports::KeyValue;
use rag_core::{Error, Result};
use rusqlite::{OptionalExtension, params};

use crate::catalog::kb_row;
use crate::fault::{Step, signed};
use crate::store::Store;

/// Bytes of a key.
const KEY_BYTES_MAX: usize = 1 << 10;
/// Bytes of a value.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// Bytes of all keys and values of a plugin in a knowledge base.
const TOTAL_BYTES_MAX: u64 = 16 << 20;
/// Keys that one `keys` gives at most.
const KEYS_MAX: u32 = 10_000;

pub(crate) struct PluginState {
    store: Arc<Store>,
    kb: KbName,
    plugin: String,
}

impl PluginState {
    pub(crate) fn new(store: Arc<Store>, kb: KbName, plugin: &str) -> Self {
        PluginState { store, kb, plugin: plugin.to_owned() }
    }
}

#[async_trait]
impl KeyValue for PluginState {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let (kb, plugin, key) = (self.kb.clone(), self.plugin.clone(), key.to_owned());
        self.store
            .read(move |connection| {
                let kb = kb_row(connection, &kb)?;
                let mut statement = connection.prepare_cached(
                    "SELECT value FROM key_values WHERE kb = ?1 AND plugin = ?2 AND key = ?3",
                )?;
                Ok(statement.query_row(params![kb, plugin, key], |row| row.get(0)).optional()?)
            })
            .await
    }

    async fn set(&self, key: &str, value: Vec<u8>) -> Result<()> {
        within("a key of a plugin's state", key.len() as u64, KEY_BYTES_MAX as u64)?;
        within("a value of a plugin's state", value.len() as u64, VALUE_BYTES_MAX as u64)?;
        let (kb, plugin, key) = (self.kb.clone(), self.plugin.clone(), key.to_owned());
        self.store
            .grow(move |transaction| {
                let kb = kb_row(transaction, &kb)?;
                let others: u64 = transaction.query_row(
                    "SELECT coalesce(sum(octet_length(key) + octet_length(value)), 0) FROM key_values
                     WHERE kb = ?1 AND plugin = ?2 AND key <> ?3",
                    params![kb, plugin, key],
                    |row| row.get(0),
                )?;
                within("a plugin's state", others + (key.len() + value.len()) as u64, TOTAL_BYTES_MAX)?;
                transaction.execute(
                    "INSERT INTO key_values (kb, plugin, key, value) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT DO UPDATE SET value = excluded.value",
                    params![kb, plugin, key, value],
                )?;
                Ok(())
            })
            .await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        let (kb, plugin, key) = (self.kb.clone(), self.plugin.clone(), key.to_owned());
        self.store
            .write(move |transaction| {
                let kb = kb_row(transaction, &kb)?;
                let deleted = transaction.execute(
                    "DELETE FROM key_values WHERE kb = ?1 AND plugin = ?2 AND key = ?3",
                    params![kb, plugin, key],
                )?;
                Ok(deleted > 0)
            })
            .await
    }

    async fn keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>> {
        let (kb, plugin) = (self.kb.clone(), self.plugin.clone());
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.store
            .read(move |connection| -> Step<Vec<String>> {
                let kb = kb_row(connection, &kb)?;
                let mut statement = connection.prepare_cached(
                    "SELECT key FROM key_values WHERE kb = ?1 AND plugin = ?2 AND key >= ?3
                     AND substr(key, 1, length(?3)) = ?3 AND (?4 IS NULL OR key > ?4) ORDER BY key LIMIT ?5",
                )?;
                let limit = signed(u64::from(limit.min(KEYS_MAX)))?;
                let rows =
                    statement.query_map(params![kb, plugin, prefix, after, limit], |row| row.get(0))?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }
}

fn within(what: &str, size: u64, limit: u64) -> Result<()> {
    if size <= limit {
        return Ok(());
    }
    let setting = "none: the plugin contract fixes it";
    Err(Error::TooLarge { what: what.to_owned(), size, limit, unit: "bytes", setting })
}
