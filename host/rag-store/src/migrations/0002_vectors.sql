-- The vectors that the host itself keeps, and the small state of plugins.

CREATE TABLE collections (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    kb INTEGER NOT NULL REFERENCES kbs (row),
    name TEXT NOT NULL,
    dim INTEGER NOT NULL,
    -- 0 cosine, 1 dot, 2 Euclidean.
    metric INTEGER NOT NULL,
    -- Counts the transactions that changed its rows; the copy in memory carries the same number.
    version INTEGER NOT NULL DEFAULT 0,
    -- Dropped collections are out of sight at once; their rows go in batches.
    dropped INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX collections_by_name ON collections (kb, name) WHERE dropped = 0;

CREATE TABLE vectors (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    collection INTEGER NOT NULL REFERENCES collections (row),
    id TEXT NOT NULL,
    -- dim little-endian f32.
    vector BLOB NOT NULL,
    UNIQUE (collection, id)
) STRICT;
CREATE INDEX vectors_by_collection ON vectors (collection, row);

CREATE TABLE vector_fields (
    collection INTEGER NOT NULL,
    field TEXT NOT NULL,
    -- 0 text, 1 number, 2 boolean: values of different kinds never compare equal.
    kind INTEGER NOT NULL,
    value ANY NOT NULL,
    row INTEGER NOT NULL REFERENCES vectors (row),
    PRIMARY KEY (collection, field, kind, value, row)
) STRICT, WITHOUT ROWID;
CREATE INDEX vector_fields_by_row ON vector_fields (row);

CREATE TABLE key_values (
    kb INTEGER NOT NULL REFERENCES kbs (row),
    plugin TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (kb, plugin, key)
) STRICT, WITHOUT ROWID;
