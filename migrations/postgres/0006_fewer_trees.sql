-- Orders and refusals are indexed by drop first, so that being listed by drop costs no tree of its own.

-- The last 32 bits of an order's id, which repeat its drop's, as a signed number: with them, an id alone leads to its row. Of the key's digest,
-- 32 bits are enough to know most other keys from it without their rows.
ALTER TABLE orders ADD COLUMN drop_tag INTEGER NOT NULL DEFAULT 0, ADD COLUMN key_bits INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orders DROP CONSTRAINT orders_pkey;
DROP INDEX orders_by_digest, orders_by_drop, orders_by_buyer;
ALTER TABLE orders
    ALTER COLUMN drop_tag DROP DEFAULT,
    ALTER COLUMN key_bits DROP DEFAULT,
    ALTER COLUMN drop_tag TYPE INTEGER USING ('x' || right(id::text, 8))::bit(32)::integer,
    ALTER COLUMN key_bits TYPE INTEGER USING ('x' || left(digest::text, 8))::bit(32)::integer;
ALTER TABLE orders DROP COLUMN digest, ADD PRIMARY KEY (drop_tag, id);
CREATE INDEX orders_by_buyer ON orders (buyer_id, id, key_bits);

ALTER TABLE refusals DROP CONSTRAINT refusals_pkey, ADD PRIMARY KEY (drop_id, sequence, journal_id);
DROP INDEX refusals_by_drop, refusals_by_digest;
CREATE INDEX refusals_by_digest ON refusals (digest);
