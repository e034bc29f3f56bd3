-- Knowledge bases, documents, jobs, conversations, keys. Times are milliseconds since 1970 (UTC).
-- Beside these, each knowledge base has its own full-text table words_{kbs.row} (see words_table.rs).

-- Facts about the file itself, e.g. which segmentation filled the full-text tables.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE kbs (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    settings TEXT NOT NULL,
    collection TEXT NOT NULL,
    embedder TEXT,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE documents (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kb INTEGER NOT NULL REFERENCES kbs (row),
    name TEXT NOT NULL,
    blob TEXT NOT NULL,
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    collection TEXT NOT NULL,
    -- 0 while it is being written, 1 once committed.
    ready INTEGER NOT NULL DEFAULT 0,
    title TEXT,
    language TEXT,
    -- JSON array of [key, value] pairs.
    attributes TEXT NOT NULL DEFAULT '[]',
    chunks INTEGER NOT NULL DEFAULT 0,
    text_bytes INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX documents_by_name ON documents (kb, name) WHERE ready = 1;
CREATE INDEX documents_by_kb ON documents (kb, ready);
CREATE INDEX documents_by_blob ON documents (blob);

-- The document's text in pieces, as bytes [text_start, text_end).
CREATE TABLE sections (
    document INTEGER NOT NULL REFERENCES documents (row),
    text_start INTEGER NOT NULL,
    text_end INTEGER NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (document, text_start)
) STRICT;

CREATE TABLE chunks (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    document INTEGER NOT NULL REFERENCES documents (row),
    ordinal INTEGER NOT NULL,
    text TEXT NOT NULL,
    span_start INTEGER NOT NULL,
    span_end INTEGER NOT NULL,
    parent TEXT,
    context TEXT,
    heading TEXT,
    page INTEGER,
    source_start INTEGER,
    source_end INTEGER,
    UNIQUE (document, ordinal)
) STRICT;

-- Vectors that no chunk refers to, until the vector store confirmed that it dropped them.
CREATE TABLE garbage (
    kb INTEGER NOT NULL REFERENCES kbs (row),
    collection TEXT NOT NULL,
    chunk TEXT NOT NULL,
    -- 1 once handed out to be dropped: until that is confirmed, the same chunk cannot be written again.
    taken INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (kb, collection, chunk)
) STRICT, WITHOUT ROWID;

-- Knowledge bases whose full-text table still holds words of deleted chunks, out of every search's sight.
CREATE TABLE purges (
    kb INTEGER PRIMARY KEY REFERENCES kbs (row),
    started INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE jobs (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    kb INTEGER NOT NULL REFERENCES kbs (row),
    -- 0 ingest, 1 delete a document.
    kind INTEGER NOT NULL,
    -- Of an ingest: its source.
    blob TEXT,
    size INTEGER,
    name TEXT,
    media_type TEXT,
    -- Of a deletion: what to delete. Of an ingest that is done: what came of it.
    document TEXT,
    -- 0 queued, 1 running, 2 done, 3 failed, 4 cancelled.
    state INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0,
    message TEXT,
    stage INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0,
    percent INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, row);
CREATE INDEX jobs_by_kb ON jobs (kb, row);
CREATE INDEX jobs_by_blob ON jobs (blob) WHERE blob IS NOT NULL;

CREATE TABLE turns (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation TEXT NOT NULL,
    kb INTEGER NOT NULL REFERENCES kbs (row),
    question TEXT NOT NULL,
    answer TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX turns_by_conversation ON turns (conversation, row);
CREATE INDEX turns_by_kb ON turns (kb);

CREATE TABLE keys (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    -- 0 reader, 1 editor, 2 administrator.
    role INTEGER NOT NULL,
    -- JSON array of knowledge base names; NULL reaches all.
    kbs TEXT,
    -- SHA-256 of the secret.
    hash BLOB NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL
) STRICT;
