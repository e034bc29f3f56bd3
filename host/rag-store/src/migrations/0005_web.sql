-- Where a document to ingest was found on the web.
ALTER TABLE jobs ADD COLUMN origin TEXT;
