-- What people manage: conversations, disabled and edited chunks, metadata, job order, users, audit, question sets.

-- Nothing relevant was found: no later round builds on it.
ALTER TABLE turns ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
-- JSON of the surface that showed the answer.
ALTER TABLE turns ADD COLUMN detail TEXT NOT NULL DEFAULT '{}';
-- 1 good, 0 bad, NULL unmarked.
ALTER TABLE turns ADD COLUMN mark INTEGER;
ALTER TABLE turns ADD COLUMN note TEXT;
CREATE INDEX turns_marked ON turns (kb, row) WHERE mark IS NOT NULL;

CREATE TABLE conversations (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    kb INTEGER NOT NULL REFERENCES kbs (row),
    id TEXT NOT NULL,
    -- owner/kb/id, as turns.conversation has it.
    name TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    rounds INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX conversations_by_owner ON conversations (owner, updated_ms);
CREATE INDEX conversations_by_kb ON conversations (kb);
INSERT INTO conversations (owner, kb, id, name, title, rounds, created_ms, updated_ms)
    SELECT substr(t.conversation, 1, instr(t.conversation, '/') - 1), t.kb,
        substr(t.conversation, instr(t.conversation, '/') + length(k.name) + 2), t.conversation,
        (SELECT substr(f.question, 1, 80) FROM turns f WHERE f.conversation = t.conversation ORDER BY f.row LIMIT 1),
        count(*), min(t.created_ms), max(t.created_ms)
    FROM turns t JOIN kbs k ON k.row = t.kb
    WHERE instr(t.conversation, '/') > 1 GROUP BY t.conversation;

ALTER TABLE documents ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;
-- JSON array of [key, value] pairs that people noted.
ALTER TABLE documents ADD COLUMN metadata TEXT NOT NULL DEFAULT '[]';
ALTER TABLE chunks ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chunks ADD COLUMN edited INTEGER NOT NULL DEFAULT 0;

-- jobs.kind also 2 enable a document, 3 evaluate (document holds the run's id); jobs.state also -1 paused.
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN reason TEXT;
ALTER TABLE jobs ADD COLUMN not_before_ms INTEGER;
ALTER TABLE jobs ADD COLUMN started_ms INTEGER;
-- 1 while a runner works on it, whatever its state.
ALTER TABLE jobs ADD COLUMN claimed INTEGER NOT NULL DEFAULT 0;
-- JSON of the chunker that an ingest takes instead of the knowledge base's.
ALTER TABLE jobs ADD COLUMN chunker TEXT;
DROP INDEX jobs_by_state;
CREATE INDEX jobs_by_state ON jobs (state, priority DESC, row);

CREATE TABLE users (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    -- argon2id in PHC form.
    password TEXT NOT NULL,
    -- 0 reader, 1 editor, 2 administrator.
    role INTEGER NOT NULL,
    -- JSON array of knowledge base names; NULL reaches all.
    kbs TEXT,
    -- JSON array of [knowledge base, role].
    of_kbs TEXT NOT NULL DEFAULT '[]',
    disabled INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE audit (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    status INTEGER NOT NULL,
    peer TEXT NOT NULL,
    request_id TEXT NOT NULL
) STRICT;

CREATE TABLE question_sets (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kb INTEGER NOT NULL REFERENCES kbs (row),
    name TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX question_sets_by_kb ON question_sets (kb);

CREATE TABLE questions (
    question_set INTEGER NOT NULL REFERENCES question_sets (row),
    ordinal INTEGER NOT NULL,
    question TEXT NOT NULL,
    -- JSON array of [kind, text]: 0 document's name, 1 chunk, 2 text.
    expected TEXT NOT NULL,
    PRIMARY KEY (question_set, ordinal)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    question_set INTEGER NOT NULL REFERENCES question_sets (row),
    settings TEXT NOT NULL,
    job TEXT,
    -- NULL until it is done.
    scores TEXT,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_by_set ON runs (question_set);

CREATE TABLE outcomes (
    run INTEGER NOT NULL REFERENCES runs (row),
    ordinal INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (run, ordinal)
) STRICT, WITHOUT ROWID;
