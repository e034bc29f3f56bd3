-- 0 is a knowledge base; 1 is being made of a file, 2 is what such an import left when its process died.
ALTER TABLE kbs ADD COLUMN import INTEGER NOT NULL DEFAULT 0;
