-- What the vectors of each index are: the encoder that made them, and how many values each has (0 is unknown).
ALTER TABLE indexes ADD COLUMN embedder TEXT;
ALTER TABLE indexes ADD COLUMN dim INTEGER NOT NULL DEFAULT 0;
UPDATE indexes SET embedder = (SELECT embedder FROM kbs WHERE row = indexes.kb),
    dim = coalesce((SELECT dim FROM collections c WHERE c.kb = indexes.kb AND c.name = indexes.collection
        AND c.dropped = 0), 0)
    WHERE EXISTS (SELECT 1 FROM documents d WHERE d.kb = indexes.kb AND d.collection = indexes.collection);
ALTER TABLE kbs DROP COLUMN embedder;
