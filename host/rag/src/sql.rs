//! PostgreSQL databases lent to plugins by name: one connection a grant, one statement a call, time and rows bounded.

// Named, because tests/stores reads this file from its own folder.
#[path = "sql/cell.rs"]
mod cell;

use std::collections::HashMap;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use rag_core::ports::{Sql, SqlGrant, SqlRows, SqlValue};
use rag_core::{Error, Result};
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls};

use cell::Param;

/// Rows and bytes of one answer.
const ROWS_MAX: usize = 100_000;
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The databases of one plugin.
pub(crate) struct Databases {
    connections: HashMap<String, Arc<Connection>>,
    /// Of one statement, in milliseconds.
    timeout_ms: u64,
}

impl Databases {
    /// Connects when first used. `InvalidInput` when an address cannot be read; it is not shown, since it may hold a
    /// password.
    pub(crate) fn new(grants: Vec<SqlGrant>, timeout_ms: u64) -> Result<Arc<Self>> {
        let mut connections = HashMap::new();
        for grant in grants {
            let mut config = tokio_postgres::Config::from_str(&grant.url).map_err(|_| {
                Error::invalid(format!(
                    "the address of database '{}' is not like postgres://USER:PASSWORD@HOST:PORT/DATABASE",
                    grant.name
                ))
            })?;
            config.connect_timeout(Duration::from_millis(timeout_ms)).application_name("rwkv-rag");
            connections.insert(grant.name, Arc::new(Connection { config, client: Mutex::new(None) }));
        }
        Ok(Arc::new(Databases { connections, timeout_ms }))
    }

    async fn bounded<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(Duration::from_millis(self.timeout_ms), work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout {
                what: "a statement".to_owned(),
                limit_ms: self.timeout_ms,
                setting: "egress.timeout_ms",
            }),
        }
    }

    fn connection(&self, name: &str) -> Result<&Arc<Connection>> {
        self.connections
            .get(name)
            .ok_or_else(|| Error::Denied { message: format!("this plugin is granted no database '{name}'") })
    }
}

struct Connection {
    config: tokio_postgres::Config,
    client: Mutex<Option<Arc<Client>>>,
}

impl Connection {
    /// The open connection, or a new one.
    async fn client(&self, timeout_ms: u64) -> Result<Arc<Client>> {
        let mut held = self.client.lock().await;
        if let Some(client) = held.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let (client, driver) = self.config.connect(NoTls).await.map_err(|error| failed(&error))?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::warn!(%error, "a database connection broke; the next statement opens another");
            }
        });
        let limit = format!("SET statement_timeout = {timeout_ms}");
        client.batch_execute(&limit).await.map_err(|error| failed(&error))?;
        let client = Arc::new(client);
        *held = Some(client.clone());
        Ok(client)
    }
}

#[async_trait]
impl Sql for Databases {
    async fn query(&self, connection: &str, statement: &str, params: Vec<SqlValue>) -> Result<SqlRows> {
        let connection = self.connection(connection)?;
        let work = async {
            let client = connection.client(self.timeout_ms).await?;
            let prepared = client.prepare(statement).await.map_err(|error| failed(&error))?;
            let columns = prepared.columns().iter().map(|column| column.name().to_owned()).collect();
            let params: Vec<Param> = params.into_iter().map(Param).collect();
            let rows = client.query_raw(&prepared, &params).await.map_err(|error| failed(&error))?;
            let mut rows = pin!(rows);
            let mut found = SqlRows { columns, cells: Vec::new() };
            let (mut count, mut bytes) = (0, 0);
            while let Some(row) = rows.try_next().await.map_err(|error| failed(&error))? {
                count += 1;
                for at in 0..row.len() {
                    let value = cell::read(&row, at)?;
                    bytes += cell::size(&value);
                    found.cells.push(value);
                }
                if count > ROWS_MAX || bytes > ANSWER_BYTES_MAX {
                    return Err(Error::TooLarge {
                        what: "a query's answer".to_owned(),
                        size: bytes as u64,
                        limit: ANSWER_BYTES_MAX as u64,
                        unit: "bytes",
                        setting: "none: this limit is fixed; ask for fewer rows",
                    });
                }
            }
            Ok(found)
        };
        self.bounded(work).await
    }

    async fn execute(&self, connection: &str, statement: &str, params: Vec<SqlValue>) -> Result<u64> {
        let connection = self.connection(connection)?;
        let work = async {
            let client = connection.client(self.timeout_ms).await?;
            let prepared = client.prepare(statement).await.map_err(|error| failed(&error))?;
            let params: Vec<Param> = params.into_iter().map(Param).collect();
            client.execute_raw(&prepared, &params).await.map_err(|error| failed(&error))
        };
        self.bounded(work).await
    }
}

/// What the database said, by who must act.
fn failed(error: &tokio_postgres::Error) -> Error {
    let Some(said) = error.as_db_error() else {
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        return match error.is_closed() || cause.downcast_ref::<std::io::Error>().is_some() {
            true => Error::Unavailable { message: format!("the database does not answer: {cause}") },
            false => Error::invalid(format!("the database connection refused: {cause}")),
        };
    };
    let message = format!("database: {} ({})", said.message(), said.code().code());
    match said.code().code().get(..2).unwrap_or_default() {
        // Unknown table or collection.
        "42" if said.code().code() == "42P01" => {
            Error::NotFound { what: "table", name: said.message().to_owned() }
        }
        "42" | "22" | "21" | "23" => Error::InvalidInput { message },
        "28" => Error::Denied { message },
        _ => Error::Unavailable { message },
    }
}
