//! Small durable state of one plugin in one knowledge base.

use std::sync::Arc;

use async_trait::async_trait;
use rag_core::kb::KbName;
use rag_core::ports::KeyValue;
use rag_core::{Error, Result};
use rusqlite::{OptionalExtension, params};

use crate::catalog::any_kb_row;
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
                let kb = any_kb_row(connection, &kb)?;
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
                let kb = any_kb_row(transaction, &kb)?;
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
                let kb = any_kb_row(transaction, &kb)?;
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
                let kb = any_kb_row(connection, &kb)?;
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

#[cfg(test)]
mod tests {
    use rag_core::kb::KbSettings;
    use rag_core::ports::Catalog;

    use super::*;
    use crate::testing::{TestStore, kb};

    #[tokio::test]
    async fn each_plugin_has_its_own_keys_in_each_knowledge_base() {
        let store = TestStore::with_kb().await;
        let other = KbName::parse("other").unwrap();
        store.create_kb(&other, &KbSettings::default()).await.unwrap();
        let state = store.key_value(&kb(), "p");
        state.set("键", b"1".to_vec()).await.unwrap();
        state.set("键", b"2".to_vec()).await.unwrap();
        assert_eq!(state.get("键").await.unwrap(), Some(b"2".to_vec()));
        assert_eq!(store.key_value(&kb(), "q").get("键").await.unwrap(), None);
        assert_eq!(store.key_value(&other, "p").get("键").await.unwrap(), None);
        assert!(state.delete("键").await.unwrap());
        assert!(!state.delete("键").await.unwrap());
        assert_eq!(state.get("键").await.unwrap(), None);
    }

    #[tokio::test]
    async fn keys_are_listed_by_prefix_in_pages() {
        let store = TestStore::with_kb().await;
        let state = store.key_value(&kb(), "p");
        for key in ["a/2", "a/1", "a/10", "b", "a%", "A/1"] {
            state.set(key, Vec::new()).await.unwrap();
        }
        assert_eq!(state.keys("a/", None, 9).await.unwrap(), ["a/1", "a/10", "a/2"]);
        assert_eq!(state.keys("a/", Some("a/1"), 1).await.unwrap(), ["a/10"]);
        assert_eq!(state.keys("", None, 9).await.unwrap().len(), 6);
        assert!(state.keys("%", None, 9).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn its_size_is_bounded() {
        let store = TestStore::with_kb().await;
        let state = store.key_value(&kb(), "p");
        let too_large = |outcome: Result<()>| matches!(outcome, Err(Error::TooLarge { .. }));
        assert!(too_large(state.set(&"k".repeat(KEY_BYTES_MAX + 1), Vec::new()).await));
        assert!(too_large(state.set("k", vec![0; VALUE_BYTES_MAX + 1]).await));
        for index in 0..255 {
            state.set(&index.to_string(), vec![0; VALUE_BYTES_MAX]).await.unwrap();
        }
        assert!(too_large(state.set("255", vec![0; VALUE_BYTES_MAX]).await));
        state.set("0", vec![1; VALUE_BYTES_MAX]).await.unwrap();
    }

    #[tokio::test]
    async fn there_is_none_without_a_knowledge_base() {
        let store = TestStore::with_kb().await;
        let state = store.key_value(&KbName::parse("nowhere").unwrap(), "p");
        for missing in [
            state.get("k").await.err(),
            state.set("k", Vec::new()).await.err(),
            state.delete("k").await.err(),
            state.keys("", None, 1).await.err(),
        ] {
            assert!(matches!(missing, Some(Error::NotFound { what: "knowledge base", .. })));
        }
    }
}
