//! What can go wrong inside the store, and what callers hear of it.

use rag_core::Error;
use rusqlite::ErrorCode;

/// Result of a step of a transaction.
pub(crate) type Step<T> = Result<T, Fault>;

/// A step's failure: an answer for the caller, or SQLite's or the file system's word.
#[derive(Debug)]
pub(crate) enum Fault {
    Answer(Error),
    Sql(rusqlite::Error),
    File(std::io::Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Answer(error)
    }
}
impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Sql(error)
    }
}
impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Fault::File(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Answer(error) => error,
            Fault::File(error) if error.kind() == std::io::ErrorKind::StorageFull => disk_full(),
            Fault::File(error) => Error::Storage { message: error.to_string() },
            Fault::Sql(error) => of_sqlite(&error),
        }
    }
}

/// What a caller hears when there is no room.
pub(crate) fn disk_full() -> Error {
    Error::Storage {
        message: "the disk of the data folder is full; nothing was changed. Free space there, then try again"
            .to_owned(),
    }
}

fn of_sqlite(error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => disk_full(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Storage {
            message: format!("the database file is damaged ({error}); restore the data folder from a backup"),
        },
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied,
        ) => Error::Storage { message: format!("the database file cannot be read or written: {error}") },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Unavailable {
            message: "another program holds the database file; close it and try again".to_owned(),
        },
        Some(ErrorCode::TooBig) => Error::invalid("a value is larger than the database can hold"),
        _ => Error::internal(format!("database: {error}")),
    }
}

/// A number for SQLite, which has no unsigned ones.
pub(crate) fn signed(value: u64) -> Step<i64> {
    i64::try_from(value).map_err(|_| Fault::Answer(Error::invalid(format!("{value} is too large a number"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_has_its_error() {
        let sqlite =
            |code: i32| Fault::Sql(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None));
        assert!(matches!(Error::from(sqlite(13)), Error::Storage { message } if message.contains("full")));
        assert!(matches!(Error::from(sqlite(11)), Error::Storage { message } if message.contains("damaged")));
        assert!(matches!(Error::from(sqlite(26)), Error::Storage { .. }));
        assert!(matches!(Error::from(sqlite(10)), Error::Storage { .. }));
        assert!(matches!(Error::from(sqlite(5)), Error::Unavailable { .. }));
        assert!(matches!(Error::from(sqlite(18)), Error::InvalidInput { .. }));
        assert!(matches!(Error::from(sqlite(1)), Error::Internal { .. }));
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert!(
            matches!(Error::from(Fault::File(full)), Error::Storage { message } if message.contains("full"))
        );
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert!(matches!(Error::from(Fault::File(denied)), Error::Storage { .. }));
        assert!(signed(u64::MAX).is_err());
    }
}
