-- Whether buyers get a product by post. Products from before are not: their sellers say it where they are.
ALTER TABLE products ADD COLUMN shipped BIGINT NOT NULL DEFAULT 0 CHECK (shipped IN (0, 1));
