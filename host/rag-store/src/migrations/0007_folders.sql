-- The folder that a document is kept in step with.
ALTER TABLE documents ADD COLUMN folder TEXT;
ALTER TABLE jobs ADD COLUMN folder TEXT;
-- 1 when what the original holds, such as a mail's attachments, is queued already.
ALTER TABLE jobs ADD COLUMN alone INTEGER NOT NULL DEFAULT 0;
