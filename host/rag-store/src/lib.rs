//! Remembers knowledge bases, documents, vectors, jobs and keys in one SQLite file.
