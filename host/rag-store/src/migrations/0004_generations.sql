-- Generations of a knowledge base's plugins, and more than one index of it at a time.

-- The live generation, and the number of the index made last.
ALTER TABLE kbs ADD COLUMN generation INTEGER NOT NULL DEFAULT 1;
ALTER TABLE kbs ADD COLUMN index_made INTEGER NOT NULL DEFAULT 1;

CREATE TABLE generations (
    kb INTEGER NOT NULL REFERENCES kbs (row),
    number INTEGER NOT NULL,
    parent INTEGER,
    -- 0 building, 1 ready, 2 live, 3 retired, 4 rolled back, 5 failed, 6 abandoned.
    state INTEGER NOT NULL,
    -- JSON of its plugins with their digests; of the very first, what the settings said.
    parts TEXT NOT NULL,
    collection TEXT NOT NULL,
    -- 1 when it is published as soon as it is ready.
    publish INTEGER NOT NULL DEFAULT 0,
    job TEXT,
    -- JSON of the comparison with the live generation.
    report TEXT,
    reason TEXT,
    created_ms INTEGER NOT NULL,
    published_ms INTEGER,
    probation_until_ms INTEGER,
    ended_ms INTEGER,
    PRIMARY KEY (kb, number)
) STRICT, WITHOUT ROWID;
INSERT INTO generations (kb, number, state, parts, collection, created_ms, published_ms)
    SELECT row, 1, 2, settings, collection, created_ms, created_ms FROM kbs;

-- What answers or may answer: documents, words and vectors under one name. Words are in words_{kb} of index 1, in
-- words_{kb}_{number} of the others.
CREATE TABLE indexes (
    kb INTEGER NOT NULL REFERENCES kbs (row),
    number INTEGER NOT NULL,
    collection TEXT NOT NULL,
    -- JSON of the plugin that keeps its vectors; NULL for the one that the settings of before named.
    store TEXT,
    PRIMARY KEY (kb, number)
) STRICT, WITHOUT ROWID;
INSERT INTO indexes (kb, number, collection) SELECT row, 1, collection FROM kbs;

-- A document is in each index once.
DROP INDEX documents_by_name;
CREATE UNIQUE INDEX documents_by_name ON documents (kb, collection, name) WHERE ready = 1;

DROP TABLE purges;
-- Full-text tables that still hold words of deleted chunks, out of every search's sight.
CREATE TABLE purges (
    words TEXT PRIMARY KEY,
    started INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
INSERT INTO purges (words) SELECT 'words_' || row FROM kbs;

-- jobs.kind also 4 fill the index of a staged generation (document holds its number).
