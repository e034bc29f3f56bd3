//! A knowledge base that is being made of a file: nobody sees it before it is whole.

use rag_core::Error;
use rag_core::kb::{Kb, KbName, KbSettings};
use rag_core::ports::KbImport;
use rusqlite::{Connection, Transaction};

use super::kbs;
use crate::fault::Step;

/// `kbs.import`.
const WHOLE: i64 = 0;
const RUNNING: i64 = 1;
const BROKEN: i64 = 2;

pub(super) fn begin(transaction: &Transaction<'_>, name: &KbName, settings: &KbSettings) -> Step<Kb> {
    let kb = kbs::create(transaction, name, settings)?;
    set(transaction, name, RUNNING)?;
    Ok(kb)
}

pub(super) fn end(transaction: &Transaction<'_>, name: &KbName) -> Step<Kb> {
    kbs::any_row_of(transaction, name)?;
    set(transaction, name, WHOLE)?;
    kbs::get(transaction, name)
}

fn set(transaction: &Transaction<'_>, name: &KbName, state: i64) -> Step<()> {
    transaction
        .execute("UPDATE kbs SET import = ?2 WHERE name = ?1", rusqlite::params![name.as_str(), state])?;
    Ok(())
}

pub(super) fn all(connection: &Connection) -> Step<Vec<KbImport>> {
    let mut statement =
        connection.prepare_cached("SELECT name, import FROM kbs WHERE import <> ?1 ORDER BY name")?;
    let rows = statement
        .query_map([WHOLE], |row| Ok((kbs::name_in(row, 0)?, row.get::<_, i64>(1)?)))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    rows.into_iter()
        .map(|(name, state)| Ok(KbImport { kb: kbs::any(connection, &name)?, broken: state == BROKEN }))
        .collect()
}

/// None is under way when the store is opened.
pub(super) fn break_off(transaction: &Transaction<'_>) -> Step<()> {
    transaction.execute("UPDATE kbs SET import = ?2 WHERE import = ?1", [RUNNING, BROKEN])?;
    Ok(())
}

/// Refuses one that is not whole.
pub(super) fn whole(name: &KbName, state: i64) -> Step<()> {
    let message = match state {
        WHOLE => return Ok(()),
        BROKEN => format!(
            "'{name}' is what an import left when the program ended in the middle of it; it is being removed: try again in a moment, or delete it"
        ),
        _ => format!(
            "knowledge base '{name}' is being imported: wait until that has ended, or delete it to give it up"
        ),
    };
    Err(Error::Conflict { message }.into())
}

#[cfg(test)]
mod tests {
    use rag_core::ErrorCode;
    use rag_core::ports::{Catalog, VectorCollection};
    use rag_core::search::Metric;

    use super::*;
    use crate::testing::TestStore;

    fn copy() -> KbName {
        KbName::parse("copy").unwrap()
    }

    async fn refused(store: &TestStore, words: &str) {
        let name = KbName::parse("Copy").unwrap();
        for error in [
            store.kb(&name).await.unwrap_err(),
            store.create_kb(&name, &KbSettings::default()).await.unwrap_err(),
            store.begin_import(&name, &KbSettings::default()).await.unwrap_err(),
            store.update_kb(&name, &KbSettings::default()).await.unwrap_err(),
            store.documents(&name, None, 9).await.unwrap_err(),
            store.passages(&name, &[]).await.unwrap_err(),
            store.lexical(&name, "copy-g1", "x", 9, None).await.unwrap_err(),
        ] {
            assert_eq!(error.code(), ErrorCode::Conflict, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        assert_eq!(store.kbs().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn nobody_sees_an_import_before_it_is_whole() {
        let store = TestStore::with_kb().await;
        let kb = store.begin_import(&copy(), &KbSettings::default()).await.unwrap();
        refused(&store, "is being imported").await;
        let index = store.vector_index(&copy());
        let shape = VectorCollection { name: kb.collection.clone(), dim: 4, metric: Metric::Cosine };
        index.create(&shape).await.unwrap();
        assert_eq!(store.imports().await.unwrap(), [KbImport { kb: kb.clone(), broken: false }]);
        assert_eq!(store.end_import(&copy()).await.unwrap(), kb);
        assert_eq!(store.kb(&copy()).await.unwrap(), kb);
        assert!(store.imports().await.unwrap().is_empty());
        assert_eq!(store.kbs().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn one_whose_process_died_is_known_and_makes_room_for_the_next() {
        let store = TestStore::with_kb().await;
        store.begin_import(&copy(), &KbSettings::default()).await.unwrap();
        let store = store.reopen();
        refused(&store, "left when the program ended").await;
        assert!(store.imports().await.unwrap()[0].broken);
        store.delete_kb(&copy()).await.unwrap();
        store.begin_import(&copy(), &KbSettings::default()).await.unwrap();
        assert!(!store.imports().await.unwrap()[0].broken);
    }
}
