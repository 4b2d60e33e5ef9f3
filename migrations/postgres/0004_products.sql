-- Images, attributes and variants are JSON, read and written as a whole.
ALTER TABLE products ADD COLUMN images TEXT NOT NULL DEFAULT '[]';
ALTER TABLE products ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';
ALTER TABLE products ADD COLUMN variants TEXT NOT NULL DEFAULT '[]';
ALTER TABLE products ADD COLUMN status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived'));
ALTER TABLE products ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
-- Counts the changes: one that was made from an older version is not written.
ALTER TABLE products ADD COLUMN version BIGINT NOT NULL DEFAULT 0 CHECK (version >= 0);
UPDATE products SET updated_at = created_at;

-- Every list is of one status and newest first. For each combination of the other filters one index has all of them
-- before the id, so that no planner has to guess between two.
DROP INDEX products_by_creator;
CREATE INDEX products_by_creator ON products (creator_id, status, id);
CREATE INDEX products_by_creator_and_currency ON products (creator_id, status, price_currency, id);
CREATE INDEX products_by_status ON products (status, id);
CREATE INDEX products_by_currency ON products (status, price_currency, id);
