//! Brings a database file to the schema that this program knows, one numbered step and one transaction at a time.

use rag_core::Error;
use rusqlite::{Connection, TransactionBehavior};

use crate::fault::Step;

/// `migrations/NNNN_*.sql` in order; never edited once released, only added to.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_catalog.sql"),
    include_str!("migrations/0002_vectors.sql"),
    include_str!("migrations/0003_management.sql"),
    include_str!("migrations/0004_generations.sql"),
    include_str!("migrations/0005_web.sql"),
    include_str!("migrations/0006_encoders.sql"),
    include_str!("migrations/0007_folders.sql"),
    include_str!("migrations/0008_imports.sql"),
];

/// Marks the file as ours ("RWKR").
const APPLICATION_ID: i32 = 0x5257_4b52;

/// Applies what is missing. A file of a newer program, or of another one, is refused untouched.
pub(crate) fn migrate(connection: &mut Connection) -> Step<()> {
    migrate_to(connection, MIGRATIONS.len())
}

fn migrate_to(connection: &mut Connection, target: usize) -> Step<()> {
    let found: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && (found != 0 || tables != 0) {
        return Err(Error::Conflict {
            message: "the database file belongs to another program; choose another data folder".to_owned(),
        }
        .into());
    }
    if found > MIGRATIONS.len() {
        return Err(Error::Conflict {
            message: format!(
                "the data folder was written by a newer version of this program (schema {found}, this one knows {}); use that version",
                MIGRATIONS.len()
            ),
        }
        .into());
    }
    for (index, step) in MIGRATIONS.iter().enumerate().take(target).skip(found) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", index + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn schema(connection: &Connection) -> Vec<String> {
        let mut statement =
            connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn every_start_ends_in_the_same_schema() {
        let mut fresh = Connection::open_in_memory().unwrap();
        migrate(&mut fresh).unwrap();
        for start in 0..=MIGRATIONS.len() {
            let mut old = Connection::open_in_memory().unwrap();
            migrate_to(&mut old, start).unwrap();
            if start > 0 {
                old.execute(
                    "INSERT INTO kbs (name, settings, collection, created_ms) VALUES ('kept', '{}', 'kept-g1', 1)",
                    [],
                )
                .unwrap();
            }
            migrate(&mut old).unwrap();
            assert_eq!(schema(&old), schema(&fresh), "from version {start}");
            let kept: usize = old.query_row("SELECT count(*) FROM kbs", [], |row| row.get(0)).unwrap();
            assert_eq!(kept, usize::from(start > 0), "from version {start}");
        }
    }

    #[test]
    fn rounds_of_before_become_conversations() {
        let mut old = Connection::open_in_memory().unwrap();
        migrate_to(&mut old, 2).unwrap();
        old.execute_batch(
            "INSERT INTO kbs (name, settings, collection, created_ms) VALUES ('base_1', '{}', 'c', 1);
             INSERT INTO turns (conversation, kb, question, answer, created_ms) VALUES
             ('k1/base_1/chat-7', 1, '第一个问题', 'a', 10), ('k1/base_1/chat-7', 1, 'second', 'b', 20),
             ('k2/base_1/chat-7', 1, 'other', 'c', 30), ('nameless', 1, 'left', 'd', 40);",
        )
        .unwrap();
        migrate(&mut old).unwrap();
        let mut statement = old
            .prepare(
                "SELECT owner, id, title, rounds, created_ms, updated_ms FROM conversations ORDER BY owner",
            )
            .unwrap();
        type Found = (String, String, String, i64, i64, i64);
        let rows = statement.query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        });
        let found: Vec<Found> = rows.unwrap().collect::<Result<_, _>>().unwrap();
        let row = |owner: &str, title: &str, rounds, created, updated| {
            (owner.to_owned(), "chat-7".to_owned(), title.to_owned(), rounds, created, updated)
        };
        assert_eq!(found, [row("k1", "第一个问题", 2, 10, 20), row("k2", "other", 1, 30, 30)]);
    }

    #[test]
    fn what_a_knowledge_base_held_its_indexes_hold() {
        let mut old = Connection::open_in_memory().unwrap();
        migrate_to(&mut old, 5).unwrap();
        old.execute_batch(
            "INSERT INTO kbs (name, settings, collection, embedder, created_ms) VALUES
                ('base_1', '{}', 'base_1-g1', 'e5@1', 1), ('base_2', '{}', 'base_2-g1', 'e5@1', 1);
             INSERT INTO indexes (kb, number, collection) VALUES
                (1, 1, 'base_1-g1'), (1, 2, 'base_1-g2'), (2, 1, 'base_2-g1');
             INSERT INTO documents (id, kb, name, blob, size, media_type, pipeline, collection, created_ms) VALUES
                ('d', 1, 'a.txt', 'b', 1, 'text/plain', 'p', 'base_1-g1', 1);
             INSERT INTO collections (kb, name, dim, metric) VALUES (1, 'base_1-g1', 384, 0);",
        )
        .unwrap();
        migrate(&mut old).unwrap();
        let mut statement =
            old.prepare("SELECT collection, embedder, dim FROM indexes ORDER BY collection").unwrap();
        type Held = (String, Option<String>, i64);
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        let held: Vec<Held> = rows.collect::<Result<_, _>>().unwrap();
        let row = |collection: &str, embedder: Option<&str>, dim| {
            (collection.to_owned(), embedder.map(str::to_owned), dim)
        };
        let want =
            [row("base_1-g1", Some("e5@1"), 384), row("base_1-g2", None, 0), row("base_2-g1", None, 0)];
        assert_eq!(held, want);
    }

    #[test]
    fn a_newer_or_foreign_file_is_refused_untouched() {
        let mut newer = Connection::open_in_memory().unwrap();
        migrate(&mut newer).unwrap();
        newer.pragma_update(None, "user_version", MIGRATIONS.len() + 1).unwrap();
        let before = schema(&newer);
        let error = migrate(&mut newer).unwrap_err();
        assert!(matches!(error, Fault::Answer(Error::Conflict { message }) if message.contains("newer")));
        assert_eq!(schema(&newer), before);

        let mut foreign = Connection::open_in_memory().unwrap();
        foreign.execute_batch("CREATE TABLE theirs (x)").unwrap();
        let error = migrate(&mut foreign).unwrap_err();
        assert!(
            matches!(error, Fault::Answer(Error::Conflict { message }) if message.contains("another program"))
        );
        assert_eq!(schema(&foreign).len(), 1);
    }

    #[test]
    fn a_failing_step_leaves_the_version_before() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_to(&mut connection, 1).unwrap();
        // The last table of step 2 is there already, so the step fails at its end.
        connection.execute_batch("CREATE TABLE key_values (x)").unwrap();
        assert!(migrate(&mut connection).is_err());
        let version: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 1);
        assert!(!schema(&connection).iter().any(|sql| sql.contains("TABLE collections")));
    }
}
