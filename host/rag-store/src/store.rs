//! Opens the data folder and lends its connections to the ports.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rag_core::kb::KbName;
use rag_core::ports::{KeyValue, VectorIndex};
use rag_core::{Error, Result};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, ffi};

use crate::blobs;
use crate::catalog;
use crate::connection::Workers;
use crate::fault::Step;
use crate::folder::Folder;
use crate::key_value::PluginState;
use crate::migrate::migrate;
use crate::vectors::{self, HostVectors};
use crate::words;

/// Where and within which bounds the store works.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The data folder; created when missing.
    pub dir: PathBuf,
    /// Bytes of one original.
    pub document_bytes_max: u64,
    /// Jobs that may wait in the queue.
    pub jobs_queued_max: usize,
    /// Ended jobs that are remembered.
    pub jobs_kept_max: usize,
    /// Threads that read, each with its own connection; vector scans run on them.
    pub readers: usize,
    /// Calls that may wait for the writer, for the readers, and for the file threads.
    pub inbox_max: usize,
    /// Space that must stay free on the disk, in bytes; below it, whatever would add data is refused.
    pub disk_free_min_bytes: u64,
    /// Size that the database file may reach, in bytes; none leaves it to the disk.
    pub database_bytes_max: Option<u64>,
    /// Memory for vectors kept ready to search, in bytes; the least recently used collections go first.
    pub vector_cache_bytes_max: u64,
    /// Folders of the server whose files may be ingested by path.
    pub ingest_roots: Vec<PathBuf>,
    /// SQLite's page cache of each connection, in KiB.
    pub page_cache_kib: u32,
}

impl StoreConfig {
    /// The defaults, in a folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        StoreConfig {
            dir: dir.into(),
            document_bytes_max: 256 << 20,
            jobs_queued_max: 1_000,
            jobs_kept_max: 10_000,
            readers: 4,
            inbox_max: 256,
            disk_free_min_bytes: 64 << 20,
            database_bytes_max: None,
            vector_cache_bytes_max: 1 << 30,
            ingest_roots: Vec::new(),
            page_cache_kib: 16 << 10,
        }
    }
}

/// The data folder, opened; implements `Catalog`, `BlobStore` and `Keys`.
pub struct Store {
    // Dropped in this order: the writer closes last and folds the write-ahead log into the database.
    pub(crate) files: Arc<Workers<()>>,
    readers: Workers<Connection>,
    writer: Workers<Writer>,
    pub(crate) config: Arc<StoreConfig>,
    pub(crate) folder: Arc<Folder>,
    pub(crate) vector_cache: Arc<vectors::Cache>,
    /// Whether a job that fills an index is claimed before others: after each other job, so that neither waits forever.
    pub(crate) index_turn: AtomicBool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.config.dir).finish_non_exhaustive()
    }
}

/// Threads that write originals to disk; hashing and syncing a file keeps one busy.
const FILE_THREADS: usize = 2;
/// SQLite cannot have fewer pages than its schema fills; the page size is its default.
const PAGE_BYTES: u64 = 4_096;

impl Store {
    /// Opens the data folder, creating it when missing, and puts right what a dead process left: jobs that ran are
    /// queued again, half-written documents and files go.
    ///
    /// `Conflict` when another process holds the folder or a newer program wrote it; `Storage` when it cannot be used.
    pub fn open(config: StoreConfig) -> Result<Arc<Self>> {
        let folder = Arc::new(Folder::take(&config.dir, config.disk_free_min_bytes)?);
        Ok(Self::open_in(config, folder)?)
    }

    fn open_in(config: StoreConfig, folder: Arc<Folder>) -> Step<Arc<Self>> {
        let path = config.dir.join("catalog.sqlite");
        let mut connection = Connection::open(&path)?;
        prepare_writer(&connection, &config)?;
        migrate(&mut connection)?;
        let folder_of_writer = Arc::clone(&folder);
        let mut writer =
            Writer { connection, folder: folder_of_writer, scrub: false, purge_at: None, prompt: false };
        // Deletions of an earlier process may have left words to purge.
        writer.erased();
        writer.transact(|transaction| {
            catalog::recover(transaction)?;
            words::table::rebuild_outdated(transaction)
        })?;
        vectors::purge_dropped(&mut writer)?;
        blobs::sweep(&config.dir, &writer.connection)?;

        let mut readers = Vec::new();
        for _ in 0..config.readers.max(1) {
            let reader = Connection::open_with_flags(
                &path,
                OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )?;
            reader.pragma_update(None, "query_only", true)?;
            reader.pragma_update(None, "cache_size", -i64::from(config.page_cache_kib))?;
            reader.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
            readers.push(reader);
        }
        let inbox_max = config.inbox_max.max(1);
        Ok(Arc::new(Store {
            files: Arc::new(Workers::start("file writer", vec![(); FILE_THREADS], inbox_max, |()| None)?),
            readers: Workers::start("catalogue reader", readers, inbox_max, |_| None)?,
            writer: Workers::start("catalogue writer", vec![writer], inbox_max, Writer::idle)?,
            vector_cache: Arc::new(vectors::Cache::new(config.vector_cache_bytes_max)),
            index_turn: AtomicBool::new(true),
            config: Arc::new(config),
            folder,
        }))
    }

    /// The vectors that the host itself keeps for a knowledge base; calls fail with `NotFound` while there is none.
    pub fn vector_index(self: &Arc<Self>, kb: &KbName) -> Arc<dyn VectorIndex> {
        Arc::new(HostVectors::new(Arc::clone(self), kb.clone()))
    }

    /// The small state of one plugin in a knowledge base.
    pub fn key_value(self: &Arc<Self>, kb: &KbName, plugin: &str) -> Arc<dyn KeyValue> {
        Arc::new(PluginState::new(Arc::clone(self), kb.clone(), plugin))
    }

    /// One read transaction on a reader's connection.
    pub(crate) async fn read<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Step<T> + Send + 'static,
    {
        self.readers
            .run(move |connection| {
                let transaction = connection.transaction()?;
                step(&transaction)
            })
            .await
    }

    /// One write transaction.
    pub(crate) async fn write<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Step<T> + Send + 'static,
    {
        self.writer.run(move |writer| writer.transact(step)).await
    }

    /// Likewise, before other writes that wait: short, and somebody waits for it.
    pub(crate) async fn write_urgent<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Step<T> + Send + 'static,
    {
        self.writer.run_urgent(move |writer| writer.transact(step)).await
    }

    /// One write transaction that adds data: refused when the disk is nearly full.
    pub(crate) async fn grow<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Step<T> + Send + 'static,
    {
        self.with_writer(move |writer| {
            writer.folder.check_room()?;
            writer.transact(step)
        })
        .await
    }

    /// Wipes now what deletions left in the files: words in the full-text tables, pages in the write-ahead log. This
    /// happens by itself some seconds after a deletion when there is nothing else to write; here it is waited for.
    pub async fn purge(&self) -> Result<()> {
        while self.write(words::table::purge_step).await? {}
        self.with_writer(|writer| Ok(writer.checkpoint()?)).await
    }

    /// One write transaction that removes people's data, after which its traces in the files go too: see `purge`.
    pub(crate) async fn erase<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Step<T> + Send + 'static,
    {
        self.with_writer(move |writer| {
            let value = writer.transact(step)?;
            writer.erased();
            Ok(value)
        })
        .await
    }

    /// Work on the writer's thread that is more than one transaction.
    pub(crate) async fn with_writer<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Writer) -> Step<T> + Send + 'static,
    {
        self.writer.run(step).await
    }
}

/// The only connection that writes.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) folder: Arc<Folder>,
    /// Deleted text may still stand in the write-ahead log.
    scrub: bool,
    /// When to purge the full-text tables of deleted words: some time after the last deletion, so that many of them
    /// cost one purge.
    purge_at: Option<Instant>,
    /// Its thread has asked for a short slice.
    prompt: bool,
}

/// Time from the last deletion to the purge of its words.
const PURGE_DELAY: Duration = Duration::from_secs(10);
/// Time between tries to empty the write-ahead log while searches still read it.
const SCRUB_PAUSE: Duration = Duration::from_secs(1);

impl Writer {
    /// Commits what `step` did, or nothing of it.
    pub(crate) fn transact<T>(&mut self, step: impl FnOnce(&Transaction<'_>) -> Step<T>) -> Step<T> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = step(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Something of people's data was deleted.
    pub(crate) fn erased(&mut self) {
        self.scrub = true;
        self.purge_at = Some(Instant::now() + PURGE_DELAY);
    }

    /// Does a little of what can wait; tells when to go on with it.
    fn idle(&mut self) -> Option<Duration> {
        if !std::mem::replace(&mut self.prompt, true) {
            rag_slice::shorten();
        }
        if let Some(at) = self.purge_at {
            let wait = at.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                self.purge_at = match self.transact(words::table::purge_step) {
                    Ok(true) => Some(at),
                    Ok(false) => None,
                    Err(fault) => {
                        tracing::warn!(error = %Error::from(fault), "deleted words stay until the next deletion or start");
                        None
                    }
                };
                self.scrub = true;
                return Some(Duration::ZERO);
            }
        }
        if self.scrub {
            // A search in the middle of its transaction makes this report busy.
            self.scrub = self.checkpoint().is_err();
        }
        let purge = self.purge_at.map(|at| at.saturating_duration_since(Instant::now()));
        purge.into_iter().chain(self.scrub.then_some(SCRUB_PAUSE)).min()
    }

    /// Moves the write-ahead log into the database and empties it.
    fn checkpoint(&mut self) -> rusqlite::Result<()> {
        let busy: i64 = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy == 0 {
            Ok(())
        } else {
            Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None))
        }
    }
}

/// Prepared statements kept by each connection.
const STATEMENTS_CACHED: usize = 128;
/// Bytes that the write-ahead log keeps on disk between checkpoints.
const WAL_KEPT_BYTES: i64 = 16 << 20;

fn prepare_writer(connection: &Connection, config: &StoreConfig) -> Step<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    // Nobody else writes, and emptying the log need not wait for searches.
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // FULL: a commit is on the disk before its caller hears of it, whatever happens to the machine then.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Deleted text is overwritten, not only unlinked.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "cache_size", -i64::from(config.page_cache_kib))?;
    connection.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    if let Some(bytes) = config.database_bytes_max {
        connection.pragma_update(None, "max_page_count", bytes / PAGE_BYTES)?;
    }
    Ok(())
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
